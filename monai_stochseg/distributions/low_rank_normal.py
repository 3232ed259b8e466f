# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy

import torch

from monai_stochseg.distributions.arguments import (
    check_arguments,
    check_at_least,
    check_axes,
    check_positive,
    check_same_shape,
)
from monai_stochseg.distributions.base import PredictiveDistribution, full_precision, plain
from monai_stochseg.distributions.label_maps import (
    LabelMaps,
    empty_label_maps,
    most_probable_class,
    softmax_entropy,
)
from monai_stochseg.distributions.low_rank_blocks import (
    FlatNormal,
    in_threads,
    noise_blocks,
    rank_noise,
    sample_blocks,
)
from monai_stochseg.distributions.masked import background_outside, check_mask
from monai_stochseg.distributions.noise import draw_seeds


class LowRankNormal(PredictiveDistribution):
    """
    Normal distribution over logit maps with a covariance of low rank plus a diagonal, Sigma = P P^T + D
    (Monteiro et al. 2020, Stochastic Segmentation Networks, equations 4 and 5).

    Samples are ``mean + P e1 + sqrt(D) e2`` with standard normal e1 of R and e2 of C * S values: neither a Cholesky
    factor nor a capacitance matrix is formed. Every sample has a seed of its own, which is drawn from the generator:
    one sample can be drawn again without the others.

    Args:
        mean: ``[B, C, *S]``.
        cov_factor: P, ``[B, R, C, *S]``.
        log_diag: log of D, ``[B, C, *S]``.
        mask: region ``[B, 1, *S]``, non-zero inside. Outside it P is 0, D is ``eps`` and samples are background
            (class 0). Default: everywhere.
        eps: D outside the mask.

    Half-precision parameters are computed in float32.

    Raises:
        ValueError: when the shapes do not fit each other, or eps is not positive.
    """

    @check_arguments
    def __init__(
        self,
        mean: torch.Tensor,
        cov_factor: torch.Tensor,
        log_diag: torch.Tensor,
        mask: torch.Tensor | None = None,
        eps: float = 1e-5,
    ) -> None:
        check_same_shape(mean=mean, log_diag=log_diag)
        check_positive(eps=eps)
        if cov_factor.dim() != mean.dim() + 1 or 0 in cov_factor.shape or cov_factor[:, 0].shape != mean.shape:
            raise ValueError(
                f"cov_factor must be [B, R, C, *S] for mean {tuple(mean.shape)}, got {tuple(cov_factor.shape)}."
            )
        self.mean, self.cov_factor, self.log_diag = (full_precision(x) for x in (mean, cov_factor, log_diag))
        self.mask: torch.Tensor | None = None
        if mask is not None:
            self.mask = check_mask(mask, self.mean, "mean")
            self.mean = background_outside(self.mean, self.mask)
            self.log_diag = self.log_diag.masked_fill(~self.mask, math.log(eps))
        self._scale = self.mean.new_ones(mean.shape[1])
        self._rank_scale = self.mean.new_ones(cov_factor.shape[1])

    @classmethod
    @check_arguments
    def from_parameters(
        cls, parameters: torch.Tensor, out_channels: int, rank: int, mask: torch.Tensor | None = None, eps: float = 1e-5
    ) -> LowRankNormal:
        """The distribution from a network's one tensor ``[B, C * (2 + R), *S]``; see :py:func:`split_parameters`."""
        check_axes("[B, C * (2 + R), *S]", 3, parameters=parameters)
        if mask is not None:
            check_mask(mask, parameters, "parameters")
        mean, log_diag, cov_factor = split_parameters(parameters, out_channels, rank)
        return cls(mean, cov_factor, log_diag, mask=mask, eps=eps)

    @property
    def rank(self) -> int:
        """Number of columns of P."""
        return self.cov_factor.shape[1]

    def mode_logits(self) -> torch.Tensor:
        """The mean, which is the mode of the logits, ``[B, C, *S]``."""
        return self.mean

    def variance(self) -> torch.Tensor:
        """Diagonal of the covariance of the samples, ``[B, C, *S]``."""
        ranks = self._rank_scale.reshape(1, -1, *[1] * (self.mean.dim() - 1))
        factor = (self.cov_factor * ranks).square().sum(1)
        if self.mask is not None:
            factor = factor * self.mask
        return (factor + self.log_diag.exp()) * self._per_class(self._scale.square())

    @check_arguments
    def rsample(self, n: int, antithetic: bool = False, generator: torch.Generator | None = None) -> torch.Tensor:
        """
        Draw ``n`` samples with gradients to the parameters, ``[B, n, C, *S]``.

        Args:
            n: number of samples.
            antithetic: draw pairs ``mean + d`` and ``mean - d``; the last of an odd ``n`` stands alone.
            generator: source of the samples' seeds; the default is PyTorch's global one.
        """
        flat = self._flat()
        samples = []
        for seed in draw_seeds(math.ceil(n / 2) if antithetic else n, generator):
            deviation = self._deviation(seed, flat)
            samples.append(self.mean + deviation)
            if antithetic:
                samples.append(self.mean - deviation)
        return torch.stack(samples[:n], dim=1)

    @check_arguments
    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` samples without gradients, ``[B, n, C, *S]``; the chunks of a draw equal the whole draw."""
        check_at_least(1, n=n)
        flat = self._flat()
        samples = flat.mean.unsqueeze(1).repeat(1, n, 1, 1)

        def draw(share: Sequence[tuple[int, int]]) -> None:
            for block in sample_blocks(share, flat):
                samples[block.item, block.samples, :, block.voxels] = block.logits

        in_threads(draw, draw_seeds(n, generator), self.mean.device)
        return samples.unflatten(3, self.mean.shape[2:])

    @check_arguments
    @torch.no_grad()
    def label_maps(
        self, n: int, generator: torch.Generator | None = None, chunk_size: int = 1, with_entropy: bool = False
    ) -> LabelMaps:
        """
        See :py:meth:`PredictiveDistribution.label_maps`. Logits are held for a block of voxels at a time, whatever
        ``chunk_size`` is, and nothing is drawn outside the mask.
        """
        check_at_least(1, n=n, chunk_size=chunk_size)
        flat = self._flat()
        labels, probabilities = empty_label_maps(flat.mean[:, None], n)
        entropy = torch.zeros_like(probabilities[:, :1]) if with_entropy else None

        def draw(share: Sequence[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor | None]:
            total = torch.zeros_like(probabilities)
            of_samples = None if entropy is None else torch.zeros_like(entropy)
            for block in sample_blocks(share, flat):
                labels[block.item, block.samples, block.voxels] = most_probable_class(block.logits)
                softmax = block.logits.softmax(1)
                total[block.item, :, block.voxels] += softmax.sum(0)
                if of_samples is not None:
                    of_samples[block.item, :, block.voxels] += softmax_entropy(softmax).sum(0)
            return total, of_samples

        for total, of_samples in in_threads(draw, draw_seeds(n, generator), self.mean.device):
            probabilities += total
            if entropy is not None and of_samples is not None:
                entropy += of_samples
        probabilities /= n
        if self.mask is not None:
            probabilities[:, 0].masked_fill_(~self.mask[:, 0].flatten(1), 1)
        shape = self.mean.shape[2:]
        mean_entropy = None if entropy is None else (entropy / n).unflatten(2, shape)
        return LabelMaps(labels.unflatten(2, shape), probabilities.unflatten(2, shape), mean_entropy)

    @check_arguments
    def scaled(
        self,
        temperature: float = 1.0,
        class_scale: Sequence[float] | torch.Tensor | None = None,
        rank_scale: Sequence[float] | torch.Tensor | None = None,
    ) -> LowRankNormal:
        """
        The manipulated distribution of the paper's figure 6: a sample's deviation from the mean is scaled.

        Args:
            temperature: scale of the whole deviation; 0 is the mean, the paper goes from -3 to 3.
            class_scale: scale of each class's deviation, C values.
            rank_scale: scale of each column of P, R values; the diagonal's noise is left as it is.

        Raises:
            ValueError: when a scale has not as many values as there are classes or ranks.
        """
        result = copy(self)
        result._scale = self._scale * temperature * self._scale_values("class_scale", class_scale, self._scale)
        result._rank_scale = self._rank_scale * self._scale_values("rank_scale", rank_scale, self._rank_scale)
        return result

    @staticmethod
    def _scale_values(
        name: str, values: Sequence[float] | torch.Tensor | None, like: torch.Tensor
    ) -> torch.Tensor | float:
        if values is None:
            return 1.0
        scale = torch.as_tensor(values, dtype=like.dtype, device=like.device)
        if scale.shape != like.shape:
            raise ValueError(f"{name} must hold {len(like)} values, got a tensor of shape {tuple(scale.shape)}.")
        return scale

    def _flat(self) -> FlatNormal:
        inside = None
        if self.mask is not None:
            inside = [item.flatten().nonzero().squeeze(1) for item in self.mask]
        mean, log_diag, factor = (x.flatten(2 - self.mean.dim()) for x in (self.mean, self.log_diag, self.cov_factor))
        return FlatNormal(mean, log_diag, factor, inside, self._scale, self._rank_scale)

    def _deviation(self, seed: int, flat: FlatNormal) -> torch.Tensor:
        """The deviation of one sample from the mean, with gradients; 0 outside the mask."""
        generator = [torch.Generator(self.mean.device).manual_seed(seed)]
        (e1,) = rank_noise(generator, flat)
        e2 = torch.zeros_like(flat.mean)
        for item, voxels, noise in noise_blocks(generator, flat):
            e2[item, :, voxels] = noise[0]
        deviation = torch.bmm((e1 * self._rank_scale)[:, None], flat.cov_factor.flatten(2))
        deviation = deviation.reshape(flat.mean.shape)
        if self.mask is not None:
            deviation = deviation * self.mask.flatten(2)
        deviation = torch.addcmul(deviation, (0.5 * flat.log_diag).exp(), e2)
        return deviation.unflatten(2, self.mean.shape[2:]) * self._per_class(self._scale)

    def _per_class(self, values: torch.Tensor) -> torch.Tensor:
        return values.reshape(1, -1, *[1] * (self.mean.dim() - 2))


@check_arguments
def split_parameters(
    parameters: torch.Tensor, out_channels: int, rank: int, name: str = "parameters"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Views of mean ``[B, C, *S]``, log-diagonal ``[B, C, *S]`` and factor ``[B, R, C, *S]`` in the one tensor
    ``[B, C * (2 + R), *S]`` that holds them in this order. ``name`` is that of the argument, for the error.

    Raises:
        ValueError: when the tensor has another number of channels.
    """
    check_at_least(1, out_channels=out_channels, rank=rank)
    expected = out_channels * (2 + rank)
    if parameters.dim() not in (3, 4, 5) or parameters.shape[1] != expected:
        raise ValueError(
            f"{name} must have out_channels * (2 + rank) = {out_channels} * (2 + {rank}) = {expected} channels and the "
            f"axes [B, channels, *S], got {tuple(parameters.shape)}."
        )
    parameters = plain(parameters)
    mean, log_diag, cov_factor = parameters.split([out_channels, out_channels, rank * out_channels], dim=1)
    return mean, log_diag, cov_factor.unflatten(1, (rank, out_channels))
