# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from distance_options import with_distance
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine
from torch import distributed, multiprocessing

from monai_stochseg.metrics import (
    GeneralizedEnergyDistanceMetric,
    LabelMapDistance,
    compute_generalized_energy_distance,
    compute_pairwise_distance,
)

NAN = float("nan")


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


# d(A, B) = 1 - 1/3, d(A, empty) = d(B, empty) = 1
A, B, EMPTY = [0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]

S, T, SWITCH = [4, 1, 1], [0, 2, 2], {"num_classes": 5, "empty": "ignore"}


@pytest.mark.parametrize(
    ("y_pred", "y", "options", "expected"),
    [
        (maps(A), maps(A), {}, 0),
        (maps(A), maps(B), {}, 2 * 2 / 3),
        (maps(A), maps(B), {"overlap": "dice"}, 2 * 1 / 2),
        (maps(A), maps(EMPTY), {}, 2),
        (maps(EMPTY), maps(EMPTY, EMPTY), {}, 0),
        (maps(EMPTY), maps(EMPTY, EMPTY), {"empty": "ignore"}, NAN),
        (maps(A), maps(A, EMPTY), {"empty": "ignore"}, NAN),  # the pair of EMPTY with itself
        # a miss, of EMPTY with itself too: 2 - 1 - 1; 2 (0 + 1) / 2 - 0 - (0 + 1 + 1 + 1) / 4, where "agree" has 1/2
        (maps(EMPTY), maps(EMPTY, EMPTY), {"empty": "miss"}, 0),
        (maps(A), maps(A, EMPTY), {"empty": "miss"}, 1 / 4),
        (maps(EMPTY), maps(A), {"empty": "miss"}, 2 - 1),
        # 2 (0 + 2/3) / 2 - 0 - (2/3) / 2
        (maps(A), maps(A, B), {}, 1 / 3),
        # 2 (0 + 2/3 + 1 + 1) / 4 - 1/2 - 1/3
        (maps(A, EMPTY), maps(A, B), {}, 4 / 3 - 1 / 2 - 1 / 3),
        # without self-pairs: 4/3 - 1 - 2/3, negative
        (maps(A, EMPTY), maps(A, B), {"self_pairs": False}, 4 / 3 - 1 - 2 / 3),
        # ... the undefined pair of EMPTY with itself is one of them
        (maps(A, EMPTY), maps(A, B), {"self_pairs": False, "empty": "ignore"}, 4 / 3 - 1 - 2 / 3),
        # 2 (3/4 * 2/3) - 2 (1/4 3/4) 2/3
        (maps(A), maps(A, B), {"y_weights": [[0.25, 0.75]]}, 1 - 1 / 4),
        # the known truth {A: 3/4, B: 1/4}: itself, A alone: 2 (1/4 2/3) - 2 (3/4 1/4) 2/3
        (maps(A, B), maps(A, B), {"y_weights": [[0.75, 0.25]], "y_pred_weights": [[0.75, 0.25]]}, 0),
        (maps(A), maps(A, B), {"y_weights": [[0.75, 0.25]]}, 1 / 3 - 1 / 4),
        # class 1 may be 2: the modes of a truth, one of them drawn; 3 is in neither and 4 does not count
        (maps(S), maps(S, T), {"classes": (1, 2), "y_weights": [[0.75, 0.25]], **SWITCH}, 1 / 8),
        (maps(S), maps(S, T), {"classes": (1, 2, 3), "y_weights": [[0.75, 0.25]], **SWITCH}, 1 / 8),
        (maps(S), maps(S, T), {"classes": (1, 2, 3), "num_classes": 5}, (1 - 1 / 2) * 2 / 3),
        (maps([4, 1, 0]), maps([0, 1, 255], [0, 2, 255]), {"classes": (1, 2), "ignore_index": 255, **SWITCH}, 1 / 2),
        # only one map has a weight: E d(y, y') without self-pairs is undefined
        (maps(A, B), maps(A, B), {"self_pairs": False, "y_weights": [[1.0, 0.0]]}, NAN),
    ],
)
@pytest.mark.filterwarnings("error")
def test_by_hand(y_pred: torch.Tensor, y: torch.Tensor, options: dict, expected: float) -> None:
    options = {name: torch.tensor(v) if name.endswith("weights") else v for name, v in options.items()}
    ged = compute_generalized_energy_distance(y_pred, y, **with_distance({"num_classes": 2, **options}))
    assert ged.shape == (1,)
    torch.testing.assert_close(ged.item(), float(expected), equal_nan=True, rtol=0, atol=1e-6)


