# SPDX-License-Identifier: Apache-2.0
"""The dear operations on one device, against their plain formulations where there is one: a row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import energy_distance
import optimal_transport
import ssn_loss
import torch
import volume_sampling
from device_measure import copy_bandwidth, peak_bytes, seconds

from monai_stochseg.distributions import LowRankNormal
from monai_stochseg.inferers import draw_samples
from monai_stochseg.losses import OptimalTransportLoss, SSNLoss
from monai_stochseg.metrics import compute_generalized_energy_distance

MIB, GIGA = 2**20, 1e9


def ssn(device: torch.device, tiny: bool) -> dict[str, Any]:
    """SSNLoss, forward and backward, against LowRankMultivariateNormal and cross_entropy with the same noise."""
    size = 8 if tiny else 96
    parameters, target, noise = ssn_loss.make_inputs(size, device)
    classes, rank, samples = ssn_loss.CLASSES, ssn_loss.RANK, ssn_loss.SAMPLES
    loss = SSNLoss(classes, rank, samples)

    def gradient(value: Callable[[], torch.Tensor]) -> torch.Tensor:
        return torch.autograd.grad(value(), parameters)[0]

    ours = partial(gradient, lambda: loss(parameters, target, generator=torch.Generator().manual_seed(1)))
    plain = partial(gradient, lambda: ssn_loss.plain_loss(parameters, target, noise))
    return {"setting": f"{size}^3, C {classes}, R {rank}, {samples} samples", **_compare(ours, plain, device)}


def transport(device: torch.device, tiny: bool) -> dict[str, Any]:
    """OptimalTransportLoss at the shape of LIDC, forward and backward, against products broadcast and loops."""
    size = 8 if tiny else optimal_transport.SIZE
    samples, target = optimal_transport.make_inputs("LIDC", size, device)
    batch, experts, each, raters, _, gamma = optimal_transport.SHAPES["LIDC"]
    loss = OptimalTransportLoss("iou", gamma=gamma)
    plain_loss = partial(optimal_transport.plain_loss, name="iou", gamma=gamma)
    ours, plain = (partial(optimal_transport.gradient, each_loss, samples, target) for each_loss in (loss, plain_loss))
    setting = f"{batch} images of {size}x{size}, {experts * each} samples, {raters} raters, IoU"
    return {"setting": setting, **_compare(ours, plain, device)}


def ged(device: torch.device, tiny: bool) -> dict[str, Any]:
    """The energy distance of 100 samples, against a loop over the pairs."""
    samples, raters = 8 if tiny else energy_distance.SAMPLES, energy_distance.RATERS
    size, classes = 16 if tiny else energy_distance.SIZE, energy_distance.CLASSES
    maps = energy_distance.tumours(samples + raters, torch.Generator().manual_seed(0), size).to(device)
    y_pred, y = maps[:, :samples], maps[:, samples:]
    ours = partial(compute_generalized_energy_distance, y_pred, y, distance=classes)
    plain = partial(energy_distance.loop, y_pred, y, counted=True)
    setting = f"{size}^3, C {classes}, {samples} samples, {raters} raters"
    return {"setting": setting, **_compare(ours, plain, device, repeats=1)}


def sampling(device: torch.device, tiny: bool) -> dict[str, Any]:
    """
    Label maps of a whole volume, beside the bandwidth of a plain copy in the same run.

    At the least a sample writes and reads its logits once, in float32, and writes a byte a voxel.
    """
    shape = (12, 12, 8) if tiny else volume_sampling.SHAPE
    classes, rank = volume_sampling.CLASSES, volume_sampling.RANK
    samples = 8 if tiny else volume_sampling.SAMPLES
    parameters = torch.randn(1, classes * (2 + rank), *shape, device=device)
    draw = partial(draw_samples, LowRankNormal.from_parameters(parameters, classes, rank), samples)
    each = seconds(draw, device, 2) / samples
    peak = peak_bytes(draw, device)
    moved = torch.Size(shape).numel() * (2 * 4 * classes + 1) / each
    bandwidth = copy_bandwidth(device, 2**20 if tiny else 2**30)
    return {
        "setting": f"{'x'.join(map(str, shape))}, C {classes}, R {rank}, {samples} samples",
        "values": {
            "milliseconds a sample": 1e3 * each,
            "GB/s at the least": moved / GIGA,
            "GB/s of a copy": bandwidth / GIGA,
            "share of the copy's": moved / bandwidth,
            "peak MiB": peak / MIB,
        },
    }


def _compare(
    ours: Callable[[], torch.Tensor], plain: Callable[[], torch.Tensor], device: torch.device, repeats: int = 3
) -> Mapping[str, Any]:
    """Seconds and memory of both, and the largest difference of what they give."""
    expected = plain().cpu()
    largest = (ours().cpu() - expected).abs().max() / expected.abs().max()
    time = {"ours": seconds(ours, device), "plain": seconds(plain, device, repeats)}
    peak = {"ours": peak_bytes(ours, device), "plain": peak_bytes(plain, device)}
    values = {
        "milliseconds": 1e3 * time["ours"],
        "times faster than plain": time["plain"] / time["ours"],
        "peak MiB": peak["ours"] / MIB,
        "peak MiB of plain": peak["plain"] / MIB,
        "largest relative difference": float(largest),
    }
    return {"values": values}


#: By the part of the run: the operation's name in the table, and what measures it.
OPERATIONS: Mapping[str, Mapping[str, Callable[[torch.device, bool], dict[str, Any]]]] = {
    "losses": {"SSN loss": ssn, "optimal transport loss": transport},
    "ged": {"generalized energy distance": ged},
    "sampling": {"sampling label maps": sampling},
}
