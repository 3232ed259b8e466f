# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.distributions import HypothesesDistribution, MaskedDistribution, PredictiveDistribution


class Weighted(PredictiveDistribution):
    """Class 2 everywhere, the samples weighing 1/4 and 3/4."""

    weights = torch.tensor([[0.25, 0.75]]).repeat(2, 1)

    def mode_logits(self) -> torch.Tensor:
        return torch.tensor([0.0, 1.0, 2.0]).reshape(1, 3, 1, 1).repeat(2, 1, 4, 4)

    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        return self.mode_logits().unsqueeze(1).repeat(1, n, 1, 1, 1)


def region(*shape: int) -> torch.Tensor:
    mask = torch.zeros(2, 1, *shape)
    mask[0, :, :2] = 1
    mask[1, :, 2:] = 3
    return mask


def test_outside_the_region_is_background():
    mask = region(4, 4)
    masked = MaskedDistribution(Weighted(), mask)
    assert masked.weights is Weighted.weights
    inside = (mask > 0)[:, 0]
    mode, samples = masked.mode_logits(), masked.sample_logits(2)
    assert torch.equal(mode.argmax(1), torch.where(inside, 2, 0))
    assert torch.equal(samples.argmax(2), torch.where(inside, 2, 0)[:, None].expand(2, 2, 4, 4))
    assert (mode.half().softmax(1)[:, 0][~inside] == 1).all()
    whole = Weighted().mode_logits()
    torch.testing.assert_close(mode.movedim(1, -1)[inside], whole.movedim(1, -1)[inside])


@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 2)])
def test_draws_are_those_of_the_distribution(shape):
    logits = torch.randn(2, 5, 3, *shape)
    whole, masked = (
        distribution.sample_logits(6, torch.Generator().manual_seed(0))
        for distribution in (
            HypothesesDistribution(logits),
            MaskedDistribution(HypothesesDistribution(logits), region(*shape)),
        )
    )
    inside = (region(*shape) > 0).unsqueeze(1).expand_as(whole)
    assert torch.equal(masked[inside], whole[inside])


@pytest.mark.parametrize("draw", [lambda d: d.mode_logits(), lambda d: d.sample_logits(1)])
@pytest.mark.parametrize("shape", [(2, 2, 4, 4), (2, 1, 4, 3), (1, 1, 4, 4)])
def test_rejects_another_shape(draw, shape):
    with pytest.raises(ValueError, match=r"mask must be \[B, 1, \*S\] as \(2, 1, 4, 4\), got "):
        draw(MaskedDistribution(Weighted(), torch.ones(shape)))
