# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_stochseg.networks.nets.deepmedic import DeepMedic

SMALL = {"channels": (2, 2, 3, 3, 3, 3, 4, 4), "fully_connected": (6, 5)}


@pytest.mark.parametrize(
    ("spatial_dims", "scales", "input_size", "output_size"),
    [
        (3, (1, 3, 5), (110, 110, 110), (30, 30, 30)),
        (3, (1, 3, 5), (95, 110, 125), (15, 30, 45)),
        (2, (1, 3, 5), (110, 140), (30, 60)),
        (2, (1, 2), (33, 34), None),
        (2, (1, 2), (34, 40), (2, 8)),
        (3, (1,), (17, 18, 19), (1, 2, 3)),
    ],
)
def test_sizes(spatial_dims, scales, input_size, output_size):
    net = DeepMedic(spatial_dims, in_channels=1, out_channels=3, scales=scales, **SMALL).eval()
    image = torch.randn(1, 1, *input_size)
    if output_size is None:
        with pytest.raises(ValueError, match="has no output"):
            net(image)
        return
    assert net.output_size(input_size) == output_size
    assert net.input_size(output_size) == input_size
    with torch.no_grad():
        assert net(image).shape == (1, 3, *output_size)


def test_published_network():
    net = DeepMedic(spatial_dims=3, in_channels=4, out_channels=4).eval()
    assert (net.margin, net.alignment, net.feature_channels) == (40, 15, 4)
    assert net.output_size(110) == (30, 30, 30)
    pathway = 27 * (4 * 30 + 30 * 30 + 30 * 40 + 3 * 40 * 40 + 40 * 50 + 50 * 50)
    top = 150 * 250 + 250 * 250 + 250 * 4
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv3d)]
    assert sum(p.numel() for m in convolutions for p in m.parameters()) == 3 * pathway + top
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    with torch.no_grad():
        assert net(torch.randn(1, 4, 110, 110, 110)).shape == (1, 4, 30, 30, 30)


def test_backbone_stops_before_the_final_convolution():
    net = DeepMedic(2, in_channels=1, out_channels=3, **SMALL).eval()
    backbone = DeepMedic(2, in_channels=1, **SMALL).eval()
    assert backbone.feature_channels == 5
    state = {name.replace("final.adn", "final"): value for name, value in net.state_dict().items()}
    final = state.pop("final.conv.weight")
    backbone.load_state_dict(state)
    image = torch.randn(2, 1, 95, 110)
    features = backbone(image)
    assert features.shape == (2, 5, 15, 30)
    torch.testing.assert_close(nn.functional.conv2d(features, final), net(image))


def test_pathways_are_registered():
    """Each pathway keeps the place: with kernels that copy their centre, all show the image at the output's voxels."""
    net = DeepMedic(2, in_channels=1, scales=(1, 3), channels=(1, 1), fully_connected=(1,), dropout=(0, 0)).eval()
    for module in net.pathways.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.dirac_(module.weight)
    image = torch.rand(1, 1, 18, 21)
    # positive values pass PReLU; each of the two blocks has a shortcut, which doubles them
    factor = 4 / (1 + 1e-5) ** 0.5
    expected = image[..., 6:-6, 6:-6]
    torch.testing.assert_close(net.pathways[0](image), factor * expected)
    cells = nn.functional.avg_pool2d(expected, 3).repeat_interleave(3, 2).repeat_interleave(3, 3)
    torch.testing.assert_close(net.pathways[1](image), factor * cells)


def test_sees_no_further_than_its_margin():
    net = DeepMedic(
        2, in_channels=1, out_channels=2, scales=(1, 3), channels=(4, 4), fully_connected=(4,), dropout=(0, 0)
    )
    net.eval()
    image = torch.randn(1, 1, 18, 18, requires_grad=True)
    net(image)[..., :3, :3].sum().backward()
    reached = image.grad[0, 0] != 0
    assert reached[:15, :15].all()
    assert not reached[15:].any()
    assert not reached[:, 15:].any()


