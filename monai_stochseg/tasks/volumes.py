# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer, SlidingWindowInferer
from monai.transforms import (
    BorderPadd,
    CenterSpatialCropd,
    Compose,
    CopyItemsd,
    CropForegroundd,
    DivisiblePadd,
    FgBgToIndicesd,
    Lambdad,
    MaskIntensityd,
    Orientationd,
    RandCropByPosNegLabeld,
    RandRotated,
    ResizeWithPadOrCropd,
    SelectItemsd,
    Spacingd,
)

from monai_stochseg.data import CaseError, read_split, split_cases
from monai_stochseg.metrics import RegionDiceMetric, SampleDiceMetric
from monai_stochseg.tasks.base import Task
from monai_stochseg.tasks.sample_metrics import Pair, TaskMetric, present_raters
from monai_stochseg.transforms import CheckMinSized, LoadCased, MaskLabeld

_KEYS = ("image", "label")
_TRUTH = "truth.json"  # of a simulated folder


@dataclass(frozen=True)
class VolumeOptions:
    """
    How volumes of MRI or CT are brought to a network: their centre as a whole, or random patches.

    Args:
        spacing: to resample to, in mm. Default: the file's.
        roi_size: without patches the centre of the volume that the network sees as a whole, with patches the window of
            inference, in voxels; None: with patches, inference sees the image as a whole.
        patch_size: of the training's patches, in voxels. Default: no patches, but the centre of the volume.
        label_size: of the label's centre in a patch, for a network that loses its border. Default: the whole patch.
        patches_per_image: patches that are taken of a volume each time, half of them around a structure.
        size_divisible: where inference sees the image as a whole, its sizes are padded to multiples of it.

    Raises:
        ValueError: if there is neither a roi_size nor a patch_size.
    """

    roi_size: Sequence[int] | None
    spacing: Sequence[float] | None = None
    patch_size: Sequence[int] | None = None
    label_size: Sequence[int] | None = None
    patches_per_image: int = 4
    size_divisible: int = 16

    def __post_init__(self) -> None:
        if self.roi_size is None and self.patch_size is None:
            raise ValueError("roi_size or patch_size must be given.")


@dataclass(frozen=True)
class SplitOptions:
    """
    How patients are split where the data come without a split.

    Args:
        fractions: of train, validation and test; they sum to 1.
        seed: of the draw.
        filename: a split that is read and not drawn anew, see :py:func:`monai_stochseg.data.read_split`. Default: none.
    """

    fractions: Sequence[float] = (0.7, 0.15, 0.15)
    seed: int = 0
    filename: str | os.PathLike | None = None


