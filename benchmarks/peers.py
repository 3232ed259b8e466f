# SPDX-License-Identifier: Apache-2.0
"""
``python benchmarks/peers.py``: what this package and others do alike, side by side in one run.

Peers that are not installed are skipped, and named. ``lightning-uq-box`` and ``torchmetrics`` are those of the extra
``peers``. Networks have equal channels, and are not trained. A ratio above 1 says that this package is faster.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch
from measure import seconds
from monai.utils import optional_import

from monai_stochseg.distributions import LowRankNormal
from monai_stochseg.metrics import (
    ExpectedCalibrationErrorMetric,
    compute_generalized_energy_distance,
)
from monai_stochseg.networks.nets import HierarchicalProbabilisticUNet, ProbabilisticUNet

Row = tuple[str, str, Callable[[], Any], Callable[[], Any]]
SAMPLES = 16


def low_rank_normal(size: int) -> Iterator[Row]:
    """PyTorch's distribution of the same covariance, whose capacitance matrix it factors when it is made."""
    classes, rank = 2, 10
    parameters = torch.randn(4, classes * (2 + rank), size, size)
    ours = LowRankNormal.from_parameters(parameters, classes, rank)
    factor = ours.cov_factor.flatten(2).transpose(1, 2)

    def theirs() -> torch.Tensor:
        mean, diagonal = ours.mean.flatten(1), ours.log_diag.exp().flatten(1)
        return torch.distributions.LowRankMultivariateNormal(mean, factor, diagonal).sample((SAMPLES,))

    yield "samples of a low-rank normal", "torch.distributions", lambda: ours.sample_logits(SAMPLES), theirs


def energy_distance(size: int) -> Iterator[Row]:
    """The broadcast over one-hot maps of all pairs that code of recent papers has."""
    classes, y_pred, y = 4, torch.randint(0, 4, (4, SAMPLES, size, size)), torch.randint(0, 4, (4, 4, size, size))

    def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        one, other = (torch.nn.functional.one_hot(maps, classes)[..., 1:].bool() for maps in (a, b))
        one, other = one[:, :, None], other[:, None]
        both, any_ = (one & other).sum((3, 4)), (one | other).sum((3, 4))
        return 1 - torch.where(any_ > 0, both / any_.clamp(min=1), 1.0).mean(-1)

    def theirs() -> torch.Tensor:
        parts = (distance(y_pred, y), distance(y_pred, y_pred), distance(y, y))
        cross, within, among = (part.mean((1, 2)) for part in parts)
        return 2 * cross - within - among

    yield (
        "energy distance, every voxel disputed",
        "broadcast",
        lambda: compute_generalized_energy_distance(y_pred, y, distance=classes),
        theirs,
    )


def calibration(size: int) -> Iterator[Row]:
    """Expected calibration error of the most probable class, 4 classes, 10 bins."""
    logits, label = torch.randn(4, 4, size, size), torch.randint(0, 4, (4, 1, size, size))
    probabilities = logits.softmax(1)

    def ours() -> Any:
        metric = ExpectedCalibrationErrorMetric()
        metric(probabilities, label)
        return metric.aggregate()

    functional, found = optional_import("torchmetrics.functional.classification")
    if found:
        yield (
            "calibration error",
            "torchmetrics",
            ours,
            lambda: functional.multiclass_calibration_error(probabilities, label[:, 0], 4, n_bins=10),
        )
    monai_metric, found = optional_import("monai.metrics", name="CalibrationErrorMetric")
    if found:
        one_hot = torch.nn.functional.one_hot(label[:, 0], 4).movedim(-1, 1)

        def theirs() -> Any:
            metric = monai_metric(num_bins=10)
            metric(probabilities, one_hot)
            return metric.aggregate()

        yield "calibration error, of each class", "monai.metrics", ours, theirs


def networks(size: int) -> Iterator[Row]:
    """Networks of lightning-uq-box, in evaluation mode."""
    methods, found = optional_import("lightning_uq_box.uq_methods")
    if not found:
        return
    image = torch.randn(4, 1, size, size)
    channels, latent = (32, 64, 128, 192), 6
    ours = ProbabilisticUNet(2, 1, 2, channels=channels, latent_dim=latent).eval()
    features = torch.nn.Conv2d(1, channels[0], 3, padding=1)
    peer = methods.ProbUNet(_Features(features, channels[0]), latent, list(channels), num_samples=SAMPLES).eval()
    with torch.no_grad():
        distribution = ours.predictive(image)
        peer.prior_latent_space = torch.distributions.Independent(
            torch.distributions.Normal(torch.zeros(len(image), latent), torch.ones(len(image), latent)), 1
        )
        peer.unet_features = features(image)
    yield (
        "Probabilistic U-Net, samples given the features",
        "lightning-uq-box",
        lambda: distribution.sample_logits(SAMPLES),
        lambda: torch.stack([peer.sample(testing=True) for _ in range(SAMPLES)]),
    )
    dims = (1, 1, 1, 1)
    hierarchy = HierarchicalProbabilisticUNet(2, 1, 2, channels=(24, 48, 96, 192, 192), latent_dims=dims).eval()
    theirs = methods.HierarchicalProbUNet(
        latent_dims=dims, channels_per_block=(24, 48, 96, 192, 192), num_in_channels=1, num_samples=SAMPLES
    ).eval()
    yield (
        "Hierarchical Probabilistic U-Net, image to samples",
        "lightning-uq-box",
        lambda: hierarchy.predictive(image).sample_logits(SAMPLES),
        lambda: theirs.predict_step(image),
    )


class _Features(torch.nn.Module):
    """What lightning-uq-box asks of a backbone."""

    def __init__(self, layer: torch.nn.Module, out_channels: int) -> None:
        super().__init__()
        self.layer = layer
        self.segmentation_head = [torch.nn.Conv2d(out_channels, 2, 1)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def main(size: int = 128, repeats: int = 3) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=size)
    parser.add_argument("--repeats", type=int, default=repeats)
    given = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, batch 4, {SAMPLES} samples, {given.size} x {given.size}\n")
    print("| task | peer | ours, s | peer, s | ratio |\n| --- | --- | --- | --- | --- |")
    for section in (low_rank_normal, energy_distance, calibration, networks):
        rows = list(section(given.size))
        for task, peer, ours, theirs in rows:
            with torch.no_grad():
                times = [seconds(fn, given.repeats) for fn in (ours, theirs)]
            print(f"| {task} | {peer} | {times[0]:.4f} | {times[1]:.4f} | {times[1] / times[0]:.1f} |", flush=True)
        if not rows:
            print(f"| {section.__doc__} | not installed | | | |")


if __name__ == "__main__":
    main()
