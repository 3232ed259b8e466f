# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from distance_options import with_distance
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine
from torch import distributed, multiprocessing

from monai_stochseg.metrics import (
    DiversityCorrelationMetric,
    EmptyFractionCorrelationMetric,
    compute_rank_correlation,
    compute_sample_diversity,
)

NAN = math.nan
# IoU(A, B) = 1/3, IoU(A, C) = 1/2, IoU(A, EMPTY) = 0
A, B, C, EMPTY = [0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([[1, 1], [2, 4], [3, 9]], 1),
        ([[1, 9], [2, 4], [3, 1]], -1),
        ([[1, 1], [2, 3], [3, 2]], 0.5),  # 1 - 6 * 2 / (3 * 8)
        # ranks 1.5, 1.5, 3 and 1, 2, 3: covariance 1.5, variances 1.5 and 2
        ([[1, 1], [1, 2], [5, 3]], 1.5 / math.sqrt(1.5 * 2)),
        ([[0.3, 1], [0.1 + 0.2, 2], [5, 3]], 1.5 / math.sqrt(1.5 * 2)),
        ([[1, 1], [NAN, 7], [2, 4], [7, NAN], [3, 9]], 1),
        ([[1, 1], [1, 2]], NAN),
        ([[1, 1], [2, 1]], NAN),
        ([[1, 1]], NAN),
        ([[1, NAN], [NAN, 1]], NAN),
    ],
)
@pytest.mark.filterwarnings("error")
def test_by_hand(pairs: list, expected: float) -> None:
    value = compute_rank_correlation(torch.tensor(pairs, dtype=torch.float32))
    assert value.shape == ()
    torch.testing.assert_close(value.item(), float(expected), equal_nan=True, rtol=0, atol=1e-6)


def test_equal_values_are_equal_up_to_rounding() -> None:
    """0.1 + 0.2 and 0.3 share their rank: ranks 1.5, 1.5, 3 and 1, 2, 3."""
    pairs = torch.tensor([[0.1 + 0.2, 1], [0.3, 2], [5, 3]], dtype=torch.float64)
    assert pairs[0, 0] > pairs[1, 0]
    assert compute_rank_correlation(pairs).item() == pytest.approx(1.5 / math.sqrt(1.5 * 2))


def test_order_of_items_and_monotone_maps_do_not_matter() -> None:
    pairs = torch.rand(20, 2)
    value = compute_rank_correlation(pairs)
    torch.testing.assert_close(compute_rank_correlation(pairs[torch.randperm(20)]), value)
    torch.testing.assert_close(compute_rank_correlation(pairs.flip(1)), value)
    torch.testing.assert_close(compute_rank_correlation((3 * pairs).exp()), value)


def test_diversity() -> None:
    # diversities of the samples 1/3, 1/4, 1/2 and of the raters 1/4, 1/3, 1/2
    metric = DiversityCorrelationMetric(2)
    values = metric([maps(A, B)[0], maps(A, C)[0], maps(A, EMPTY)[0]], [maps(A, C)[0], maps(A, B)[0], maps(B, C)[0]])
    torch.testing.assert_close(values, torch.tensor([[1 / 3, 1 / 4], [1 / 4, 1 / 3], [1 / 2, 1 / 2]]))
    torch.testing.assert_close(metric.aggregate().item(), 0.5)
    assert len(metric.names) == 2


def test_diversity_passes_its_options_on() -> None:
    options = {"num_classes": 3, "include_background": True, "overlap": "dice", "empty": "ignore"}
    options |= {"self_pairs": False, "ignore_index": 7}
    s, r = torch.randint(3, (1, 3, 8, 8)), torch.randint(3, (1, 2, 8, 8))
    r[..., 0] = 7
    weights = {"y_pred_weights": torch.tensor([[0.2, 0.3, 0.5]]), "y_weights": torch.tensor([[0.4, 0.6]])}
    expected = [
        compute_sample_diversity(x, **with_distance(options), y_pred_weights=w)
        for x, w in zip((s, r), weights.values(), strict=True)
    ]
    values = DiversityCorrelationMetric(**with_distance(options))(s, r, **weights)
    torch.testing.assert_close(values, torch.stack(expected, dim=1))


def test_empty_fraction() -> None:
    metric = EmptyFractionCorrelationMetric()
    values = metric(
        [maps(A, EMPTY, EMPTY)[0], maps(A)[0], maps(EMPTY)[0]],
        [maps(A, EMPTY)[0], maps(B)[0], maps(A, EMPTY, EMPTY, EMPTY)[0]],
    )
    torch.testing.assert_close(values, torch.tensor([[2 / 3, 1 / 2], [0, 0], [1, 3 / 4]]))
    torch.testing.assert_close(metric.aggregate().item(), 1.0)
    weights = {"y_pred_weights": torch.tensor([[0.2, 0.8]]), "y_weights": torch.tensor([[0.4, 0.6]])}
    values = EmptyFractionCorrelationMetric(classes=(2,))(maps(A, [2] * 4), maps([2] * 4, A), **weights)
    torch.testing.assert_close(values, torch.tensor([[0.2, 0.6]]))
    assert len(metric.names) == 2


def test_rejects() -> None:
    with pytest.raises(ValueError, match=r"pairs must have shape \[items, 2\], got \(3,\)"):
        compute_rank_correlation(torch.zeros(3))
    with pytest.raises(ValueError, match="num_classes"):
        DiversityCorrelationMetric(1)
    with pytest.raises(ValueError, match=r"nothing to aggregate: call .* on at least one batch"):
        EmptyFractionCorrelationMetric().aggregate()
    with pytest.raises(ValueError, match="classes must name"):
        EmptyFractionCorrelationMetric(classes=())


def test_in_an_engine() -> None:
    batch = [
        {"samples": maps(A, EMPTY)[0], "label": maps(A, EMPTY)[0]},
        {"samples": maps(A)[0], "label": maps(B)[0]},
    ]
    engine = Engine(lambda _, items: items)
    handler = IgniteMetricHandler(
        metric_fn=EmptyFractionCorrelationMetric(), output_transform=from_engine(["samples", "label"])
    )
    handler.attach(engine, "correlation")
    for _ in range(2):
        engine.run([batch, batch[:1]])
        assert engine.state.metrics["correlation"] == pytest.approx(1)
        assert engine.state.metric_details["correlation"].shape == (3, 2)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    metric = EmptyFractionCorrelationMetric()
    # each process alone has a correlation of 1 or none at all
    for samples, raters in [[([A, EMPTY], [A])], [([A], [A, EMPTY]), ([EMPTY], [EMPTY])]][rank]:
        metric(maps(*samples), maps(*raters))
    torch.save(metric.aggregate(), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_over_processes(tmp_path: Path) -> None:
    multiprocessing.start_processes(_rank, args=(str(tmp_path),), nprocs=2, start_method="fork")
    for rank in range(2):  # 1/2, 0, 1 with 0, 1/2, 1
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt").item(), 0.5)
