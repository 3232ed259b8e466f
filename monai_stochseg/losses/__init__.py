# SPDX-License-Identifier: Apache-2.0
"""Losses of stochastic segmentation."""

from .elbo import ELBOLoss, gaussian_kl
from .ssn import SSNLoss

__all__ = ["ELBOLoss", "SSNLoss", "gaussian_kl"]
