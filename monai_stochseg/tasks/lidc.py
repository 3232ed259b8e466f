# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from monai.transforms import (
    CenterSpatialCropd,
    DivisiblePadd,
    RandAxisFlipd,
    RandFlipd,
    RandRotate90d,
    RandRotated,
    RandZoomd,
)

from monai_stochseg.data import CaseError, split_cases
from monai_stochseg.data.lidc import (
    LIDC_MANIFESTS,
    crops_datalist,
    load_manifest,
    split_by_manifest,
)
from monai_stochseg.data.lidc.crops_folder import read_parameters
from monai_stochseg.metrics import LabelMapDistance
from monai_stochseg.tasks.base import Task
from monai_stochseg.tasks.description import DataDescription
from monai_stochseg.transforms import LoadCropd
from monai_stochseg.transforms.load_crop import LUNG_WINDOW

_KEYS = ("image", "label")


class LIDC(Task):
    """
    Lung nodules that four radiologists outlined, or did not (LIDC-IDRI), in crops of 2D or 3D.

    Args:
        dataset_dir: a folder of crops, simulated or prepared, see docs/lidc.md.
        manifest: name or file of a split by patient, see :py:func:`monai_stochseg.data.lidc.load_manifest`; None for
            the split that came with the data.
        spatial_dims: 2 or 3; crops of another dimension are refused.
        window: lowest and highest value in HU, see :py:class:`monai_stochseg.transforms.LoadCropd`.
        size_divisible: sizes are padded to multiples of it, for a network that needs it. Default: as they are.
        nonempty_raters: whether a reader who drew nothing is missing, and does not say background, to the metrics of
            single answers.
        empty: what two empty maps are worth to the metrics of sets, see
            :py:class:`monai_stochseg.metrics.LabelMapDistance`.
    """

    evaluation_batch_size = 16
    described = DataDescription(
        "LIDC-IDRI (https://www.cancerimagingarchive.net/collection/lidc-idri), or the real readings with a simulated "
        "CT, made on first use",
        "npy",
        "CT, the window of -1000 to 400 HU scaled to [-1, 1]",
        "CT",
        "hounsfield",
        (-1, 1),
        (
            "Armato, S. et al. The Lung Image Database Consortium (LIDC) and Image Database Resource Initiative "
            "(IDRI). Medical Physics 2011. https://doi.org/10.1118/1.3528204",
        ),
    )

    def __init__(
        self,
        dataset_dir: str | os.PathLike,
        manifest: str | None = "kohl",
        spatial_dims: int = 2,
        window: Sequence[float] = LUNG_WINDOW,
        size_divisible: int | None = None,
        nonempty_raters: bool = False,
        empty: str = "agree",
    ) -> None:
        super().__init__(dataset_dir, spatial_dims, ["ct"], ["background", "nodule"])
        self.manifest = manifest
        self.window = (window[0], window[1])
        self.size_divisible = size_divisible
        self.nonempty_raters = nonempty_raters
        self._distance = replace(super().distance, empty=empty)

    @property
    def distance(self) -> LabelMapDistance:
        """As :py:attr:`Task.distance`, with what was chosen for two empty maps."""
        return self._distance

    @property
    def simulated(self) -> bool:
        """Whether the CT is simulated; the readings may be real all the same."""
        return bool((read_parameters(self.dataset_dir) or {}).get("simulated", False))

    @property
    def num_raters(self) -> int:  # type: ignore[override]
        """The number of readers of each crop; four in LIDC."""
        return len(self.cases("all")[0]["drawn"])

    @property
    def evaluation_metric_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Also the single answer against each reader, whether readers and samples disagree alike, and calibration."""
        readers = (f"mode_dice_rater{rater}" for rater in range(self.num_raters))
        return (
            *("ged", "diversity", "rater_diversity", "hm_iou", "dice", "dice_nonempty"),
            *("mode_dice", "mode_dice_nonempty", *readers, "case_dice", "ambiguity"),
            *("diversity_correlation", "empty_correlation", "ece", "ece_foreground"),
        )

    @property
    def parameters(self) -> dict[str, Any]:
        """What is logged of a run's data, with the id of the split."""
        split = None if self.manifest is None else load_manifest(self.manifest).id
        return {**super().parameters, "manifest": split}

    def datalist(self, require_label: bool = True) -> list[dict[str, Any]]:
        """All crops of the folder, whose readings are always there."""
        datalist = crops_datalist(self.dataset_dir)
        found = len(datalist[0]["spacing"])
        if found != self.spatial_dims:
            raise CaseError(f"{self.dataset_dir} holds {found}D crops, but spatial_dims is {self.spatial_dims}.")
        return datalist

    def split(self, datalist: Sequence[Mapping[str, Any]]) -> dict[str, list]:
        """The crops of each part, by the manifest or as they came."""
        if self.manifest is not None:
            return split_by_manifest(datalist, load_manifest(self.manifest))
        if any("split" in case for case in datalist):
            return split_cases(datalist)
        raise CaseError(
            f"{self.dataset_dir} came without a split: give a manifest, one of {LIDC_MANIFESTS} or a file; or judge "
            "all crops by part=all."
        )

    def load(self, with_label: bool = True) -> list[Callable]:
        """``image`` ``[1, *S]`` from -1 to 1, and ``label`` ``[R, *S]``."""
        pad: list[Callable] = []
        if self.size_divisible is not None:
            pad = [
                DivisiblePadd("image", k=self.size_divisible, value=-1),
                DivisiblePadd("label", k=self.size_divisible, allow_missing_keys=True),
            ]
        return [LoadCropd(self.window, with_label), *pad]

    def source(self, with_label: bool = True) -> list[Callable]:
        """``image`` in HU, clipped to the window, unless the set came with a window applied."""
        return [LoadCropd(self.window, with_label), self._to_hu]

    def _to_hu(self, data: Mapping[str, Any]) -> dict[str, Any]:
        low, high = self.window
        scaled = (data["image"] + 1) / 2 * (high - low) + low
        return {**data, "image": scaled} if data["unit"] == "HU" else dict(data)

    @staticmethod
    def case_name(case: Mapping[str, Any]) -> str:
        """That of the crop, of which a patient may have several."""
        return str(case["name"])

    @staticmethod
    def has_label(case: Mapping[str, Any]) -> bool:
        """A crop always has its readings."""
        return True

    def augmentation(self) -> list[Callable]:
        """Flips, and quarter turns in the axial plane."""
        return [RandAxisFlipd(_KEYS, prob=0.5), RandRotate90d(_KEYS, prob=0.75)]

    @staticmethod
    def published_augmentation(crop_size: Sequence[int]) -> list[Callable]:
        """
        That of the published recipes on PHiSeg's split, in 2D: rotation by up to 10 degrees, zoom up to 1.3, a crop of
        the centre and flips.

        Args:
            crop_size: of the crop, in pixels.
        """
        modes = ("bilinear", "nearest")
        return [
            RandRotated(_KEYS, prob=0.5, range_x=0.1745, mode=modes, padding_mode="reflection"),
            RandZoomd(_KEYS, prob=0.5, min_zoom=1.0, max_zoom=1.3, mode=modes),
            CenterSpatialCropd(_KEYS, roi_size=crop_size),
            RandFlipd(_KEYS, prob=0.5, spatial_axis=0),
            RandFlipd(_KEYS, prob=0.5, spatial_axis=1),
        ]

    @property
    def figure(self) -> dict[str, Any]:
        """The figure says where the CT is simulated."""
        return {"indexing": "ij", "title": "simulated CT" if self.simulated else None}
