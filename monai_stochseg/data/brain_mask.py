# SPDX-License-Identifier: Apache-2.0
"""Where the brain is in an image whose background is zero."""

from __future__ import annotations

import torch

from .case import CaseError

NEARLY_ALL = 0.95  # share of the image that no brain fills


def derive_brain_mask(patient: str, image: torch.Tensor) -> torch.Tensor:
    """
    The voxels where any channel differs from zero, for images whose background is zero.

    Args:
        patient: name of the patient, for the message.
        image: ``[C_in, *S]``.

    Returns:
        bool, ``[1, *S]``.

    Raises:
        CaseError: when the image is zero, or its background is not: the mask would be nearly the whole image, or the
            border of the box that holds it has, in more than half of a channel's voxels, one value that is not zero.
    """
    mask = (image != 0).any(0, keepdim=True)
    if not mask.any():
        raise CaseError(f"patient {patient}: the brain mask is empty (the image is zero).")
    cure = (
        "give its brain mask (a Layout with mask, or mask in the case), or set the background to zero; "
        "without a mask, the brain is where the image is not zero"
    )
    share = float(mask.float().mean())
    if share > NEARLY_ALL:
        raise CaseError(
            f"patient {patient}: {share:.1%} of the image differ from zero, so there is no background: {cure}."
        )
    for channel, border in enumerate(_border(image, mask[0])):
        value = border.median()
        if value != 0 and (border == value).float().mean() > 0.5:
            raise CaseError(f"patient {patient}: the background of channel {channel} is {value:g}, not zero: {cure}.")
    return mask


def _border(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Voxels on the faces of the box that holds the mask, ``[C_in, N]``; those on an edge stand there twice."""
    box = [(int(found.min()), int(found.max())) for found in mask.nonzero(as_tuple=True)]
    part = image[(slice(None), *(slice(low, high + 1) for low, high in box))]
    faces = [part.select(axis, end).flatten(1) for axis in range(1, part.ndim) for end in (0, -1)]
    return torch.cat(faces, dim=1)
