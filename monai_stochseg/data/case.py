# SPDX-License-Identifier: Apache-2.0
"""Errors of one case of a data set, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike


class CaseError(ValueError):
    """Raised when the data are wrong: the message names the patient, the file and what was found."""


def check_geometry(patient: str, geometries: Mapping[str, tuple[Sequence[int], ArrayLike]]) -> None:
    """
    Check that all files of one patient lie on one voxel grid.

    Args:
        patient: name of the patient, for the message.
        geometries: per file its spatial shape and its affine (4x4, voxels to millimetres).

    Raises:
        CaseError: when a file differs from the first one in shape, or in affine by more than 1e-3 mm.
    """
    (reference, (shape, affine)), *others = geometries.items()
    for name, (other_shape, other_affine) in others:
        if tuple(other_shape) != tuple(shape):
            raise CaseError(
                f"patient {patient}: {name} has shape {tuple(other_shape)}, but {reference} has {tuple(shape)}; "
                "resample them to one grid."
            )
        if not np.allclose(other_affine, affine, atol=1e-3):
            raise CaseError(
                f"patient {patient}: {name} has affine {np.asarray(other_affine).tolist()}, but {reference} has "
                f"{np.asarray(affine).tolist()}; resample them to one grid."
            )
