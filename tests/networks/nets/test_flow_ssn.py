# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import SegResNet, UNet
from torch import nn
from torch.nn import functional as F

from monai_stochseg.inferers import PredictiveInferer, draw_samples
from monai_stochseg.losses import FlowMatchingLoss
from monai_stochseg.networks.nets import BilinearUNet, FlowSSN

CLASSES = 3


def make(spatial_dims: int, **kwargs) -> FlowSSN:
    base = kwargs.pop("base", None) or BilinearUNet(spatial_dims, 2, CLASSES, (4, 6))
    return FlowSSN(base, CLASSES, **{"flow_channels": (4, 8), "num_steps": 3, **kwargs})


def batch(spatial_dims: int, raters: int = 1, size: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = [size] * spatial_dims
    image = torch.randn(2, 2, *shape, generator=generator)
    return image, torch.randint(0, CLASSES, (2, raters, *shape), generator=generator)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_shapes_and_gradients(spatial_dims):
    net = make(spatial_dims)
    image, label = batch(spatial_dims)
    for _ in range(2):  # the second convolution of MONAI's block starts at zero
        output = net(image, label)
        assert output.logits.shape == (2, CLASSES, *image.shape[2:])
        assert output.rater.tolist() == [0, 0]
        net.zero_grad()
        FlowMatchingLoss()(output, label).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= 0.1 * parameter.grad
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    predictive = net.predictive(image)
    assert predictive.mode_logits().shape == output.logits.shape
    samples = predictive.sample_logits(3)
    assert samples.shape == (2, 3, CLASSES, *image.shape[2:])
    assert not samples.requires_grad
    assert not torch.equal(samples[:, 0], samples[:, 1])


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_overfits_four_images(spatial_dims):
    torch.manual_seed(0)
    coarse = torch.randn(4, 2, *[3] * spatial_dims)
    image = F.interpolate(coarse, scale_factor=2)
    label = (image[:, :1] > 0).long() + (image[:, 1:] > 0.5).long()
    net = make(spatial_dims, base=BilinearUNet(spatial_dims, 2, CLASSES, (16, 24)), flow_channels=(16,))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        FlowMatchingLoss()(net(image, label), label).backward()
        optimizer.step()
    predictive = net.predictive(image)
    assert (predictive.mode_logits().argmax(1) == label[:, 0]).float().mean() > 0.95
    assert (predictive.sample_logits(4, torch.Generator().manual_seed(0)).argmax(2) == label).float().mean() > 0.85


def test_learns_two_answers():
    """One rater draws all, three nothing: samples are coherent and in proportion, which one answer cannot be."""
    torch.manual_seed(0)
    image = torch.ones(16, 1, 4, 4)
    label = torch.zeros(16, 4, 4, 4, dtype=torch.long)
    label[:, 0] = 1
    net = FlowSSN(nn.Conv2d(1, 2, 1), 2, flow_channels=(16, 16))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        FlowMatchingLoss()(net(image, label), label).backward()
        optimizer.step()
    for field in ("start", "marginal"):
        net.field = field
        samples = net.predictive(image).sample_logits(12, torch.Generator().manual_seed(0)).argmax(2)
        share = samples.float().mean((2, 3))
        assert ((share < 0.1) | (share > 0.9)).float().mean() > 0.8
        assert share.mean().item() == pytest.approx(0.25, abs=0.15)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_training_step_under_autocast(spatial_dims):
    net = make(spatial_dims)
    image, label = batch(spatial_dims)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(image, label)
        loss = FlowMatchingLoss()(output, label)
        predictive = net.predictive(image)
    loss.backward()
    assert (loss.dtype, output.logits.dtype) == (torch.float32, torch.float32)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert predictive.sample_logits(1).dtype == torch.float32  # drawn outside of autocast, as the evaluator does
    assert draw_samples(predictive, 3).labels.shape == (2, 3, *image.shape[2:])


class Counted(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.calls = 0

    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.module(*args)


def test_the_base_runs_once_for_an_image_and_the_flow_once_a_step():
    net = make(2)
    net.base, net.flow = Counted(net.base), Counted(net.flow)
    net.predictive(batch(2)[0]).sample_logits(5)
    assert (net.base.calls, net.flow.calls) == (1, 15)


@pytest.mark.parametrize("name", ["UNet", "SegResNet"])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_any_base(spatial_dims, name):
    base = {
        "UNet": lambda: UNet(spatial_dims, 2, CLASSES, channels=(4, 8), strides=(2,)),
        "SegResNet": lambda: SegResNet(spatial_dims, 8, 2, CLASSES, blocks_down=(1, 1), blocks_up=(1,)),
    }[name]()
    net = make(spatial_dims, base=base)
    image, label = batch(spatial_dims, size=8)
    FlowMatchingLoss()(net(image, label), label).backward()
    assert net.predictive(image).sample_logits(2).shape == (2, 2, CLASSES, *image.shape[2:])


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_samples_have_no_seam_at_a_window_border(spatial_dims):
    """A flow without context on noise: the two sides of a border of windows agree as those of any other plane."""
    torch.manual_seed(0)
    conv = nn.Conv2d if spatial_dims == 2 else nn.Conv3d

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = conv(CLASSES, CLASSES, 1)

        def forward(self, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return 4 * self.mix(y)

    net = FlowSSN(conv(1, CLASSES, 1), CLASSES, Field(), num_steps=3)
    image = torch.zeros(1, 1, *[16] * spatial_dims)
    distribution = PredictiveInferer(SlidingWindowInferer([8] * spatial_dims, overlap=0))(image, net)
    labels = distribution.sample_logits(64, torch.Generator().manual_seed(0)).argmax(2)[0]
    steps = (labels[:, 1:] != labels[:, :-1]).float().flatten(2).mean((0, 2))
    assert steps[7].item() == pytest.approx(steps.mean().item(), abs=0.06)
    repeated = (labels[:, :8] == labels[:, 8:]).float().mean()
    chance = (labels[0] == labels[1]).float().mean()
    assert repeated.item() == pytest.approx(chance.item(), abs=0.06)


def test_raters_are_drawn_by_weight_and_are_where_the_path_leads():
    net = make(2, flow=Path())
    image, label = batch(2, raters=3)
    output = net(image, label, torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]))
    assert output.rater.tolist() == [1, 2]
    one_hot = F.one_hot(torch.stack([label[0, 1], label[1, 2]]), CLASSES).movedim(-1, 1)
    t = net.flow.t[:, None, None, None]
    start = (net.flow.place - t * one_hot) / (1 - t) - net.mean(image)
    assert start.mean().abs() < 0.2
    assert start.std().item() == pytest.approx(1, abs=0.2)


class Path(nn.Module):
    def forward(self, place: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.place, self.t = place.detach(), t
        return place


def test_a_training_step_replays_from_its_generator():
    net = make(2)
    image, label = batch(2, raters=3)
    one, two = (net(image, label, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    torch.testing.assert_close(one.logits, two.logits, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_channels": 1}, "out_channels counts the background and must be at least 2, got 1"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"field": "x"}, "field must be one of"),
        ({"solver": "x"}, "solver must be one of"),
        ({"flow_channels": ()}, "flow_channels must be one or more positive integers"),
        ({"base": nn.Identity()}, "the convolutions of base do not say which"),
    ],
)
def test_rejects_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        FlowSSN(**{"base": nn.Conv2d(1, 2, 1), "out_channels": 2, **arguments})


def test_rejects_a_base_of_other_channels():
    with pytest.raises(ValueError, match=r"base must return \[B, out_channels, \*S\] with out_channels=2"):
        FlowSSN(nn.Conv2d(1, 3, 1), 2).predictive(torch.zeros(1, 1, 4, 4))
