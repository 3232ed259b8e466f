# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.networks.nets import SegResNet
from torch import nn

from monai_stochseg.networks.blocks import LayerFeatures


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 2, stride=2), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))


def test_features_of_the_layers_named():
    image, layers = torch.randn(2, 1, 6, 4), network()
    global_features, dense_features = LayerFeatures(network(), "1", "3")(image)
    torch.testing.assert_close(global_features, layers[:2](image))
    torch.testing.assert_close(dense_features, layers[:3](image))


def test_without_a_final_layer_the_network_is_as_it_was():
    image, layers = torch.randn(2, 1, 6, 4), network()
    torch.testing.assert_close(LayerFeatures(layers, "0")(image)[1], network()(image))


def test_nothing_stays_on_the_network():
    features = LayerFeatures(network(), "1", "3")
    features(torch.randn(2, 1, 6, 4))
    with pytest.raises(RuntimeError):
        features(torch.randn(2, 5, 6, 4))
    assert not any(module._forward_hooks for module in features.modules())


def test_the_last_of_a_list_is_the_deepest():
    class Levels(nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x, x[..., ::2]]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Levels()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.encoder(x)[0]

    global_features, dense_features = LayerFeatures(Net(), "encoder")(torch.randn(1, 2, 8, 8))
    assert (global_features.shape, dense_features.shape) == ((1, 2, 8, 4), (1, 2, 8, 8))


@pytest.mark.parametrize(
    ("global_layer", "final_layer", "message"),
    [
        ("encoder", None, r"global_layer: Sequential has no layer 'encoder', its own are \['0', '1', '2', '3'\]"),
        ("0", "head", "final_layer: Sequential has no layer 'head'"),
        ("", None, "global_layer: Sequential has no layer ''"),
    ],
)
def test_rejects_names(global_layer, final_layer, message):
    with pytest.raises(ValueError, match=message):
        LayerFeatures(network(), global_layer, final_layer)


def test_rejects_a_layer_that_does_not_run():
    segresnet = SegResNet(spatial_dims=2, init_filters=8, use_conv_final=False)
    with pytest.raises(RuntimeError, match=r"SegResNet did not run its layer 'conv_final\.2'"):
        LayerFeatures(segresnet, "conv_final.2")(torch.randn(1, 1, 16, 16))
