# SPDX-License-Identifier: Apache-2.0
"""What the configuration files of the bundles call beside MONAI's own components."""

from .adversarial import ConsistencyLoss, make_refinement_trainer
from .baselines import Baseline, baseline
from .cityscapes import (
    cityscapes_channels,
    cityscapes_evaluator,
    cityscapes_part,
    cityscapes_predictor,
    cityscapes_trainer,
    scale_crop_and_flip,
)
from .errors import explain_errors
from .evaluation import (
    evaluation_handlers,
    sample_metrics,
    validation_handlers,
)
from .lidc import (
    flip_and_rotate,
    lidc_cases,
    lidc_dataset,
    lidc_evaluator,
    lidc_part,
    lidc_predictor,
    lidc_trainer,
)
from .loaders import evaluation_loader, training_loader
from .overrides import check_overrides
from .prediction import save_predictions
from .rater_weights import trainer_with_rater_weights
from .root import find_bundle
from .runtime import finish, has_bfloat16, prepare_network, process_rank, select_device, start
from .segmentation import answer_and_probabilities, segmentation_evaluator, segmentation_predictor
from .targets import drop_empty_raters, label_target
from .training import make_trainer, statistics, training_handlers
from .volumes import volume_transforms

__all__ = [
    "Baseline",
    "ConsistencyLoss",
    "answer_and_probabilities",
    "baseline",
    "check_overrides",
    "cityscapes_channels",
    "cityscapes_evaluator",
    "cityscapes_part",
    "cityscapes_predictor",
    "cityscapes_trainer",
    "drop_empty_raters",
    "evaluation_handlers",
    "evaluation_loader",
    "explain_errors",
    "find_bundle",
    "finish",
    "flip_and_rotate",
    "has_bfloat16",
    "label_target",
    "lidc_cases",
    "lidc_dataset",
    "lidc_evaluator",
    "lidc_part",
    "lidc_predictor",
    "lidc_trainer",
    "make_refinement_trainer",
    "make_trainer",
    "prepare_network",
    "process_rank",
    "sample_metrics",
    "save_predictions",
    "scale_crop_and_flip",
    "segmentation_evaluator",
    "segmentation_predictor",
    "select_device",
    "start",
    "statistics",
    "trainer_with_rater_weights",
    "training_handlers",
    "training_loader",
    "validation_handlers",
    "volume_transforms",
]
