# SPDX-License-Identifier: Apache-2.0
"""What every predictive distribution offers, and what their files share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

from monai_stochseg.distributions.arguments import check_arguments, check_at_least
from monai_stochseg.distributions.geometry import Geometry
from monai_stochseg.distributions.label_maps import LabelMaps, add_samples, empty_label_maps

# Of a class that cannot be: its softmax is exactly 0, in the range of float16 too.
IMPOSSIBLE_LOGIT = -1e4


class PredictiveDistribution(ABC):
    """What every network's ``predictive(x)`` returns: a distribution over label maps, sampled as logits.

    ``weights`` holds the samples' weights ``[B, n]``, each row summing to 1, or None where samples weigh the same.
    ``geometry`` is that of the image, where it is known; samples and the mode are MetaTensors with it then.
    """

    weights: torch.Tensor | None = None
    geometry: Geometry | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("sample_logits", "mode_logits"):
            if name in vars(cls):
                setattr(cls, name, _with_geometry(vars(cls)[name]))

    @abstractmethod
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` logit maps, shape ``[B, n, C, *S]``, without gradients."""

    @check_arguments
    @torch.no_grad()
    def label_maps(
        self, n: int, generator: torch.Generator | None = None, chunk_size: int = 1, with_entropy: bool = False
    ) -> LabelMaps:
        """
        Draw ``n`` label maps in chunks, so that memory grows by one byte per voxel and sample and not by C floats.

        Args:
            n: number of samples, those of :py:meth:`sample_logits`.
            generator: source of the noise; the default is PyTorch's global one.
            chunk_size: samples held as logits at a time. A distribution whose samples carry weights is drawn whole.
            with_entropy: whether to give the mean of the samples' entropies too.

        Returns:
            the most probable classes, uint8 ``[B, n, *S]``, the samples' mean softmax ``[B, C, *S]`` and, where asked,
            the mean entropy of their softmax in nats ``[B, 1, *S]``: means by ``weights`` where there are some.

        Raises:
            ValueError: when ``n`` or ``chunk_size`` is below 1, or there are more than 256 classes.
        """
        check_at_least(1, n=n, chunk_size=chunk_size)
        if self.weights is not None:
            chunk_size = n
        logits = plain(self.sample_logits(min(chunk_size, n), generator))
        labels, probabilities = empty_label_maps(logits, n)
        entropy = torch.zeros_like(probabilities[:, :1]) if with_entropy else None
        add_samples(logits, labels[:, :chunk_size], probabilities, self.weights, entropy)
        for start in range(chunk_size, n, chunk_size):
            del logits  # before the next are made
            logits = plain(self.sample_logits(min(chunk_size, n - start), generator))
            add_samples(logits, labels[:, start : start + chunk_size], probabilities, self.weights, entropy)
        if self.weights is None:
            probabilities, entropy = probabilities / n, None if entropy is None else entropy / n
        return LabelMaps(labels, probabilities, entropy)

    def given_weights(self, generator: torch.Generator | None = None) -> PredictiveDistribution:
        """
        The distribution given one draw of the network's weights, where these are random: what its samples differ in is
        aleatoric, and what the distributions of several draws differ in is epistemic.

        Args:
            generator: source of the draw; the default is PyTorch's global one.

        Raises:
            TypeError: when the network's weights are not random.
        """
        raise TypeError(
            f"{type(self).__name__} has no random weights, of which a draw could be given: use a network that has "
            "them, such as BayesianProbabilisticUNet."
        )

    @abstractmethod
    def mode_logits(self) -> torch.Tensor:
        """The logits of the single most representative answer, shape ``[B, C, *S]``."""


def _with_geometry(method: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @wraps(method)
    def call(self: PredictiveDistribution, *args: Any, **kwargs: Any) -> torch.Tensor:
        logits = method(self, *args, **kwargs)
        return logits if self.geometry is None else self.geometry.attach(plain(logits))

    return call


def plain(x: torch.Tensor) -> torch.Tensor:
    """A MetaTensor's tensor: arithmetic on it is several times faster."""
    return x.as_tensor() if hasattr(x, "as_tensor") else x


def autocast_mode(device: torch.device) -> torch.autocast:
    """The autocast mode that a device is in, for a network that runs later, when samples are drawn."""
    if not isinstance(device, torch.device):
        raise TypeError(f"device must be a torch.device, got {device!r:.60}.")
    kind = device.type
    return torch.autocast(kind, dtype=torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind))


def full_precision(x: torch.Tensor) -> torch.Tensor:
    """``x`` as a plain tensor, in float32 where it was in half precision."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x must be a tensor, got {type(x).__name__}.")
    x = plain(x)
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
