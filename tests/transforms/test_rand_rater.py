# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from monai_stochseg.transforms.rand_rater import RandRater, RandRaterd

LABEL = torch.arange(4)[:, None, None].expand(-1, 2, 3)


def draws(n: int = 400, weights: object = None) -> Counter[int]:
    transform = RandRater().set_random_state(0)
    return Counter(int(transform(LABEL, weights)[0, 0, 0]) for _ in range(n))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [(None, [0.25] * 4), ([1, 0, 1, 1], [1 / 3, 0, 1 / 3, 1 / 3]), ([0.1, 0.0, 0.9, 0.0], [0.1, 0, 0.9, 0])],
)
def test_draws_by_weight_and_never_a_missing_one(weights, expected):
    counts = draws(weights=weights)
    assert [counts[i] / 400 for i in range(4)] == pytest.approx(expected, abs=0.08)
    assert all(counts[i] == 0 for i, p in enumerate(expected) if p == 0)


def test_replays_from_its_seed():
    assert draws(20) == draws(20)


def test_keeps_axis_type_and_metadata():
    label = MetaTensor(LABEL.to(torch.uint8), affine=torch.eye(4) * 3)
    drawn = RandRater()(label)
    assert drawn.shape == (1, 2, 3)
    assert drawn.dtype == torch.uint8
    assert torch.equal(drawn.affine, label.affine)


def test_dictionary_draws_one_rater_for_all_keys():
    data = {"label": LABEL, "other": LABEL + 10, "mask": torch.tensor([True, False, True, True])}
    pipeline = Compose([RandRaterd(("label", "other"), "mask")]).set_random_state(0)
    seen = set()
    for _ in range(40):
        result = pipeline(data)
        assert torch.equal(result["label"] + 10, result["other"])
        seen.add(int(result["label"][0, 0, 0]))
    assert seen == {0, 2, 3}
    first = [RandRaterd("label").set_random_state(3)(data)["label"].tolist() for _ in range(2)]
    assert first[0] == first[1]


def test_the_weights_of_a_case_are_used_and_removed():
    transform = RandRaterd("label").set_random_state(0)
    data = {"label": LABEL, "rater_weights": torch.tensor([0.0, 0.0, 1.0, 0.0])}
    for _ in range(10):
        result = transform(data)
        assert set(result) == {"label"}
        assert int(result["label"][0, 0, 0]) == 2
    with pytest.raises(KeyError, match="weights"):
        RandRaterd("label", "weights")(data)


def test_missing_keys():
    transform = RandRaterd(("absent", "label"), allow_missing_keys=True).set_random_state(0)
    assert len({int(transform({"label": LABEL})["label"][0, 0, 0]) for _ in range(40)}) == 4
    assert transform({"image": 1}) == {"image": 1}


def test_refuses():
    with pytest.raises(ValueError, match="at least one rater"):
        RandRater()(LABEL[:0])
    with pytest.raises(ValueError, match=r"rater_weights must be \[1, 4\], one weight for each map"):
        RandRater()(LABEL, [0, 0, 0, 0])
    draw = RandRater()
    draw.rater = 3
    with pytest.raises(ValueError, match="rater 3 was drawn, but label has only 2"):
        draw(LABEL[:2], randomize=False)
