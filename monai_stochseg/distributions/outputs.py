# SPDX-License-Identifier: Apache-2.0
"""What networks with a latent give their losses."""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["BayesianOutput", "FlowOutput", "Gaussian", "LatentLevel", "LatentOutput", "RefinementOutput"]


class Gaussian(NamedTuple):
    """
    An axis-aligned normal of a latent.

    Args:
        mean: ``[B, L]``, or ``[B, L, *S']`` of a latent with a place for each voxel of a coarser grid.
        log_std: log of the standard deviations, of the same shape.
    """

    mean: torch.Tensor
    log_std: torch.Tensor


class LatentLevel(NamedTuple):
    """
    The two normals of one latent, both of one shape.

    Args:
        posterior: that of image and label, from which training draws.
        prior: that of the image alone.
    """

    posterior: Gaussian
    prior: Gaussian


class LatentOutput(NamedTuple):
    """
    A training step of a network with latents, as :py:class:`monai_stochseg.losses.ELBOLoss` takes it.

    Args:
        logits: ``[B, C, *S]``, decoded from latents that were drawn from the posteriors.
        levels: one for each latent: a single one of a Probabilistic U-Net, several of a hierarchical network.
        rater: ``[B]``, the rater whose label the posteriors have seen.
        partial: logits ``[B, C, *S]`` of the first levels alone, of the first two, ..., each of which is to fit the
            label as well (deep supervision). Default: none.
    """

    logits: torch.Tensor
    levels: tuple[LatentLevel, ...]
    rater: torch.Tensor
    partial: tuple[torch.Tensor, ...] = ()


class BayesianOutput(NamedTuple):
    """
    A training step of a network with a latent and random weights, as
    :py:class:`monai_stochseg.losses.SupervisedUncertaintyLoss` takes it.

    Args:
        latent: of the latent, decoded with a draw of the weights.
        samples: logits ``[B, N, C, *S]`` of latents drawn from the prior, decoded with the weights' means.
        weights: mean and log-deviation of the weights of each layer that has random ones, of any shape.
    """

    latent: LatentOutput
    samples: torch.Tensor
    weights: tuple[Gaussian, ...]


class FlowOutput(NamedTuple):
    """
    A training step of a flow, as :py:class:`monai_stochseg.losses.FlowMatchingLoss` takes it.

    Args:
        logits: ``[B, C, *S]``, of the categorical of the label to which the path leads.
        rater: ``[B]``, the rater whose label this is.
    """

    logits: torch.Tensor
    rater: torch.Tensor


class RefinementOutput(NamedTuple):
    """
    A training step of Calibrated Adversarial Refinement.

    Args:
        logits: ``[B, N, C, *S]`` of N samples.
        calibration: the calibration output that the samples refine, probabilities ``[B, C, *S]``.
        mean: of the code, ``[B, L]``; 0 where it is standard normal.
        log_std: log of the code's standard deviations, ``[B, L]``; 0 where it is standard normal.
    """

    logits: torch.Tensor
    calibration: torch.Tensor
    mean: torch.Tensor
    log_std: torch.Tensor
