# SPDX-License-Identifier: Apache-2.0
"""Networks as functions of image and noise, for TorchScript, ONNX and ``torch.export``; one file a method."""

from .base import SampleExport
from .expert_mixture import ExpertMixtureExport
from .exportable import exportable
from .flow import FlowExport
from .hierarchy import HierarchyExport
from .hypotheses import HypothesesExport
from .latent import LatentExport
from .low_rank_normal import LowRankNormalExport
from .marginal import DeterministicExport, IndependentExport, ThresholdExport
from .refinement import RefinementExport
from .single_answer import SingleAnswer

__all__ = [
    "DeterministicExport",
    "ExpertMixtureExport",
    "FlowExport",
    "HierarchyExport",
    "HypothesesExport",
    "IndependentExport",
    "LatentExport",
    "LowRankNormalExport",
    "RefinementExport",
    "SampleExport",
    "SingleAnswer",
    "ThresholdExport",
    "exportable",
]
