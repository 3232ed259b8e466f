# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from monai_stochseg.distributions import RefinementOutput
from monai_stochseg.losses import ConsistencyLoss


@pytest.mark.parametrize(
    ("kind", "beta", "expected"),
    [
        ("cross_entropy", 0.5, math.log(2)),  # of even logits
        ("latent", 0.5, 0.5 * 2.0),  # half of 1 and half of 3, the squared means, at deviation 1
        ("cvae_gan", 0.1, math.log(2) + 0.1 * 2.0),
        ("cvae_gan", 10.0, math.log(2) + 10 * 2.0),
    ],
)
def test_by_hand(kind, beta, expected):
    mean = torch.tensor([[1.0, math.sqrt(3)]])
    output = RefinementOutput(torch.zeros(1, 2, 2, 1, 1), torch.full((1, 2, 1, 1), 0.5), mean, torch.zeros(1, 2))
    loss = ConsistencyLoss(kind, beta=beta)(output, torch.tensor([[[[0]], [[1]]]]))
    torch.testing.assert_close(loss, torch.tensor(expected))
