# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, naming

from .rater_labels import check_label, present_raters


class PadRatersd(MapTransform):
    """
    Pad labels of ``R`` raters to ``num_raters``, so that cases with different numbers of raters share a batch. The
    added raters are missing: their weight is 0, and their map is background that nobody reads.

    Args:
        keys: keys of the labels, ``[R, *S]``, of the same raters.
        num_raters: number of raters of the result.
        rater_weights_key: key to write the weights, ``[num_raters]`` float32; weights that are there already are kept
            for the first ``R`` raters.
        allow_missing_keys: whether a label may be absent.

    Raises:
        ValueError: when ``num_raters`` is below 1; at a call, when a label has more raters, or is no integers, or the
            weights do not fit.

    Example::

        >>> case = PadRatersd("label", 3)({"label": torch.ones(2, 4, 4)})
        >>> case["label"].shape[0], case["rater_weights"].tolist()
        (3, [1.0, 1.0, 0.0])
    """

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        num_raters: int,
        rater_weights_key: str = "rater_weights",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        check_at_least(1, num_raters=num_raters)
        self.num_raters = num_raters
        self.rater_weights_key = rater_weights_key

    @check_arguments
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Pad the labels of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            with naming(key, self.rater_weights_key):
                label, weights = self._rated(d[key], data.get(self.rater_weights_key))
            raters = label.shape[0]
            if raters > self.num_raters:
                raise ValueError(f"{key} has {raters} raters, more than num_raters={self.num_raters}.")
            padded = torch.cat([label, label.new_zeros(self.num_raters - raters, *label.shape[1:])])
            d[key] = convert_to_dst_type(padded, dst=d[key])[0]
            d[self.rater_weights_key] = torch.cat([weights, weights.new_zeros(self.num_raters - len(weights))])
        return d

    @staticmethod
    @check_arguments
    def _rated(
        label: NdarrayOrTensor, rater_weights: torch.Tensor | Sequence[float] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The label ``[R, *S]`` and the weights of its raters ``[R]`` float32, checked."""
        label = torch.as_tensor(label).as_subclass(torch.Tensor)
        present, _ = present_raters(label, rater_weights)
        check_label(present)
        return label, torch.ones(len(label)) if rater_weights is None else torch.as_tensor(rater_weights).float()
