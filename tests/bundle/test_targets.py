# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.bundle import drop_empty_raters, label_target
from monai_stochseg.transforms import SVLS

LABEL = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
LABEL[:, 2:] = 1
ONE_HOT = torch.cat([LABEL == 0, LABEL == 1]).float()
RATERS = torch.cat([LABEL, 1 - LABEL, LABEL, LABEL])


@pytest.mark.parametrize(
    ("target", "label", "expected"),
    [
        ("onehot", LABEL, ONE_HOT),
        ("ls", LABEL, 0.8 * ONE_HOT + 0.1),
        ("svls", LABEL, SVLS(2)(LABEL)),
        ("one", RATERS, ONE_HOT),
        ("moh", RATERS, 0.5 * ONE_HOT + 0.25),
        ("msvls", RATERS, SVLS(2)(RATERS)),
    ],
)
def test_target(target, label, expected) -> None:
    torch.testing.assert_close(label_target(target, 2, alpha=0.2)({"label": label})["label"].as_tensor(), expected)


def test_all_draws_a_rater() -> None:
    transform = label_target("all", 2)
    transform.set_random_state(0)
    drawn = torch.stack([transform({"label": RATERS})["label"].as_tensor()[0, 0, 0, 0] for _ in range(100)])
    assert set(drawn.tolist()) == {0.0, 1.0}
    assert 0.6 < drawn.mean() < 0.9


@pytest.mark.parametrize(("target", "raters"), [("one", RATERS[:1]), ("moh", RATERS), ("msvls", RATERS)])
def test_an_empty_rater_is_missing_or_says_background(target, raters) -> None:
    label = torch.cat([torch.zeros_like(LABEL), RATERS])
    missing, background = (
        label_target(target, 2, nonempty_raters=nonempty)({"label": label})["label"] for nonempty in (True, False)
    )
    expected = label_target(target, 2)({"label": raters})["label"]
    torch.testing.assert_close(missing, expected)
    assert (background[1] <= missing[1]).all()
    assert (background[1] < missing[1]).any()


def test_all_draws_no_empty_rater() -> None:
    transform = label_target("all", 2, nonempty_raters=True).set_random_state(0)
    label = torch.cat([torch.zeros_like(LABEL), LABEL])
    for _ in range(20):
        assert transform({"label": label})["label"][1].any()


def test_where_no_rater_drew_all_remain() -> None:
    assert drop_empty_raters(torch.zeros(4, 2, 2, 2, dtype=torch.uint8)).shape == (4, 2, 2, 2)


def test_svls_takes_sigma_and_kernel_size() -> None:
    smoothed = label_target("svls", 2, sigma=2.0, kernel_size=5)({"label": LABEL})["label"]
    torch.testing.assert_close(smoothed.as_tensor(), SVLS(2, 2.0, 5)(LABEL).as_tensor())


def test_refuses_another_target() -> None:
    with pytest.raises(ValueError, match="target must be one of onehot, ls, svls, one, all, moh, msvls, got 'hard'"):
        label_target("hard", 2)
