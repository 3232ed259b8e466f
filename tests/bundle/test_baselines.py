# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.bundle import baseline
from monai_stochseg.losses import ELBOLoss, MultipleHypothesesLoss, RaterCrossEntropyLoss
from monai_stochseg.networks import nets

CASES = [
    ("deterministic", nets.DeterministicSampler, RaterCrossEntropyLoss),
    ("threshold", nets.ThresholdSampler, RaterCrossEntropyLoss),
    ("independent", nets.IndependentSampler, RaterCrossEntropyLoss),
    ("dropout", nets.DropoutUNet, RaterCrossEntropyLoss),
    ("ensemble", nets.UNetEnsemble, RaterCrossEntropyLoss),
    ("mheads", nets.MHeadsUNet, MultipleHypothesesLoss),
    ("image2image_vae", nets.Image2ImageVAE, ELBOLoss),
]


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("method", "network_class", "loss_class"), CASES)
def test_network_and_loss_fit(method, network_class, loss_class, spatial_dims):
    network, loss, takes_label = baseline(method, spatial_dims, 3, (2, 4), "BATCH", num_hypotheses=2, in_channels=2)
    assert type(network) is network_class
    assert type(loss) is loss_class
    image, label = torch.rand(2, 2, *[4] * spatial_dims), torch.randint(3, (2, 4, *[4] * spatial_dims))
    loss(network(image, label) if takes_label else network(image), label).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.eval().predictive(image).sample_logits(5).shape == (2, 5, 3, *[4] * spatial_dims)


def test_one_training_serves_the_three_samplers_of_a_deterministic_network():
    states = [baseline(method, 2, channels=(2, 4)).network.state_dict().keys() for method, *_ in CASES[:3]]
    assert states[0] == states[1] == states[2]


def test_an_unknown_method_is_told():
    with pytest.raises(ValueError, match=r"method must be one of deterministic, threshold, .*, got 'magic'"):
        baseline("magic", 2)
