# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import CommonKeys, ImageMetaKey, TransformBackends, convert_to_dst_type, convert_to_tensor

from monai_stochseg.distributions.arguments import check_arguments, naming

from .rater_labels import RATER_WEIGHTS, check_label, present_raters, weights_in


class FixRater(Transform):
    """
    Keep one rater of a label, the same whenever the image is seen: one annotation of each image (Gao et al. 2023,
    https://arxiv.org/abs/2212.07328; Monteiro et al. 2020, https://arxiv.org/abs/2006.06015).

    The rater is a function of the seed and the image's name alone, whatever the order of the images, the epoch and the
    process that loads. Over images, raters are taken in proportion to their weights, and so never a missing one.
    :py:class:`RandRater` draws anew each time.

    Args:
        seed: another seed takes other raters.

    Example::

        >>> label = torch.arange(4).reshape(4, 1, 1)  # the map of rater r holds r
        >>> [int(FixRater(seed)(label, "scan_7")) for seed in (0, 0, 1)]
        [3, 3, 0]
    """

    backend = (TransformBackends.TORCH,)

    @check_arguments
    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @check_arguments
    def __call__(
        self, label: NdarrayOrTensor, name: str, rater_weights: torch.Tensor | Sequence[float] | None = None
    ) -> NdarrayOrTensor:
        """
        Keep one rater.

        Args:
            label: ``[R, *S]``, S of 2 or 3 axes.
            name: of the image; all labels of one image have one rater.
            rater_weights: ``[R]``, at least 0, one of them positive; or a mask, 0 where a rater is missing. None: the
                raters are taken alike.

        Returns:
            ``[1, *S]``, of the label's type, with its metadata and applied operations.

        Raises:
            ValueError: when there is no rater, a label is no integer, or the weights do not fit.
        """
        img = convert_to_tensor(label, track_meta=get_track_meta())
        labels, weights = present_raters(img, rater_weights)
        check_label(labels)
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        share = int.from_bytes(digest[:6], "big") / 2**48  # uniform in [0, 1)
        bounds = weights.double().cumsum(0)
        rater = min(int((bounds <= share * bounds[-1]).sum()), len(labels) - 1)
        return convert_to_dst_type(labels[rater : rater + 1], dst=img)[0]


class FixRaterd(MapTransform):
    """
    Dictionary-based version of :py:class:`FixRater`: one rater is kept for all keys.

    Args:
        keys: keys of the labels, ``[R, *S]``, of the same raters; each is replaced by that of one rater, ``[1, *S]``.
        seed: another seed takes other raters.
        image_key: key of the image, a MetaTensor whose file name, without folder, names it.
        rater_weights_key: key of the weights of the raters, ``[R]``, or of a mask that is 0 where a rater is missing.
            It is removed, for the rater kept counts alone. A case without ``"rater_weights"``, the default, and None:
            the raters are taken alike.
        allow_missing_keys: whether a label may be absent.
    """

    backend = FixRater.backend

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        seed: int = 0,
        image_key: str = CommonKeys.IMAGE.value,
        rater_weights_key: str | None = RATER_WEIGHTS,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.rater_weights_key = rater_weights_key
        self.fix_rater = FixRater(seed)

    @check_arguments
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Keep one rater of the labels of ``keys``.

        Raises:
            ValueError: as :py:class:`FixRater`, and when the image has no file name in its metadata.
        """
        d = dict(data)
        weights = weights_in(d, self.rater_weights_key)
        found = list(self.key_iterator(d))
        name = self._name(d) if found else ""
        for key in found:
            with naming(key, self.rater_weights_key):
                d[key] = self.fix_rater(d[key], name, weights)
        if found:
            d.pop(self.rater_weights_key, None)
        return d

    def _name(self, data: Mapping[Hashable, Any]) -> str:
        file = getattr(data.get(self.image_key), "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ)
        if not file:
            raise ValueError(
                f"image_key: {self.image_key!r} must be a MetaTensor with its file name under "
                f"{ImageMetaKey.FILENAME_OR_OBJ!r}, as LoadImaged gives it: it chooses the rater."
            )
        return Path(str(file)).name
