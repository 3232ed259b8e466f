# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import pytest
import torch
from monai.data import MetaTensor

from monai_stochseg.transforms.fix_rater import FixRater, FixRaterd

LABEL = torch.arange(4)[:, None, None].expand(-1, 2, 3)
NAMES = [f"image_{i}" for i in range(400)]


def kept(names: list[str], weights: object = None, seed: int = 0) -> list[int]:
    return [int(FixRater(seed)(LABEL, name, weights)[0, 0, 0]) for name in names]


def case(file: str = "/data/image_0.nii.gz", **others: object) -> dict[str, object]:
    return {"image": MetaTensor(torch.zeros(1, 2, 3), meta={"filename_or_obj": file}), "label": LABEL, **others}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [(None, [0.25] * 4), ([1, 0, 1, 1], [1 / 3, 0, 1 / 3, 1 / 3]), ([0.1, 0.0, 0.9, 0.0], [0.1, 0, 0.9, 0])],
)
def test_over_images_by_weight_and_never_a_missing_one(weights, expected):
    counts = Counter(kept(NAMES, weights))
    assert [counts[i] / 400 for i in range(4)] == pytest.approx(expected, abs=0.08)
    assert all(counts[i] == 0 for i, p in enumerate(expected) if p == 0)


def test_a_function_of_seed_and_name():
    """Whatever the order; known by value, so that another run, or machine, has the same readers."""
    assert kept(NAMES[::-1]) == kept(NAMES)[::-1]
    assert kept(NAMES[:8]) == [3, 1, 3, 1, 0, 2, 2, 3]
    assert kept(NAMES, seed=1) != kept(NAMES)


def test_keeps_axis_type_and_metadata():
    label = MetaTensor(LABEL.to(torch.uint8), affine=torch.eye(4) * 3)
    one = FixRater()(label, "a")
    assert one.shape == (1, 2, 3)
    assert one.dtype == torch.uint8
    assert torch.equal(one.affine, label.affine)


def test_dictionary_keeps_one_rater_for_all_keys():
    transform = FixRaterd(("label", "other", "absent"), allow_missing_keys=True)
    for name in NAMES[:20]:
        result = transform(case(f"/a/{name}", other=LABEL + 10))
        assert torch.equal(result["label"] + 10, result["other"])
        assert torch.equal(result["label"], transform(case(f"/b/{name}"))["label"])  # wherever the folder lies
        assert int(result["label"][0, 0, 0]) == kept([name])[0]
    assert transform({"image": 1}) == {"image": 1}


def test_the_weights_of_a_case_are_used_and_removed():
    result = FixRaterd("label")(case(rater_weights=torch.tensor([0.0, 0.0, 1.0, 0.0])))
    assert set(result) == {"image", "label"}
    assert int(result["label"][0, 0, 0]) == 2


def test_refuses():
    with pytest.raises(ValueError, match="at least one rater"):
        FixRater()(LABEL[:0], "a")
    for image in (torch.zeros(1, 2, 3), MetaTensor(torch.zeros(1, 2, 3)), None):
        with pytest.raises(ValueError, match="image_key: 'image' must be a MetaTensor with its file name"):
            FixRaterd("label")({"label": LABEL, "image": image})
