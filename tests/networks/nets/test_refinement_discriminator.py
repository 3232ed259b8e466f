# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import nn
from torch.nn import functional as F

from monai_stochseg.networks.nets import RefinementDiscriminator

CLASSES = 2


def network(spatial_dims: int = 2, **kwargs) -> RefinementDiscriminator:
    return RefinementDiscriminator(spatial_dims, 1, CLASSES, **{"channels": (8, 12), **kwargs})


@pytest.mark.parametrize("shape", [(4, 4), (7, 13), (16, 16), (4, 5, 6)])
def test_one_logit_per_item_of_any_size(shape):
    net = network(len(shape))
    logits = net(torch.randn(3, 1, *shape), torch.rand(3, CLASSES, *shape))
    assert logits.shape == (3, 1)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_an_item_is_judged_by_itself():
    """No batch norm: what else is in the batch makes no difference, in training mode either."""
    net = network()
    image, segmentation = torch.randn(3, 1, 8, 8), torch.rand(3, CLASSES, 8, 8)
    torch.testing.assert_close(net(image, segmentation)[:1], net(image[:1], segmentation[:1]))
    assert not any(isinstance(m, (nn.BatchNorm2d, nn.Dropout)) for m in net.modules())


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_learns_which_label_map_is_the_images(spatial_dims):
    """Both halves of the batch have the same label maps: the image alone tells which."""
    torch.manual_seed(0)
    net = network(spatial_dims)
    image = torch.randn(4, 1, *[8] * spatial_dims).sign()
    label = F.one_hot((image[:, 0] > 0).long(), CLASSES).movedim(-1, 1).float()
    images, labels = image.repeat(2, *[1] * (spatial_dims + 1)), torch.cat([label, label.roll(1, dims=0)])
    target = torch.tensor([1.0, 0.0]).repeat_interleave(4)[:, None]
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(net(images, labels), target).backward()
        optimizer.step()
    assert ((net(images, labels) > 0) == target.bool()).all()


def test_autocast_and_meta_tensors():
    net = network()
    image, segmentation = torch.randn(2, 1, 8, 8), torch.rand(2, CLASSES, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(MetaTensor(image), MetaTensor(segmentation))
    assert logits.dtype == torch.float32
    assert type(logits) is torch.Tensor
    torch.testing.assert_close(logits, net(image, segmentation), atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, y: (x, y[:, :1]),
            r"segmentation must be \[B, C, \*S\] = \(2, 2, 8, 8\) .*, got \(2, 1, 8, 8\): make",
        ),
        (lambda x, y: (x, y.repeat(2, 1, 1, 1)), "join the sample axis with the batch axis, each image repeated"),
        (lambda x, y: (x[..., :3], y[..., :3]), "2 halvings need at least 4 voxels along each axis"),
    ],
)
def test_rejects_inputs(change, message):
    with pytest.raises(ValueError, match=message):
        network()(*change(torch.randn(2, 1, 8, 8), torch.rand(2, CLASSES, 8, 8)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 1, 2), "spatial_dims must be 2 or 3, got 4"),
        ((2, 0, 2), "in_channels must be at least 1, got 0"),
        ((2, 1, 1), "counts the background and must be at least 2, got 1"),
        ((2, 1, 2, ()), "channels must be one or more positive integers"),
    ],
)
def test_rejects_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        RefinementDiscriminator(*arguments)
