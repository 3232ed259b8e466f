# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends

from monai_stochseg.distributions.arguments import check_arguments, naming
from monai_stochseg.distributions.probabilities import check_class_probabilities


class RegionProbability(Transform):
    """
    Probability of a structure: the sum over its classes, ``[C, *S]`` to ``[1, *S]``.

    Args:
        classes: of the structure.

    Raises:
        ValueError: if there is no class or a negative one; at a call, if ``img`` holds no probabilities, or lacks a
            class.

    Example::

        >>> RegionProbability([1, 2])(torch.tensor([0.5, 0.25, 0.25])[:, None])
        tensor([[0.5000]])
    """

    backend = (TransformBackends.TORCH,)

    @check_arguments
    def __init__(self, classes: Sequence[int]) -> None:
        if not len(classes) or min(classes) < 0:
            raise ValueError(f"classes must name one class or several, from 0, got {list(classes)}.")
        self.classes = list(classes)

    @check_arguments
    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """Probability of the structure; a MetaTensor stays one."""
        return self.sum_of(_checked(img))

    def sum_of(self, img: torch.Tensor) -> torch.Tensor:
        """As a call, of probabilities that are checked already."""
        if max(self.classes) >= len(img):
            raise ValueError(f"img must have the classes {self.classes}, got {len(img)} classes.")
        first, *others = (img[c : c + 1] for c in self.classes)  # views: no copy of the whole is made
        return sum(others, first)


class RegionProbabilityd(MapTransform):
    """
    Dictionary-based version of :py:class:`RegionProbability`, of several structures.

    Args:
        keys: key of the class probabilities.
        regions: classes by the structure's name; the result has the key ``probability_<name>``.
        allow_missing_keys: whether probabilities may be absent.

    Raises:
        ValueError: if there is no structure; see :py:class:`RegionProbability`.
    """

    backend = RegionProbability.backend

    @check_arguments
    def __init__(
        self, keys: KeysCollection, regions: Mapping[str, Sequence[int]], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not regions:
            raise ValueError("regions must name a structure with its classes, got none.")
        with naming("regions"):
            self.regions = {f"probability_{name}": RegionProbability(classes) for name, classes in regions.items()}

    @check_arguments
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the probabilities of one item."""
        d = dict(data)
        for key in self.key_iterator(d):
            with naming(key):
                probabilities = _checked(d[key])  # once for all regions
                d.update({name: region.sum_of(probabilities) for name, region in self.regions.items()})
        return d


@check_arguments
def _checked(img: torch.Tensor) -> torch.Tensor:
    """Probabilities; an error for anything else."""
    check_class_probabilities("img", img, 0, "pass the softmax of logits.")
    return img