@pytest.mark.parametrize("missing", [EMPTY, [255] * 4, [7] * 4])
@pytest.mark.parametrize("self_pairs", [True, False])
def test_a_map_of_weight_zero_is_not_looked_at(missing: list[int], self_pairs: bool) -> None:
    distance = LabelMapDistance(2, empty="ignore", ignore_index=255)
    options = {"distance": distance, "self_pairs": self_pairs}
    weights = torch.tensor([[0.5, 0.5, 0.0]])
    expected = compute_generalized_energy_distance(maps(A, B), maps(A, A), **options)
    ged = compute_generalized_energy_distance(maps(A, B), maps(A, A, missing), y_weights=weights, **options)
    torch.testing.assert_close(ged, expected)
    swapped = compute_generalized_energy_distance(maps(A, A, missing), maps(A, B), y_pred_weights=weights, **options)
    torch.testing.assert_close(swapped, expected)


@pytest.fixture
def sets() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(4, (2, 5, 6, 5, 4)), torch.randint(4, (2, 3, 6, 5, 4))


@pytest.mark.parametrize("self_pairs", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("overlap", ["iou", "dice"])
def test_equals_the_definition(
    sets: tuple[torch.Tensor, torch.Tensor], self_pairs: bool, weighted: bool, overlap: str
) -> None:
    p, q = (torch.rand(s.shape[:2]).softmax(1) if weighted else torch.full(s.shape[:2], 1 / s.shape[1]) for s in sets)

    distance = LabelMapDistance(4, overlap=overlap)

    def mean(x: torch.Tensor, u: torch.Tensor, y: torch.Tensor, v: torch.Tensor, all_pairs: bool) -> float:
        total = weight = 0.0
        for i in range(len(x)):
            for j in range(len(y)):
                if all_pairs or i != j:
                    pair = compute_pairwise_distance(x[None, [i]], y[None, [j]], distance=distance)
                    total += float(u[i] * v[j] * pair)
                    weight += float(u[i] * v[j])
        return total / weight

    expected = [
        2 * mean(s, u, r, v, True) - mean(s, u, s, u, self_pairs) - mean(r, v, r, v, self_pairs)
        for s, r, u, v in zip(*sets, p, q, strict=True)
    ]
    ged = compute_generalized_energy_distance(
        *sets,
        distance=distance,
        self_pairs=self_pairs,
        y_pred_weights=p if weighted else None,
        y_weights=q if weighted else None,
    )
    torch.testing.assert_close(ged, torch.tensor(expected), rtol=0, atol=1e-6)


def test_identities(sets: tuple[torch.Tensor, torch.Tensor]) -> None:
    def ged(x: torch.Tensor, y: torch.Tensor, **options: torch.Tensor) -> torch.Tensor:
        return compute_generalized_energy_distance(x, y, distance=4, **options)

    s, r = sets
    expected = ged(s, r)
    assert (expected > 0).all()
    torch.testing.assert_close(ged(s, s), torch.zeros(2))
    torch.testing.assert_close(ged(r, s), expected)
    torch.testing.assert_close(ged(s[:, torch.randperm(5)], r.flip(1)), expected)
    torch.testing.assert_close(ged(s.repeat_interleave(3, dim=1), r), expected)
    times = torch.tensor([1, 3, 2, 1, 1])
    torch.testing.assert_close(
        ged(s, r, y_pred_weights=(times / times.sum()).expand(2, 5)), ged(s.repeat_interleave(times, dim=1), r)
    )


def test_the_unbiased_estimator_has_the_right_mean() -> None:
    """Samples and raters of one distribution: 0 on average, which the estimator with self-pairs is not."""
    draws = torch.randint(2, (400, 4, 1, 1, 2))
    options = {"distance": LabelMapDistance(2, include_background=True)}
    unbiased = compute_generalized_energy_distance(draws[:, :2], draws[:, 2:], self_pairs=False, **options)
    biased = compute_generalized_energy_distance(draws[:, :2], draws[:, 2:], **options)
    assert unbiased.mean().abs() < 4 * unbiased.std() / 20
    assert biased.mean() > 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y_weights": [[0.5, -0.4]]}, "y_weights must be .* one weight for each map"),
        ({"y_weights": [[0.0, 0.0]]}, "y_weights must be .* one weight for each map"),
        ({"y_pred_weights": [[1.5, -0.5]]}, "y_pred_weights must be .* one weight for each map"),
        ({"y_pred_weights": [[NAN, 1.0]]}, "y_pred_weights must be .* one weight for each map"),
        ({"y_weights": [[1.0]]}, "y_weights must be .* one weight for each map"),
        ({"num_classes": 1}, "num_classes .* at least 2, got 1"),
        ({"overlap": "hausdorff"}, "hausdorff"),
        ({"y": maps(A, [0, 0, 0, 5])}, "y has label 5"),
        ({"y_pred": maps([-2, 0, 0, 0])}, "y_pred has label -2"),
        ({"y": maps([0, 1])}, "y_pred and y must agree"),
        ({"y": maps(A), "self_pairs": False}, "at least 2 maps in y, got 1"),
        ({"y_pred": maps(A), "self_pairs": False}, "at least 2 maps in y_pred, got 1"),
    ],
)
def test_rejects(options: dict, message: str) -> None:
    options = {name: torch.tensor(v) if name.endswith("weights") else v for name, v in options.items()}
    with pytest.raises(ValueError, match=message):
        compute_generalized_energy_distance(
            **with_distance({"y_pred": maps(A, B), "y": maps(A, B), "num_classes": 2, **options}),
        )


