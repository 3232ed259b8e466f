# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.quasirandom import SobolEngine

from monai_stochseg.distributions import (
    ExpertMixtureDistribution,
    ExpertSamples,
    autocast_mode,
    draw_latent,
    full_precision,
)
from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_num_classes, check_option
from monai_stochseg.distributions.expert_mixture import sample_weights
from monai_stochseg.distributions.images import check_image_axes, resolve_spatial_dims
from monai_stochseg.distributions.weights import check_probabilities
from monai_stochseg.networks.blocks import NoiseInjection, pointwise_head
from monai_stochseg.networks.blocks.latent_head import LOG_STD_BOUND, bounded_log_std
from monai_stochseg.networks.blocks.repeat import repeat_items
from monai_stochseg.networks.nets.bilinear_unet import BilinearUNet, init_orthogonal, join_skip

_REPRESENTATIONS = ("compact", "standard")
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class MixtureOfStochasticExperts(nn.Module):
    """
    Mixture of Stochastic Experts (Gao et al. 2023, https://arxiv.org/abs/2212.07328): K experts, each a normal prior
    N(m_k, sigma_k^2 I) of a latent, and a gate that gives the probability of each expert for an image.

    The priors are learned and do not depend on the image. The gate averages a global feature map over space and runs a
    multi-layer perceptron with two hidden layers of the same width. A latent z enters the dense features u as
    ``(u + W1 z) * (W2 z)``, then a head of three 1x1 convolutions follows. The backbone runs once per image, the head
    once per sample.

    The initial means are spread evenly over a standard normal, and the initial deviations are small, so that the
    experts start out different. Deviations are bounded smoothly to [exp(-5), exp(5)].

    Args:
        backbone: any module that maps images ``[B, C_in, *S]`` to a pair, the global features
            ``[B, global_channels, *S']`` and the dense features ``[B, feature_channels, *S]``; or to one feature map,
            which is both. :py:class:`monai_stochseg.networks.blocks.LayerFeatures` makes it of a network of MONAI.
        global_channels: number of channels of the global features. None: there is no gate, and the experts are equally
            probable for every image, the paper's ablation.
        feature_channels: number of channels of the dense features.
        out_channels: number of classes C, the background included.
        num_experts: number of experts K.
        num_samples: number of samples S of each expert, in training and in the compact representation.
        latent_dim: length L of the latent.
        spatial_dims: 2 or 3. Default: that of the backbone's convolutions.
        representation: of :py:meth:`predictive`. ``"compact"``: S samples of every expert, of weight pi_k / S each;
            ``"standard"``: samples of equal weight, each of an expert drawn from pi.
        prior_std: initial deviation of every expert. If the priors overlap at first, the experts take longer to
            separate. 0: deterministic experts, whose latents are their means, the paper's ablation; all samples of an
            expert are alike then, so that one is enough.
        head: what reads the injected features, once per sample: maps features ``[B * N, feature_channels, *S']``, and
            the further tensors that the backbone returns after the dense features, repeated for each sample, to
            logits ``[B * N, C, *S]``. Default: the three 1x1 convolutions.

    Raises:
        ValueError: for num_experts, num_samples, latent_dim or numbers of channels below 1, fewer than 2 classes, other
            spatial_dims, another representation, or a prior_std beyond the bounds.

    Example::

        backbone = LayerFeatures(SegResNet(spatial_dims=2, init_filters=16), "down_layers.3", "conv_final.2")
        net = MixtureOfStochasticExperts(backbone, 128, 16, out_channels=2, spatial_dims=2)
        logits, weights, num_experts = net(image)  # [B, 16, 2, *S], [B, 16], 4
        samples = net.predictive(image).sample_logits(16).argmax(2)  # [B, 16, *S]
    """

    @check_arguments
    def __init__(
        self,
        backbone: nn.Module,
        global_channels: int | None,
        feature_channels: int,
        out_channels: int,
        num_experts: int = 4,
        num_samples: int = 4,
        latent_dim: int = 1,
        spatial_dims: int | None = None,
        representation: str = "compact",
        prior_std: float = 0.1,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_at_least(1, num_experts=num_experts, num_samples=num_samples)
        check_num_classes(out_channels=out_channels)
        self.spatial_dims = resolve_spatial_dims(spatial_dims, backbone, "backbone")
        if prior_std != 0 and not abs(math.log(prior_std) if prior_std > 0 else math.inf) < LOG_STD_BOUND:
            raise ValueError(f"prior_std must be 0 or lie between exp(-5) and exp(5), got {prior_std}.")
        self.backbone = backbone
        self.global_channels = global_channels
        self.feature_channels = feature_channels
        self.num_experts = num_experts
        self.num_samples = num_samples
        self.representation = check_option("representation", representation, _REPRESENTATIONS)
        self.injection = NoiseInjection(feature_channels, latent_dim)
        self.head = _pointwise_head(self.spatial_dims, feature_channels, out_channels) if head is None else head
        self.gating = None if global_channels is None else _gating(global_channels, num_experts)
        self.prior_mean = nn.Parameter(_spread_means(num_experts, latent_dim))
        if prior_std == 0:
            self.register_buffer("raw_log_std", None)
        else:
            start = LOG_STD_BOUND * math.atanh(math.log(prior_std) / LOG_STD_BOUND)
            self.raw_log_std = nn.Parameter(torch.full((num_experts,), start))

    @check_arguments
    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> ExpertSamples:
        """
        A training step: S latents of every expert, with gradients to the priors.

        Args:
            x: image ``[B, C_in, *S]``.
            generator: source of the noise; the default is PyTorch's global one.

        Returns:
            logits ``[B, K * S, C, *S]``, all samples of the first expert first, and their weights pi_k / S.
        """
        global_features, *dense = self._features(x)
        mean = self.prior_mean.repeat_interleave(self.num_samples, dim=0).expand(len(x), -1, -1)
        log_std = self.prior_log_std().repeat_interleave(self.num_samples)[:, None]
        logits = self.decode(dense, draw_latent(mean, log_std, generator))
        return ExpertSamples(logits, sample_weights(self._gate(global_features), self.num_samples), self.num_experts)

    def prior_log_std(self) -> torch.Tensor:
        """Log of the experts' deviations sigma, ``[K]``; minus infinity for deterministic experts."""
        if self.raw_log_std is None:
            return self.prior_mean.new_full((self.num_experts,), -math.inf)
        return bounded_log_std(self.raw_log_std)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """The probabilities of the experts ``[B, K]`` for an image ``[B, C_in, *S]``."""
        return self._gate(self._features(x)[0])

    @check_arguments
    def predictive(self, x: torch.Tensor, gate: torch.Tensor | None = None) -> ExpertMixtureDistribution:
        """
        The predictive distribution of an image.

        With an inferer of windows the representation must be ``"standard"``: a sample has one noise in all windows, and
        so one expert wherever their gates agree. Give the whole image's gate to have one expert in all of them.

        Args:
            x: image ``[B, C_in, *S]``.
            gate: probabilities of the experts, ``[B, K]``. Default: those that the network finds in ``x``.
        """
        global_features, *dense = self._features(x)
        if gate is not None:
            check_probabilities("gate", gate, (len(x), self.num_experts), "[B, K] for x")
        autocast = autocast_mode(global_features.device)

        def decode(latent: torch.Tensor) -> torch.Tensor:
            with autocast:
                return self.decode(dense, latent[:, None])[:, 0]

        return ExpertMixtureDistribution(
            self._gate(global_features) if gate is None else gate.to(self.prior_mean),
            self.prior_mean,
            self.prior_log_std(),
            decode,
            self.num_samples if self.representation == "compact" else None,
        )

    def gate_and_features(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The probabilities of the experts ``[B, K]``, and the dense features that :py:meth:`decode` takes."""
        global_features, *dense = self._features(x)
        return self._gate(global_features), dense

    def _features(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The backbone's global features, the dense features, and what else the head takes."""
        check_image_axes(x, self.spatial_dims)
        features = self.backbone(full_precision(x))
        if isinstance(features, torch.Tensor):
            features = (features, features)
        elif not isinstance(features, Sequence) or len(features) < 2:
            raise TypeError(f"backbone must return one feature map or a pair, got {type(features).__name__}.")
        global_features, dense, *rest = features
        for name, value, expected in (
            ("global_channels", global_features, self.global_channels),
            ("feature_channels", dense, self.feature_channels),
        ):
            if expected is not None and value.shape[1] != expected:
                raise ValueError(f"the backbone gave {value.shape[1]} channels, {name}={expected}.")
        return global_features, dense, *rest

    def _gate(self, global_features: torch.Tensor) -> torch.Tensor:
        if self.gating is None:
            return self.prior_mean.new_full((global_features.shape[0], self.num_experts), 1 / self.num_experts)
        with torch.autocast(global_features.device.type, enabled=False):
            probabilities: torch.Tensor = self.gating(full_precision(global_features).flatten(2).mean(2)).softmax(1)
            return probabilities

    def decode(self, dense: Sequence[torch.Tensor], latents: torch.Tensor) -> torch.Tensor:
        """
        The logits of given latents.

        Args:
            dense: features of :py:meth:`gate_and_features`.
            latents: ``[B, N, L]``.

        Returns:
            ``[B, N, C, *S]``.
        """
        features, *rest = dense
        batch, n = latents.shape[:2]
        # convolutions of one voxel run several times faster on it
        features = features.contiguous(memory_format=_CHANNELS_LAST[features.dim()])
        logits = self.head(self.injection(features, latents), *(repeat_items(x, n) for x in rest))
        return full_precision(logits).unflatten(0, (batch, n))


class MixtureOfStochasticExpertsUNet(MixtureOfStochasticExperts):
    """
    :py:class:`MixtureOfStochasticExperts` on the paper's U-Net: seven levels of three convolutions with batch norm and
    ReLU, the gate at the encoder's end and the latent at the decoder's.

    Levels count the decoder's blocks that have run: 0 is the encoder's end, ``len(channels) - 1`` or -1 the decoder's.
    The encoder's own are ``"encoder_0"``, of full resolution, to ``"encoder_<len(channels) - 1>"``, its end. Where the
    latent enters before the decoder's end, the blocks after it run once per sample.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of classes C, the background included.
        channels: number of channels of each level.
        num_experts: number of experts K.
        num_samples: number of samples S of each expert, in training and in the compact representation.
        latent_dim: length L of the latent.
        gating_level: level of the features that the gate reads, no later than ``injection_level``. None: there is no
            gate, and the experts are equally probable.
        injection_level: level of the features that the latent enters.
        norm: normalisation in the U-Net, by MONAI's name and options.
        representation: ``"compact"`` or ``"standard"``, see :py:class:`MixtureOfStochasticExperts`.
        prior_std: initial deviation of every expert; 0 for deterministic ones.

    Raises:
        ValueError: for num_experts, num_samples, latent_dim or numbers of channels below 1, fewer than 2 classes, other
            spatial_dims, another representation, a prior_std beyond the bounds, a level that the U-Net does not have,
            or a gate after the injection.

    Example::

        net = MixtureOfStochasticExpertsUNet(spatial_dims=2, in_channels=1, out_channels=2)
        loss = OptimalTransportLoss(cost="iou")(net(image), label)  # label [B, raters, *S]
        samples = net.predictive(image).sample_logits(16).argmax(2)  # [B, 16, *S]
    """

    @check_arguments
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (32, 64, 128, 192, 192, 192, 192),
        num_experts: int = 4,
        num_samples: int = 4,
        latent_dim: int = 1,
        gating_level: int | str | None = 0,
        injection_level: int = -1,
        norm: str | tuple | None = "BATCH",
        representation: str = "compact",
        prior_std: float = 0.1,
    ) -> None:
        unet = BilinearUNet(spatial_dims, in_channels, None, channels, norm)
        widths = list(reversed(channels))
        injection_level = _decoder_level("injection_level", injection_level, len(widths))
        # of the trunk's levels: the encoder's from full resolution to its end, then the decoder's
        gate = None if gating_level is None else _trunk_level(gating_level, len(widths))
        if gate is not None and gate - len(widths) + 1 > injection_level:
            raise ValueError(
                f"gating_level must not lie after injection_level, got {gating_level} and {injection_level}: the gate "
                "sees no latent."
            )
        super().__init__(
            _Trunk(unet, gate, injection_level),
            None if gate is None else [*channels, *widths[1:]][gate],
            widths[injection_level],
            out_channels,
            num_experts,
            num_samples,
            latent_dim,
            spatial_dims,
            representation,
            prior_std,
            _Crown(unet, injection_level, _pointwise_head(spatial_dims, channels[0], out_channels)),
        )


class _Trunk(nn.Module):
    """A U-Net up to the level of injection: the features of the gate's level and of this one, and the unused skips."""

    def __init__(self, unet: BilinearUNet, gate: int | None, injection_level: int) -> None:
        super().__init__()
        self.encoder = unet.encoder
        self.blocks = unet.blocks[:injection_level]
        self.mode = unet.mode
        self.gate = -1 if gate is None else gate

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        levels = list(self.encoder(x))
        skips = levels[:-1]
        for block in self.blocks:
            levels.append(block(join_skip(levels[-1], skips.pop(), self.mode)))
        return [levels[self.gate], levels[-1], *reversed(skips)]


class _Crown(nn.Module):
    """The blocks of a U-Net after the level of injection, and a head."""

    def __init__(self, unet: BilinearUNet, injection_level: int, head: nn.Module) -> None:
        super().__init__()
        self.blocks = unet.blocks[injection_level:]
        self.mode = unet.mode
        self.head = head

    def forward(self, x: torch.Tensor, *skips: torch.Tensor) -> torch.Tensor:
        for block, skip in zip(self.blocks, skips, strict=True):
            x = block(join_skip(x, skip, self.mode))
        logits: torch.Tensor = self.head(x)
        return logits


def _decoder_level(name: str, level: int, levels: int) -> int:
    """A level of the decoder, counted from the encoder's end."""
    if not -levels <= level < levels:
        raise ValueError(f"{name} must lie in [{-levels}, {levels - 1}], got {level}.")
    return level % levels


def _trunk_level(gating_level: int | str, levels: int) -> int:
    """The gate's level, counted from the encoder's first."""
    if isinstance(gating_level, int):
        return _decoder_level("gating_level", gating_level, levels) + levels - 1
    names = [f"encoder_{i}" for i in range(levels)]
    return names.index(check_option("gating_level", gating_level, names))


def _gating(global_channels: int, num_experts: int) -> nn.Sequential:
    check_at_least(1, global_channels=global_channels)
    return nn.Sequential(
        nn.Linear(global_channels, global_channels),
        nn.ReLU(),
        nn.Linear(global_channels, global_channels),
        nn.ReLU(),
        nn.Linear(global_channels, num_experts),
    )


def _pointwise_head(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
    return pointwise_head(spatial_dims, in_channels, out_channels).apply(init_orthogonal)


def _spread_means(num_experts: int, latent_dim: int) -> torch.Tensor:
    """Means ``[K, L]`` that share the mass of a standard normal evenly: normal quantiles of quasi-random numbers."""
    seed = int(torch.randint(2**31, (1,)))
    uniform = SobolEngine(latent_dim, scramble=True, seed=seed).draw(num_experts)
    return torch.special.ndtri(uniform.clamp(0.01, 0.99))
