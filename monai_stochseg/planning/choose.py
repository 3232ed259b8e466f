# SPDX-License-Identifier: Apache-2.0
"""The rules by which a plan chooses its sizes; docs/your_readers.md gives them in words."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from monai_stochseg.networks.nets import BilinearUNet
from monai_stochseg.planning.survey import CaseReport

_CHANNELS = (16, 32, 64, 128)
_BYTES_PER_VOXEL = 4 * 24 * _CHANNELS[0]  # of a training step: activations and their gradients
_WHOLE = {2: 512**2, 3: 96**3}  # voxels up to which inference sees an image as a whole
_PATCH = {2: 128**2, 3: 48**3}  # largest patch on a CPU
_ANISOTROPIC = 3.0
_STEPS = 400  # below which a smaller network or batch is chosen


@dataclass(frozen=True)
class Choice:
    """
    What a plan sets.

    Args:
        spacing: to resample to, in mm; None where all images have one.
        patch_size: in voxels.
        roi_size: of the windows of inference; None: the image as a whole.
        channels: of the network's levels.
        batch_size: cases of a step.
        patches_per_image: patches of a case and step.
        images_per_epoch: cases of an epoch.
        max_epochs: length of the training.
        val_interval: epochs between validations.
        split_fractions: of train, validation and test.
        reasons: what was chosen and why, a line each.
    """

    spacing: list[float] | None
    patch_size: list[int]
    roi_size: list[int] | None
    channels: list[int]
    batch_size: int
    patches_per_image: int
    images_per_epoch: int
    max_epochs: int
    val_interval: int
    split_fractions: list[float]
    reasons: list[str]


def choose(reports: Sequence[CaseReport], subjects: int, minutes: float, memory: float) -> Choice:
    """
    Choose the sizes of a training from what the cases are.

    Args:
        reports: of all cases.
        subjects: number of persons.
        minutes: how long a training may take on this machine.
        memory: GiB that a training step may take.
    """
    dims = len(reports[0].shape)
    reasons: list[str] = []
    spacing = _choose_spacing(reports, reasons)
    sizes = np.array([_resampled(report, spacing) for report in reports])
    median = np.median(sizes, 0)
    levels = _choose_levels(median, reasons)
    divisor = 2 ** (levels - 1)
    batch_size, patches = (4, 2) if dims == 2 else (2, 2)
    budget = int(memory * 2**30 / (batch_size * patches * _BYTES_PER_VOXEL))
    limit = budget if torch.cuda.is_available() else min(budget, _PATCH[dims])
    patch = _choose_patch(median, limit, divisor, reasons)
    largest = [divisor * math.ceil(size / divisor) for size in sizes.max(0)]
    whole = math.prod(largest) <= _WHOLE[dims]
    reasons.append(
        f"inference sees an image as a whole: the largest, {largest}, is small enough"
        if whole
        else f"inference moves windows of the patch's size over the image, whose largest is {largest}"
    )
    fractions = [0.7, 0.15, 0.15] if subjects >= 12 else [0.6, 0.2, 0.2]
    train = max(1, round(fractions[0] * len(reports)))
    images_per_epoch = max(train, 8 * batch_size)
    channels, patches, seconds = _choose_network(patch, levels, reports[0].channels, (batch_size, patches), minutes)
    reasons.append(
        f"channels {channels}, patches of a case: {patches}; half where less than {_STEPS} steps fit into the time"
    )
    max_epochs = max(1, min(1000, round(_steps(minutes, seconds) / math.ceil(images_per_epoch / batch_size))))
    reasons.append(
        f"{max_epochs} epochs of {images_per_epoch} cases, {batch_size} a step: a step of a plain U-Net takes "
        f"{seconds:.2f} s on this machine, and a third of the time is left to it within {minutes:g} minutes"
    )
    return Choice(
        spacing=spacing,
        patch_size=patch,
        roi_size=None if whole else patch,
        channels=channels,
        batch_size=batch_size,
        patches_per_image=patches,
        images_per_epoch=images_per_epoch,
        max_epochs=max_epochs,
        val_interval=max(1, math.ceil(max_epochs / 8)),
        split_fractions=fractions,
        reasons=reasons,
    )


def choose_intensity(
    reports: Sequence[CaseReport], channel_names: Sequence[str], reasons: list[str]
) -> Mapping[str, object]:
    """
    Choose how intensities are normalised: CT by the window of its structures, RGB from 0 to 255, all else by mean and
    variance of each image, as nnU-Net does.

    Args:
        reports: of all cases.
        channel_names: names of the channels.
        reasons: a line is added.
    """
    low, high = min(report.low for report in reports), max(report.high for report in reports)
    integer = all(report.integer for report in reports)
    named_ct = [name.lower() for name in channel_names] == ["ct"]
    if named_ct or (reports[0].channels == 1 and integer and low <= -500):
        inside = np.array([s.percentiles for r in reports for s in r.structures.values() if s.percentiles])
        window = [float(np.median(inside[:, 0])), float(np.median(inside[:, -1]))] if len(inside) else [-200.0, 300.0]
        if not window[0] < window[1]:
            window = [low, high]
        reasons.append(f"CT: the window {window} HU of the structures becomes 0 to 1 (nnU-Net's rule)")
        return {"normalization": "window", "window": window}
    if reports[0].channels == 3 and integer and low >= 0 and high <= 255:
        reasons.append("RGB: 0 to 255 becomes 0 to 1")
        return {"normalization": "window", "window": [0.0, 255.0]}
    reasons.append("each channel of an image gets zero mean and unit variance")
    return {"normalization": "zscore", "window": None}


def _choose_network(
    patch: Sequence[int], levels: int, in_channels: int, largest: tuple[int, int], minutes: float
) -> tuple[list[int], int, float]:
    """
    Channels, patches of a case, and the seconds of a step: fewer patches first, then half the channels.

    Args:
        patch: its size.
        levels: of the network.
        in_channels: of the image.
        largest: cases of a step, and most patches of a case.
        minutes: for a training.
    """
    batch_size, patches = largest
    for first, number in ((_CHANNELS[0], patches), (_CHANNELS[0], 1), (_CHANNELS[0] // 2, 1)):
        channels = [first * 2**level for level in range(levels)]
        seconds = step_seconds(patch, channels, in_channels, batch_size * number)
        if _steps(minutes, seconds) >= _STEPS:
            break
    return channels, number, seconds


def _steps(minutes: float, seconds: float) -> int:
    """Steps that fit: a method that samples costs about twice a U-Net, and validation takes time too."""
    return max(8, int(60 * minutes / (3 * seconds)))


def step_seconds(patch_size: Sequence[int], channels: Sequence[int], in_channels: int, batch_size: int) -> float:
    """
    Time of one training step of the U-Net of most bundles on this machine, the least of three.

    Args:
        patch_size: in voxels.
        channels: of the levels.
        in_channels: of the image.
        batch_size: patches.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng(devices=[]):
        network = BilinearUNet(len(patch_size), in_channels, 2, channels, norm="BATCH").to(device)
        images = torch.zeros(batch_size, in_channels, *patch_size, device=device)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        network(images).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def _choose_spacing(reports: Sequence[CaseReport], reasons: list[str]) -> list[float] | None:
    spacings = np.array([report.spacing for report in reports])
    if (spacings == 1).all():
        reasons.append("no resampling: the images have no spacing, or 1 mm")
        return None
    if (np.ptp(spacings, axis=0) <= 0.01 * spacings.min(0)).all():
        reasons.append(f"no resampling: all images have {_round(spacings[0])} mm")
        return None
    target = np.median(spacings, 0)
    why = "the median"
    coarse = int(target.argmax())
    if target[coarse] > _ANISOTROPIC * target.min():
        target[coarse] = max(np.percentile(spacings[:, coarse], 10), np.delete(target, coarse).max())
        why = f"the median, of the coarse axis {coarse} the 10th percentile"
    reasons.append(f"spacing {_round(target)} mm: {why}")
    return _round(target)


def _choose_levels(median: np.ndarray, reasons: list[str]) -> int:
    """So many halvings that the smallest axis keeps four voxels, and at least two levels."""
    levels = int(np.clip(math.floor(math.log2(max(1.0, median.min() / 4))) + 1, 2, len(_CHANNELS)))
    reasons.append(f"{levels} levels: the smallest axis has {median.min():.0f} voxels, and keeps 4 on the deepest one")
    return levels


def _choose_patch(median: np.ndarray, limit: int, divisor: int, reasons: list[str]) -> list[int]:
    patch = [divisor * max(1, math.ceil(size / divisor)) for size in median]
    while math.prod(patch) > limit and max(patch) > divisor:
        patch[int(np.argmax(patch))] -= divisor
    reasons.append(
        f"patch {patch}: the median image, {[round(float(size)) for size in median]}, the longest axis cut until "
        f"{limit} voxels hold it, in multiples of {divisor}"
    )
    return patch


def _resampled(report: CaseReport, spacing: Sequence[float] | None) -> list[float]:
    if spacing is None:
        return [float(size) for size in report.shape]
    return [size * own / new for size, own, new in zip(report.shape, report.spacing, spacing, strict=True)]


def _round(values: Sequence[float] | np.ndarray) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
