# SPDX-License-Identifier: Apache-2.0
"""Errors of one case of a data set, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten

import numpy as np
from numpy.typing import ArrayLike


class CaseError(ValueError):
    """Raised when the data are wrong: the message names the patient, the file and what was found."""


def unreadable(patient: str, file: str, error: BaseException) -> CaseError:
    """The error to raise where a patient's file cannot be read, whatever its reader raised."""
    said = shorten(str(error), 200, placeholder=" ...") or "no reason given"  # itk's messages are pages long
    return CaseError(
        f"patient {patient}: {file} cannot be read ({type(error).__name__}: {said}); copy or download it again."
    )


def check_geometry(patient: str, geometries: Mapping[str, tuple[Sequence[int], ArrayLike]]) -> None:
    """
    Check that all files of one patient lie on one voxel grid, and that it is one.

    Args:
        patient: name of the patient, for the message.
        geometries: per file its spatial shape and its affine (4x4, voxels to millimetres).

    Raises:
        CaseError: when an affine is not finite or has no inverse, or a file differs from the first one in shape, or in
            affine by more than 1e-3 mm.
    """
    for name, (_, matrix) in geometries.items():
        axes = np.asarray(matrix, dtype=float)[:-1, :-1]
        lengths = np.linalg.norm(axes, axis=0)
        # of axes of length one: small voxels have a small determinant too
        if not np.isfinite(matrix).all() or not lengths.all() or abs(np.linalg.det(axes / lengths)) < 1e-6:
            raise CaseError(
                f"patient {patient}: {name} has affine {np.asarray(matrix).tolist()}, which is no voxel grid; write "
                "spacing and orientation of the scan into its header."
            )
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
