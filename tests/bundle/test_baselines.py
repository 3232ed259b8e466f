# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from given import Given

from monai_stochseg.bundle import make_baseline
from monai_stochseg.losses import ELBOLoss, MultipleHypothesesLoss, RaterCrossEntropyLoss
from monai_stochseg.networks import nets

CASES = [
    ("deterministic", nets.DeterministicSampler, RaterCrossEntropyLoss),
    ("threshold", nets.ThresholdSampler, RaterCrossEntropyLoss),
    ("independent", nets.IndependentSampler, RaterCrossEntropyLoss),
    ("tta", nets.TestTimeAugmentation, RaterCrossEntropyLoss),
    ("dropout", nets.DropoutUNet, RaterCrossEntropyLoss),
    ("ensemble", nets.UNetEnsemble, RaterCrossEntropyLoss),
    ("mheads", nets.MHeadsUNet, MultipleHypothesesLoss),
    ("image2image_vae", nets.Image2ImageVAE, ELBOLoss),
]


def asked(spatial_dims: int = 2, ignore_index: int | None = None) -> Given:
    task = Given([], ["background", "organ", "tumour"])
    task.spatial_dims, task.channel_names, task.ignore_index = spatial_dims, ("t1", "t2"), ignore_index
    return task


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("method", "network_class", "loss_class"), CASES)
def test_network_and_loss_fit_the_task(method, network_class, loss_class, spatial_dims):
    network, loss = make_baseline(method, asked(spatial_dims, 255), (2, 4), "BATCH", num_hypotheses=2)
    assert type(network) is network_class
    assert type(loss) is loss_class
    assert loss.ignore_index == 255
    image, label = torch.rand(2, 2, *[4] * spatial_dims), torch.randint(3, (2, 4, *[4] * spatial_dims))
    output = network(image, label) if method == "image2image_vae" else network(image)
    loss(output, label).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.eval().predictive(image).sample_logits(5).shape == (2, 5, 3, *[4] * spatial_dims)


def test_one_training_serves_the_four_samplers_of_a_deterministic_network():
    states = [make_baseline(method, asked(), (2, 4)).network.state_dict().keys() for method, *_ in CASES[:4]]
    assert states[0] == states[1] == states[2] == states[3]


def test_the_image2image_vae_has_its_own_latent_and_beta():
    network, loss = make_baseline("image2image_vae", asked(), (2, 4), latent_dim=3, beta=10.0)
    assert (network.latent_dim, loss.beta) == (3, 10.0)


@pytest.mark.parametrize("method", [method for method, *_ in CASES])
def test_every_baseline_takes_align_corners(method):
    network = make_baseline(method, asked(), (2, 4), num_hypotheses=2, align_corners=True).network
    unets = [module for module in network.modules() if isinstance(module, nets.BilinearUNet)]
    assert unets
    assert all(unet.align_corners for unet in unets)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match=r"method must be one of deterministic, threshold, .*, got 'magic'"):
        make_baseline("magic", asked())
