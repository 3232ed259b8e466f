# SPDX-License-Identifier: Apache-2.0
"""Handlers that MONAI lacks: exact resumption, a loss guard, seeds by epoch, MLflow runs that end, figures."""

from __future__ import annotations

from monai_stochseg.handlers.averaged_weights import AveragedWeights
from monai_stochseg.handlers.calibration_loader import CalibrationLoader
from monai_stochseg.handlers.case_table import CaseTable
from monai_stochseg.handlers.epoch_seed import EpochSeed
from monai_stochseg.handlers.exceptions import NonFiniteError
from monai_stochseg.handlers.folder_lock import FolderLock
from monai_stochseg.handlers.latent_divergence import LatentDivergence
from monai_stochseg.handlers.load_weights import WeightsLoader, load_weights
from monai_stochseg.handlers.loss_guard import LossGuard
from monai_stochseg.handlers.loss_schedule import LossSchedule
from monai_stochseg.handlers.mean_pretraining import MeanPretraining
from monai_stochseg.handlers.metric_figure import MetricFigure
from monai_stochseg.handlers.metric_handler import MetricHandler
from monai_stochseg.handlers.mlflow_tracker import MLFlowTracker
from monai_stochseg.handlers.optimizer_state import OptimizerState
from monai_stochseg.handlers.progress import TrainingProgress
from monai_stochseg.handlers.reconstruction_iou import ReconstructionIoU
from monai_stochseg.handlers.refinement_monitor import RefinementMonitor
from monai_stochseg.handlers.reliability_figure import ReliabilityFigure
from monai_stochseg.handlers.sample_figure import SampleFigure
from monai_stochseg.handlers.shared_buffers import SharedBuffers
from monai_stochseg.handlers.split_record import SplitRecord
from monai_stochseg.handlers.training_checkpoint import TrainingCheckpoint
from monai_stochseg.handlers.training_validation import TrainingValidation

from .volume_table import VolumeTable

__all__ = [
    "AveragedWeights",
    "CalibrationLoader",
    "CaseTable",
    "EpochSeed",
    "FolderLock",
    "LatentDivergence",
    "LossGuard",
    "LossSchedule",
    "MLFlowTracker",
    "MeanPretraining",
    "MetricFigure",
    "MetricHandler",
    "NonFiniteError",
    "OptimizerState",
    "ReconstructionIoU",
    "RefinementMonitor",
    "ReliabilityFigure",
    "SampleFigure",
    "SharedBuffers",
    "SplitRecord",
    "TrainingCheckpoint",
    "TrainingProgress",
    "TrainingValidation",
    "VolumeTable",
    "WeightsLoader",
    "load_weights",
]
