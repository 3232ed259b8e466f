# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_stochseg prepare``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from monai_stochseg.data.case import CaseError
from monai_stochseg.data.lidc import import_lidc, prepare_lidc

__all__ = ["prepare"]


def prepare(out: str, dicom_dir: str | None = None, prepared_set: str | None = None, **options: Any) -> str:
    """
    Make a folder of LIDC-IDRI's crops with up to four readers' masks; docs/lidc.md describes it.

    Give one of the two sources, and its options. --dicom_dir takes --spatial_dims (2 or 3), --spatial_size, --spacing
    (mm), --min_raters, --crowded, --max_slice_thickness (mm), --missing (error or skip), --readings and --progress of
    monai_stochseg.data.lidc.prepare_lidc; --prepared_set takes --spacing (mm) and --progress.

    Args:
        out: the folder to write; an earlier one is replaced.
        dicom_dir: the DICOM folder as TCIA delivers it.
        prepared_set: data_lidc.pickle or the folder of PNG that people share.

    Returns:
        The folder's path.

    """
    if (dicom_dir is None) == (prepared_set is None):
        raise CaseError("prepare: give one of --dicom_dir and --prepared_set.")
    function: Callable[..., str] = prepare_lidc if prepared_set is None else import_lidc
    arguments = (str(dicom_dir if prepared_set is None else prepared_set), str(out))
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        raise CaseError(f"prepare: {error}; see python -m monai_stochseg prepare --help.") from None
    return function(*arguments, **options)
