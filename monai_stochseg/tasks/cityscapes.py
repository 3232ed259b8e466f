# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Compose, ConcatItemsd, DeleteItemsd, RandFlipd, RandSpatialCropd, RandZoomd

from monai_stochseg.data import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_SWITCHED_CLASSES,
    CITYSCAPES_SWITCHES,
    CaseError,
    cityscapes_datalist,
    split_cases,
)
from monai_stochseg.data.cityscapes import CITYSCAPES_VOID
from monai_stochseg.data.simulated.streets import MARK
from monai_stochseg.handlers import MetricFigure
from monai_stochseg.metrics import (
    ExpectedCalibrationErrorMetric,
    LabelMapDistance,
    ModeFrequencyMetric,
    PixelFlipRatioMetric,
)
from monai_stochseg.tasks.base import Task
from monai_stochseg.tasks.description import DataDescription
from monai_stochseg.tasks.mode_frequencies import frequency_rows
from monai_stochseg.tasks.sample_metrics import TaskMetric, entries, known_voxels
from monai_stochseg.transforms import ClassSwitchModesd, ClassSwitchProbabilitiesd, LoadCityscapesd, RandClassSwitchd
from monai_stochseg.visualize import plot_flip_ratio, plot_mode_frequency, plot_reliability

_KEYS = ("image", "label")

# The classes that may be switched, and what they become.
_SWITCHED = [*CITYSCAPES_SWITCHES, *(target for target, _ in CITYSCAPES_SWITCHES.values())]

# Metric to the entry of the output that it judges, and its name in the figure.
_CALIBRATED = {
    "ece_switched": ("probabilities", "samples"),
    "ece_switched_answer": ("pred", "single answer"),
}

# Denominators of the calibration error of the most probable class, where it is one of them.
_TOP = {"ece_top": "counted", "ece_top_all": "all"}

# Cityscapes' own colours; those of what a class becomes are far from its own.
_COLOURS = (
    *("#804080", "#f423e8", "#464646", "#66669c", "#be9999", "#999999", "#faaa1e", "#dcdc00", "#6b8e23", "#98fb98"),
    *("#4682b4", "#dc143c", "#ff0000", "#00008e", "#000046", "#003c64", "#005064", "#0000e6", "#770b20"),
    *("#fffac8", "#00ffff", "#ff7f00", "#ffb0d0", "#00c8a0"),
)


