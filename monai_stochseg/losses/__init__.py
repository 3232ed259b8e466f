# SPDX-License-Identifier: Apache-2.0
"""Losses of stochastic segmentation."""

from .elbo import ELBOLoss, gaussian_kl
from .multiple_hypotheses import MultipleHypothesesLoss
from .rater_cross_entropy import RaterCrossEntropyLoss, rater_cross_entropy
from .soft_dice_ce import SoftDiceCELoss
from .ssn import SSNLoss

__all__ = [
    "ELBOLoss",
    "MultipleHypothesesLoss",
    "RaterCrossEntropyLoss",
    "SSNLoss",
    "SoftDiceCELoss",
    "gaussian_kl",
    "rater_cross_entropy",
]
