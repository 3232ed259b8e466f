# SPDX-License-Identifier: Apache-2.0
"""The log-likelihood of labels under samples of a low-rank normal's logits, with a gradient in little memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from monai_stochseg.distributions import draw_noise, full_precision, split_parameters

__all__ = ["Sampling", "sample_log_likelihood"]

# Elements of the logits drawn at a time: small images are drawn many at once, a volume's samples one by one.
_CHUNK_ELEMENTS = 2**20


@dataclass(frozen=True)
class Sampling:
    """
    How the samples of a distribution are drawn.

    Args:
        out_channels: number of classes C.
        rank: number of columns R of the factor.
        num_samples: number of samples M; 0: none is drawn, the mean stands for one sample.
        antithetic: whether samples come in pairs mean + d, mean - d.
    """

    out_channels: int
    rank: int
    num_samples: int
    antithetic: bool

    def parts(self, numel: int) -> list[slice]:
        """The samples that are drawn at once, from one seed, of parameters with ``numel`` elements."""
        per_draw = 1 + self.antithetic
        size = max(1, _CHUNK_ELEMENTS * (2 + self.rank) // numel) * per_draw
        return [slice(start, min(start + size, self.num_samples)) for start in range(0, self.num_samples, size)]

    def split(self, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean, log-diagonal ``[B, C, V]`` and factor ``[B, R, C, V]``, in float32 or better."""
        parameters = full_precision(parameters.detach()).flatten(2)
        return split_parameters(parameters, self.out_channels, self.rank)


def sample_log_likelihood(
    parameters: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, seeds: torch.Tensor, sampling: Sampling
) -> torch.Tensor:
    """
    log p(y | eta^m) of every sample and rater, for noise drawn from seeds.

    Nothing of a sample is kept for the backward pass: its noise is drawn again from the seed. Over many voxels the
    weights softmax_m(log p) are almost one-hot, so only the few samples whose weight float32 can see are drawn again.
    It is one operation for ``torch.compile``.

    Args:
        parameters: mean, log-diagonal and factor, ``[B, C * (2 + R), *S]``.
        target: labels of the raters, int64, ``[B, raters, V]``.
        valid: the voxels that count, bool, ``[B, raters, V]``.
        seeds: one for each of ``sampling.parts``, int64.
        sampling: how the samples are drawn.

    Returns:
        ``[B, M, raters]`` in float64.
    """
    options = (sampling.out_channels, sampling.rank, sampling.num_samples, sampling.antithetic)
    result: torch.Tensor = _log_likelihood(parameters, target, valid, seeds, *options)
    return result


@dataclass(frozen=True)
class _Draw:
    """Deviations of the logits from their mean, and what they were drawn from."""

    deviation: torch.Tensor  # P e1 + sqrt(D) e2, [k, B, C, V]
    std: torch.Tensor  # sqrt(D), [B, C, V]
    e1: torch.Tensor  # [k, B, R]
    e2: torch.Tensor  # [k, B, C, V]
    signed: list[tuple[int, slice]]  # a sign of the deviations, and the samples with it, one for each of the first


def _draws(
    sampling: Sampling, seeds: torch.Tensor, parameters: torch.Tensor, wanted: list[bool] | None = None
) -> Iterator[_Draw]:
    """The draws, part by part, of parts that have a wanted sample."""
    mean, log_diag, cov_factor = sampling.split(parameters)
    if sampling.num_samples == 0:
        none = torch.zeros_like(mean)[None]
        yield _Draw(none, none[0], mean.new_zeros(1, len(mean), sampling.rank), none, [(1, slice(0, 1))])
        return
    std = (0.5 * log_diag).exp()
    for part, seed in zip(sampling.parts(parameters.numel()), seeds.tolist(), strict=True):
        if wanted is not None and not any(wanted[part]):
            continue
        number, signed = part.stop - part.start, [(1, part)]
        if sampling.antithetic:
            number = math.ceil(number / 2)
            signed = [(1, slice(part.start, part.stop, 2)), (-1, slice(part.start + 1, part.stop, 2))]
        e1, e2 = draw_noise(seed, number, sampling.rank, mean)
        deviation = torch.bmm(e1.transpose(0, 1), cov_factor.flatten(2)).transpose(0, 1).reshape(e2.shape)
        yield _Draw(deviation.addcmul_(std, e2), std, e1, e2, signed)
        del deviation, e1, e2