class VolumeTask(Task):
    """
    Base of the tasks on images that are listed patient by patient, a file a rater: volumes of MRI and CT, a user's own.

    Args:
        dataset_dir: the folder of the data set, as it was delivered.
        channel_names: names of the image's channels.
        class_names: names of the classes, the background first.
        regions: see :py:class:`Task`.
        volume: how volumes are brought to the network.
        split: how patients are split.
        spatial_dims: 2 or 3.
    """

    metric_names: tuple[str, ...] = ("ged", "diversity", "dice")
    evaluation_metric_names: tuple[str, ...] = ("ged", "diversity", "sample_dice", "case_dice")
    draws_split = True

    def __init__(
        self,
        dataset_dir: str | os.PathLike,
        channel_names: Sequence[str],
        class_names: Sequence[str],
        regions: Mapping[str, Sequence[int]] | None,
        volume: VolumeOptions,
        split: SplitOptions,
        spatial_dims: int = 3,
    ) -> None:
        super().__init__(dataset_dir, spatial_dims, channel_names, class_names, regions)
        self.volume = volume
        self.split_options = split
        if self.masked and volume.patch_size is not None:
            self.mask_key, self.ignore_index = "mask", 255
        self._raters: int | None = None

    #: Transforms that follow the reading of a case, before anything moves its voxels.
    after_reading: tuple[Callable, ...] = ()
    #: Whether voxels outside the mask of a case do not belong to what is judged.
    masked = False

    @property
    def simulated(self) -> bool:
        """Whether the folder is one of this package's simulations."""
        return Path(self.dataset_dir, _TRUTH).is_file()

    @property
    def num_raters(self) -> int:  # type: ignore[override]
        """The largest number of raters of a case."""
        if self._raters is None:
            labelled = [case for case in self.cases("all", require_label=False) if "label" in case]
            counts = [
                len(case["label"]) * case.get("label_channels", 1) // len(case.get("label_classes", [0]))
                for case in labelled
            ]
            self._raters = max(counts, default=1)
        return self._raters

    def split(self, datalist: Sequence[Mapping[str, Any]]) -> dict[str, list]:
        """The cases of each part: as recorded, as the data came, or drawn."""
        options = self.split_options
        if options.filename is not None:
            return read_split(options.filename, datalist)
        return split_cases(datalist, options.fractions, options.seed)

    @abstractmethod
    def intensity(self) -> list[Callable]:
        """The transforms of the image's intensity."""

    def image_case(self, files: Sequence[str]) -> dict[str, Any]:
        """As :py:meth:`Task.image_case`: the name is that of the first file."""
        if len(files) not in (1, self.in_channels):
            raise CaseError(
                f"image: give one file with {self.in_channels} channels, or one a channel in the order "
                f"{', '.join(self.channel_names)}; got {len(files)} files."
            )
        case = {"patient": Path(files[0]).name.split(".")[0], "image": list(files)}
        return case if len(files) == self.in_channels else {**case, "image_channels": self.in_channels}

    def source(self, with_label: bool = True) -> list[Callable]:
        """``image``, ``label`` and, of a brain, ``mask``, as the files hold them."""
        return [LoadCased(with_label)]

    def read(self, with_label: bool) -> list[Callable]:
        """The transforms that read a case for a network."""
        return [*self.source(with_label), *self.after_reading]

    def load(self, with_label: bool = True) -> list[Callable]:
        """From a case to the centre of its volume, or with patches to the whole volume and its ``mask``, if any."""
        return self._whole(with_label) if self.volume.patch_size is not None else self._centre(with_label)

    def _whole(self, with_label: bool) -> list[Callable]:
        keys = ("image", "label", "mask")
        crop: list[Callable] = []
        if self.masked:
            crop = [CropForegroundd(keys, "mask", margin=2, allow_smaller=True, allow_missing_keys=True)]
        return [
            *self.read(with_label),
            *self.orientation(keys),
            *self._resample(keys),
            *self._masking(),
            *crop,
            *self.intensity(),
            *self._pad(),
        ]

    def _pad(self) -> list[Callable]:
        if self.volume.roi_size is not None:
            return []
        return [DivisiblePadd(_KEYS, k=self.volume.size_divisible, allow_missing_keys=True)]

    def _centre(self, with_label: bool) -> list[Callable]:
        return [
            *self.read(with_label),
            *self._masking(),
            *self.crop(),
            SelectItemsd((*_KEYS, "rater_weights", "patient"), allow_missing_keys=True),
            Orientationd(_KEYS, axcodes="SPL", labels=None, allow_missing_keys=True),
            *self._resample(_KEYS),
            *self.intensity(),
            ResizeWithPadOrCropd(_KEYS, spatial_size=self.volume.roi_size, allow_missing_keys=True),
        ]

    def _masking(self) -> list[Callable]:
        """Zero outside the mask, where a normalised image has another background: intensities are those within."""
        return [MaskIntensityd("image", mask_key="mask")] * self.masked

    def orientation(self, keys: Sequence[str]) -> list[Callable]:
        """The transforms that turn whole volumes to one orientation."""
        return [Orientationd(keys, axcodes="RAS", labels=None, allow_missing_keys=True)]

    def crop(self) -> list[Callable]:
        """A crop to what matters, before the centre of the volume is taken."""
        return []

    def _resample(self, keys: Sequence[str]) -> list[Callable]:
        if self.volume.spacing is None:
            return []
        modes = ["bilinear" if key == "image" else "nearest" for key in keys]
        return [Spacingd(keys, pixdim=self.volume.spacing, mode=modes, dtype=np.float32, allow_missing_keys=True)]

    def training(
        self,
        augmentation: Sequence[Callable] | None = None,
        target: Callable | Sequence[Callable] = (),
        whole: Sequence[Callable] = (),
    ) -> Compose:
        """As :py:meth:`Task.training`; patches are taken before the augmentation."""
        chosen = self.augmentation() if augmentation is None else augmentation
        size = self.volume.patch_size
        return super().training([*([] if size is None else self._patches(size)), *chosen], target, whole)

    def augmentation(self) -> list[Callable]:
        """None with patches, whose place is random; without them small rotations about the body's axis."""
        if self.volume.patch_size is not None:
            return []
        return [
            RandRotated(_KEYS, range_x=0.2, prob=0.5, mode=("bilinear", "nearest"), padding_mode=("border", "border"))
        ]

    def _patches(self, size: Sequence[int]) -> list[Callable]:
        label_size = size if self.volume.label_size is None else self.volume.label_size
        border = [(patch - label) // 2 for patch, label in zip(size, label_size, strict=True)]
        void = self.ignore_index
        mask = [] if void is None else [MaskLabeld("label", mask_key="mask", ignore_index=void)]
        return [
            BorderPadd(("image", "label", "mask"), spatial_border=border, allow_missing_keys=True),
            CheckMinSized("image", min_size=size),
            *mask,
            CopyItemsd("label", names="structure"),
            Lambdad("structure", self._foreground),
            FgBgToIndicesd("structure", image_key="mask" if self.masked else None),
            RandCropByPosNegLabeld(
                _KEYS,
                label_key="structure",
                spatial_size=size,
                pos=1,
                neg=1,
                num_samples=self.volume.patches_per_image,
                fg_indices_key="structure_fg_indices",
                bg_indices_key="structure_bg_indices",
            ),
            CenterSpatialCropd("label", roi_size=label_size),
            SelectItemsd((*_KEYS, "rater_weights"), allow_missing_keys=True),
        ]

    def _foreground(self, label: torch.Tensor) -> torch.Tensor:
        """Where any rater sees a structure."""
        return ((label > 0) & (label != self.ignore_index)).any(0, keepdim=True)

    def inferer(self, overlap: float = 0.25) -> Inferer | None:
        """Windows with patches, the whole image without."""
        if self.volume.patch_size is None or self.volume.roi_size is None:
            return None
        return SlidingWindowInferer(roi_size=self.volume.roi_size, overlap=overlap, mode="gaussian")

    def metric(self, name: str) -> TaskMetric:
        """As :py:meth:`Task.metric`; ``dice`` is that of the single answer, ``sample_dice`` that of all, by region."""
        if name == "dice":
            return TaskMetric(RegionDiceMetric(self.regions), _answer)
        if name == "sample_dice":
            return TaskMetric(SampleDiceMetric(self.regions), _answer_and_samples)
        return super().metric(name)


def _answer(output: Sequence[Mapping[str, Any]]) -> Pair:
    """The label map of the single answer, whose probabilities the evaluator gives."""
    answers = [item["pred"].argmax(0, keepdim=True) for item in output]
    return answers, [present_raters(item["label"]) for item in output]


def _answer_and_samples(output: Sequence[Mapping[str, Any]]) -> Pair:
    """The single answer and then the samples, as plain tensors: the answer has no weight among them."""
    answers, labels = _answer(output)
    pairs = zip(answers, (item["samples"] for item in output), strict=True)
    maps = [torch.cat([answer.to(samples), samples]).as_subclass(torch.Tensor) for answer, samples in pairs]
    return maps, labels
