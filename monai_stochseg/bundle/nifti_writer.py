# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import ImageWriter, NibabelWriter
from monai.data.utils import to_affine_nd

from monai_stochseg.data import new_file

__all__ = ["NiftiWriter"]

_CODES = ("sform_code", "qform_code", "xyzt_units")


class NiftiWriter(NibabelWriter):
    """
    MONAI's writer of NIfTI by nibabel, whose files appear whole or not at all, and keep the units and the form codes of
    the input's header; of an input without codes they are 1, scanner coordinates.

    Give it to MONAI's ``SaveImage`` by name: without one ``SaveImage`` tries another writer after an error, and ITK's
    leaves a broken file on a full disk without a word.
    """

    def set_metadata(self, meta_dict: Mapping | None, resample: bool = True, **options: Any) -> None:
        """As :py:meth:`monai.data.NibabelWriter.set_metadata`."""
        super().set_metadata(meta_dict, resample, **options)
        self._header = {name: int(meta_dict[name]) for name in _CODES if meta_dict and name in meta_dict}

    def write(self, filename: str | os.PathLike[str], verbose: bool = False, **obj_kwargs: Any) -> None:
        """
        Write the file.

        Args:
            filename: with ``.nii`` or ``.nii.gz``.
            verbose: as in MONAI.
            obj_kwargs: as in MONAI.

        Raises:
            OSError: when the file cannot be written; names it.
        """
        ImageWriter.write(self, filename, verbose=verbose)
        affine = np.eye(4) if self.affine is None else to_affine_nd(3, np.asarray(self.affine))
        image = self.create_backend_obj(self.data_obj, affine=self.affine, dtype=self.output_dtype, **obj_kwargs)
        known = getattr(self, "_header", {})
        codes = [known.get(name, 0) for name in ("sform_code", "qform_code")]
        sform, qform = codes if any(codes) else (1, 1)
        image.set_sform(affine, code=sform)
        image.set_qform(affine, code=qform)
        image.header["xyzt_units"] = known.get("xyzt_units", 0)
        with new_file(filename) as temporary:
            nib.save(image, temporary)
