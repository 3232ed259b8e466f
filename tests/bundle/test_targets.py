# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
import torch
from bundle_runs import first_cause
from given import Given
from monai.transforms import Compose

from monai_stochseg.bundle import label_target, rater_cases
from monai_stochseg.data import CaseError
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


@pytest.mark.parametrize(("raters", "expected"), [(1, OTHER), ([1], OTHER), ([0, 1], None), ([1, 0], None)])
def test_one_rater_or_a_pair_teaches(raters, expected) -> None:
    """The mean of the pair's one-hots, or the one-hot of the rater."""
    found = target_of("moh", raters=raters)({"label": RATERS})["label"].as_tensor()
    other = torch.cat([OTHER == 0, OTHER == 1]).float()
    torch.testing.assert_close(found, other if expected is not None else (other + ONE_HOT) / 2)


def test_the_first_of_the_chosen_is_one() -> None:
    found = target_of("one", raters=[1, 0])({"label": RATERS})["label"].as_tensor()
    torch.testing.assert_close(found, torch.cat([OTHER == 0, OTHER == 1]).float())


def test_the_chosen_who_drew_nothing_leave_the_others() -> None:
    label = torch.cat([torch.zeros_like(LABEL), LABEL, OTHER])
    found = target_of("moh", nonempty=True, raters=[0, 1])({"label": label})["label"].as_tensor()
    torch.testing.assert_close(found, ONE_HOT)


def test_a_chosen_rater_of_weight_0_is_missing() -> None:
    case = {"label": torch.cat([OTHER, LABEL, OTHER]), "rater_weights": torch.tensor([0.0, 1.0, 1.0])}
    torch.testing.assert_close(target_of("moh", raters=[0, 1])(case)["label"].as_tensor(), ONE_HOT)
    with pytest.raises(ValueError, match=r"rater \[0\] is missing from this case"), first_cause():
        target_of("moh", raters=0)(case)


@pytest.mark.parametrize("raters", [4, -1, [], [0, 0], [0, 7]])
def test_refuses_another_rater(raters) -> None:
    with pytest.raises(ValueError, match="rater must be one of the raters 0 to 3 of task Given, or several, each once"):
        target_of("msvls", raters=raters)


def test_a_rater_teaches_the_cases_that_he_drew() -> None:
    cases = [{"drawn": [1, 0]}, {"drawn": [1, 1]}, {"drawn": [1, 0]}]
    task = Given(cases, ["background", "organ"], num_raters=2)
    task.nonempty_raters = True
    assert rater_cases(task, "train", 1) == [cases[1]]
    assert (
        rater_cases(task, "train", [0, 1]) == rater_cases(task, "train", [1, 0]) == rater_cases(task, "train") == cases
    )
    task.nonempty_raters = False
    assert rater_cases(task, "train", 1) == cases  # who drew nothing says background
    unsaid = Given([{"label": "a.nii.gz"}], ["background", "organ"], num_raters=2)
    unsaid.nonempty_raters = True
    assert len(rater_cases(unsaid, "train", 1)) == 1
    alone = Given(cases[:1], ["background", "organ"], num_raters=2)
    alone.nonempty_raters = True
    with pytest.raises(CaseError, match="rater 1 drew nothing in any of the 1 cases of part 'train'"):
        rater_cases(alone, "train", 1)
