# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import nn

from monai_stochseg.losses import ELBOLoss, MultipleHypothesesLoss, RaterCrossEntropyLoss
from monai_stochseg.networks.nets import (
    BilinearUNet,
    DeterministicSampler,
    DropoutUNet,
    Image2ImageVAE,
    IndependentSampler,
    MHeadsUNet,
    ThresholdSampler,
    UNetEnsemble,
)
from monai_stochseg.tasks import Task


class Baseline(NamedTuple):
    """A network and its loss."""

    network: nn.Module
    loss: nn.Module


def make_baseline(
    method: str,
    task: Task,
    channels: Sequence[int] = (32, 64, 128, 192),
    norm: str | None = None,
    num_hypotheses: int = 4,
) -> Baseline:
    """
    A baseline of the Probabilistic U-Net's paper (Kohl et al. 2018), or a null that learns no covariance; all on the
    same U-Net.

    Args:
        method: ``deterministic``, ``threshold`` and ``independent``, which sample one deterministic network in three
            ways; ``dropout``, ``ensemble``, ``mheads`` or ``image2image_vae``.
        task: what is asked; it says the dimensions, channels, classes and void label.
        channels: number of channels of each level.
        norm: normalisation, by MONAI's name.
        num_hypotheses: members of the ensemble, heads of the M-heads network.

    Raises:
        ValueError: for another method.
    """
    core = (task.spatial_dims, task.in_channels, task.num_classes, channels)
    void = task.ignore_index
    methods: Mapping[str, Callable[[], Baseline]] = {
        "deterministic": lambda: Baseline(DeterministicSampler(BilinearUNet(*core, norm)), RaterCrossEntropyLoss(void)),
        "threshold": lambda: Baseline(ThresholdSampler(BilinearUNet(*core, norm)), RaterCrossEntropyLoss(void)),
        "independent": lambda: Baseline(IndependentSampler(BilinearUNet(*core, norm)), RaterCrossEntropyLoss(void)),
        "dropout": lambda: Baseline(DropoutUNet(*core, norm=norm), RaterCrossEntropyLoss(void)),
        "ensemble": lambda: Baseline(UNetEnsemble(*core, num_hypotheses, norm), RaterCrossEntropyLoss(void)),
        "mheads": lambda: Baseline(
            MHeadsUNet(*core, num_hypotheses, norm=norm), MultipleHypothesesLoss(ignore_index=void)
        ),
        "image2image_vae": lambda: Baseline(Image2ImageVAE(*core, norm=norm), ELBOLoss(ignore_index=void)),
    }
    if method not in methods:
        raise ValueError(f"method must be one of {', '.join(methods)}, got {method!r}.")
    return methods[method]()
