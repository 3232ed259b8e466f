# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from monai_stochseg.distributions.arguments import check_arguments, check_num_classes

from .rater_labels import RaterTransformd
from .svls import spatially_varying_label_smoothing


class LabelSmoothing(Transform):
    """
    Make a label soft by label smoothing (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7):
    p (1 - alpha) + alpha / C, p being the one-hot of one rater, or the mean of the one-hots of several.

    Args:
        num_classes: number of classes C, the background included.
        alpha: share of the uniform distribution; 0 leaves p.

    Raises:
        ValueError: when there are fewer than 2 classes or alpha is outside [0, 1).
    """

    backend = (TransformBackends.TORCH,)

    @check_arguments
    def __init__(self, num_classes: int, alpha: float = 0.1) -> None:
        check_num_classes(num_classes=num_classes)
        if not 0 <= alpha < 1:
            raise ValueError(f"alpha must lie in [0, 1), got {alpha}.")
        self.num_classes = num_classes
        self.alpha = alpha

    @check_arguments
    def __call__(
        self, label: NdarrayOrTensor, rater_weights: torch.Tensor | Sequence[float] | None = None
    ) -> NdarrayOrTensor:
        """
        Make one label soft; arguments, result and errors are those of :py:class:`monai_stochseg.transforms.SVLS`.

        Args:
            label: integer classes of R raters, ``[R, *S]``, S of 2 or 3 axes.
            rater_weights: ``[R]``, or a mask, 0 where a rater is missing. None: the raters weigh the same.

        Returns:
            ``[C, *S]``, float32, summing to 1 over C.
        """
        img = convert_to_tensor(label, track_meta=get_track_meta())
        soft = spatially_varying_label_smoothing(img, self.num_classes, kernel_size=1, rater_weights=rater_weights)
        soft.mul_(1 - self.alpha).add_(self.alpha / self.num_classes)
        return convert_to_dst_type(soft, dst=img, dtype=torch.float32)[0]


class LabelSmoothingd(RaterTransformd):
    """
    Dictionary-based version of :py:class:`LabelSmoothing`.

    Args:
        keys: keys of the labels, ``[R, *S]``; each is replaced by its soft target ``[C, *S]``.
        num_classes: number of classes C, the background included.
        alpha: share of the uniform distribution.
        rater_weights_key: key of the weights of the raters, ``[R]``, or of a mask that is 0 where a rater is missing;
            they are dropped with the raters. Where the data have none, or it is None, the raters weigh the same.
        allow_missing_keys: whether a label may be absent.
    """

    backend = LabelSmoothing.backend

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        num_classes: int,
        alpha: float = 0.1,
        rater_weights_key: str | None = "rater_weights",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, LabelSmoothing(num_classes, alpha), rater_weights_key, allow_missing_keys)
