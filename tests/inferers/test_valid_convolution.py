# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from monai_stochseg.inferers.valid_convolution import ValidConvolutionInferer
from monai_stochseg.networks.nets.deepmedic import DeepMedic


def deepmedic(spatial_dims: int, **kwargs) -> DeepMedic:
    """A small network whose batch norms have seen data."""
    net = DeepMedic(spatial_dims, in_channels=2, out_channels=3, fully_connected=(8,), dropout=(0, 0.5), **kwargs)
    net(torch.randn(2, 2, *net.input_size(net.alignment)) + 1)
    return net.eval()


@pytest.mark.parametrize("sw_batch_size", [1, 3])
@pytest.mark.parametrize("roi_size", [15, (30, 15), (45, 60), (-1, 15), 150])
@pytest.mark.parametrize("padding_mode", ["constant", "replicate"])
def test_any_tiling_equals_one_pass_2d(roi_size, sw_batch_size, padding_mode):
    net = deepmedic(2, channels=(4, 4, 4, 4, 4, 4, 4, 4))
    tile = {"margin": net.margin, "alignment": net.alignment, "padding_mode": padding_mode}
    image = torch.randn(2, 2, 61, 47)
    with torch.no_grad():
        tiled = ValidConvolutionInferer(roi_size, sw_batch_size=sw_batch_size, **tile)(image, net)
        whole = ValidConvolutionInferer(-1, **tile)(image, net)
        padded = nn.functional.pad(image, (40, 53, 40, 54), padding_mode)
        direct = net(padded)[:, :, :61, :47]
    assert tiled.shape == (2, 3, 61, 47)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole, direct, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("scales", "channels", "size", "rois"),
    [
        ((1, 3, 5), (2,) * 8, (31, 17, 15), [15, (30, 15, 15), (45, 30, 15)]),
        ((1, 2, 3), (4, 4), (23, 12, 31), [6, (12, 18, 24), (6, 24, 36)]),
        ((1, 4), (4, 4, 4), (9, 10, 21), [4, (8, 12, 16)]),
    ],
)
def test_any_tiling_equals_one_pass_3d(scales, channels, size, rois):
    net = deepmedic(3, scales=scales, channels=channels)
    tile = {"margin": net.margin, "alignment": net.alignment, "sw_batch_size": 2}
    image = torch.randn(2, 2, *size)
    with torch.no_grad():
        whole = ValidConvolutionInferer(-1, **tile)(image, net)
        assert whole.shape == (2, 3, *size)
        for roi_size in rois:
            tiled = ValidConvolutionInferer(roi_size, **tile)(image, net)
            torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)


def test_windows():
    """A row of 5 voxels, margin 1, tiles of 2: the last tile is shifted back on the alignment grid, then cut."""
    seen = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x[0, 0, 1].tolist())
        return x[:, :, 1:-1, :-2] + x[:, :, 1:-1, 2:]

    image = torch.tensor([[[[1.0, 2.0, 3.0, 4.0, 5.0]]]])
    out = ValidConvolutionInferer((1, 4), margin=1, cval=10)(image, network)
    assert seen == [[10, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 10]]
    assert out.tolist() == [[[[12, 4, 6, 8, 14]]]]
    seen.clear()
    out = ValidConvolutionInferer(2, margin=1, alignment=2, cval=10)(image, network)
    assert seen == [[10, 1, 2, 3], [2, 3, 4, 5], [4, 5, 10, 10]]
    assert out.tolist() == [[[[12, 4, 6, 8, 14]]]]


def test_matches_padded_convolution():
    valid = nn.Conv3d(1, 2, 5)
    same = nn.Conv3d(1, 2, 5, padding=2)
    same.load_state_dict(valid.state_dict())
    image = torch.randn(2, 1, 7, 9, 11)
    torch.testing.assert_close(ValidConvolutionInferer(4, margin=2, sw_batch_size=3)(image, valid), same(image))


def test_further_arguments_reach_the_network():
    out = ValidConvolutionInferer(2, margin=0)(torch.ones(1, 1, 3, 3), lambda x, a, b: a * x + b, 2.0, b=1.0)
    assert (out == 3).all()


def test_metatensor():
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))
    image = MetaTensor(torch.randn(1, 1, 5, 6, 7), affine=affine, meta={"name": "case"})
    net = nn.Conv3d(1, 2, 3)
    inferer = ValidConvolutionInferer(4, margin=1)
    out = inferer(image, net)
    assert isinstance(out, MetaTensor)
    assert out.meta["name"] == "case"
    assert torch.equal(out.affine, image.affine)
    plain = inferer(image.as_tensor(), net)
    assert not isinstance(plain, MetaTensor)
    assert torch.equal(out.as_tensor(), plain)


@pytest.mark.parametrize(
    ("given", "returned", "expected"),
    [
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.uint8, torch.float32, torch.float32),
        (torch.float64, torch.float32, torch.float64),
    ],
)
def test_dtype_loses_nothing(given, returned, expected):
    image = torch.ones(1, 1, 4, 4, dtype=given)
    out = ValidConvolutionInferer(2, margin=0, device="cpu")(image, lambda x: 1.5 * x.to(returned))
    assert out.dtype == expected
    assert (out == 1.5).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"roi_size": 40}, r"roi_size must be multiples of the alignment, 15, got 40: use 30 or 45 for 40"),
        ({"roi_size": (30, 10)}, r"got \(30, 10\): use 15 for 10"),
        ({"margin": -1}, "margin must not be negative, got -1"),
        ({"alignment": 0}, "alignment must be at least 1, got 0"),
        ({"sw_batch_size": 0}, "sw_batch_size must be at least 1, got 0"),
        ({"padding_mode": "mirror"}, "mirror"),
    ],
)
def test_argument_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        ValidConvolutionInferer(**{"roi_size": 30, "margin": 40, "alignment": 15, **arguments})


def test_roi_size_of_another_dimension():
    with pytest.raises(ValueError, match=r"roi_size has 3 components, \(4, 4, 4\), but .* 2 spatial axes"):
        ValidConvolutionInferer((4, 4, 4), margin=1)(torch.zeros(1, 1, 8, 8), nn.Conv2d(1, 1, 3))


def test_network_that_does_not_fit_the_margin():
    with pytest.raises(ValueError, match=r"shape \(1, 1, 6, 6\) for windows .*margin=2 .* spatial size \(4, 4\)"):
        ValidConvolutionInferer(4, margin=2)(torch.zeros(1, 1, 8, 8), nn.Conv2d(1, 1, 3))


def test_network_that_returns_no_tensor():
    with pytest.raises(TypeError, match="network must return one tensor, got tuple"):
        ValidConvolutionInferer(4, margin=0)(torch.zeros(1, 1, 8, 8), lambda x: (x, x))
