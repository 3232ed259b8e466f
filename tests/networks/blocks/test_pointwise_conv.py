# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from monai_stochseg.networks.blocks.pointwise_conv import pointwise_conv

PLAIN = {1: nn.functional.conv1d, 2: nn.functional.conv2d, 3: nn.functional.conv3d}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_value_and_gradients_are_those_of_the_plain_convolution(spatial_dims, channels_last):
    conv = pointwise_conv(spatial_dims, 3, 5)
    x = torch.randn(2, 3, *(4, 5, 6)[:spatial_dims])
    if channels_last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    x.requires_grad_()
    inputs = (x, conv.weight, conv.bias)
    expected = PLAIN[spatial_dims](*inputs)
    output = conv(x)
    assert output.shape == expected.shape
    torch.testing.assert_close(output, expected)
    towards = torch.randn_like(output)
    for own, plain in zip(
        torch.autograd.grad(output, inputs, towards), torch.autograd.grad(expected, inputs, towards), strict=True
    ):
        torch.testing.assert_close(own, plain, rtol=1e-5, atol=1e-5)


def test_parameters_are_those_of_a_convolution():
    plain = nn.Conv3d(3, 5, 1)
    conv = pointwise_conv(3, 3, 5)
    conv.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 2, 2, 2)
    torch.testing.assert_close(conv(x), plain(x))
    assert isinstance(conv, nn.Conv3d)


def test_is_scripted_and_copied():
    conv = pointwise_conv(2, 3, 5)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(torch.jit.script(conv)(x), conv(x))
    torch.testing.assert_close(copy.deepcopy(conv)(x), conv(x))