class Cityscapes(Task):
    """
    Multimodal Cityscapes (Kohl et al. 2018, https://arxiv.org/abs/1806.05034, section 4.2): five classes of a street
    scene are switched to others with known probabilities, so that each scene has 32 modes.

    Args:
        dataset_dir: the folder, real or simulated, see docs/cityscapes.md.
        spatial_size: H and W to which scenes are made smaller.
        crop_size: H and W of the training's crops.
        scale: lowest and highest factor of the training's scaling.
        predictions_dir: folder of another model's predictions, further channels of the image.
        all_modes: whether a training sees all 32 modes with their probabilities, as in Gao et al. 2023, or one draw,
            another one each time. An evaluation always sees all.
        true_distribution: whether the true distribution of each pixel, how probable each class is there, is appended
            to the image, C further channels behind those of ``predictions_dir``; void pixels have all classes alike.
            It takes the label, so that an image without one has none. For the control of Kassapis et al. 2021
            (https://arxiv.org/abs/2006.13144, section 5.2.2).

    Raises:
        ValueError: when the crop does not fit into the scene at the lowest scale; in :py:meth:`evaluation`, when the
            true distribution is asked for without a label.
        CaseError: when ``predictions_dir`` holds no prediction.
    """

    metric_names = ("ged", "hm_iou", "diversity", "mode_frequency", "flip_ratio")
    evaluation_metric_names = (*metric_names, "ece_switched", "ece_switched_answer", "ece_top", "ece_top_all")
    ignore_index = CITYSCAPES_VOID
    described = DataDescription(
        "Cityscapes (https://www.cityscapes-dataset.com), or simulated street scenes made on first use; five classes "
        "are switched at random (Kohl et al. 2018)",
        "png",
        "RGB, 0 to 1, and the channels of another model's prediction where predictions_dir is given",
        "photograph",
        "rgb",
        (0, 1),
        (
            "Cordts, M. et al. The Cityscapes Dataset for Semantic Urban Scene Understanding. CVPR 2016. "
            "https://arxiv.org/abs/1604.01685",
        ),
    )
    num_raters = 2 ** len(CITYSCAPES_SWITCHES)

    def __init__(
        self,
        dataset_dir: str | os.PathLike,
        spatial_size: Sequence[int] = (256, 512),
        crop_size: Sequence[int] = (128, 128),
        scale: Sequence[float] = (0.75, 1.0),
        predictions_dir: str | os.PathLike | None = None,
        all_modes: bool = True,
        true_distribution: bool = False,
    ) -> None:
        channels = ["red", "green", "blue", *_predicted_channels(predictions_dir)]
        if true_distribution:
            channels += [f"probability of {name}" for name in CITYSCAPES_SWITCHED_CLASSES]
        super().__init__(dataset_dir, 2, channels, list(CITYSCAPES_SWITCHED_CLASSES))
        _check_crop(spatial_size, crop_size, scale)
        self.spatial_size = tuple(spatial_size)
        self.crop_size = tuple(crop_size)
        self.scale = (scale[0], scale[1])
        self.predictions_dir = predictions_dir
        self.all_modes = all_modes
        self.true_distribution = true_distribution

    @property
    def simulated(self) -> bool:
        """Whether the streets are simulated."""
        return Path(self.dataset_dir).expanduser().joinpath(MARK).is_file()

    @property
    def distance(self) -> LabelMapDistance:
        """By the classes that may be switched and what they become."""
        return LabelMapDistance(
            self.num_classes,
            empty="ignore_or_agree",  # an expert may never show any of them
            ignore_index=self.ignore_index,
            classes=_SWITCHED,
        )

    def datalist(self, require_label: bool = True) -> list[dict[str, Any]]:
        """All scenes of the folder."""
        return cityscapes_datalist(self.dataset_dir, self.predictions_dir, require_label=require_label)

    def split(self, datalist: Sequence[Mapping[str, Any]]) -> dict[str, list]:
        """The scenes of each part, by their cities."""
        return split_cases(datalist)

    def image_case(self, files: Sequence[str]) -> dict[str, Any]:
        """As :py:meth:`Task.image_case`: one picture."""
        if len(files) != 1 or self.predictions_dir is not None:
            raise CaseError(f"image: task {self.name} takes one picture, and no prediction of another model.")
        return {"patient": Path(files[0]).stem, "image": files[0]}

    def load(self, with_label: bool = True) -> list[Callable]:
        """``image`` ``[C_in, H, W]`` from 0 to 1, and ``label`` ``[1, H, W]`` before any switch."""
        return [LoadCityscapesd(self.spatial_size, with_label)]

    def augmentation(self) -> list[Callable]:
        """Scale the scene, take a crop of it, mirror it left to right."""
        return [
            RandZoomd(_KEYS, 1.0, self.scale[0], self.scale[1], mode=["bilinear", "nearest"], keep_size=False),
            RandSpatialCropd(_KEYS, self.crop_size, random_size=False),
            RandFlipd(_KEYS, prob=0.5, spatial_axis=1),
        ]

    def training(
        self,
        augmentation: Sequence[Callable] | None = None,
        target: Callable | Sequence[Callable] = (),
        whole: Sequence[Callable] = (),
    ) -> Compose:
        """As :py:meth:`Task.training`; the classes are switched after the augmentation."""
        switch = ClassSwitchModesd if self.all_modes else RandClassSwitchd
        targets = [target] if callable(target) else target
        switched = switch("label", CITYSCAPES_SWITCHES, self.num_classes)
        return super().training(augmentation, [*self._truth(), switched, *targets], whole)

    def evaluation(self, transforms: Sequence[Callable] = (), with_label: bool = True) -> Compose:
        """As :py:meth:`Task.evaluation`, with all modes and their probabilities."""
        if not with_label and self.true_distribution:
            raise ValueError(
                "true_distribution=True needs labels: the true distribution of an image without one is not known."
            )
        modes = [ClassSwitchModesd("label", CITYSCAPES_SWITCHES, self.num_classes)] if with_label else []
        return super().evaluation([*transforms, *self._truth(), *modes], with_label)

    def _truth(self) -> list[Callable]:
        """What appends the true distribution, before the classes are switched."""
        if not self.true_distribution:
            return []
        given = (CITYSCAPES_SWITCHES, self.num_classes)
        return [
            ClassSwitchProbabilitiesd("label", *given, names="truth", ignore_index=self.ignore_index),
            ConcatItemsd(["image", "truth"], "image"),
            DeleteItemsd("truth"),
        ]

    def metric(self, name: str) -> TaskMetric:
        """
        As :py:meth:`Task.metric`, and of the known truth ``mode_frequency``, ``flip_ratio``, and the expected
        calibration error of the classes that may be switched and what they become, pooled over pixels and classes:
        ``ece_switched`` of the samples, ``ece_switched_answer`` of the single answer. ``ece_top`` is that of the most
        probable class by the samples' mean, over the pixels where it is one of these classes; ``ece_top_all`` the same
        divided by the number of all pixels, void ones too, as in Gao et al. 2023.
        """
        samples = entries("samples", "label")
        if name == "mode_frequency":
            return TaskMetric(ModeFrequencyMetric(self.num_raters, self.distance), samples)
        if name == "flip_ratio":
            return TaskMetric(PixelFlipRatioMetric(CITYSCAPES_SWITCHES), samples)
        if name in _CALIBRATED:
            error = ExpectedCalibrationErrorMetric(kind="class", class_index=_SWITCHED)
            return TaskMetric(error, partial(known_voxels, entries(_CALIBRATED[name][0], "label"), self.ignore_index))
        if name in _TOP:
            top = ExpectedCalibrationErrorMetric(
                classes=_SWITCHED, ignore_index=self.ignore_index, denominator=_TOP[name]
            )
            return TaskMetric(top, entries("probabilities", "label"))
        return super().metric(name)

    @property
    def figure(self) -> dict[str, Any]:
        """The figure says where the streets are simulated."""
        title = "simulated streets" if self.simulated else None
        return {"indexing": "ij", "title": title, "max_raters": 6, "max_samples": 18, "colours": _COLOURS}

    def evaluation_figures(
        self, metrics: Mapping[str, TaskMetric], output_dir: str, part: str, model_name: str
    ) -> list[MetricFigure]:
        """The samples' frequencies beside the known probabilities; those of the modes as a table too."""
        names = {label: name for name, label in CITYSCAPES_CLASSES.items()}
        switches = [names[source] for source in CITYSCAPES_SWITCHES]
        probabilities = [probability for _, probability in CITYSCAPES_SWITCHES.values()]
        draw: dict[str, Callable] = {}
        if "mode_frequency" in metrics:
            frequency: Any = metrics["mode_frequency"].metric
            draw["mode_frequency"] = lambda: plot_mode_frequency({model_name: frequency.frequencies()})
        if "flip_ratio" in metrics:
            ratio: Any = metrics["flip_ratio"].metric
            draw["flip_ratio"] = lambda: plot_flip_ratio({model_name: ratio.ratios()}, probabilities, switches)
        if calibrated := {_CALIBRATED[name][1]: metrics[name].metric for name in _CALIBRATED if name in metrics}:
            draw["reliability"] = lambda: plot_reliability(
                {f"{model_name}, {of}": metric.bins() for of, metric in calibrated.items()},
                "probability of a class that is switched, or becomes",
            )
        if of_top := [name for name in _TOP if name in metrics]:  # a metric is false before it has met a case
            top: Any = metrics[of_top[0]].metric
            draw["reliability_top"] = lambda: plot_reliability(
                {model_name: top.bins()}, "confidence of the most probable class", "where it is switched, or becomes"
            )
        rows = {"mode_frequency": lambda: frequency_rows(frequency.frequencies())}
        own = [
            MetricFigure(os.path.join(output_dir, f"{name}_{part}.png"), draw[name], rows.get(name)) for name in draw
        ]
        return [*super().evaluation_figures(metrics, output_dir, part, model_name), *own]


def _predicted_channels(predictions_dir: str | os.PathLike | None) -> list[str]:
    """Names of the channels of another model's predictions."""
    if predictions_dir is None:
        return []
    files = sorted(Path(predictions_dir).expanduser().glob("*.npy"))
    if not files:
        raise CaseError(f"predictions_dir: {predictions_dir} holds no prediction CITY_000000_000019.npy.")
    first = np.load(files[0], mmap_mode="r")
    if first.ndim == 2:  # a label map of train ids
        return [f"prediction of {name}" for name in CITYSCAPES_CLASSES]
    return [f"prediction {i}" for i in range(len(first))]


def _check_crop(spatial_size: Sequence[int], crop_size: Sequence[int], scale: Sequence[float]) -> None:
    if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise ValueError(f"scale must be the lowest and the highest factor, got {list(scale)}.")
    smallest = [int(size * scale[0]) for size in spatial_size]
    if any(crop > size for crop, size in zip(crop_size, smallest, strict=True)):
        raise ValueError(
            f"crop_size {list(crop_size)} does not fit into a scene of {list(spatial_size)} scaled by {scale[0]}, "
            f"{smallest}."
        )
