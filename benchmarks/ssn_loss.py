# SPDX-License-Identifier: Apache-2.0
"""SSNLoss forward and backward, B=1, C=4, R=10, M=20, 96^3, against LowRankMultivariateNormal and cross_entropy."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from unittest import mock

import torch
from measure import peak_memory, seconds
from torch.distributions import LowRankMultivariateNormal
from torch.nn import functional as F

from monai_stochseg.distributions import draw_noise, draw_seeds, split_parameters
from monai_stochseg.losses import SSNLoss
from monai_stochseg.losses.sample_log_likelihood import Sampling

CLASSES, RANK, SAMPLES = 4, 10, 20


def plain_loss(parameters: torch.Tensor, target: torch.Tensor, noise: list[torch.Tensor]) -> torch.Tensor:
    """The textbook formulation, antithetic as ours: half of the samples are drawn and mirrored."""
    mean, log_diag, factor = split_parameters(parameters, CLASSES, RANK)
    normal = LowRankMultivariateNormal(mean.flatten(1), factor.flatten(2).mT, log_diag.exp().flatten(1))
    # rsample draws its noise by this function, first e1 and then e2
    with mock.patch("torch.distributions.lowrank_multivariate_normal._standard_normal", side_effect=noise):
        half = normal.rsample((SAMPLES // 2,))
    samples = torch.cat([half, 2 * normal.mean - half])
    logits = samples.reshape(-1, CLASSES, target[0].numel())
    targets = target.flatten(1).expand(SAMPLES, -1)
    log_p = -F.cross_entropy(logits, targets, reduction="none").sum(1, dtype=torch.float64)
    return math.log(SAMPLES) - torch.logsumexp(log_p, dim=0)


def make_inputs(size: int, device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Parameters, a label map, and the noise that ours draws from the seed 1."""
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(1, CLASSES * (2 + RANK), size, size, size, generator=generator).mul_(0.3)
    parameters[:, CLASSES : 2 * CLASSES] -= 2
    target = torch.randint(CLASSES, (1, 1, size, size, size), generator=generator)
    like = torch.empty(1, CLASSES, size, size, size, device=device)
    parts = Sampling(CLASSES, RANK, SAMPLES, antithetic=True).parts(parameters.numel())  # several samples a seed
    seeds = draw_seeds(len(parts), torch.Generator().manual_seed(1))
    numbers = [(part.stop - part.start) // 2 for part in parts]
    draws = [draw_noise(seed, number, RANK, like) for seed, number in zip(seeds, numbers, strict=True)]
    noise = [torch.cat([e1 for e1, _ in draws]), torch.cat([e2 for _, e2 in draws]).flatten(2)]
    return parameters.to(device).requires_grad_(), target.to(device), noise


def main() -> None:
    """Print a table of time, memory and their ratios, and the largest difference of the gradients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=96)
    size = parser.parse_args().size
    parameters, target, noise = make_inputs(size)
    loss = SSNLoss(CLASSES, RANK, SAMPLES)

    def step(fn: Callable[[], torch.Tensor]) -> torch.Tensor:
        (grad,) = torch.autograd.grad(fn(), parameters)
        return grad

    def ours() -> torch.Tensor:
        return step(lambda: loss(parameters, target, generator=torch.Generator().manual_seed(1)))

    def plain() -> torch.Tensor:
        return step(lambda: plain_loss(parameters, target, noise))

    expected = plain()
    difference = ((ours() - expected).abs().max() / expected.abs().max()).item()
    del expected
    time = {"ours": seconds(ours), "plain": seconds(plain)}
    memory = {"ours": peak_memory(ours), "plain": peak_memory(plain)}
    print(f"SSNLoss, B=1, C={CLASSES}, R={RANK}, M={SAMPLES}, {size}^3, {torch.get_num_threads()} thread(s)\n")
    print("| formulation | seconds | times faster | peak MiB | share of plain |")
    print("| --- | --- | --- | --- | --- |")
    for name in ("ours", "plain"):
        print(
            f"| {name} | {time[name]:.2f} | {time['plain'] / time[name]:.1f} "
            f"| {memory[name] / 2**20:.0f} | {memory[name] / memory['plain']:.2f} |"
        )
    print(f"\nLargest difference of the gradients for the same noise: {difference:.1e} of the largest gradient.")


if __name__ == "__main__":
    main()
