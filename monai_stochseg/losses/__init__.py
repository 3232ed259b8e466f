# SPDX-License-Identifier: Apache-2.0
"""Losses of stochastic segmentation."""

from .ssn import SSNLoss

__all__ = ["SSNLoss"]