def test_metric() -> None:
    metric = GeneralizedEnergyDistanceMetric(2)
    # a list, in which the second item has one rater more; then a batch
    values = metric([maps(A)[0], maps(A)[0]], [maps(B)[0], maps(A, B)[0]])
    torch.testing.assert_close(values, torch.tensor([[4 / 3], [1 / 3]]))
    metric(maps(A), maps(A))
    torch.testing.assert_close(metric.aggregate().item(), 5 / 9)
    torch.testing.assert_close(metric.aggregate("none"), torch.tensor([[4 / 3], [1 / 3], [0.0]]))
    metric.reset()
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    values = metric([maps(A)[0]] * 2, [maps(A, B)[0]] * 2, y_weights=weights)
    torch.testing.assert_close(values, torch.tensor([[0.0], [4 / 3]]))


def test_metric_passes_its_options_on() -> None:
    options = {"num_classes": 3, "include_background": True, "overlap": "dice", "empty": "ignore"}
    options |= {"self_pairs": False, "ignore_index": 7}
    s, r = torch.randint(3, (1, 3, 8, 8)), torch.randint(3, (1, 2, 8, 8))
    r[..., 0] = 7
    expected = compute_generalized_energy_distance(s, r, **with_distance(options))
    torch.testing.assert_close(GeneralizedEnergyDistanceMetric(**with_distance(options))(s, r), expected[:, None])


def test_undefined_items() -> None:
    metric = GeneralizedEnergyDistanceMetric(LabelMapDistance(2, empty="ignore"), get_not_nans=True)
    metric(maps(EMPTY), maps(EMPTY))
    value, not_nans = metric.aggregate()
    assert value.isnan().all()
    assert not_nans.item() == 0
    metric(maps(A), maps(B))
    value, not_nans = metric.aggregate()
    torch.testing.assert_close((value.item(), not_nans.item()), (4 / 3, 1.0))


def test_metric_rejects() -> None:
    with pytest.raises(ValueError, match="num_classes"):
        GeneralizedEnergyDistanceMetric(1)
    with pytest.raises(ValueError, match="median"):
        GeneralizedEnergyDistanceMetric(2, reduction="median")
    with pytest.raises(TypeError, match="y must be a tensor of real numbers, got None"):
        GeneralizedEnergyDistanceMetric(2)(maps(A))


def test_in_an_engine() -> None:
    batch = [{"samples": maps(A)[0], "label": maps(B)[0].float()}, {"samples": maps(A)[0], "label": maps(A, B)[0]}]
    engine = Engine(lambda _, items: items)
    handler = IgniteMetricHandler(
        metric_fn=GeneralizedEnergyDistanceMetric(2), output_transform=from_engine(["samples", "label"])
    )
    handler.attach(engine, "energy_distance")
    for _ in range(2):  # reset between epochs is the handler's
        engine.run([batch, batch[:1]])
        torch.testing.assert_close(engine.state.metrics["energy_distance"], (4 / 3 + 1 / 3 + 4 / 3) / 3)
        assert engine.state.metric_details["energy_distance"].shape == (3, 1)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    metric = GeneralizedEnergyDistanceMetric(2)
    for other in [[B], [A, EMPTY]][rank]:  # ranks differ in their number of items
        metric(maps(A), maps(other))
    torch.save(metric.aggregate(), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_over_processes(tmp_path: Path) -> None:
    # a fork need not import MONAI again
    multiprocessing.start_processes(_rank, args=(str(tmp_path),), nprocs=2, start_method="fork")
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt").item(), (4 / 3 + 0 + 2) / 3)
