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


class MajorityVote(Transform):
    """
    Take the class that most raters gave a voxel, in a tie the lowest one.

    MONAI's ``VoteEnsemble`` does the same for predictions, without weights: there a missing rater votes too.

    Args:
        num_classes: number of classes C, the background included.

    Raises:
        ValueError: when there are fewer than 2 classes.
    """

    backend = (TransformBackends.TORCH,)

    @check_arguments
    def __init__(self, num_classes: int) -> None:
        check_num_classes(num_classes=num_classes)
        self.num_classes = num_classes

    @check_arguments
    def __call__(
        self, label: NdarrayOrTensor, rater_weights: torch.Tensor | Sequence[float] | None = None
    ) -> NdarrayOrTensor:
        """
        Vote on one label; errors are those of :py:class:`monai_stochseg.transforms.SVLS`.

        Args:
            label: integer classes of R raters, ``[R, *S]``, S of 2 or 3 axes.
            rater_weights: votes of each rater, ``[R]``; or a mask, 0 where a rater is missing. None: one vote each.

        Returns:
            ``[1, *S]``, of the label's type, with its metadata and applied operations.
        """
        img = convert_to_tensor(label, track_meta=get_track_meta())
        votes = spatially_varying_label_smoothing(img, self.num_classes, kernel_size=1, rater_weights=rater_weights)
        return convert_to_dst_type(votes.argmax(0, keepdim=True), dst=img)[0]


class MajorityVoted(RaterTransformd):
    """
    Dictionary-based version of :py:class:`MajorityVote`.

    Args:
        keys: keys of the labels, ``[R, *S]``; each is replaced by its vote, ``[1, *S]``.
        num_classes: number of classes C, the background included.
        rater_weights_key: key of the votes of each rater, ``[R]``, or of a mask that is 0 where a rater is missing;
            they are dropped with the raters. Where the data have none, or it is None, one vote each.
        allow_missing_keys: whether a label may be absent.
    """

    backend = MajorityVote.backend

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        num_classes: int,
        rater_weights_key: str | None = "rater_weights",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, MajorityVote(num_classes), rater_weights_key, allow_missing_keys)
