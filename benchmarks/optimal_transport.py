# SPDX-License-Identifier: Apache-2.0
"""OptimalTransportLoss forward and backward at the shapes of LIDC and Cityscapes, against broadcasting and loops."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from measure import peak_memory, seconds
from torch.nn import functional as F

from monai_stochseg.distributions import ExpertSamples
from monai_stochseg.losses import OptimalTransportLoss

# batch, experts, samples of each, raters, classes, gamma
SHAPES = {"LIDC": (16, 4, 4, 4, 2, 1 / 2), "Cityscapes": (12, 35, 2, 32, 25, 1 / 32)}
SIZE = 128


def broadcast_cost(logits: torch.Tensor, target: torch.Tensor, name: str) -> torch.Tensor:
    """Every sample and every rater made ``[B, N, M, C, V]``, as in the authors' code."""
    labels = F.one_hot(target.flatten(2), logits.shape[2]).transpose(2, 3)[:, None]
    labels = labels.expand(-1, logits.shape[1], -1, -1, -1)
    samples = logits.flatten(3)[:, :, None].expand(-1, -1, target.shape[1], -1, -1)
    if name == "ce":
        return -(samples.log_softmax(3) * labels).sum(3).mean(3)
    samples = logits.flatten(3).softmax(2)[:, :, None].expand_as(samples)
    intersection = (samples * labels).sum(4)
    union = samples.sum(4) + labels.sum(4) - intersection
    return 1 - ((intersection + 1) / (union + 1))[..., 1:].mean(3)


def loop_coupling(cost: torch.Tensor, gamma: float) -> torch.Tensor:
    """The greedy rule for raters of equal mass, in loops over items, raters and samples."""
    coupling = torch.zeros_like(cost)
    for plan, costs in zip(coupling, cost, strict=True):
        for rater in costs.amin(0).argsort(stable=True):
            left = 1 / cost.shape[2]
            for sample in costs[:, rater].argsort(stable=True):
                plan[sample, rater] = min(left, gamma - float(plan[sample].sum()))
                left -= float(plan[sample, rater])
                if left <= 0:
                    break
    return coupling


def plain_loss(samples: ExpertSamples, target: torch.Tensor, name: str, gamma: float) -> torch.Tensor:
    cost = broadcast_cost(samples.logits, target.long(), name)
    coupling = loop_coupling(cost.detach(), gamma)
    divergence = F.kl_div(samples.weights.log(), coupling.sum(2), reduction="batchmean")
    return (coupling * cost).sum((1, 2)).mean() + divergence


def make_inputs(shape: str, size: int = SIZE, device: torch.device | str = "cpu") -> tuple[ExpertSamples, torch.Tensor]:
    """Random logits, and a target of one byte a voxel."""
    batch, experts, each, raters, classes, _ = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, experts * each, classes, size, size, generator=generator)
    weights = torch.randn(batch, experts * each, generator=generator).softmax(1)
    target = torch.randint(classes, (batch, raters, size, size), generator=generator, dtype=torch.uint8)
    logits, weights = (x.to(device).requires_grad_() for x in (logits, weights))
    return ExpertSamples(logits, weights, experts), target.to(device)


def gradient(loss: Callable[..., torch.Tensor], samples: ExpertSamples, target: torch.Tensor) -> torch.Tensor:
    """Of the logits."""
    return torch.autograd.grad(loss(samples, target), samples[:2])[0]


def compare(cost: str) -> None:
    """Two rows of the table, at the shape of LIDC."""
    samples, target = make_inputs("LIDC")
    gamma = SHAPES["LIDC"][-1]
    losses = {
        "ours": OptimalTransportLoss(cost, gamma=gamma),
        "broadcast and loop": partial(plain_loss, name=cost, gamma=gamma),
    }
    steps = {name: partial(gradient, loss, samples, target) for name, loss in losses.items()}
    expected = steps["broadcast and loop"]()
    times = {name: seconds(step, 5) for name, step in steps.items()}
    for name, step in steps.items():
        difference = (step() - expected).abs().max() / expected.abs().max()
        print(
            f"| LIDC, {cost} | {name} | {times[name]:.3f} | {times['broadcast and loop'] / times[name]:.1f} "
            f"| {peak_memory(step) / 2**20:.0f} | {difference:.0e} |",
            flush=True,
        )


def whole_step(loss: OptimalTransportLoss) -> None:
    """With the making of its inputs."""
    gradient(loss, *make_inputs("Cityscapes"))


def main() -> None:
    print(f"Forward and backward, {SIZE}x{SIZE}, {torch.get_num_threads()} thread(s)\n")
    print("| shape, cost | formulation | seconds | times faster | peak MiB | difference of the gradients |")
    print("| --- | --- | --- | --- | --- | --- |")
    for cost in ("iou", "ce"):
        compare(cost)

    gamma = SHAPES["Cityscapes"][-1]
    print("\n| Cityscapes shape | seconds | peak MiB, logits and gradient included | of which these two |")
    print("| --- | --- | --- | --- |")
    for cost, threshold in (("ce", None), ("iou", None), ("ce", 0.9)):
        loss = OptimalTransportLoss(cost, gamma=gamma, share_threshold=threshold)
        peak = peak_memory(partial(whole_step, loss))
        samples, target = make_inputs("Cityscapes")
        elapsed = seconds(partial(gradient, loss, samples, target), 1)
        name = cost if threshold is None else f"{cost}, shared gradient"
        both = 2 * samples.logits.numel() * 4
        print(f"| {name} | {elapsed:.1f} | {peak / 2**20:.0f} | {both / 2**20:.0f} |", flush=True)
        del samples, target


if __name__ == "__main__":
    main()
