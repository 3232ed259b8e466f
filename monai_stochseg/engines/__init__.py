# SPDX-License-Identifier: Apache-2.0
"""Engines where MONAI's cannot serve."""

from .adversarial_refinement import AdversarialRefinementTrainer
from .answer_evaluator import AnswerEvaluator
from .evaluator import StochasticEvaluator

__all__ = ["AdversarialRefinementTrainer", "AnswerEvaluator", "StochasticEvaluator"]
