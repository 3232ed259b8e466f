# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_stochseg.distributions import HypothesesDistribution
from monai_stochseg.distributions.arguments import check_arguments, check_at_least
from monai_stochseg.distributions.images import run_network
from monai_stochseg.networks.nets.bilinear_unet import BilinearUNet


class Ensemble(nn.Module):
    """
    Ensemble of networks, each trained by its own loss from its own initial weights (Lakshminarayanan et al. 2017,
    https://arxiv.org/abs/1612.01474); a sample is one member's answer.

    Args:
        members: networks that map images ``[B, C_in, *S]`` to logits ``[B, C, *S]``.

    Raises:
        ValueError: without members, or when the same network is given twice.
    """

    @check_arguments
    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(members) == 0 or len({id(member) for member in members}) < len(members):
            raise ValueError(f"members must be one or more networks, each another, got {len(members)}.")
        self.members = nn.ModuleList(members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: image ``[B, C_in, *S]``.

        Returns:
            the logits of all members, ``[B, M, C, *S]``.
        """
        if torch.jit.is_scripting():
            return torch.stack([member(x) for member in self.members], dim=1)
        return torch.stack([run_network(member, x, "members") for member in self.members], dim=1)

    def predictive(self, x: torch.Tensor) -> HypothesesDistribution:
        """The members as a distribution, of an image ``[B, C_in, *S]``: see :py:class:`HypothesesDistribution`."""
        return HypothesesDistribution(self(x))


class UNetEnsemble(Ensemble):
    """
    U-Net ensemble, a baseline of the Probabilistic U-Net's paper (Kohl et al. 2018, https://arxiv.org/abs/1806.05034):
    an :py:class:`Ensemble` of the paper's U-Nets.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of classes C, the background included.
        channels: number of channels of each level.
        num_members: number of U-Nets M. The paper has one for each sample, up to 16.
        norm: normalisation, by MONAI's name and options. Default: none.
        align_corners: see :py:class:`BilinearUNet`.

    Raises:
        ValueError: for num_members below 1, other spatial_dims, or numbers of channels that are not positive.
    """

    @check_arguments
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
        num_members: int = 4,
        norm: str | tuple | None = None,
        align_corners: bool = False,
    ) -> None:
        check_at_least(1, num_members=num_members)
        super().__init__(
            [
                BilinearUNet(spatial_dims, in_channels, out_channels, channels, norm, align_corners=align_corners)
                for _ in range(num_members)
            ]
        )
