# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor, optional_import

from monai_stochseg.distributions.arguments import check_arguments, check_at_least

from .majority_vote import MajorityVote
from .rater_labels import RaterTransformd, class_labels, present_raters

sitk, _has_sitk = optional_import("SimpleITK")
# The largest value of the type in which SimpleITK gets the labels.
_UNDECIDED = 2**16 - 1


class STAPLE(Transform):
    """
    Infer the truth from several raters by simultaneous truth and performance level estimation, with SimpleITK: for
    2 classes ``STAPLE`` (Warfield et al. 2004, https://doi.org/10.1109/TMI.2004.828354), its probability cut at 0.5;
    for more ``MultiLabelSTAPLE`` (Rohlfing et al. 2004, https://doi.org/10.1109/TMI.2004.830803).

    A voxel left undecided gets the majority vote. So do all voxels when the raters agree on one class for the whole
    image, from which no performance can be estimated.

    Args:
        num_classes: number of classes C, the background included.
        max_iterations: largest number of steps of expectation and maximization.

    Raises:
        ImportError: when SimpleITK is not installed.
        ValueError: when there are fewer than 2 classes or ``max_iterations`` is below 1.
    """

    backend = (TransformBackends.NUMPY,)

    @check_arguments
    def __init__(self, num_classes: int, max_iterations: int = 1000) -> None:
        if not _has_sitk:
            raise ImportError('STAPLE needs SimpleITK: pip install "monai_stochseg[staple]".')
        check_at_least(1, max_iterations=max_iterations)
        self.vote = MajorityVote(num_classes)
        self.num_classes = num_classes
        self.max_iterations = max_iterations

    @check_arguments
    def __call__(
        self, label: NdarrayOrTensor, rater_mask: torch.Tensor | Sequence[float] | None = None
    ) -> NdarrayOrTensor:
        """
        Infer the truth of one label; errors are those of :py:class:`monai_stochseg.transforms.SVLS`.

        Args:
            label: integer classes of R raters, ``[R, *S]``, S of 2 or 3 axes.
            rater_mask: ``[R]``, positive where a rater is present; the weights are estimated. None: all are present.

        Returns:
            ``[1, *S]``, of the label's type, with its metadata and applied operations.
        """
        img = convert_to_tensor(label, track_meta=get_track_meta())
        labels = class_labels(present_raters(img, rater_mask, "rater_mask")[0], self.num_classes)
        raters = [sitk.GetImageFromArray(rater) for rater in labels.cpu().numpy().astype(np.uint16)]
        if self.num_classes == 2:
            p = sitk.GetArrayFromImage(sitk.STAPLE(raters, 1.0, 1, self.max_iterations))
            truth = np.select([p > 0.5, p < 0.5], [1, 0], _UNDECIDED)  # NaN is neither
        else:
            image = sitk.MultiLabelSTAPLE(raters, _UNDECIDED, 1e-5, self.max_iterations)
            truth = sitk.GetArrayFromImage(image)
        vote = torch.as_tensor(self.vote(labels)).cpu().numpy()
        return convert_to_dst_type(np.where(truth == _UNDECIDED, vote, truth), dst=img)[0]


class STAPLEd(RaterTransformd):
    """
    Dictionary-based version of :py:class:`STAPLE`.

    Args:
        keys: keys of the labels, ``[R, *S]``; each is replaced by its truth, ``[1, *S]``.
        num_classes: number of classes C, the background included.
        max_iterations: largest number of steps of expectation and maximization.
        rater_mask_key: key of the mask of the raters, ``[R]``, 0 where one is missing. None: all are present.
        allow_missing_keys: whether a label may be absent.
    """

    backend = STAPLE.backend

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        num_classes: int,
        max_iterations: int = 1000,
        rater_mask_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, STAPLE(num_classes, max_iterations), rater_mask_key, allow_missing_keys)
