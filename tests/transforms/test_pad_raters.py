# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor, list_data_collate

from monai_stochseg.transforms import PadRatersd


@pytest.mark.parametrize("raters", [1, 3, 4])
def test_added_raters_are_background_of_weight_0(raters) -> None:
    label = MetaTensor(torch.ones(raters, 4, 4, dtype=torch.uint8), affine=torch.eye(4) * 2)
    case = PadRatersd("label", 4)({"label": label, "patient": "p1"})
    assert case["patient"] == "p1"
    assert case["label"].shape == (4, 4, 4)
    assert case["label"].dtype == torch.uint8
    assert torch.equal(case["label"].affine, label.affine)
    assert torch.equal(case["label"][:raters].as_tensor(), label.as_tensor())
    assert not case["label"][raters:].any()
    assert case["rater_weights"].tolist() == [1] * raters + [0] * (4 - raters)
    assert case["rater_weights"].dtype == torch.float32


def test_weights_that_are_there_are_kept() -> None:
    case = PadRatersd("label", 3)({"label": torch.ones(2, 4, 4), "rater_weights": [0.9, 0.0]})
    torch.testing.assert_close(case["rater_weights"], torch.tensor([0.9, 0.0, 0.0]))


def test_cases_of_different_raters_share_a_batch() -> None:
    pad = PadRatersd("label", 3)
    batch = list_data_collate([pad({"label": torch.ones(raters, 4, 4)}) for raters in (1, 3)])
    assert batch["label"].shape == (2, 3, 4, 4)
    assert batch["rater_weights"].tolist() == [[1, 0, 0], [1, 1, 1]]


def test_several_labels_share_their_weights() -> None:
    case = PadRatersd(["label", "other"], 3)({"label": torch.ones(2, 4, 4), "other": torch.ones(2, 8, 8)})
    assert case["other"].shape == (3, 8, 8)
    assert case["rater_weights"].tolist() == [1, 1, 0]


def test_a_label_may_be_absent() -> None:
    assert PadRatersd("label", 2, allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError, match="label"):
        PadRatersd("label", 2)({"image": 1})


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="num_raters must be at least 1, got 0"):
        PadRatersd("label", 0)
    with pytest.raises(ValueError, match="label has 3 raters, more than num_raters=2"):
        PadRatersd("label", 2)({"label": torch.ones(3, 4, 4)})
