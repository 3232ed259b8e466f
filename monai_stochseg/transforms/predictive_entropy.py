# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, ensure_tuple_rep

from monai_stochseg.distributions.arguments import check_arguments, naming
from monai_stochseg.distributions.probabilities import check_class_probabilities


class PredictiveEntropy(Transform):
    """Entropy in nats of marginal class probabilities: ``[C, *S]``, summing to 1 over C, to ``[1, *S]``."""

    backend = (TransformBackends.TORCH,)

    @check_arguments
    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """Entropy of one item; a MetaTensor stays one. ValueError when ``img`` holds no probabilities."""
        check_class_probabilities("img", img, 0, "pass the softmax of logits.")
        return torch.special.entr(img).sum(0, keepdim=True)


class PredictiveEntropyd(MapTransform):
    """
    Dictionary-based version of :py:class:`PredictiveEntropy`.

    Args:
        keys: keys of the probabilities.
        names: keys of the entropies.
        allow_missing_keys: whether probabilities may be absent.
    """

    backend = PredictiveEntropy.backend

    @check_arguments
    def __init__(self, keys: KeysCollection, names: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.names = ensure_tuple_rep(names, len(self.keys))
        self.entropy = PredictiveEntropy()

    @check_arguments
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the entropies of one item."""
        d = dict(data)
        for key, name in self.key_iterator(d, self.names):
            with naming(key):
                d[name] = self.entropy(d[key])
        return d
