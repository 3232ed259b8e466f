# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset, decollate_batch
from monai.transforms import Compose
from monai.utils import CommonKeys, ImageMetaKey

from monai_stochseg.bundle.paths import check_path
from monai_stochseg.bundle.saving import SaveNifti
from monai_stochseg.data.prediction_record import PREDICTION_SUFFIX, PredictionRecord, prediction_name
from monai_stochseg.data.raster import is_raster
from monai_stochseg.tasks import Task

__all__ = ["PredictionRecorder"]


class PredictionRecorder:
    """
    Handler of a predictor that makes its folder complete by itself: beside each case's predictions it writes the image,
    the raters' label where the case has one, both as NIfTI on the grid of the predictions, and last a record of what
    the files hold, see :py:class:`monai_stochseg.data.prediction_record.PredictionRecord`. Image and label are read and
    written in a thread while the case is predicted.

    Args:
        prediction_dir: folder of the predictions.
        task: what is asked.
        dataset: its ``data`` are the cases, of which the image is read again, as it is.
        save_image: whether to write image and label. Without them ``explore`` shows predictions on an empty grid.
        stacked: whether the samples are one file.
        compress: whether NIfTI files are compressed.
    """

    def __init__(
        self,
        prediction_dir: str,
        task: Task,
        dataset: Dataset,
        save_image: bool = True,
        stacked: bool = True,
        compress: bool = True,
    ) -> None:
        self.prediction_dir = check_path("prediction_dir", prediction_dir)
        self.task = task
        self.dataset = dataset
        self.save_image = save_image
        self.stacked = stacked
        self.compress = compress
        self._sources: dict[str, Future] = {}

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the predictor, whose post-processing has saved the predictions of a batch when its iteration ends.
        """
        engine.add_event_handler(Events.ITERATION_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        """Remove the records of the batch's cases before the first of their files is replaced, and save the sources."""
        if not engine.state.batch:  # a process under torchrun without a case
            return
        images = decollate_batch(engine.state.batch[CommonKeys.IMAGE])
        names = [prediction_name(image.meta[ImageMetaKey.FILENAME_OR_OBJ]) for image in images]
        for name in names:
            Path(self.prediction_dir, f"{name}{PREDICTION_SUFFIX}").unlink(missing_ok=True)
        if self.save_image:
            thread = ThreadPoolExecutor(1)
            self._sources = {name: thread.submit(self._save_source, self._case(name)) for name in names}
            thread.shutdown(wait=False)

    def __call__(self, engine: Engine) -> None:
        """Write the record of each case of the batch, after image and label."""
        for item in engine.state.output:
            name = prediction_name(item["pred"].meta[ImageMetaKey.FILENAME_OR_OBJ])
            source = self._sources.pop(name).result() if self.save_image else {}
            self._record(name, item, source, getattr(engine, "noise_seed", None)).write(self.prediction_dir)

    @property
    def _nifti(self) -> str:
        return "nii.gz" if self.compress else "nii"

    def _case(self, name: str) -> Mapping[str, Any]:
        cases: Sequence[Mapping[str, Any]] = self.dataset.data
        return next(case for case in cases if prediction_name(f"{self.task.case_name(case)}.nii.gz") == name)

    def _save_source(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Save the image of a case, and the label where it has one, and give both."""
        with_label = self.task.has_label(case)
        source: dict[str, Any] = Compose(self.task.source(with_label))(dict(case))
        entries = {"image": ("image", _smallest_type(source["image"]))}
        if with_label:
            entries["readers"] = ("label", np.uint8)
        SaveNifti(self.prediction_dir, entries, self.task, True, self.compress)(source)
        return source

    def _record(
        self, name: str, item: Mapping[str, Any], source: Mapping[str, Any], noise_seed: int | None
    ) -> PredictionRecord:
        task, label = self.task, source.get("label")
        weights = item.get("sample_weights")
        raters = [] if label is None else [1.0] * len(label)
        if label is not None and "rater_weights" in source:
            raters = source["rater_weights"].tolist()
        return PredictionRecord(
            name=name,
            task=task.name,
            spatial_dims=task.spatial_dims,
            simulated=task.simulated,
            channel_names=list(task.channel_names),
            class_names=list(task.class_names),
            regions={name: list(classes) for name, classes in task.regions.items()},
            indexing=task.figure.get("indexing", "xy"),
            ending="png" if is_raster(str(item["pred"].meta[ImageMetaKey.FILENAME_OR_OBJ])) else self._nifti,
            nifti_ending=self._nifti,
            num_samples=len(item["samples"]) if "samples" in item else 0,
            stacked=self.stacked,
            sample_weights=None if weights is None else [float(weight) for weight in weights],
            noise_seed=noise_seed,
            has_image=bool(source),
            rater_weights=raters,
            rater_names=list(getattr(task, "rater_names", None) or []) if raters else [],
            maps=[each for each in _maps(task) if each in item],
            unit=_unit(item["pred"].affine, task.spatial_dims),
        )


def _maps(task: Task) -> list[str]:
    """Keys of the maps of numbers that the post-processing may have saved, each the postfix of its file."""
    entropies = ("entropy", "mutual_information", "answer_entropy")
    return [*(f"probability_{name}" for name in task.regions), *entropies]


def _smallest_type(values: torch.Tensor) -> Any:
    """int16 where it holds all values, as CT and most MRI are; else float32."""
    plain = torch.as_tensor(values).as_subclass(torch.Tensor)
    whole = bool((plain == plain.round()).all()) and bool((plain.abs() < np.iinfo(np.int16).max).all())
    return np.int16 if whole else np.float32


def _unit(affine: torch.Tensor, spatial_dims: int) -> str:
    """A 2D image without spacing has the identity."""
    identity = torch.eye(len(affine), dtype=torch.float64)
    plain = torch.as_tensor(affine).as_subclass(torch.Tensor).double().cpu()
    return "px" if spatial_dims == 2 and torch.equal(plain, identity) else "mm"
