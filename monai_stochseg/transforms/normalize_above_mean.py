# SPDX-License-Identifier: Apache-2.0
"""Normalise the intensities of a brain by those of its bright tissue."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.transforms.utils_pytorch_numpy_unification import percentile
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from monai_stochseg.distributions.arguments import check_arguments, naming


class NormalizeAboveMean(Transform):
    """
    Zero mean and unit variance, in each channel, of the voxels of a region whose value lies between two percentiles of
    the region and above the mean of the whole channel: the normalisation in the authors' code of Monteiro et al. 2020
    (https://github.com/biomedia-mira/stochastic_segmentation_networks, ``evaluation/preprocessing.py``).

    The mean of the whole channel counts the background, so that this transform comes before any crop. MONAI's
    ``NormalizeIntensity`` chooses voxels by being nonzero alone.

    Args:
        percentiles: lowest and highest, from 0 to 100; both are excluded.

    Raises:
        ValueError: when ``percentiles`` are not two ascending numbers from 0 to 100.
    """

    backend = (TransformBackends.TORCH,)

    @check_arguments
    def __init__(self, percentiles: Sequence[float] = (5.0, 95.0)) -> None:
        if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ValueError(f"percentiles must be two ascending numbers from 0 to 100, got {list(percentiles)}.")
        self.percentiles = (percentiles[0], percentiles[1])

    @check_arguments
    def __call__(self, img: NdarrayOrTensor, mask: NdarrayOrTensor) -> NdarrayOrTensor:
        """
        Normalise all voxels, those outside the region too.

        Args:
            img: ``[C, *S]``.
            mask: ``[1, *S]``, positive within the region, such as the brain.

        Returns:
            ``[C, *S]`` in float32, of the kind of ``img``.

        Raises:
            ValueError: when ``img`` has no channel, the shape of ``mask`` is not ``[1, *S]``, or the chosen voxels of a
                channel are none, or all of one value.
        """
        values = convert_to_tensor(img, track_meta=False, dtype=torch.float32)
        inside = convert_to_tensor(mask, track_meta=False) > 0
        if values.ndim < 2 or not len(values):
            raise ValueError(f"img must be [C, *S] with at least one channel, got {tuple(values.shape)}.")
        if inside.shape != (1, *values.shape[1:]):
            raise ValueError(
                f"mask must have the shape {(1, *values.shape[1:])}, got {tuple(inside.shape)} for img of "
                f"{tuple(values.shape)}."
            )
        normalised = torch.stack([self._normalise(i, channel, inside[0]) for i, channel in enumerate(values)])
        return convert_to_dst_type(normalised, dst=img, dtype=torch.float32)[0]

    def _normalise(self, index: int, channel: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        region = channel[inside]
        chosen = region
        if len(region):
            low, high = percentile(region, list(self.percentiles))
            chosen = region[(region > low) & (region < high) & (region > channel.double().mean())]
        if not len(chosen) or not (deviation := chosen.double().std(correction=0)) > 0:
            raise ValueError(
                f"img: channel {index} has no two different values within the mask that lie between the percentiles "
                f"{list(self.percentiles)} and above its mean {float(channel.double().mean()):g}; is it a scan, and "
                "the mask its brain?"
            )
        return ((channel - chosen.double().mean()) / deviation).float()


class NormalizeAboveMeand(MapTransform):
    """
    Dictionary-based version of :py:class:`NormalizeAboveMean`.

    Args:
        keys: keys of the images, ``[C, *S]``.
        mask_key: key of the region, ``[1, *S]``.
        percentiles: see :py:class:`NormalizeAboveMean`.
        allow_missing_keys: whether an image may be absent.

    Raises:
        ValueError: when ``percentiles`` are not two ascending numbers from 0 to 100.
    """

    backend = NormalizeAboveMean.backend

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str = "mask",
        percentiles: Sequence[float] = (5.0, 95.0),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.normalize = NormalizeAboveMean(percentiles)

    @check_arguments
    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Normalise the images of ``keys``; raises as :py:class:`NormalizeAboveMean`."""
        d = dict(data)
        for key in self.key_iterator(d):
            if self.mask_key not in d:
                raise KeyError(f"mask_key: the case has no {self.mask_key!r}, its keys are {list(d)}.")
            with naming(key, self.mask_key):
                d[key] = self.normalize(d[key], d[self.mask_key])
        return d
