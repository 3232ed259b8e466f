# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from distance_options import with_distance
from torch import distributed, multiprocessing

from monai_stochseg.distributions import with_weights
from monai_stochseg.metrics import (
    LabelMapDistance,
    ModeFrequencyMetric,
    compute_mode_frequency,
    compute_pairwise_distance,
)
from monai_stochseg.transforms import class_switch_modes

NAN = float("nan")


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


# Class 1 may become 2; the last two voxels are of class 3.
A, B = [1, 1, 3, 3], [2, 2, 3, 3]
NEAR_A, NEAR_B, BETWEEN = [1, 1, 0, 0], [0, 2, 1, 1], [0, 0, 3, 3]
SWITCH = {"num_classes": 4, "classes": (1, 2)}
_KEPT = ((1, 2, 3), (2, 3, 1))


@pytest.mark.parametrize(
    ("y_pred", "y", "options", "expected"),
    [
        (maps(A), maps(A, B), {}, [[1, 0], [1 / 2, 1 / 2]]),
        (maps(NEAR_B, A, NEAR_A, B), maps(A, B), {}, [[1 / 2, 1 / 2]] * 2),
        (maps(NEAR_B, A), maps(A, B), {"y_weights": [[0.75, 0.25]]}, [[1 / 2, 1 / 2], [3 / 4, 1 / 4]]),
        (maps(NEAR_B, A), maps(A, B), {"y_pred_weights": [[0.9, 0.1]]}, [[0.1, 0.9], [1 / 2, 1 / 2]]),
        # A map of weight 0 is not looked at; a mode of probability 0 is one.
        (maps([9] * 4, B), maps(A, B), {"y_pred_weights": [[0.0, 1.0]]}, [[0, 1], [1 / 2, 1 / 2]]),
        (maps(B, A), maps(A, B), {"y_weights": [[1.0, 0.0]]}, [[1 / 2, 1 / 2], [1, 0]]),
        # As far from one as from the other: the first.
        (maps(BETWEEN), maps(B, A), {}, [[1, 0], [1 / 2, 1 / 2]]),
        (maps(BETWEEN), maps(B, A), {"empty": "ignore"}, [[1, 0], [1 / 2, 1 / 2]]),
        # Modes that coincide are the first one, for the samples and for the truth.
        (maps(A, A, A, B), maps(B, A, B, A), {}, [[1 / 4, 3 / 4, 0, 0], [1 / 2, 1 / 2, 0, 0]]),
        # A mode without the classes and a sample without are the same.
        (maps(BETWEEN), maps(A, [0, 0, 3, 0]), {"empty": "ignore"}, [[0, 1], [1 / 2, 1 / 2]]),
        # All modes coincide: in the classes that count, or at all.
        (maps(A, B), maps(A, [1, 1, 0, 0]), {}, [[NAN, NAN]] * 2),
        (maps(A, B), maps(BETWEEN, BETWEEN), {"empty": "ignore"}, [[NAN, NAN]] * 2),
        # Voxel 0 is void.
        (maps([2, 1, 3, 3]), maps([255, 1, 3, 3], [255, 2, 3, 3]), {"ignore_index": 255}, [[1, 0], [1 / 2, 1 / 2]]),
        # By the background and class 3, of which the first is nearer.
        (maps(NEAR_A), maps(A, [1, 0, 0, 0]), {"classes": (0, 3)}, [[0, 1], [1 / 2, 1 / 2]]),
    ],
)
def test_by_hand(y_pred: torch.Tensor, y: torch.Tensor, options: dict, expected: list) -> None:
    options = {name: torch.tensor(v) if name.endswith("weights") else v for name, v in options.items()}
    value = compute_mode_frequency(y_pred, y, **with_distance({**SWITCH, **options}))
    torch.testing.assert_close(value, torch.tensor(expected)[None].float(), equal_nan=True)


def test_samples_of_the_truth_have_its_frequencies() -> None:
    switches = {1: (4, 0.25), 2: (5, 0.5), 3: (6, 0.125)}
    label = torch.randint(4, (1, 12, 12))
    modes, probabilities = class_switch_modes(label, switches, 7)
    draws = probabilities.multinomial(64, replacement=True)
    options = {"distance": LabelMapDistance(7, classes=range(1, 7), empty="ignore")}
    share, truth = compute_mode_frequency(modes[None, draws], modes[None], **options, y_weights=probabilities[None])[0]
    torch.testing.assert_close(share, draws.bincount(minlength=8) / 64)
    torch.testing.assert_close(truth, probabilities)
    # Without class 2 in the image its switch makes no difference: modes with it are those without.
    modes, probabilities = class_switch_modes(label.where(label != 2, 0), switches, 7)
    both = compute_mode_frequency(
        modes[None], modes[None], **options, y_pred_weights=probabilities[None], y_weights=probabilities[None]
    )
    pairs = probabilities.reshape(2, 2, 2).sum(1, keepdim=True)
    torch.testing.assert_close(both, torch.cat([pairs, torch.zeros(2, 1, 2)], dim=1).flatten().expand(1, 2, 8))