@torch.library.custom_op("monai_stochseg::sample_log_likelihood", mutates_args=())
def _log_likelihood(
    parameters: torch.Tensor,
    target: torch.Tensor,
    valid: torch.Tensor,
    seeds: torch.Tensor,
    out_channels: int,
    rank: int,
    num_samples: int,
    antithetic: bool,
) -> torch.Tensor:
    sampling = Sampling(out_channels, rank, num_samples, antithetic)
    with torch.autocast(parameters.device.type, enabled=False):
        mean = sampling.split(parameters)[0]
        result = mean.new_empty((max(num_samples, 1), len(mean), target.shape[1]), dtype=torch.float64)
        for draw in _draws(sampling, seeds, parameters):
            for sign, samples in draw.signed:
                row = result[samples]
                log_p = torch.log_softmax(torch.add(mean, draw.deviation[: len(row)], alpha=sign), dim=2)
                log_p = log_p.gather(2, target.expand(len(row), -1, -1, -1))
                torch.sum(log_p * valid, dim=3, dtype=torch.float64, out=row)
            del draw  # the next one takes its memory
    return result.transpose(0, 1).contiguous()


@_log_likelihood.register_fake
def _(
    parameters: torch.Tensor,
    target: torch.Tensor,
    valid: torch.Tensor,
    seeds: torch.Tensor,
    out_channels: int,
    rank: int,
    num_samples: int,
    antithetic: bool,
) -> torch.Tensor:
    return parameters.new_empty((len(parameters), max(num_samples, 1), target.shape[1]), dtype=torch.float64)


@torch.library.custom_op("monai_stochseg::sample_log_likelihood_gradient", mutates_args=())
def _gradient(
    grad: torch.Tensor,
    parameters: torch.Tensor,
    target: torch.Tensor,
    valid: torch.Tensor,
    seeds: torch.Tensor,
    out_channels: int,
    rank: int,
    num_samples: int,
    antithetic: bool,
) -> torch.Tensor:
    sampling = Sampling(out_channels, rank, num_samples, antithetic)
    with torch.autocast(parameters.device.type, enabled=False):
        mean = sampling.split(parameters)[0]
        result = torch.zeros_like(parameters, dtype=mean.dtype, memory_format=torch.contiguous_format)
        d_mean, d_log_diag, d_factor = sampling.split(result)
        # Contributions below this share of an item's largest are lost in float32's rounding of the sum.
        threshold = torch.finfo(torch.float32).eps / grad.shape[1] * grad.abs().amax((1, 2), keepdim=True)
        visible = (grad.abs() > threshold).any(2).any(0).tolist()
        weights = grad.transpose(0, 1).to(mean.dtype)
        for draw in _draws(sampling, seeds, parameters, visible):
            for sign, samples in draw.signed:
                kept = [row for row, seen in enumerate(visible[samples]) if seen]
                if not kept:
                    continue
                row = slice(len(kept)) if kept[-1] == len(kept) - 1 else kept  # a slice makes no copy
                weight = weights[samples][row, ..., None] * valid  # [k, B, raters, V]
                # d log p(y) / d eta = onehot(y) - softmax(eta)
                g = torch.softmax(torch.add(mean, draw.deviation[row], alpha=sign), dim=2)
                g.mul_(-weight.sum(2, keepdim=True))
                g.scatter_add_(2, target.expand(len(g), -1, -1, -1), weight)
                d_mean += g.sum(0)
                if num_samples == 0:
                    continue
                d_log_diag.add_((g * draw.e2[row]).sum(0).mul_(draw.std), alpha=0.5 * sign)
                for b, factor in enumerate(d_factor.flatten(2)):  # a view: its last two axes are contiguous
                    factor.addmm_(draw.e1[row, b].T, g[:, b].flatten(1), alpha=sign)
    return result.to(parameters.dtype)


@_gradient.register_fake
def _(
    grad: torch.Tensor,
    parameters: torch.Tensor,
    target: torch.Tensor,
    valid: torch.Tensor,
    seeds: torch.Tensor,
    out_channels: int,
    rank: int,
    num_samples: int,
    antithetic: bool,
) -> torch.Tensor:
    return torch.empty_like(parameters, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    parameters, target, valid, seeds, *options = inputs
    ctx.save_for_backward(parameters, target, valid, seeds)
    ctx.options = options


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return _gradient(grad, *ctx.saved_tensors, *ctx.options), *[None] * 7


_log_likelihood.register_autograd(_backward, setup_context=_keep)
