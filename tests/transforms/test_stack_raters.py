# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_stochseg.data.case import CaseError
from monai_stochseg.transforms.stack_raters import StackRatersd
from monai_stochseg.transforms.svls import SVLSd

KEYS = ["a", "b", "c"]


def case(affine: float = 2.0) -> dict[str, MetaTensor]:
    metas = [MetaTensor(torch.full((1, 4, 5), float(i)), affine=torch.eye(4) * affine) for i in range(3)]
    return dict(zip(KEYS, metas, strict=True)) | {"patient": "p1"}


@pytest.mark.parametrize("make", [np.array, torch.tensor, lambda x: MetaTensor(torch.tensor(x))])
def test_stacks_in_order(make):
    data = {key: make([[[i, i]]]) for i, key in enumerate(KEYS)}
    result = StackRatersd(KEYS)(data)
    assert type(result["label"]) is type(data["a"])
    assert result["label"].tolist() == [[[0, 0]], [[1, 1]], [[2, 2]]]
    assert set(result) == {*KEYS, "label"}


def test_metadata_and_weights():
    result = StackRatersd(KEYS, "raters", rater_weights_key="known")(case())
    assert torch.equal(result["raters"].affine, torch.eye(4, dtype=torch.float64) * 2)
    assert result["known"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("missing", ["a", "b"])
def test_a_missing_rater_is_not_background(missing):
    data = case()
    del data[missing]
    result = StackRatersd(KEYS, rater_weights_key="known", allow_missing_keys=True)(data)
    assert result["label"].shape == (3, 4, 5)
    assert result["known"].tolist() == [float(key != missing) for key in KEYS]
    assert missing not in result
    soft = SVLSd("label", 3, rater_weights_key="known")(result)["label"]
    assert soft[:, 0, 0].tolist() == [0.5 * (key != missing) for key in KEYS]


def test_where_raters_may_be_absent_the_weights_have_the_name_that_batches_know():
    data = case()
    assert StackRatersd(KEYS, allow_missing_keys=True)(data)["rater_weights"].tolist() == [1, 1, 1]
    del data["b"]
    assert StackRatersd(KEYS, allow_missing_keys=True)(data)["rater_weights"].tolist() == [1, 0, 1]


def test_the_result_may_take_the_place_of_a_rater():
    result = StackRatersd(KEYS, "a", rater_weights_key="known", allow_missing_keys=True)({"b": case()["b"]})
    assert result["a"].shape == (3, 4, 5)
    assert set(result) == {"a", "b", "known"}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"b": torch.zeros(1, 4, 6)}, CaseError, r"patient p1: b has shape \(4, 6\), but a has \(4, 5\)"),
        ({"b": case(3.0)["b"]}, CaseError, "patient p1: b has affine"),
        (
            {"b": torch.zeros(2, 4, 5)},
            CaseError,
            r"patient p1: the label of b \(no file\) must be \[1, .*got .*\(2, 4, 5\)",
        ),
    ],
)
def test_refuses_data(change, error, message):
    with pytest.raises(error, match=message):
        StackRatersd(KEYS)(case() | change)


def test_names_the_file_of_a_label_with_channels():
    label = MetaTensor(torch.zeros(3, 4, 5), meta={"filename_or_obj": "p1/b.nii.gz"})
    with pytest.raises(CaseError, match=r"patient p1: the label of b \(p1/b.nii.gz\) must be .*; give each rater"):
        StackRatersd(KEYS)(case() | {"b": label})


def test_refuses_missing_raters():
    with pytest.raises(KeyError, match="d"):
        StackRatersd([*KEYS, "d"])(case())
    with pytest.raises(CaseError, match=r"patient p1: there is no rater: none of the keys \['a', 'b', 'c'\]"):
        StackRatersd(KEYS, rater_weights_key="known", allow_missing_keys=True)({"patient": "p1"})
