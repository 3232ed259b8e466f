# SPDX-License-Identifier: Apache-2.0
"""What the configuration files of the bundles call beside MONAI's own components."""

from .baselines import Baseline, make_baseline
from .evaluation import make_answer_evaluator, make_evaluator
from .label_server import ServerAnswer, ServerCase
from .latent_figure import save_latent_plane
from .options import Options
from .prediction import make_answer_predictor, make_predictor
from .prediction_recorder import PredictionRecorder
from .root import find_bundle
from .runtime import end_run, prepare_network, select_device, start_run
from .saving import save_predictions
from .scaled_samples import save_scaled_samples
from .split import resumed_split
from .targets import label_target, rater_cases
from .temperature import save_temperature
from .training import Adversary, make_trainer

__all__ = [
    "Adversary",
    "Baseline",
    "Options",
    "PredictionRecorder",
    "ServerAnswer",
    "ServerCase",
    "end_run",
    "find_bundle",
    "label_target",
    "make_answer_evaluator",
    "make_answer_predictor",
    "make_baseline",
    "make_evaluator",
    "make_predictor",
    "make_trainer",
    "prepare_network",
    "rater_cases",
    "resumed_split",
    "save_latent_plane",
    "save_predictions",
    "save_scaled_samples",
    "save_temperature",
    "select_device",
    "start_run",
]
