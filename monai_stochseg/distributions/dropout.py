# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.base import PredictiveDistribution, autocast_mode, full_precision
from monai_stochseg.distributions.images import check_image_axes, run_network
from monai_stochseg.distributions.noise import draw_seeds

__all__ = ["DROPOUT_LAYERS", "DropoutDistribution"]

DROPOUT_LAYERS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


class DropoutDistribution(PredictiveDistribution):
    """
    Label maps of a network with its dropout active: a sample is a forward pass, with noise of its own.

    Whatever mode the network is in, its dropout layers, and only these, are in training mode while a sample is drawn
    (batch norm keeps its running statistics), and none for the mode. The modes are then as they were before. A pass
    runs in the autocast mode in which the distribution was made.

    Args:
        network: maps images to logits ``[B, C, *S]``.
        x: image ``[B, C_in, *S]``.

    Raises:
        ValueError: when ``x`` is no image of the network.
    """

    @check_arguments
    def __init__(self, network: nn.Module, x: torch.Tensor) -> None:
        check_image_axes(x, 0)
        self._network = network
        self._x = x
        self._autocast = autocast_mode(x.device)

    @check_arguments
    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` logit maps without gradients, ``[B, n, C, *S]``; the chunks of a draw equal the whole draw."""
        samples = []
        with _modes(self._network, dropout=True), self._autocast:
            for seed in draw_seeds(n, generator):
                with _global_seed(seed, self._x.device):
                    samples.append(full_precision(run_network(self._network, self._x, "network")))
        return torch.stack(samples, dim=1)

    @torch.no_grad()
    def mode_logits(self) -> torch.Tensor:
        """The logits of the whole network, without dropout and without gradients, ``[B, C, *S]``."""
        with _modes(self._network, dropout=False), self._autocast:
            return full_precision(run_network(self._network, self._x, "network"))


@contextmanager
def _modes(network: nn.Module, dropout: bool) -> Iterator[None]:
    """All modules in evaluation mode, or all but the dropout layers; afterwards in the modes they were in."""
    before = {module: module.training for module in network.modules()}
    try:
        for module in before:
            module.training = dropout and isinstance(module, DROPOUT_LAYERS)
        yield
    finally:
        for module, training in before.items():
            module.training = training


@contextmanager
def _global_seed(seed: int, device: torch.device) -> Iterator[None]:
    """The device's global generator, which dropout reads, from a seed; afterwards in the state it was in."""
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
    else:
        module = torch.get_device_module(device)
        with torch.random.fork_rng(devices=[device], device_type=device.type), module.device(device):
            module.manual_seed(seed)
            yield
