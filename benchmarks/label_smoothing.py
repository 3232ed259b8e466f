# SPDX-License-Identifier: Apache-2.0
"""SVLS of a label map of 5 classes, 240x240x155, against the grouped convolution over its one-hot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from measure import peak_memory, seconds
from torch.nn import functional as F

from monai_stochseg.transforms.svls import spatially_varying_label_smoothing, svls_kernel

CLASSES, SHAPE = 5, (240, 240, 155)


def brain(generator: torch.Generator) -> torch.Tensor:
    """A label map ``[1, *S]`` of four nested ellipsoids, the outer 10 % of the volume, with jittered borders."""
    x, y, z = torch.meshgrid(*[torch.arange(n) - (n - 1) / 2 for n in SHAPE], indexing="ij")
    radius = (x**2 + (y / 1.2) ** 2 + (z / 0.8) ** 2).sqrt()
    coarse = torch.randn(1, 1, 24, 24, 16, generator=generator)
    radius += 3 * F.interpolate(coarse, size=SHAPE, mode="trilinear")[0, 0]
    return sum((radius < border).to(torch.uint8) for border in (60, 40, 28, 16))[None]


def convolution(label: torch.Tensor, kernel_size: int) -> torch.Tensor:
    """The formula as it is written: one group a class, replicate padding."""
    kernel = svls_kernel(3, 1.0, kernel_size)
    one_hot = torch.stack([label == c for c in range(CLASSES)], dim=1).float()
    padded = F.pad(one_hot, (kernel_size // 2,) * 6, mode="replicate")
    return F.conv3d(padded, kernel.expand(CLASSES, 1, -1, -1, -1), groups=CLASSES)[0] / kernel.sum()


def main() -> None:
    label = brain(torch.Generator().manual_seed(0))
    output = CLASSES * label.numel() * 4
    print(f"{CLASSES} classes, {'x'.join(map(str, SHAPE))}, {torch.get_num_threads()} thread(s)\n")
    print("| kernel | voxels summed | formulation | seconds | ratio to ours | peak memory / output | difference |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for size in (3, 5):
        ours = partial(spatially_varying_label_smoothing, label, CLASSES, 1.0, size)
        soft = ours()
        formulations: dict[str, Callable[[], torch.Tensor]] = {
            "ours": ours,
            "grouped convolution": partial(convolution, label, size),
        }
        summed = float((soft.amax(0) < 1).float().mean())
        fastest = seconds(ours)
        for name, fn in formulations.items():
            elapsed = fastest if fn is ours else seconds(fn)
            difference = float((fn() - soft).abs().max())
            print(
                f"| {size} | {summed:.1%} | {name} | {elapsed:.2f} | {elapsed / fastest:.1f} "
                f"| {peak_memory(fn) / output:.2f} | {difference:.0e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
