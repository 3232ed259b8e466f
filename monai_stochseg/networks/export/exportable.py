# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from monai_stochseg.networks.blocks.latent_hierarchy import LatentHierarchy
from monai_stochseg.networks.contract import gives_parameters, is_predictive
from monai_stochseg.networks.export.base import SampleExport
from monai_stochseg.networks.export.expert_mixture import ExpertMixtureExport
from monai_stochseg.networks.export.flow import FlowExport
from monai_stochseg.networks.export.hierarchy import HierarchyExport
from monai_stochseg.networks.export.hypotheses import HypothesesExport
from monai_stochseg.networks.export.latent import LatentExport
from monai_stochseg.networks.export.low_rank_normal import LowRankNormalExport
from monai_stochseg.networks.export.marginal import DeterministicExport, IndependentExport, ThresholdExport
from monai_stochseg.networks.export.refinement import RefinementExport
from monai_stochseg.networks.nets.bayesian_probabilistic_unet import BayesianProbabilisticUNet
from monai_stochseg.networks.nets.calibrated_adversarial_refinement import CalibratedAdversarialRefinement
from monai_stochseg.networks.nets.ensemble import Ensemble
from monai_stochseg.networks.nets.flow_ssn import FlowSSN
from monai_stochseg.networks.nets.mheads_unet import MHeads
from monai_stochseg.networks.nets.mixture_of_stochastic_experts import MixtureOfStochasticExperts
from monai_stochseg.networks.nets.null_sampler import DeterministicSampler, IndependentSampler, ThresholdSampler
from monai_stochseg.networks.nets.probabilistic_unet import ProbabilisticUNet
from monai_stochseg.networks.nets.stochastic_segmentation_network import StochasticSegmentationNetwork

__all__ = ["exportable"]

# The first that fits: a sampler's base class stands after it.
_EXPORTS: tuple[tuple[type, Callable[[Any], SampleExport]], ...] = (
    (StochasticSegmentationNetwork, LowRankNormalExport),
    (ProbabilisticUNet, LatentExport),
    (MixtureOfStochasticExperts, ExpertMixtureExport),
    (CalibratedAdversarialRefinement, RefinementExport),
    (LatentHierarchy, HierarchyExport),
    (FlowSSN, FlowExport),
    (MHeads, HypothesesExport),
    (Ensemble, HypothesesExport),
    (ThresholdSampler, ThresholdExport),
    (IndependentSampler, IndependentExport),
    (DeterministicSampler, DeterministicExport),
)


def exportable(network: nn.Module) -> SampleExport:
    """
    The module that TorchScript, ONNX and ``torch.export`` take in the place of a network: ``forward(image, noise)``
    gives ``probabilities``, ``samples`` and ``entropy``, see :py:class:`SampleExport`.

    Args:
        network: a network of this package; any other is taken for a deterministic segmenter, image to logits
            ``[B, C, *S]``. It is put into evaluation mode.

    Raises:
        TypeError: when it is no module.
        ValueError: when its samples cannot be made from a noise that is given, such as those of dropout.

    Example::

        >>> import torch
        >>> network = nn.Conv2d(1, 2, kernel_size=1)
        >>> module = exportable(network)
        >>> image, noise = torch.zeros(1, 1, 4, 5), torch.randn(1, 3, module.noise_size([4, 5]))
        >>> [tuple(output.shape) for output in module(image, noise)]
        [(1, 2, 4, 5), (1, 3, 4, 5), (1, 1, 4, 5)]
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network must be a module, got {type(network).__name__}.")
    for kind, export in _EXPORTS:
        # of random weights a draw has one noise for all images, which is not yet a kind of its own
        if isinstance(network, kind) and not isinstance(network, BayesianProbabilisticUNet):
            return export(network)
    if is_predictive(network) or gives_parameters(network):
        kinds = ", ".join(kind.__name__ for kind, _ in _EXPORTS)
        raise ValueError(
            f"network {type(network).__name__} draws its samples inside, and cannot be a function of a given noise: "
            f"export one of {kinds}, or a deterministic network."
        )
    return DeterministicExport(network)
