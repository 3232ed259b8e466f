# SPDX-License-Identifier: Apache-2.0
"""Memory of 100 label maps of a volume of 240x240x155, C=4, R=10."""

from __future__ import annotations

import time

import torch
from measure import peak_memory

from monai_stochseg.distributions import LowRankNormal
from monai_stochseg.inferers import draw_samples

CLASSES, RANK, SAMPLES, SHAPE = 4, 10, 100, (240, 240, 155)


def main() -> None:
    """Print peak memory, the parameters included, and seconds."""

    def sample() -> None:
        parameters = torch.randn(1, CLASSES * (2 + RANK), *SHAPE)
        draw_samples(LowRankNormal.from_parameters(parameters, CLASSES, RANK), SAMPLES)

    start = time.perf_counter()
    peak = peak_memory(sample)
    elapsed = time.perf_counter() - start
    logits = SAMPLES * CLASSES * torch.Size(SHAPE).numel() * 4
    print(f"{SAMPLES} samples, C={CLASSES}, R={RANK}, {'x'.join(map(str, SHAPE))}, 1 thread\n")
    print("| formulation | peak GiB | seconds |")
    print("| --- | --- | --- |")
    print(f"| ours | {peak / 2**30:.2f} | {elapsed:.0f} |")
    print(f"| the float32 logits of all samples alone (computed, not run) | {logits / 2**30:.2f} | |")


if __name__ == "__main__":
    main()