def test_overfits_four_images():
    net = DeepMedic(
        2, in_channels=1, out_channels=2, scales=(1, 3), channels=(8, 8, 8), fully_connected=(16,), dropout=(0, 0)
    )
    label = (torch.arange(24)[:, None] // 6 + torch.arange(24) // 8) % 2
    label = torch.stack([label, 1 - label, label.T, torch.zeros_like(label)])
    image = nn.functional.pad(label[:, None].float(), [net.margin] * 4, "reflect")
    image = image + 0.5 * torch.randn(image.shape)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(image), label)
        loss.backward()
        optimizer.step()
    net.eval()
    assert (net(image).argmax(1) == label).float().mean() > 0.99


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_training_step_under_autocast(spatial_dims):
    net = DeepMedic(
        spatial_dims,
        in_channels=2,
        out_channels=2,
        scales=(1, 3),
        channels=(2, 4),
        fully_connected=(8,),
        dropout=(0, 0.5),
    )
    before = [p.clone() for p in net.parameters()]
    optimizer = torch.optim.SGD(net.parameters(), 1.0)
    image = torch.randn(2, 2, *[18] * spatial_dims)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(image)
    assert logits.dtype == torch.bfloat16
    nn.functional.cross_entropy(logits.float(), torch.ones(2, *[6] * spatial_dims, dtype=torch.long)).backward()
    optimizer.step()
    for parameter, old in zip(net.parameters(), before, strict=True):
        assert torch.isfinite(parameter).all()
        assert not torch.equal(parameter, old)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_torchscript(spatial_dims, tmp_path):
    net = DeepMedic(
        spatial_dims,
        in_channels=1,
        out_channels=2,
        scales=(1, 3),
        channels=(2, 2),
        fully_connected=(4,),
        dropout=(0, 0),
    ).eval()
    torch.jit.script(net).save(tmp_path / "net.ts")
    scripted = torch.jit.load(tmp_path / "net.ts")
    assert (scripted.margin, scripted.alignment, scripted.feature_channels) == (6, 3, 2)
    for n in (15, 24):
        image = torch.randn(1, 1, *[n] * spatial_dims)
        torch.testing.assert_close(scripted(image), net(image))
    with pytest.raises(torch.jit.Error, match=r"nearest sizes are \[15, 15(, 15)?\] and \[18, 18(, 18)?\]"):
        scripted(torch.zeros(1, 1, *[16] * spatial_dims))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (100, r"size \[100, 100\].* 80 voxels .* multiple of 15; the nearest sizes are \[95, 95\] and \[110, 110\]"),
        ((110, 96), r"size \[110, 96\].* nearest sizes are \[110, 95\] and \[110, 110\]"),
        ((80, 5), r"size \[80, 5\].* nearest sizes are \[95, 95\]\."),
    ],
)
def test_input_size_errors(size, message):
    with pytest.raises(ValueError, match=message):
        DeepMedic(2, in_channels=1, **SMALL).output_size(size)


@pytest.mark.parametrize("size", [20, 0, (15, 16)])
def test_output_size_errors(size):
    with pytest.raises(ValueError, match="output_size must be positive multiples of 15"):
        DeepMedic(2, in_channels=1, **SMALL).input_size(size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"out_channels": 0}, "out_channels must be at least 1, got 0"),
        ({"scales": (1, 0)}, r"scales must be one or more positive integers, got \(1, 0\)"),
        ({"channels": ()}, r"channels must be one or more positive integers, got \(\)"),
        ({"fully_connected": ()}, "fully_connected must be one or more"),
        ({"dropout": (0.5,)}, r"dropout must have .* 3 values, got \(0.5,\)"),
    ],
)
def test_argument_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        DeepMedic(**{"spatial_dims": 2, "in_channels": 1, **arguments})
