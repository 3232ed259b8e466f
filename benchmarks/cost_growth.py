# SPDX-License-Identifier: Apache-2.0
"""
How seconds and memory of the dear operations grow with voxels, samples, classes, rank and raters.

``python benchmarks/cost_growth.py [--figure growth.png]`` changes one number at a time, fits ``cost = a n^p`` to the
two largest, and prints p beside the power that is expected of that number alone. Memory is what a call takes beyond
its inputs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import matplotlib as mpl
import torch
from measure import peak_memory, seconds

from monai_stochseg.distributions import ExpertSamples, LowRankNormal
from monai_stochseg.inferers import draw_samples
from monai_stochseg.losses import OptimalTransportLoss, SSNLoss
from monai_stochseg.metrics import compute_generalized_energy_distance

START = {"voxels": 32**3, "samples": 16, "classes": 4, "rank": 8, "raters": 4}
FACTORS = (1, 2, 4, 8)
Call = Callable[[], object]


def ssn_loss(voxels: int, samples: int, classes: int, rank: int, raters: int) -> Call:
    """Value and gradient, the mean over the raters."""
    parameters = (0.1 * torch.randn(2, classes * (2 + rank), voxels // 64, 64)).requires_grad_()
    target = torch.randint(classes, (2, raters, voxels // 64, 64))
    loss = SSNLoss(classes, rank, samples, raters="mean")
    return lambda: loss(parameters, target).backward()


def sampling(voxels: int, samples: int, classes: int, rank: int, raters: int) -> Call:
    """Label maps of a low-rank normal distribution."""
    parameters = torch.randn(1, classes * (2 + rank), voxels // 64, 64)
    return partial(draw_samples, LowRankNormal.from_parameters(parameters, classes, rank), samples)


def energy_distance(voxels: int, samples: int, classes: int, rank: int, raters: int) -> Call:
    """Label maps of samples against those of raters, a quarter of the voxels in dispute."""
    maps = torch.randint(classes, (1, 1, voxels // 64, 64)).repeat(1, samples + raters, 1, 1)
    disputed = voxels // 256
    maps[:, :, :disputed] = torch.randint(classes, maps[:, :, :disputed].shape)
    return partial(compute_generalized_energy_distance, maps[:, :samples], maps[:, samples:], distance=classes)


def optimal_transport(voxels: int, samples: int, classes: int, rank: int, raters: int) -> Call:
    """Value and gradient of the loss of MoSE, a sample of each expert."""
    logits = torch.randn(2, samples, classes, voxels // 64, 64, requires_grad=True)
    target = torch.randint(classes, (2, raters, voxels // 64, 64))
    loss = OptimalTransportLoss(gamma=1 / 2)
    weights = torch.full((2, samples), 1 / samples)
    return lambda: loss(ExpertSamples(logits, weights, samples), target).backward()


# Powers that are expected of each number, as it grows alone; None: the operation does not have it.
EXPECTED: dict[Callable[..., Call], dict[str, float]] = {
    ssn_loss: {"voxels": 1, "samples": 1, "classes": 1, "rank": 1, "raters": 1},
    sampling: {"voxels": 1, "samples": 1, "classes": 1, "rank": 1},
    energy_distance: {"voxels": 1, "samples": 2, "classes": 1, "raters": 1},
    optimal_transport: {"voxels": 1, "samples": 1, "classes": 1, "raters": 1},
}


@dataclass(frozen=True)
class Growth:
    """Costs of an operation at several values of one number."""

    operation: str
    number: str
    expected: float
    values: list[int]
    times: list[float]
    memory: list[int]

    @staticmethod
    def power(values: list[int], costs: list[float] | list[int]) -> float:
        """The exponent between the two largest values, NaN where a cost is not above 0."""
        (a, b), (x, y) = values[-2:], costs[-2:]
        return math.log(y / x) / math.log(b / a) if min(x, y) > 0 else math.nan

    def row(self) -> str:
        times = ", ".join(f"{1e3 * t:.3g}" for t in self.times)
        memory = ", ".join(f"{m / 2**20:.3g}" for m in self.memory)
        powers = f"{self.power(self.values, self.times):.2f} | {self.power(self.values, self.memory):.2f}"
        values = ", ".join(map(str, self.values))
        return f"| {self.operation} | {self.number} | {values} | {times} | {memory} | {powers} | {self.expected:g} |"


def measure(make: Callable[..., Call], number: str, expected: float) -> Growth:
    values = [START[number] * factor for factor in FACTORS]
    times, memory = [], []
    for value in values:
        torch.manual_seed(0)
        call = make(**{**START, number: value})
        call()
        times.append(seconds(call))
        memory.append(peak_memory(call))
    return Growth(make.__name__.replace("_", " "), number, expected, values, times, memory)


def draw(growths: list[Growth], file: str) -> None:
    """Seconds against each number, one panel an operation, both axes logarithmic."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(growth.operation for growth in growths))
    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 3.2), sharey=True, layout="constrained")
    for ax, name in zip(axes, names, strict=True):
        for growth in (growth for growth in growths if growth.operation == name):
            colour = f"C{list(START).index(growth.number)}"
            times = [t / growth.times[0] for t in growth.times]
            ax.loglog(FACTORS, times, "o-", color=colour, label=growth.number, base=2)
        ax.loglog(FACTORS, FACTORS, "k:", label="linear", base=2)
        ax.set(title=name, xlabel="times as many")
        ax.set_xticks(FACTORS, [f"{factor}" for factor in FACTORS])
        ax.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("times as long")
    figure.savefig(file, dpi=150)
    plt.close(figure)


def main(figure: str | None = None) -> None:
    start = ", ".join(f"{value} {name}" for name, value in START.items())
    print(f"One number at a time, from {start}; {torch.get_num_threads()} thread(s)\n")
    print("| operation | number | values | ms | MiB | power of time | of memory | expected of time |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    growths = []
    for make, expected in EXPECTED.items():
        for number, power in expected.items():
            growths.append(measure(make, number, power))
            print(growths[-1].row(), flush=True)
    if figure is not None:
        draw(growths, figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--figure", metavar="FILE", help="where to draw the growth of time")
    main(**vars(parser.parse_args()))
