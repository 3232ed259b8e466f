# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.networks.nets import UNet
from torch import nn

from monai_stochseg.distributions import DeterministicDistribution, WindowedDistribution
from monai_stochseg.inferers import PredictiveInferer, ValidConvolutionInferer
from monai_stochseg.networks.nets import DeepMedic, ProbabilisticUNet, StochasticSegmentationNetwork


class Pixelwise(nn.Module):
    """Features of a pixel alone, so that windows and the whole image must agree exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def test_whole_image_equals_predictive():
    net = StochasticSegmentationNetwork(Pixelwise(), 8, 2, spatial_dims=2)
    image = torch.randn(2, 1, 8, 8)
    ours = PredictiveInferer()(image, net)
    torch.testing.assert_close(ours.mode_logits(), net.predictive(image).mode_logits())


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
def test_windows_do_not_change_the_distribution(mode):
    net = StochasticSegmentationNetwork(Pixelwise(), 8, 2, spatial_dims=2)
    image = torch.randn(1, 1, 20, 24)
    windows = PredictiveInferer(SlidingWindowInferer((8, 8), overlap=0.5, mode=mode))(image, net)
    whole = PredictiveInferer()(image, net)
    for name in ("mean", "cov_factor", "log_diag"):
        torch.testing.assert_close(getattr(windows, name), getattr(whole, name), atol=1e-5, rtol=1e-4)
    seeds = (torch.Generator().manual_seed(3) for _ in range(2))
    torch.testing.assert_close(
        *(d.sample_logits(3, g) for d, g in zip((windows, whole), seeds, strict=True)), atol=1e-5, rtol=1e-4
    )


def test_samples_have_no_seam_at_a_window_border():
    """
    On a constant image with strong coupling within a sample, neighbours across the border of two windows agree as often
    as neighbours within a window; sampling each window by itself, they agree by chance.
    """
    torch.manual_seed(0)
    net = StochasticSegmentationNetwork(
        UNet(2, 1, 8, channels=(8, 16), strides=(2,), norm="BATCH"), 8, 2, spatial_dims=2
    )
    with torch.no_grad():
        net.cov_factor.weight.zero_()
        net.cov_factor.bias.zero_()
        net.cov_factor.bias[1] = 5.0  # the first column lifts class 1 everywhere
        net.mean.weight.zero_()
        net.mean.bias.zero_()
        net.log_diag.weight.zero_()
        net.log_diag.bias.fill_(-10)
    net.eval()
    image = torch.randn(1, 1, 16, 32)
    distribution = PredictiveInferer(SlidingWindowInferer((16, 16), overlap=0))(image, net)
    labels = distribution.sample_logits(200).argmax(2)[0]
    agree = (labels[..., 1:] == labels[..., :-1]).float().mean((0, 1))
    assert agree[15] > 0.95  # columns 15 and 16 lie in different windows
    assert agree[15] == pytest.approx(agree[7].item(), abs=0.03)
    assert 0.3 < labels.float().mean() < 0.7
    halves = [PredictiveInferer()(half, net).sample_logits(200).argmax(2)[0] for half in image.split(16, dim=-1)]
    assert (halves[0][..., -1] == halves[1][..., 0]).float().mean() < 0.7


def test_deepmedic_in_tiles_equals_one_pass():
    backbone = DeepMedic(2, 1, 8, channels=(4,) * 8, fully_connected=(8, 8))
    net = StochasticSegmentationNetwork(backbone, 8, 2, spatial_dims=2).eval()
    image = torch.randn(1, 1, 40, 50)
    with torch.no_grad():
        tiles, whole = (
            PredictiveInferer(ValidConvolutionInferer(roi, backbone.margin, backbone.alignment))(image, net)
            for roi in (15, 60)
        )
    torch.testing.assert_close(tiles.mean, whole.mean, atol=1e-4, rtol=0)
    assert tiles.mean.shape == (1, 2, 40, 50)


def test_mask_and_arguments_are_passed_on():
    net = StochasticSegmentationNetwork(Pixelwise(), 8, 2, spatial_dims=2)
    mask = torch.zeros(1, 1, 8, 8)
    assert (PredictiveInferer()(torch.randn(1, 1, 8, 8), net, mask=mask).sample_logits(2).argmax(2) == 0).all()
    with pytest.raises(TypeError, match="unknown"):
        PredictiveInferer()(torch.randn(1, 1, 8, 8), net, unknown=1)


def latent_network() -> nn.Module:
    torch.manual_seed(0)
    return ProbabilisticUNet(2, 1, 2, channels=(2, 4), latent_dim=2).eval()


@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel])
@pytest.mark.parametrize("inferer", [None, SimpleInferer()])
def test_a_network_with_a_latent_sees_the_whole_image(wrap, inferer):
    net = latent_network()
    image = torch.randn(2, 1, 8, 8)
    distributions = (PredictiveInferer(inferer)(image, wrap(net)), net.predictive(image))
    torch.testing.assert_close(*(d.sample_logits(3, torch.Generator().manual_seed(1)) for d in distributions))


@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel])
def test_a_network_with_a_latent_in_windows(wrap):
    image = MetaTensor(torch.randn(2, 1, 8, 12))
    distribution = PredictiveInferer(SlidingWindowInferer(8))(image, wrap(latent_network()))
    assert isinstance(distribution, WindowedDistribution)
    assert distribution.sample_logits(3).shape == (2, 3, 2, 8, 12)
    mode = distribution.mode_logits()
    assert isinstance(mode, MetaTensor)  # of the image, and not of a window
    torch.testing.assert_close(mode.affine, image.affine)
    with pytest.raises(ValueError, match="set its sw_batch_size to 1"):
        PredictiveInferer(SlidingWindowInferer(8, sw_batch_size=2))(image, latent_network())


@pytest.mark.parametrize("inferer", [None, SlidingWindowInferer(8)])
def test_a_mask_of_a_network_with_a_latent(inferer):
    image, mask = torch.randn(1, 1, 8, 12), torch.zeros(1, 1, 8, 12)
    mask[..., :6] = 1
    net = latent_network()
    inside, everywhere = (
        PredictiveInferer(inferer)(image, net, mask=m).sample_logits(3, torch.Generator().manual_seed(1))
        for m in (mask, None)
    )
    assert torch.equal(inside[..., :6], everywhere[..., :6])
    assert (inside[..., 6:].argmax(2) == 0).all()


class Named(nn.Module):
    """Has a ``distribution`` that is no method of the contract, and draws from ``predictive``."""

    def __init__(self, distribution: object) -> None:
        super().__init__()
        self.distribution = distribution

    def predictive(self, x: torch.Tensor) -> DeterministicDistribution:
        return DeterministicDistribution(torch.cat([x, -x], 1))


class OfAnImage(Named):
    def __init__(self) -> None:
        nn.Module.__init__(self)

    def distribution(self, image: torch.Tensor) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    "net", [Named("normal"), Named(nn.Conv2d(1, 1, 1)), Named(torch.distributions.Normal), OfAnImage()]
)
def test_an_attribute_named_distribution_is_not_the_contract(net):
    image = torch.randn(1, 1, 4, 4)
    torch.testing.assert_close(PredictiveInferer()(image, net).mode_logits(), torch.cat([image, -image], 1))


def test_a_network_without_a_distribution_is_named():
    image, net = torch.randn(1, 1, 8, 8), Pixelwise()
    message = r"Pixelwise has neither a method predictive\(x\) nor a method distribution\(parameters, mask=None\)"
    with pytest.raises(TypeError, match=message + ": it gives no distribution"):
        PredictiveInferer()(image, net)
    net.distribution = "normal"
    with pytest.raises(TypeError, match=message + "; its distribution is no method but 'normal': it gives"):
        PredictiveInferer()(image, net)
    net.distribution = OfAnImage().distribution
    with pytest.raises(TypeError, match=r"its distribution takes other arguments, distribution\(image"):
        PredictiveInferer()(image, net)
