# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import TransformBackends, ensure_tuple_rep

from monai_stochseg.distributions.arguments import check_arguments

_ROUNDING = 1e-3  # nats


class MutualInformationd(MapTransform):
    """
    Mutual information in nats of label and sample: predictive entropy less expected entropy, see
    :py:func:`monai_stochseg.metrics.compute_entropy_decomposition`. It is at least 0, up to rounding, which is cut.

    Args:
        keys: keys of the predictive entropy ``[1, *S]``.
        expected_keys: keys of the expected entropy ``[1, *S]``.
        names: keys of the mutual information.
        allow_missing_keys: whether a predictive entropy may be absent.

    Raises:
        TypeError: at a call, when an entropy is no tensor of real numbers.
        ValueError: at a call, when the two entropies differ in shape or are not finite, or the expected one is larger.

    Example::

        >>> item = {"entropy": torch.tensor([[0.6, 0.0]]), "expected": torch.tensor([[0.2, 0.0]])}
        >>> MutualInformationd("entropy", "expected", "information")(item)["information"]
        tensor([[0.4000, 0.0000]])
    """

    backend = (TransformBackends.TORCH,)

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        expected_keys: KeysCollection,
        names: KeysCollection,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.expected_keys = ensure_tuple_rep(expected_keys, len(self.keys))
        self.names = ensure_tuple_rep(names, len(self.keys))

    @check_arguments
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the mutual information of one item."""
        d = dict(data)
        for key, expected, name in self.key_iterator(d, self.expected_keys, self.names):
            predictive, of_samples = d[key], d[expected]
            for argument, value in ((key, predictive), (expected, of_samples)):
                if not isinstance(value, torch.Tensor) or value.is_complex():
                    raise TypeError(f"{argument} must be a tensor of real numbers, got {type(value).__name__}.")
                if not torch.isfinite(value).all():
                    raise ValueError(f"{argument} must be an entropy, got values that are NaN or infinite.")
            if predictive.shape != of_samples.shape:
                raise ValueError(
                    f"{key} and {expected} must have one shape, got {tuple(predictive.shape)} and "
                    f"{tuple(of_samples.shape)}."
                )
            difference = predictive - of_samples
            if difference.min() < -_ROUNDING:
                raise ValueError(f"{expected} must be at most {key}, of which it is a part; are the two exchanged?")
            d[name] = difference.clamp(min=0)
        return d