def test_order_and_repeats_of_samples_do_not_matter() -> None:
    s, m = torch.randint(4, (2, 6, 5, 5)), torch.randint(4, (2, 3, 5, 5))
    expected = compute_mode_frequency(s, m, distance=4)
    torch.testing.assert_close(compute_mode_frequency(s.flip(1), m, distance=4), expected)
    torch.testing.assert_close(compute_mode_frequency(s.repeat(1, 2, 1, 1), m, distance=4), expected)
    torch.testing.assert_close(expected.sum(2), torch.ones(2, 2))


def test_equal_distances_are_equal_up_to_rounding() -> None:
    """Modes that keep 1, 2, 3 and 2, 3, 1 of the five voxels of each class: 4/5, 3/5, 2/5 in another order."""
    sample = [c for c in (1, 2, 3) for _ in range(5)]
    modes = [[c if i < n else 0 for c, n in zip((1, 2, 3), kept, strict=True) for i in range(5)] for kept in _KEPT]
    distance = compute_pairwise_distance(maps(sample), maps(*modes), distance=4)[0, 0]
    assert distance[1] < distance[0] < distance[1] + 1e-6
    value = compute_mode_frequency(maps(sample), maps(*modes), 4)
    torch.testing.assert_close(value[0, 0], torch.tensor([1.0, 0.0]))


def test_metric() -> None:
    metric = ModeFrequencyMetric(2, LabelMapDistance(**SWITCH))
    pairs = [with_weights(maps(A, B)[0], torch.tensor([0.75, 0.25]))] * 2
    metric([maps(A)[0], maps(A, B)[0]], pairs)  # (1, 0) and (1/2, 1/2)
    metric(maps(A), maps(A, A))  # says nothing
    torch.testing.assert_close(metric.frequencies(), torch.tensor([[0.75, 0.25]] * 2))
    assert metric.aggregate().item() == pytest.approx(0)
    metric(maps(B), maps(A, B), y_weights=torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(metric.frequencies(), torch.tensor([[0.5, 0.5], [0.75, 0.25]]))
    assert metric.aggregate().item() == pytest.approx(0.25)
    assert metric.names == ["frequency_0", "frequency_1", "probability_0", "probability_1"]
    metric.reset()
    metric(maps(A), maps(A, A))
    assert metric.aggregate().isnan()


def test_metric_passes_its_options_on() -> None:
    options = {"num_classes": 4, "overlap": "dice", "empty": "ignore", "ignore_index": 7}
    s, m = torch.randint(4, (1, 20, 4, 4)), torch.randint(4, (1, 5, 4, 4))
    m[..., 0] = 7
    for kwargs in ({**options, "include_background": True}, {**options, "classes": (0, 2)}):
        expected = compute_mode_frequency(s, m, **with_distance(kwargs))
        torch.testing.assert_close(ModeFrequencyMetric(5, **with_distance(kwargs))(s, m), expected.flatten(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y_weights": torch.tensor([[0.5, -0.4]])}, "y_weights must be .* one weight for each map"),
        ({"y_pred_weights": torch.tensor([[1.5, -0.5]])}, "y_pred_weights must be .* one weight for each map"),
        ({"y": maps(A, [0, 0, 0, 5])}, "y has label 5"),
        ({"classes": (1, 4)}, "classes must be different ones of the 4 classes"),
    ],
)
def test_rejects(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_mode_frequency(**with_distance({"y_pred": maps(A, B), "y": maps(A, B), **SWITCH, **options}))


def test_metric_rejects() -> None:
    with pytest.raises(ValueError, match="num_modes must be at least 2, got 1"):
        ModeFrequencyMetric(1, 4)
    with pytest.raises(ValueError, match="y must have the num_modes=3 modes of each item, got 2"):
        ModeFrequencyMetric(3, 4)(maps(A), maps(A, B))


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    metric = ModeFrequencyMetric(2, LabelMapDistance(**SWITCH))
    for sample in [[A], [A, B]][rank]:  # ranks differ in their number of items
        metric(maps(sample), maps(A, B))
    torch.save((metric.frequencies(), metric.aggregate()), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_over_processes(tmp_path: Path) -> None:
    multiprocessing.start_processes(_rank, args=(str(tmp_path),), nprocs=2, start_method="fork")
    for rank in range(2):
        frequencies, distance = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(frequencies, torch.tensor([[2 / 3, 1 / 3], [1 / 2, 1 / 2]]))
        torch.testing.assert_close(distance.item(), 1 / 6)
