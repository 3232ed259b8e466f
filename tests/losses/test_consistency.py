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


def test_calibration_by_hand_leaves_void_out() -> None:
    """
    Two samples of even logits in both voxels: their mean against 3/4 and 1/4 is KL = log 2 - log(3) / 2. The second
    voxel, at which they agree, is void to a rater and is left out, unless this rater is missing.
    """
    calibration = torch.tensor([[[[0.75, 0.5]], [[0.25, 0.5]]]])
    output = RefinementOutput(torch.zeros(1, 2, 2, 1, 2), calibration, torch.zeros(1, 1), torch.zeros(1, 1))
    target, divergence = torch.tensor([[[[0, 0]], [[1, 255]]]]), math.log(2) - math.log(3) / 2
    for weights, expected in (([1.0, 1.0], divergence), ([1.0, 0.0], divergence / 2)):
        loss = ConsistencyLoss(ignore_index=255)(output, target, torch.tensor([weights]))
        torch.testing.assert_close(loss, torch.tensor(expected), rtol=0, atol=5e-3)  # the loss mixes eps of 1e-3 in
