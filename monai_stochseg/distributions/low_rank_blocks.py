# SPDX-License-Identifier: Apache-2.0
"""Samples of a low-rank normal in blocks of voxels that fit a processor's cache, several samples at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import torch

from monai_stochseg.distributions.noise import fill_noise, voxels_per_block

_ROWS = 8  # of each product: a sample's rounding must not depend on how many are drawn with it
# Samples that share one reading of the parameters. On a CPU their block stays in the cache, and each call is for as
# many numbers as possible; on a GPU a block has all voxels.
_TOGETHER_CPU, _TOGETHER_GPU = 32, 8

_Result = TypeVar("_Result")


class FlatNormal(NamedTuple):
    """
    Mean and log-diagonal ``[B, C, V]`` and factor ``[B, R, C, V]`` of V voxels; ``inside``, the indices of the voxels
    that are drawn of each item, or None for all; scales of the classes ``[C]`` and of the ranks ``[R]``.
    """

    mean: torch.Tensor
    log_diag: torch.Tensor
    cov_factor: torch.Tensor
    inside: list[torch.Tensor] | None
    class_scale: torch.Tensor
    rank_scale: torch.Tensor


class Block(NamedTuple):
    """Logits ``[n, C, v]`` of some ``samples`` in some ``voxels`` of an ``item``."""

    samples: slice
    item: int
    voxels: slice | torch.Tensor
    logits: torch.Tensor


def rank_noise(generators: Sequence[torch.Generator], like: FlatNormal) -> torch.Tensor:
    """The samples' standard normal e1, ``[n, B, R]``: the first numbers of each sample's generator."""
    batch, rank = like.cov_factor.shape[:2]
    return fill_noise(generators, like.mean.new_empty(len(generators), batch, rank))


def noise_blocks(
    generators: Sequence[torch.Generator], like: FlatNormal
) -> Iterator[tuple[int, slice | torch.Tensor, torch.Tensor]]:
    """Item, voxels and standard normal e2 ``[n, C, v]``, block by block: the numbers that follow those of e1."""
    batch, classes, total = like.mean.shape
    for item in range(batch):
        drawn = total if like.inside is None else len(like.inside[item])
        size = voxels_per_block(classes, like.mean.device) or drawn
        for start in range(0, drawn, max(size, 1)):
            stop = min(start + size, drawn)
            voxels = slice(start, stop) if like.inside is None else like.inside[item][start:stop]
            noise = like.mean.new_empty(len(generators), classes, stop - start)
            yield item, voxels, fill_noise(generators, noise)


def sample_blocks(share: Sequence[tuple[int, int]], normal: FlatNormal) -> Iterator[Block]:
    """The samples ``mean + scale (P e1 + sqrt(D) e2)``, block by block, of successive numbers with their seeds."""
    together = _TOGETHER_CPU if normal.mean.device.type == "cpu" else _TOGETHER_GPU
    for start in range(0, len(share), together):
        numbers, seeds = zip(*share[start : start + together], strict=True)
        yield from _blocks_of_a_group(slice(numbers[0], numbers[-1] + 1), seeds, normal)


def _blocks_of_a_group(samples: slice, seeds: Sequence[int], normal: FlatNormal) -> Iterator[Block]:
    generators = [torch.Generator(normal.mean.device).manual_seed(seed) for seed in seeds]
    e1 = rank_noise(generators, normal) * normal.rank_scale
    e1 = torch.cat([e1, e1.new_zeros(-len(seeds) % _ROWS, *e1.shape[1:])])
    scale = normal.class_scale[:, None]
    for item, voxels, noise in noise_blocks(generators, normal):
        mean, log_diag, factor = (_take(x[item], voxels) for x in (normal.mean, normal.log_diag, normal.cov_factor))
        std = (0.5 * log_diag).exp_().mul_(scale)
        scaled_factor = (factor * scale).flatten(1)
        logits = noise.new_empty(len(e1), scaled_factor.shape[1])
        for rows, of_rows in zip(e1[:, item].split(_ROWS), logits.split(_ROWS), strict=True):
            torch.addmm(mean.flatten(), rows, scaled_factor, out=of_rows)
        yield Block(samples, item, voxels, logits[: len(seeds)].unflatten(1, mean.shape).addcmul_(noise, std))


def _take(x: torch.Tensor, voxels: slice | torch.Tensor) -> torch.Tensor:
    return x[..., voxels] if isinstance(voxels, slice) else x.index_select(-1, voxels)  # faster than x[..., voxels]


def in_threads(
    draw: Callable[[Sequence[tuple[int, int]]], _Result], seeds: Sequence[int], device: torch.device
) -> list[_Result]:
    """
    What ``draw`` returns for shares of the samples, in their order; a share is a list of numbers with their seeds.

    On a CPU there are as many shares as PyTorch has threads, each in a thread: the numbers of one generator are drawn
    in one thread, and that is most of the work.
    """
    numbered = list(enumerate(seeds))
    threads = min(torch.get_num_threads() if device.type == "cpu" else 1, len(numbered))
    size = -(-len(numbered) // threads)
    shares = [numbered[start : start + size] for start in range(0, len(numbered), size)]

    def run(share: Sequence[tuple[int, int]]) -> _Result:
        with torch.no_grad():  # a new thread records gradients
            return draw(share)

    if len(shares) == 1:
        return [run(shares[0])]
    before = torch.get_num_threads()
    try:
        # else each of them would share its operations among all threads, and they would wait for each other
        with ThreadPoolExecutor(len(shares), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(run, shares))
    finally:
        torch.set_num_threads(before)  # MKL's number is that of the process
