# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from monai_stochseg.losses import ELBOLoss, MultipleHypothesesLoss, RaterCrossEntropyLoss
from monai_stochseg.networks.nets import (
    BilinearUNet,
    DeterministicSampler,
    DropoutUNet,
    Image2ImageVAE,
    IndependentSampler,
    MHeadsUNet,
    TestTimeAugmentation,
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
    channels: Sequence[int] = (32, 64, 128, 256, 512),
    norm: str | None = None,
    num_hypotheses: int = 4,
    latent_dim: int = 6,
    beta: float = 1.0,
    align_corners: bool = False,
) -> Baseline:
    """
    A baseline of the Probabilistic U-Net's paper (Kohl et al. 2018), or a null that learns no covariance; all on the
    same U-Net.

    Args:
        method: ``deterministic``, ``threshold``, ``independent`` and ``tta``, test-time augmentation, which sample one
            deterministic network in four ways; ``dropout``, ``ensemble``, ``mheads`` or ``image2image_vae``.
        task: what is asked; it says the dimensions, channels, classes and void label.
        channels: number of channels of each level.
        norm: normalisation, by MONAI's name.
        num_hypotheses: members of the ensemble, heads of the M-heads network.
        latent_dim: length of the latent of ``image2image_vae``.
        beta: weight of the divergence in the loss of ``image2image_vae``.
        align_corners: see :py:class:`monai_stochseg.networks.nets.BilinearUNet`.

    Raises:
        ValueError: for another method.
    """
    core = (task.spatial_dims, task.in_channels, task.num_classes, channels)
    void = task.ignore_index
    options: dict[str, Any] = {"norm": norm, "align_corners": align_corners}
    methods: Mapping[str, Callable[[], Baseline]] = {
        "deterministic": lambda: Baseline(
            DeterministicSampler(BilinearUNet(*core, **options)), RaterCrossEntropyLoss(void)
        ),
        "threshold": lambda: Baseline(ThresholdSampler(BilinearUNet(*core, **options)), RaterCrossEntropyLoss(void)),
        "independent": lambda: Baseline(
            IndependentSampler(BilinearUNet(*core, **options)), RaterCrossEntropyLoss(void)
        ),
        "tta": lambda: Baseline(TestTimeAugmentation(BilinearUNet(*core, **options)), RaterCrossEntropyLoss(void)),
        "dropout": lambda: Baseline(DropoutUNet(*core, **options), RaterCrossEntropyLoss(void)),
        "ensemble": lambda: Baseline(UNetEnsemble(*core, num_hypotheses, **options), RaterCrossEntropyLoss(void)),
        "mheads": lambda: Baseline(
            MHeadsUNet(*core, num_hypotheses, **options), MultipleHypothesesLoss(ignore_index=void)
        ),
        "image2image_vae": lambda: Baseline(
            Image2ImageVAE(*core, latent_dim, **options), ELBOLoss(beta, ignore_index=void)
        ),
    }
    if method not in methods:
        raise ValueError(f"method must be one of {', '.join(methods)}, got {method!r}.")
    return methods[method]()
