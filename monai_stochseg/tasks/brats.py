# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
from monai.transforms import CropForegroundd, MapTransform, NormalizeIntensityd
from monai.utils import convert_to_dst_type

from monai_stochseg.data import BRATS_CLASSES, BRATS_MODALITIES, brats_datalist
from monai_stochseg.data.simulated import simulate_brain
from monai_stochseg.data.simulated.cases import TRUTH
from monai_stochseg.distributions.arguments import check_option
from monai_stochseg.metrics import BRATS_REGIONS
from monai_stochseg.tasks.description import DataDescription
from monai_stochseg.tasks.volumes import SplitOptions, VolumeOptions, VolumeTask
from monai_stochseg.transforms import NormalizeAboveMeand


class DrawReadingsd(MapTransform):
    """
    Append readings to the label of a simulated patient, drawn from the distribution that its own readings are from.

    Args:
        dataset_dir: the simulated folder, with its ``truth.json``.
        num_draws: number of readings.
    """

    def __init__(self, dataset_dir: str | os.PathLike, num_draws: int) -> None:
        super().__init__("label")
        self.truth = json.loads(Path(dataset_dir, TRUTH).read_text(encoding="utf-8"))
        self.num_draws = num_draws

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``label`` ``[R, *S]`` becomes ``[R + num_draws, *S]``; the same draws for the same patient."""
        d = dict(data)
        seed = self.truth["patients"][d["patient"]]["seed"]
        brain = simulate_brain(self.truth["parameters"]["spatial_size"], seed)
        drawn = brain.sample(self.num_draws, torch.Generator().manual_seed(seed + 1))
        d["label"] = convert_to_dst_type(torch.cat([d["label"].as_tensor(), drawn]), dst=d["label"])[0]
        return d


class BraTS(VolumeTask):
    """
    Brain tumours in multi-channel MRI (BraTS 2015 to 2023, Medical Segmentation Decathlon): enhancing tumour, oedema,
    necrotic and non-enhancing core, of one or several raters.

    With patches, voxels outside the brain are void to the loss, and every answer is background there.

    Args:
        dataset_dir: the folder, as it was delivered; see :py:func:`monai_stochseg.data.brats_datalist`.
        modalities: the image's channels, in their order.
        regions: names of the structures that are judged, of those in ``BRATS_REGIONS``. Default: all.
        roi_size: see :py:class:`~monai_stochseg.tasks.volumes.VolumeOptions`, as the four that follow.
        patch_size: of the training's patches. Default: none, the network sees the centre of the brain as a whole.
        label_size: of the label's centre in a patch.
        patches_per_image: patches that are taken of a volume each time.
        spacing: to resample to, in mm.
        crop_foreground: without patches, whether to crop to the brain before its centre is taken.
        split_fractions: of train, validation and test, where the data come without a split.
        seed: of the split.
        split_file: an earlier run's split, or a folder of lists of patients, which is read and not drawn anew, see
            :py:func:`monai_stochseg.data.read_split`.
        normalization: ``"brain"``: zero mean and unit variance of each channel within the brain; ``"above_mean"``: of
            its bright tissue, see :py:class:`monai_stochseg.transforms.NormalizeAboveMean`.

    Raises:
        ValueError: when a region or the normalisation is unknown.
    """

    masked = True
    described = DataDescription(
        "BraTS (2015 to 2023, or the Medical Segmentation Decathlon), or simulated volumes made on first use",
        "NIfTI",
        "MRI, each sequence to mean 0 and standard deviation 1 in the brain",
        "MR",
    )

    def __init__(
        self,
        dataset_dir: str | os.PathLike,
        modalities: Sequence[str] = BRATS_MODALITIES,
        regions: Sequence[str] = tuple(BRATS_REGIONS),
        roi_size: Sequence[int] = (64, 64, 64),
        patch_size: Sequence[int] | None = None,
        label_size: Sequence[int] | None = None,
        patches_per_image: int = 4,
        spacing: Sequence[float] | None = None,
        crop_foreground: bool = True,
        split_fractions: Sequence[float] = (0.7, 0.15, 0.15),
        seed: int = 0,
        split_file: str | os.PathLike | None = None,
        normalization: str = "brain",
    ) -> None:
        for name in regions:
            if name not in BRATS_REGIONS:
                raise ValueError(f"regions must be of {list(BRATS_REGIONS)}, got {name!r}.")
        super().__init__(
            dataset_dir,
            modalities,
            list(BRATS_CLASSES),
            {name: BRATS_REGIONS[name] for name in regions},
            VolumeOptions(roi_size, spacing, patch_size, label_size, patches_per_image),
            SplitOptions(split_fractions, seed, split_file),
        )
        self.crop_foreground = crop_foreground
        self.normalization = check_option("normalization", normalization, ("brain", "above_mean"))
        if self.normalization == "above_mean":
            self.after_reading = (NormalizeAboveMeand("image"),)

    @property
    def signature(self) -> dict[str, Any]:
        """As :py:attr:`Task.signature`, with a normalisation other than the default."""
        chosen = {} if self.normalization == "brain" else {"normalization": self.normalization}
        return {**super().signature, **chosen}

    def datalist(self, require_label: bool = True) -> list[dict[str, Any]]:
        """All patients of the folder."""
        return brats_datalist(self.dataset_dir, self.channel_names, require_label=require_label)

    def with_truth(self, num_draws: int) -> BraTS | None:
        """The same task with readings drawn from the simulation's truth behind those of a case; None for real data."""
        if not self.simulated:
            return None
        task = copy(self)
        task.after_reading = (*self.after_reading, DrawReadingsd(self.dataset_dir, num_draws))
        return task

    def intensity(self) -> list[Callable]:
        """Zero mean and unit variance of each channel within the brain, unless a case is normalised as it is read."""
        return [NormalizeIntensityd("image", nonzero=True, channel_wise=True)] * (self.normalization == "brain")

    def crop(self) -> list[Callable]:
        """To the brain."""
        keys = ("image", "label", "mask")
        return [CropForegroundd(keys, "mask", allow_smaller=True, allow_missing_keys=True)] * self.crop_foreground
