# SPDX-License-Identifier: Apache-2.0
"""Generalized energy distance of 100 samples against 4 raters, 4 classes, 128^3, against loops over the pairs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations_with_replacement

import torch
from measure import peak_memory, seconds

from monai_stochseg.metrics import compute_generalized_energy_distance

SAMPLES, RATERS, CLASSES, SIZE = 100, 4, 4, 128


def tumours(count: int, generator: torch.Generator, size: int = SIZE) -> torch.Tensor:
    """Label maps ``[1, count, *S]`` of three nested balls, the outer 5 % of the volume, with smooth random borders."""
    axis = torch.arange(size) - (size - 1) / 2
    radius = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2).sqrt()
    maps = torch.zeros(1, count, size, size, size, dtype=torch.uint8)
    for labels in maps[0]:
        coarse = torch.randn(1, 1, 8, 8, 8, generator=generator)
        shift = 2 * torch.nn.functional.interpolate(coarse, size=radius.shape, mode="trilinear")[0, 0]
        for border in (29, 20, 12):
            labels += radius + shift < border * size / SIZE
    return maps


def noise(count: int, generator: torch.Generator) -> torch.Tensor:
    """Label maps ``[1, count, *S]`` in which each voxel is drawn by itself."""
    return torch.randint(CLASSES, (1, count, SIZE, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def loop(y_pred: torch.Tensor, y: torch.Tensor, *, counted: bool) -> torch.Tensor:
    """
    The distance pair by pair, of the symmetric half, on masks made once.

    ``counted``: the sizes of the masks are counted once as well, so that a pair needs no union, and by count_nonzero.
    """
    maps = torch.cat([y_pred, y], dim=1)[0].flatten(1)
    masks = [maps == c for c in range(1, CLASSES)]
    sizes = [[int(mask.count_nonzero()) for mask in per_class] for per_class in masks]
    d = torch.zeros(len(maps), len(maps))
    for i, j in combinations_with_replacement(range(len(maps)), 2):
        distances = []
        for mask, size in zip(masks, sizes, strict=True):
            if counted:
                intersection = int((mask[i] & mask[j]).count_nonzero())
                union = size[i] + size[j] - intersection
            else:
                intersection, union = int((mask[i] & mask[j]).sum()), int((mask[i] | mask[j]).sum())
            distances.append((union - intersection) / union if union else 0.0)
        d[i, j] = d[j, i] = sum(distances) / len(distances)
    n = y_pred.shape[1]
    return 2 * d[:n, n:].mean() - d[:n, :n].mean() - d[n:, n:].mean()


def compare(name: str, maps: torch.Tensor) -> None:
    """Print one row of the table per formulation."""
    y_pred, y = maps[:, :SAMPLES], maps[:, SAMPLES:]
    disputed = (maps[0].amin(0) != maps[0].amax(0)).float().mean()
    values: list[float] = []

    def row(formulation: str, fn: Callable[[], torch.Tensor], repeats: int, ours: float | None = None) -> float:
        elapsed = seconds(lambda: values.append(float(fn())), repeats)
        print(
            f"| {name} | {disputed:.1%} | {formulation} | {elapsed:.2f} | {elapsed / (ours or elapsed):.0f} "
            f"| {values[-1]:.6f} |",
            flush=True,
        )
        return elapsed

    fast = partial(compute_generalized_energy_distance, y_pred, y, distance=CLASSES)
    ours = row(f"ours, +{peak_memory(fast) / 2**20:.0f} MiB at peak", fast, 3)
    row("loop", partial(loop, y_pred, y, counted=False), 1, ours)
    row("loop, sizes counted once", partial(loop, y_pred, y, counted=True), 1, ours)


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    print(f"{SAMPLES} samples, {RATERS} raters, C={CLASSES}, {SIZE}^3, {torch.get_num_threads()} thread(s)\n")
    print("| maps | voxels in dispute | formulation | seconds | ratio to ours | energy distance |")
    print("| --- | --- | --- | --- | --- | --- |")
    compare("nested tumours", tumours(SAMPLES + RATERS, generator))
    compare("noise", noise(SAMPLES + RATERS, generator))


if __name__ == "__main__":
    main()
