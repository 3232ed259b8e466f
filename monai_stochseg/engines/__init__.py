# SPDX-License-Identifier: Apache-2.0
"""Engines where MONAI's cannot serve."""

from .evaluator import StochasticEvaluator

__all__ = ["StochasticEvaluator"]
