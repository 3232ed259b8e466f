# SPDX-License-Identifier: Apache-2.0
"""Engines where MONAI's cannot serve."""

from .adversarial_refinement import AdversarialRefinementTrainer
from .evaluator import StochasticEvaluator

__all__ = ["AdversarialRefinementTrainer", "StochasticEvaluator"]
