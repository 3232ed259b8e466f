# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.distributions import draw_noise, draw_seeds
from monai_stochseg.distributions.noise import seed_numbers

SMALL, LARGE = (2, 3, 5), (3, 4, 2**14)


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_noise_replays_from_its_seed(shape):
    like = torch.zeros(shape)
    torch.testing.assert_close(draw_noise(7, 2, 4, like), draw_noise(7, 2, 4, like), rtol=0, atol=0)
    assert [x.shape for x in draw_noise(7, 2, 4, like)] == [(2, shape[0], 4), (2, *shape)]


def test_noise_is_standard_normal_and_independent_between_items():
    _, e2 = draw_noise(7, 2, 4, torch.zeros(LARGE))
    items = e2.flatten(0, 1).flatten(1).double()
    torch.testing.assert_close(items.mean(1), torch.zeros(6).double(), rtol=0, atol=0.02)
    torch.testing.assert_close(items @ items.T / items.shape[1], torch.eye(6).double(), rtol=0, atol=0.02)


def test_another_seed_is_other_noise():
    assert not torch.equal(draw_noise(1, 1, 1, torch.zeros(LARGE))[1], draw_noise(2, 1, 1, torch.zeros(LARGE))[1])


def test_seeds_are_those_of_a_tensor_and_begin_alike():
    seeds = draw_seeds(3, torch.Generator().manual_seed(1))
    assert seed_numbers(3, torch.Generator().manual_seed(1)).tolist() == seeds
    assert draw_seeds(2, torch.Generator().manual_seed(1)) == seeds[:2]
    assert seed_numbers(0).shape == (0,)
