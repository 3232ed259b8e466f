# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet, UNet
from torch import nn

from monai_stochseg.networks.nets import DropoutUNet, MonteCarloDropout

IMAGE = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "network",
    [
        UNet(2, 1, 2, channels=(4, 8), strides=(2,), dropout=0.5),
        UNet(2, 1, 2, channels=(4, 8), strides=(2,), dropout=("alphadropout", {"p": 0.3})),
        SegResNet(2, 8, 1, 2, dropout_prob=0.5, blocks_down=(1, 1), blocks_up=(1,)),
        DynUNet(2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 8], dropout=("dropout", {"p": 0.5})),
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.Dropout2d(0.5)),
    ],
    ids=["UNet", "AlphaDropout", "SegResNet", "DynUNet", "Dropout2d"],
)
def test_any_network_with_dropout_becomes_a_sampler(network):
    samples = MonteCarloDropout(network.eval()).predictive(IMAGE).sample_logits(2)
    assert not torch.equal(samples[:, 0], samples[:, 1])


@pytest.mark.parametrize("training", [False, True])
def test_only_dropout_is_active_and_the_modes_are_left_as_they_were(training):
    network = UNet(2, 1, 2, channels=(4, 8), strides=(2,), dropout=0.5, norm="BATCH").train(training)
    network.model[0].eval()  # as a frozen part
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    predictive = MonteCarloDropout(network).predictive(IMAGE)
    samples, mode = predictive.sample_logits(3), predictive.mode_logits()
    assert not torch.equal(samples[:, 0], samples[:, 1])
    assert [module.training for module in network.modules()] == modes
    for name, value in network.state_dict().items():  # the statistics of the batch norm among them
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    torch.testing.assert_close(mode, network.eval()(IMAGE))


def test_modes_are_restored_after_an_error():
    net = DropoutUNet(2, 1, 2, channels=(4, 8))
    with pytest.raises(RuntimeError):
        net.predictive(IMAGE.repeat(1, 2, 1, 1)).sample_logits(1)
    assert all(module.training for module in net.modules())


def test_a_sample_is_a_pass_with_dropout():
    """Inverted dropout of a constant: 0 or twice its value, in equal parts."""
    samples = MonteCarloDropout(nn.Dropout(0.5)).predictive(torch.ones(1, 2, 100, 100)).sample_logits(2)
    assert set(samples.unique().tolist()) == {0.0, 2.0}
    assert samples.mean().item() == pytest.approx(1.0, abs=0.05)


def test_the_global_generator_is_left_as_it_was():
    predictive = DropoutUNet(2, 1, 2, channels=(4, 8)).predictive(IMAGE)
    before = torch.get_rng_state()
    predictive.sample_logits(2, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("levels", "encoder", "decoder"), [(6, 3, 3), (5, 3, 3), (4, 3, 3), (3, 2, 2), (2, 1, 1)])
def test_dropout_acts_in_the_three_innermost_blocks(levels, encoder, decoder):
    """On the features that come into a block: with nearly all dropped, in a block of ones, the outcome shows where."""
    net = DropoutUNet(2, 1, 2, channels=[4] * levels, dropout=0.999).network
    zeros = {}
    for blocks, part in ((net.encoder.blocks, "encoder"), (net.blocks, "decoder")):
        for i, block in enumerate(blocks):
            block.register_forward_pre_hook(
                lambda _, args, key=(part, i): zeros.__setitem__(key, (args[0] == 0).float().mean().item() > 0.9)
            )
            block.register_forward_hook(lambda _, __, out: torch.ones_like(out))
    net(torch.ones(1, 1, 64, 64))
    assert [zeros["encoder", i] for i in range(levels)] == [i >= levels - encoder for i in range(levels)]
    assert [zeros["decoder", i] for i in range(levels - 1)] == [i < decoder for i in range(levels - 1)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MonteCarloDropout(nn.Conv2d(1, 2, 1)), "Conv2d has no dropout layer with p above 0"),
        (lambda: MonteCarloDropout(nn.Sequential(nn.Dropout(0.0))), "Sequential has no dropout layer"),
        (lambda: DropoutUNet(2, 1, 2, dropout=0.0), "BilinearUNet has no dropout layer"),
        (lambda: DropoutUNet(2, 1, 2, dropout=1.0), r"dropout must lie in \[0, 1\), got 1.0"),
        (lambda: DropoutUNet(2, 1, 2, channels=(8,)), r"give two channels or more, got \(8,\)"),
        (lambda: DropoutUNet(2, 1, 2, (4, 8)).predictive(IMAGE).sample_logits(0), "n must be at least 1, got 0"),
    ],
)
def test_rejects(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_passes_run_in_the_autocast_mode_of_the_inference() -> None:
    seen: list[torch.dtype] = []
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Dropout(0.5))
    network[0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    sampler, image = MonteCarloDropout(network), torch.randn(1, 1, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictive = sampler.predictive(image)
    assert predictive.sample_logits(1).dtype == predictive.mode_logits().dtype == torch.float32
    predictive = sampler.predictive(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictive.mode_logits()
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32]
