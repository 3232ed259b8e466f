# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import torch
from torch import nn

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.images import run_network


class LayerFeatures(nn.Module):
    """
    Takes a global and a dense feature map from any network by the names of its layers: the output of an inner layer,
    and the output of the network without its last layer.

    Args:
        network: maps images to ``[B, C, *S]``, such as MONAI's networks. It is changed in place, see ``final_layer``.
        global_layer: name of the layer whose output is the global feature map ``[B, G, *S']``, such as the last of the
            encoder. If the layer gives a list, its last entry is taken, which is the deepest in MONAI's encoders.
        final_layer: name of the layer that is replaced by the identity. Default: none, because the network gives
            features.

    Raises:
        ValueError: when the network has no layer of a name.

    Example::

        flexible = FlexibleUNet(in_channels=1, out_channels=2, backbone="efficientnet-b0")
        backbone = LayerFeatures(flexible, "encoder", "segmentation_head")
        segresnet = SegResNet(spatial_dims=2, init_filters=16)
        backbone = LayerFeatures(segresnet, "down_layers.3", "conv_final.2")
    """

    @check_arguments
    def __init__(self, network: nn.Module, global_layer: str, final_layer: str | None = None) -> None:
        super().__init__()
        layers = dict(network.named_modules())
        for argument, name in (("global_layer", global_layer), ("final_layer", final_layer)):
            if name is not None and (name == "" or name not in layers):
                raise ValueError(
                    f"{argument}: {type(network).__name__} has no layer {name!r}, its own are "
                    f"{[child for child, _ in network.named_children()]}."
                )
        if final_layer is not None:
            network.set_submodule(final_layer, nn.Identity())
        self.network = network
        self.global_layer = global_layer

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            x: image ``[B, C_in, *S]``.

        Returns:
            the global ``[B, G, *S']`` and the dense features ``[B, F, *S]``.

        Raises:
            RuntimeError: when the network did not run the layer.
        """
        outputs: list[Any] = []
        layer = self.network.get_submodule(self.global_layer)
        hook = layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        try:
            dense_features = run_network(self.network, x, "network")
        finally:
            hook.remove()
        if not outputs:
            raise RuntimeError(f"{type(self.network).__name__} did not run its layer {self.global_layer!r}.")
        last = outputs[-1]
        return last if isinstance(last, torch.Tensor) else last[-1], dense_features
