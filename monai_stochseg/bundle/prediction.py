# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import numpy as np
from monai.data import Dataset
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer, SimpleInferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    CopyItemsd,
    Invertd,
    InvertibleTransform,
    SaveImaged,
)
from torch import nn

from monai_stochseg.bundle.loaders import evaluation_loader
from monai_stochseg.bundle.options import Options
from monai_stochseg.engines import StochasticEvaluator
from monai_stochseg.handlers import WeightsLoader
from monai_stochseg.inferers import PredictiveInferer
from monai_stochseg.tasks import Task
from monai_stochseg.transforms import PredictiveEntropyd


def make_predictor(
    task: Task,
    network: nn.Module,
    options: Options,
    dataset: Dataset,
    checkpoint: str,
    postprocessing: Callable,
    inferer: Inferer | None = None,
    num_samples: int = 8,
) -> StochasticEvaluator:
    """
    Inference of sampled answers on any task: ``postprocessing`` saves the single answer, the samples and the predictive
    entropy of each case.

    Args:
        task: what is asked.
        network: with ``predictive``.
        options: where and how to run.
        dataset: cases with ``image``.
        checkpoint: weights to load.
        postprocessing: such as :py:func:`save_predictions`.
        inferer: maps image and network to a predictive distribution. Default:
            :py:class:`monai_stochseg.inferers.PredictiveInferer` with the task's windows.
        num_samples: samples of each case.
    """
    return StochasticEvaluator(
        val_data_loader=evaluation_loader(dataset),
        network=network,
        num_samples=num_samples,
        inferer=PredictiveInferer(task.inferer()) if inferer is None else inferer,
        mask_key=task.mask_key,
        postprocessing=postprocessing,
        val_handlers=[WeightsLoader(network, checkpoint, signature=task.signature)],
        **options.engine,
    )


def make_answer_predictor(
    task: Task,
    network: nn.Module,
    options: Options,
    dataset: Dataset,
    checkpoint: str,
    postprocessing: Callable,
    inferer: Inferer | None = None,
) -> SupervisedEvaluator:
    """
    Inference of single answers, logits ``[B, C, *S]``: ``postprocessing`` saves the label map and the predictive
    entropy of each case.

    Args:
        task: what is asked.
        network: gives logits.
        options: where and how to run.
        dataset: cases with ``image``.
        checkpoint: weights to load.
        postprocessing: such as :py:func:`save_predictions`.
        inferer: how windows are taken. Default: the task's.
    """
    softmax = [Activationsd(keys="pred", softmax=True), CopyItemsd(keys="pred", names="probabilities")]
    return SupervisedEvaluator(
        val_data_loader=evaluation_loader(dataset),
        network=network,
        inferer=inferer or task.inferer() or SimpleInferer(),
        postprocessing=Compose([*softmax, postprocessing]),
        val_handlers=[WeightsLoader(network, checkpoint, signature=task.signature)],
        **options.engine,
    )


def save_predictions(
    output_dir: str,
    transform: Callable | None,
    spatial_dims: int = 3,
    samples: bool = True,
    answer_entropy: bool = False,
) -> Compose:
    """
    Post-processing that saves the single answer, the samples (4th axis) and the predictive entropy as NIfTI, in the
    grid of the input.

    Args:
        output_dir: where; made when absent.
        transform: the pre-processing, which is inverted; None, or one that changes no grid: nothing is to be inverted.
        spatial_dims: 2 or 3. Of 2D images all files have the axes ``[H, W, 1, N]``, N being 1 but for the samples.
        samples: whether there are any.
        answer_entropy: whether to save the entropy of the single answer too, as ``answer_entropy``: the uncertainty
            without a sample, where the answer is a calibration output.
    """
    entropies = {"probabilities": "entropy", **({"pred": "answer_entropy"} if answer_entropy else {})}
    dtypes = {
        "pred": np.uint8,
        **({"samples": np.uint8} if samples else {}),
        **dict.fromkeys(entropies.values(), np.float32),
    }
    inverse: list[Callable] = []
    if transform is not None and _is_invertible(transform):
        nearest = [key == "samples" for key in dtypes]
        inverse = [Invertd(list(dtypes), transform, orig_keys="image", nearest_interp=nearest, to_tensor=True)]
    return Compose(
        [
            PredictiveEntropyd(keys=list(entropies), names=list(entropies.values())),
            *inverse,
            AsDiscreted(keys="pred", argmax=True),
            *(
                SaveImaged(
                    keys=key,
                    output_dir=output_dir,
                    output_postfix="mode" if key == "pred" else key,
                    output_dtype=dtype,
                    resample=True,  # MONAI tells its writer the shape only then, and the grid is the input's already
                    separate_folder=False,
                    squeeze_end_dims=spatial_dims == 3,  # MONAI's writer fails on [H, W]
                )
                for key, dtype in dtypes.items()
            ),
        ]
    )


def _is_invertible(transform: Callable) -> bool:
    """Whether any step can be inverted; MONAI's ``Invertd`` refuses a transform without such a step."""
    steps = transform.flatten().transforms if isinstance(transform, Compose) else [transform]
    return any(isinstance(step, InvertibleTransform) for step in steps)
