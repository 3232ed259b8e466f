# SPDX-License-Identifier: Apache-2.0
"""Random numbers that replay from a generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_axes, check_broadcasts

_BLOCK = 8192  # logits of one sample in a block: eight samples are 256 KiB


@check_arguments
def draw_seeds(n: int, generator: torch.Generator | None = None) -> list[int]:
    """``n`` seeds for :py:func:`draw_noise`, drawn from the generator; ValueError for ``n`` below 1."""
    check_at_least(1, n=n)
    seeds: list[int] = seed_numbers(n, generator).tolist()
    return seeds


def seed_numbers(n: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """``n`` seeds as int64 ``[n]`` on the generator's device, where ``torch.compile`` cannot have them as a list."""
    device = torch.device("cpu") if generator is None else generator.device
    # one by one: on a GPU a draw of n numbers is not n draws of one, and chunks would differ from the whole
    drawn = [torch.randint(0, 2**62, (1,), generator=generator, device=device) for _ in range(n)]
    return torch.cat(drawn) if drawn else torch.empty(0, dtype=torch.int64, device=device)


@check_arguments
def draw_noise(seed: int, n: int, rank: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The noise of ``n`` draws, the same for the same seed.

    Returns:
        standard normal e1 ``[n, B, R]`` and e2 ``[n, B, C, *S]`` for ``like`` of shape ``[B, C, *S]``.
    """
    check_at_least(1, n=n, rank=rank)
    check_axes("[B, C, *S]", 3, like=like)
    generator = torch.Generator(like.device).manual_seed(seed)
    e1 = torch.randn(n, like.shape[0], rank, generator=generator, device=like.device, dtype=like.dtype)
    e2 = torch.randn((n, *like.shape), generator=generator, device=like.device, dtype=like.dtype)
    return e1, e2


def voxels_per_block(classes: int, device: torch.device) -> int | None:
    """
    Voxels whose noise :py:func:`fill_noise` draws at a time; None: all.

    On a CPU a block of logits stays in the cache while it is computed. The number depends on nothing else, because the
    order of the numbers that a generator gives depends on it, and is a multiple of the 16 that PyTorch draws at once.
    """
    return max(_BLOCK // classes // 16, 1) * 16 if device.type == "cpu" else None


def fill_noise(generators: Sequence[torch.Generator], out: torch.Tensor) -> torch.Tensor:
    """``out`` ``[n, ...]`` with standard normal numbers, each item from its own generator."""
    for generator, own in zip(generators, out, strict=True):
        own.normal_(generator=generator)
    return out


def draw_uniform(shape: tuple[int, ...], like: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Uniform numbers in [0, 1) of the dtype and on the device of ``like``, whatever the generator's device."""
    device = like.device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


def draw_normal(shape: tuple[int, ...], like: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Standard normal numbers of the dtype and on the device of ``like``, whatever the generator's device."""
    device = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


@check_arguments
def draw_latent(mean: torch.Tensor, log_std: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """One draw of an axis-aligned normal, with gradients to mean and log-deviation."""
    check_broadcasts("log_std", log_std, "mean", mean)
    return mean + log_std.exp() * draw_normal(tuple(mean.shape), mean, generator)
