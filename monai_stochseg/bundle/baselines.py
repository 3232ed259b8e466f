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


class Baseline(NamedTuple):
    """A network, its loss, and whether the network is called with the label too."""

    network: nn.Module
    loss: nn.Module
    takes_label: bool = False


def baseline(
    method: str,
    spatial_dims: int,
    out_channels: int = 2,
    channels: Sequence[int] = (32, 64, 128, 192),
    norm: str | None = None,
    num_hypotheses: int = 4,
    in_channels: int = 1,
) -> Baseline:
    """
    A baseline of the Probabilistic U-Net's paper (Kohl et al. 2018), or a null that learns no covariance; all on the
    same U-Net.

    Args:
        method: ``deterministic``, ``threshold`` and ``independent``, which sample one deterministic network in three
            ways; ``dropout``, ``ensemble``, ``mheads`` or ``image2image_vae``.
        spatial_dims: 2 or 3.
        out_channels: number of classes, the background included.
        channels: number of channels of each level.
        norm: normalisation, by MONAI's name.
        num_hypotheses: members of the ensemble, heads of the M-heads network.
        in_channels: number of channels of the image.

    Raises:
        ValueError: for another method.
    """
    core = (spatial_dims, in_channels, out_channels, channels)
    methods: Mapping[str, Callable[[], Baseline]] = {
        "deterministic": lambda: Baseline(DeterministicSampler(BilinearUNet(*core, norm)), RaterCrossEntropyLoss()),
        "threshold": lambda: Baseline(ThresholdSampler(BilinearUNet(*core, norm)), RaterCrossEntropyLoss()),
        "independent": lambda: Baseline(IndependentSampler(BilinearUNet(*core, norm)), RaterCrossEntropyLoss()),
        "dropout": lambda: Baseline(DropoutUNet(*core, norm=norm), RaterCrossEntropyLoss()),
        "ensemble": lambda: Baseline(UNetEnsemble(*core, num_hypotheses, norm), RaterCrossEntropyLoss()),
        "mheads": lambda: Baseline(MHeadsUNet(*core, num_hypotheses, norm=norm), MultipleHypothesesLoss()),
        "image2image_vae": lambda: Baseline(Image2ImageVAE(*core, norm=norm), ELBOLoss(), takes_label=True),
    }
    if method not in methods:
        raise ValueError(f"method must be one of {', '.join(methods)}, got {method!r}.")
    return methods[method]()
