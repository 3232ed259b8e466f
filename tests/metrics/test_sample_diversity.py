# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from distance_options import with_distance
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine

from monai_stochseg.metrics import (
    LabelMapDistance,
    SampleDiversityMetric,
    compute_generalized_energy_distance,
    compute_pairwise_distance,
    compute_sample_diversity,
)

NAN = float("nan")


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


# d(A, B) = 1 - 1/3, d(A, empty) = d(B, empty) = 1
A, B, EMPTY = [0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("y_pred", "options", "expected"),
    [
        (maps(A), {}, 0),
        (maps(A, B), {}, 1 / 3),
        (maps(A, B), {"self_pairs": False}, 2 / 3),
        (maps(A, B), {"overlap": "dice"}, 1 / 4),
        (maps(A, B, EMPTY), {}, 2 * (2 / 3 + 1 + 1) / 9),
        (maps(A, B, EMPTY), {"self_pairs": False}, (2 / 3 + 1 + 1) / 3),
        (maps(EMPTY, EMPTY), {}, 0),
        (maps(EMPTY, EMPTY), {"empty": "ignore"}, NAN),
        (maps(A, B, EMPTY), {"empty": "ignore"}, NAN),
        (maps(A, B, EMPTY), {"empty": "ignore", "self_pairs": False}, (2 / 3 + 1 + 1) / 3),
        (maps(A, B, EMPTY), {"empty": "ignore", "y_pred_weights": [[0.5, 0.5, 0.0]]}, 1 / 3),
        (maps(A, B), {"y_pred_weights": [[0.25, 0.75]]}, 2 * 3 / 16 * 2 / 3),
        (maps(A, B), {"y_pred_weights": [[0.25, 0.75]], "self_pairs": False}, 2 / 3),
        (maps(A, B), {"y_pred_weights": [[1.0, 0.0]], "self_pairs": False}, NAN),
        (maps([0, 9, 1, 0], B), {"ignore_index": 9, "self_pairs": False}, 1 / 2),
    ],
)
def test_by_hand(y_pred: torch.Tensor, options: dict, expected: float) -> None:
    options = {name: torch.tensor(v) if name.endswith("weights") else v for name, v in options.items()}
    diversity = compute_sample_diversity(y_pred, **with_distance({"num_classes": 2, **options}))
    assert diversity.shape == (1,)
    torch.testing.assert_close(diversity.item(), float(expected), equal_nan=True, rtol=0, atol=1e-6)


def test_is_a_term_of_the_energy_distance() -> None:
    s, r = torch.randint(4, (2, 5, 6, 5, 4)), torch.randint(4, (2, 3, 6, 5, 4))
    cross = compute_pairwise_distance(s, r, distance=4).mean(dim=(1, 2))
    parts = 2 * cross - compute_sample_diversity(s, distance=4) - compute_sample_diversity(r, distance=4)
    torch.testing.assert_close(parts, compute_generalized_energy_distance(s, r, distance=4))


def test_metric_takes_one_set() -> None:
    metric = SampleDiversityMetric(LabelMapDistance(2, empty="ignore"), self_pairs=False)
    values = metric([maps(A, B)[0], maps(EMPTY, EMPTY)[0], maps(A, B, EMPTY)[0]])
    torch.testing.assert_close(values, torch.tensor([[2 / 3], [NAN], [8 / 9]]), equal_nan=True)
    torch.testing.assert_close(metric.aggregate().item(), 7 / 9)
    values = metric(maps(A, B, EMPTY), y_pred_weights=torch.tensor([[0.5, 0.5, 0.0]]))
    torch.testing.assert_close(values, torch.tensor([[2 / 3]]))


def test_in_an_engine() -> None:
    engine = Engine(lambda _, items: items)
    for key in ("samples", "label"):
        IgniteMetricHandler(
            metric_fn=SampleDiversityMetric(2),
            output_transform=lambda output, key=key: (from_engine(key)(output), None),
        ).attach(engine, f"{key}_diversity")
    engine.run([[{"samples": maps(A, B)[0], "label": maps(A)[0]}, {"samples": maps(A)[0], "label": maps(A, A)[0]}]])
    torch.testing.assert_close(engine.state.metrics["samples_diversity"], 1 / 6)
    assert engine.state.metrics["label_diversity"] == 0


def test_rejects() -> None:
    with pytest.raises(ValueError, match="at least 2 maps in y_pred, got 1"):
        compute_sample_diversity(maps(A), distance=2, self_pairs=False)
    with pytest.raises(ValueError, match="y_pred_weights must be"):
        compute_sample_diversity(maps(A), distance=2, y_pred_weights=torch.tensor([[0.0]]))
    with pytest.raises(ValueError, match="y_pred has label 3"):
        compute_sample_diversity(maps(EMPTY, [1, 1, 1, 3]), distance=2)
    with pytest.raises(ValueError, match="num_classes"):
        SampleDiversityMetric(0)
    with pytest.raises(
        ValueError,
        match="y must be None, for SampleDiversityMetric judges one set of maps: call it",
    ):
        SampleDiversityMetric(2)(maps(A), maps(A))
