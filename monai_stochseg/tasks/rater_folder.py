# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from monai.transforms import (
    NormalizeIntensityd,
    RandFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    ScaleIntensityRanged,
    SpatialPadd,
)
from monai.utils import look_up_option

from monai_stochseg.data import CaseError
from monai_stochseg.data.raster import is_raster
from monai_stochseg.data.rater_folder import RaterLayout, rater_datalist
from monai_stochseg.tasks.volumes import SplitOptions, VolumeOptions, VolumeTask
from monai_stochseg.transforms import LoadRaterCased

_KEYS = ("image", "label")
NORMALIZATIONS = ("zscore", "window")


@dataclass(frozen=True)
class IntensityOptions:
    """
    How an image's intensity is brought to a network.

    Args:
        normalization: ``"zscore"``, zero mean and unit variance of each channel of an image (MRI, microscopy), or
            ``"window"``, of which the ends become 0 and 1 (CT in HU, RGB).
        window: lowest and highest value, for ``"window"``.

    Raises:
        ValueError: if the normalization is unknown, or a window is missing or empty.
    """

    normalization: str = "zscore"
    window: Sequence[float] | None = None

    def __post_init__(self) -> None:
        look_up_option(self.normalization, NORMALIZATIONS)
        if self.normalization == "window" and (self.window is None or not self.window[0] < self.window[1]):
            raise ValueError(f"window must be the lowest and the highest value, got {self.window}.")


class RaterFolder(VolumeTask):
    """
    A user's own images in 2D or 3D, each with the masks of any number of raters; ``python -m monai_stochseg plan``
    writes the configuration.

    A training takes patches, half of them around a structure. An evaluation sees the image as a whole, or in windows.
    Cases may have different numbers of raters: a missing one has weight 0.

    Args:
        dataset_dir: the folder.
        layout: how it names its files and numbers its classes.
        channel_names: names of the image's channels.
        class_names: names of the classes, the background first.
        spatial_dims: 2 or 3.
        volume: sizes of patches and windows, and the spacing; it must have a ``patch_size``.
        regions: structures that are judged: classes by the structure's name. Default: each class.
        intensity: how intensities are normalised. Default: zero mean and unit variance.
        planned: ``dataset_dir`` and ``cases`` of the plan; in that folder each of them must be there. Default: none.
        split: how cases are split. Default: see :py:class:`~monai_stochseg.tasks.volumes.SplitOptions`.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3, or ``patch_size`` is missing or has another number of axes.
    """

    metric_names = ("ged", "diversity", "hm_iou", "dice")
    evaluation_metric_names = ("ged", "diversity", "rater_diversity", "hm_iou", "sample_dice", "case_dice")

    def __init__(
        self,
        dataset_dir: str | os.PathLike,
        layout: RaterLayout,
        channel_names: Sequence[str],
        class_names: Sequence[str],
        spatial_dims: int,
        volume: VolumeOptions,
        regions: Mapping[str, Sequence[int]] | None = None,
        intensity: IntensityOptions | None = None,
        split: SplitOptions | None = None,
        planned: Mapping[str, Any] | None = None,
    ) -> None:
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        if len(volume.patch_size or ()) != spatial_dims:
            raise ValueError(f"volume: patch_size must have {spatial_dims} axes, got {volume.patch_size}.")
        split = SplitOptions() if split is None else split
        super().__init__(dataset_dir, channel_names, class_names, regions, volume, split, spatial_dims)
        self.layout = layout
        self.planned = planned or {}
        self.intensity_options = IntensityOptions() if intensity is None else intensity

    def datalist(self, require_label: bool = True) -> list[dict[str, Any]]:
        """
        All cases of the folder.

        Raises:
            CaseError: if a case of the plan is no longer there.
        """
        cases = rater_datalist(self.dataset_dir, self.layout, require_label)
        if self.planned.get("dataset_dir") == self.dataset_dir:
            there = {case["patient"] for case in cases}
            if gone := [name for name in self.planned["cases"] if name not in there]:
                raise CaseError(
                    f"case {gone[0]} was there when the plan was made, and is not in {self.dataset_dir} now: make the "
                    "plan again."
                )
        return cases

    @cached_property
    def rater_names(self) -> tuple[str, ...] | None:
        """Names of the raters in the label's order, where they are known; else None."""
        if not self.layout.known_raters:
            return None
        names = [name for case in self.cases("all", require_label=False) for name in case.get("raters", [])]
        return tuple(sorted(set(names)))

    @property
    def num_raters(self) -> int:  # type: ignore[override]
        """The number of known raters, or the largest number of raters of a case."""
        if self.rater_names is not None:
            return max(1, len(self.rater_names))
        cases = self.cases("all", require_label=False)
        return max(1, *(len(case.get("raters", [])) for case in cases))

    def source(self, with_label: bool = True) -> list[Callable]:
        """From a case of the datalist to ``image``, ``label`` and ``rater_weights``."""
        loader = partial(LoadRaterCased, self.layout, self.spatial_dims, self.in_channels, self.num_classes)
        return [loader(self.num_raters, self.rater_names) if with_label else loader(with_label=False)]

    def orientation(self, keys: Sequence[str]) -> list[Callable]:
        """Volumes are turned to RAS; images of two dimensions stay as they are."""
        return super().orientation(keys) if self.spatial_dims == 3 else []

    def intensity(self) -> list[Callable]:
        """By ``intensity``."""
        options = self.intensity_options
        if options.normalization == "window" and options.window is not None:
            low, high = options.window
            return [ScaleIntensityRanged("image", a_min=low, a_max=high, b_min=0.0, b_max=1.0, clip=True)]
        return [NormalizeIntensityd("image", channel_wise=True)]

    def _patches(self, size: Sequence[int]) -> list[Callable]:
        return [SpatialPadd(_KEYS, spatial_size=size), *super()._patches(size)]

    def augmentation(self) -> list[Callable]:
        """Flips along each axis, and changes of brightness and contrast."""
        flips = [RandFlipd(_KEYS, prob=0.5, spatial_axis=axis) for axis in range(self.spatial_dims)]
        return [
            *flips,
            RandScaleIntensityd("image", factors=0.1, prob=0.5),
            RandShiftIntensityd("image", 0.1, prob=0.5),
        ]

    @property
    def figure(self) -> dict[str, Any]:
        """Rows and columns of raster images are shown as such."""
        first = self.cases("all", require_label=False)[0]["image"][0]
        return {"indexing": "ij" if is_raster(first) else "xy", "max_raters": 6}
