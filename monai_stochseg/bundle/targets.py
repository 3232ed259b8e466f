# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.transforms import Compose, Lambdad

from monai_stochseg.transforms import LabelSmoothingd, RandRaterd, SVLSd


def label_target(
    target: str,
    num_classes: int,
    alpha: float = 0.1,
    sigma: float = 1.0,
    kernel_size: int = 3,
    spacing: Any = None,
    nonempty_raters: bool = False,
) -> Compose:
    """
    The transform that makes the raters' ``label`` ``[R, *S]`` the soft target ``[C, *S]`` of a training (Islam and
    Glocker 2021, https://arxiv.org/abs/2104.05788).

    Args:
        target: of one rater ``onehot``, ``ls`` (label smoothing) or ``svls``; of several ``one`` (the first rater's
            one-hot), ``all`` (that of a rater drawn anew each time), ``moh`` (the mean of the one-hots) or ``msvls``.
        num_classes: number of classes C, the background included.
        alpha: of label smoothing.
        sigma: of SVLS.
        kernel_size: of SVLS.
        spacing: of SVLS, see :py:class:`monai_stochseg.transforms.SVLS`.
        nonempty_raters: whether a rater who drew nothing is missing, see :py:func:`drop_empty_raters`, and not one who
            says background.

    Raises:
        ValueError: for another target.
    """
    one_hot = SVLSd("label", num_classes, smooth=False)
    svls = SVLSd("label", num_classes, sigma, kernel_size, spacing)
    targets: Mapping[str, list[Callable]] = {
        "onehot": [one_hot],
        "ls": [LabelSmoothingd("label", num_classes, alpha)],
        "svls": [svls],
        "one": [Lambdad("label", lambda label: label[:1]), one_hot],
        "all": [RandRaterd("label"), one_hot],
        "moh": [one_hot],
        "msvls": [svls],
    }
    if target not in targets:
        raise ValueError(f"target must be one of {', '.join(targets)}, got {target!r}.")
    present = [Lambdad("label", drop_empty_raters)] if nonempty_raters else []
    return Compose([*present, *targets[target]])


def drop_empty_raters(label: torch.Tensor) -> torch.Tensor:
    """
    The raters who drew something.

    Args:
        label: ``[R, *S]``.

    Returns:
        ``[R', *S]``; all raters where none drew.
    """
    drawn = (label != 0).flatten(1).any(1)
    return label[drawn] if drawn.any() else label
