# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from typing import Any

from monai.data import NibabelWriter

from monai_stochseg.data import new_file

__all__ = ["NiftiWriter"]


class NiftiWriter(NibabelWriter):
    """
    MONAI's writer of NIfTI by nibabel, whose files appear whole or not at all.

    Give it to MONAI's ``SaveImage`` by name: without one ``SaveImage`` tries another writer after an error, and ITK's
    leaves a broken file on a full disk without a word.
    """

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
        with new_file(filename) as temporary:
            super().write(temporary, verbose=verbose, **obj_kwargs)
