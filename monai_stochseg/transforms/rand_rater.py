# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Randomizable, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from monai_stochseg.distributions.arguments import check_arguments, naming

from .rater_labels import RATER_WEIGHTS, check_label, present_raters, weights_in


class RandRater(Randomizable, Transform):
    """Draw one rater of a label, each in proportion to its weight, and so never a missing one."""

    backend = (TransformBackends.TORCH,)

    def __init__(self) -> None:
        self.rater = 0

    def randomize(self, weights: torch.Tensor) -> None:
        """Draw one of the raters whose weights, ``[R']``, are positive."""
        p = weights.double().cpu().numpy()
        self.rater = int(self.R.choice(len(p), p=p / p.sum()))

    @check_arguments
    def __call__(
        self,
        label: NdarrayOrTensor,
        rater_weights: torch.Tensor | Sequence[float] | None = None,
        randomize: bool = True,
    ) -> NdarrayOrTensor:
        """
        Draw from one label.

        Args:
            label: ``[R, *S]``, S of 2 or 3 axes.
            rater_weights: ``[R]``, at least 0, one of them positive; or a mask, 0 where a rater is missing. None: the
                raters are drawn alike.
            randomize: False takes the rater that was drawn last.

        Returns:
            ``[1, *S]``, of the label's type, with its metadata and applied operations.

        Raises:
            ValueError: when there is no rater, a label is no integer, the weights do not fit, or the last drawn rater
                is not in this label.
        """
        img = convert_to_tensor(label, track_meta=get_track_meta())
        labels, weights = present_raters(img, rater_weights)
        check_label(labels)
        if randomize:
            self.randomize(weights)
        if self.rater >= len(labels):
            raise ValueError(f"rater {self.rater} was drawn, but label has only {len(labels)}: give all labels alike.")
        return convert_to_dst_type(labels[self.rater : self.rater + 1], dst=img)[0]


class RandRaterd(Randomizable, MapTransform):
    """
    Dictionary-based version of :py:class:`RandRater`: one rater is drawn for all keys.

    Args:
        keys: keys of the labels, ``[R, *S]``, of the same raters; each is replaced by that of one rater, ``[1, *S]``.
        rater_weights_key: key of the weights of the raters, ``[R]``, or of a mask that is 0 where a rater is missing.
            It is removed, for the rater drawn counts alone. A case without ``"rater_weights"``, the default, and None:
            the raters are drawn alike.
        allow_missing_keys: whether a label may be absent.
    """

    backend = RandRater.backend

    @check_arguments
    def __init__(
        self, keys: KeysCollection, rater_weights_key: str | None = RATER_WEIGHTS, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.rater_weights_key = rater_weights_key
        self.rand_rater = RandRater()

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandRaterd:
        """Set the seed or the state that raters are drawn from."""
        self.rand_rater.set_random_state(seed, state)
        return self

    @check_arguments
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw one rater for the labels of ``keys``; raises as :py:class:`RandRater`."""
        d = dict(data)
        weights = weights_in(d, self.rater_weights_key)
        first = self.first_key(d)
        for key in self.key_iterator(d):
            with naming(key, self.rater_weights_key):
                d[key] = self.rand_rater(d[key], weights, randomize=key == first)
        if first in d:
            d.pop(self.rater_weights_key, None)
        return d
