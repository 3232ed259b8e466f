# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import VoteEnsemble

from monai_stochseg.transforms.majority_vote import MajorityVote, MajorityVoted

# Columns: all agree, two of three, a tie of three, a tie of 1 and 2 without the first rater.
LABEL = torch.tensor([[[2, 0, 2, 0]], [[2, 1, 1, 2]], [[2, 1, 0, 1]]])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [(None, [2, 1, 0, 0]), ([0, 1, 1], [2, 1, 0, 1]), ([3, 1, 1], [2, 0, 2, 0]), ([2, 1, 1], [2, 0, 2, 0])],
)
def test_hand_counted(weights, expected):
    assert MajorityVote(3)(LABEL, weights).tolist() == [[expected]]


def test_equals_monai_where_all_raters_are_there():
    label = torch.randint(0, 4, (5, 8, 9, 10))
    assert torch.equal(MajorityVote(4)(label).as_tensor(), VoteEnsemble(4)(label[:, None]).long())


def test_dictionary_keeps_type_and_metadata():
    label = MetaTensor(LABEL.to(torch.uint8), affine=torch.eye(4) * 3)
    result = MajorityVoted("label", 3, "votes")({"label": label, "votes": [0, 1, 1]})["label"]
    assert result.dtype == torch.uint8
    assert result.tolist() == [[[2, 1, 0, 1]]]
    assert torch.equal(result.affine, label.affine)


def test_refuses():
    with pytest.raises(ValueError, match="outside the 2 classes"):
        MajorityVote(2)(LABEL)
    with pytest.raises(ValueError, match="which is not an integer"):
        MajorityVote(2)(torch.tensor([[[0, 0.5]]]))
    with pytest.raises(ValueError, match="at least one rater"):
        MajorityVote(2)(LABEL[:0])
    with pytest.raises(ValueError, match="num_classes counts the background"):
        MajorityVote(1)
