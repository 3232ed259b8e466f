# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from torch import nn

from monai_stochseg.inferers import PredictiveInferer, ValidConvolutionInferer
from monai_stochseg.networks.nets import DeepMedic, StochasticSegmentationNetwork


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
