# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
import torch
from given import Given
from monai.transforms import Compose

from monai_stochseg.bundle import label_target
from monai_stochseg.tasks.answer_metrics import drop_empty_raters
from monai_stochseg.transforms import SVLS

LABEL = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
LABEL[:, 2:] = 1
ONE_HOT = torch.cat([LABEL == 0, LABEL == 1]).float()
OTHER = torch.zeros_like(LABEL)
OTHER[:, 3:] = 1
RATERS = torch.cat([LABEL, OTHER, LABEL, LABEL])


def target_of(target: str, num_raters: int = 4, nonempty: bool = False, **options: Any) -> Compose:
    task = Given([], ["background", "organ"], num_raters=num_raters)
    task.nonempty_raters = nonempty
    return label_target(task, target, **options)


@pytest.mark.parametrize(
    ("target", "label", "expected"),
    [
        ("onehot", LABEL, ONE_HOT),
        ("ls", LABEL, 0.8 * ONE_HOT + 0.1),
        ("svls", LABEL, SVLS(2)(LABEL)),
        ("one", RATERS, ONE_HOT),
        ("moh", RATERS, 0.75 * ONE_HOT + 0.25 * torch.cat([OTHER == 0, OTHER == 1])),
        ("msvls", RATERS, SVLS(2)(RATERS)),
    ],
)
def test_target(target, label, expected) -> None:
    found = target_of(target, alpha=0.2)({"label": label})["label"].as_tensor()
    torch.testing.assert_close(found, expected)


def test_all_draws_a_rater() -> None:
    transform = target_of("all").set_random_state(0)
    drawn = torch.stack([transform({"label": RATERS})["label"].as_tensor()[0, 2, 0, 0] for _ in range(100)])
    assert set(drawn.tolist()) == {0.0, 1.0}
    assert 0.1 < drawn.mean() < 0.4


@pytest.mark.parametrize(("target", "raters"), [("one", RATERS[:1]), ("moh", RATERS), ("msvls", RATERS)])
def test_an_empty_rater_is_missing_or_says_background(target, raters) -> None:
    label = torch.cat([torch.zeros_like(LABEL), RATERS])
    missing, background = (
        target_of(target, nonempty=nonempty)({"label": label})["label"] for nonempty in (True, False)
    )
    torch.testing.assert_close(missing, target_of(target)({"label": raters})["label"])
    assert (background[1] <= missing[1]).all()
    assert (background[1] < missing[1]).any()


def test_all_draws_no_empty_rater() -> None:
    transform = target_of("all", nonempty=True).set_random_state(0)
    label = torch.cat([torch.zeros_like(LABEL), LABEL])
    for _ in range(20):
        assert transform({"label": label})["label"][1].any()


@pytest.mark.parametrize("target", ["one", "all", "moh", "msvls"])
def test_a_rater_of_weight_0_is_missing(target) -> None:
    """And nothing is left to weigh: the target is none of several raters."""
    transform = target_of(target).set_random_state(0)
    case = {"label": torch.cat([OTHER, LABEL]), "rater_weights": torch.tensor([0.0, 1.0])}
    expected = SVLS(2)(LABEL) if target == "msvls" else ONE_HOT
    for _ in range(5):
        found = transform(case)
        torch.testing.assert_close(found["label"].as_tensor(), expected)
        assert "rater_weights" not in found


def test_where_no_rater_drew_all_remain() -> None:
    assert drop_empty_raters(torch.zeros(4, 2, 2, 2, dtype=torch.uint8)).shape == (4, 2, 2, 2)


def test_svls_takes_sigma_and_kernel_size() -> None:
    smoothed = target_of("svls", sigma=2.0, kernel_size=5)({"label": LABEL})["label"]
    torch.testing.assert_close(smoothed.as_tensor(), SVLS(2, 2.0, 5)(LABEL).as_tensor())


def test_refuses_another_target() -> None:
    with pytest.raises(ValueError, match="target must be one of onehot, ls, svls, one, all, moh, msvls, got 'hard'"):
        target_of("hard")


@pytest.mark.parametrize("target", ["all", "moh", "msvls"])
def test_refuses_a_single_rater(target) -> None:
    with pytest.raises(ValueError, match=f"target '{target}' needs several raters, but the cases of task Given have 1"):
        target_of(target, num_raters=1)
    target_of("one", num_raters=1)
