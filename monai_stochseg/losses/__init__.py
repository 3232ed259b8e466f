# SPDX-License-Identifier: Apache-2.0
"""Losses of stochastic segmentation."""

from .adversarial_loss import DiscriminatorLoss, DiscriminatorTerms, LogitAdversarialLoss, r1_penalty
from .calibration import CalibrationLoss
from .consistency import ConsistencyLoss
from .coupling import solve_coupling
from .elbo import ELBOLoss, gaussian_kl
from .flow_matching import FlowMatchingLoss
from .multiple_hypotheses import MultipleHypothesesLoss
from .optimal_transport import OptimalTransportLoss
from .rater_cross_entropy import RaterCrossEntropyLoss, rater_cross_entropy
from .sample_costs import cross_entropy_cost, iou_cost
from .soft_dice_ce import SoftDiceCELoss
from .ssn import SSNLoss
from .supervised_uncertainty import SupervisedUncertaintyLoss, log_uniform_kl
from .temperature import Temperature, fit_temperature

__all__ = [
    "CalibrationLoss",
    "ConsistencyLoss",
    "DiscriminatorLoss",
    "DiscriminatorTerms",
    "ELBOLoss",
    "FlowMatchingLoss",
    "LogitAdversarialLoss",
    "MultipleHypothesesLoss",
    "OptimalTransportLoss",
    "RaterCrossEntropyLoss",
    "SSNLoss",
    "SoftDiceCELoss",
    "SupervisedUncertaintyLoss",
    "Temperature",
    "cross_entropy_cost",
    "fit_temperature",
    "gaussian_kl",
    "iou_cost",
    "log_uniform_kl",
    "r1_penalty",
    "rater_cross_entropy",
    "solve_coupling",
]
