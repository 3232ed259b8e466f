# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.metrics import ItemMetric, reduce_metric

NAN = float("nan")


@pytest.mark.parametrize(
    ("reduction", "values", "expected", "count"),
    [
        ("mean", [[1.0], [3.0]], 2.0, 2),
        ("mean", [[1.0], [NAN], [3.0]], 2.0, 2),
        ("mean", [[NAN], [NAN]], NAN, 0),
        ("mean", [[1.0, NAN], [NAN, NAN], [2.0, 4.0]], 2.0, 2),  # classes first, then items
        ("sum", [[1.0], [NAN], [3.0]], 4.0, 2),
        ("sum", [[NAN]], NAN, 0),
        ("mean_batch", [[1.0, NAN], [3.0, NAN]], [2.0, NAN], [2, 0]),
        ("sum_batch", [[1.0, NAN], [3.0, NAN]], [4.0, NAN], [2, 0]),
        ("mean_channel", [[1.0, 3.0], [NAN, NAN]], [2.0, NAN], [2, 0]),
        ("sum_channel", [[1.0, 3.0], [NAN, NAN]], [4.0, NAN], [2, 0]),
        ("none", [[1.0], [NAN]], [[1.0], [NAN]], [[1], [0]]),
    ],
)
def test_reduction_leaves_undefined_values_out(
    reduction: str, values: list[list[float]], expected: object, count: object
) -> None:
    given = torch.tensor(values)
    kept = given.clone()
    reduced, not_nans = reduce_metric(given, reduction)
    torch.testing.assert_close(reduced.squeeze(), torch.tensor(expected).squeeze(), equal_nan=True)
    assert not_nans.squeeze().tolist() == torch.tensor(count).squeeze().tolist()
    torch.testing.assert_close(given, kept, equal_nan=True)


def test_rejects() -> None:
    with pytest.raises(ValueError, match=r"\[B, C\], got shape \(2,\)"):
        reduce_metric(torch.zeros(2))
    with pytest.raises(ValueError, match="median"):
        reduce_metric(torch.zeros(2, 1), "median")


class _Mean(ItemMetric):
    """The mean of y_pred, scaled."""

    def _compute_tensor(
        self, y_pred: torch.Tensor, y: torch.Tensor | None = None, scale: torch.Tensor | None = None
    ) -> torch.Tensor:
        mean = y_pred.flatten(1).mean(dim=1, keepdim=True)
        return mean if scale is None else mean * scale[:, None]


def test_items_of_a_list_have_their_own_keyword_values() -> None:
    metric = _Mean()
    values = metric([torch.ones(2), torch.ones(3)], scale=torch.tensor([2.0, 4.0]))
    assert values.tolist() == [[2.0], [4.0]]
    metric(torch.full((1, 2), NAN))
    assert metric.aggregate().item() == 3.0
    assert metric.aggregate("sum").item() == 6.0
    assert metric.get_buffer().shape == (3, 1)


def test_not_nans() -> None:
    metric = _Mean(get_not_nans=True)
    metric(torch.tensor([[NAN], [2.0]]))
    value, not_nans = metric.aggregate()
    assert (value.item(), not_nans.item()) == (2.0, 1.0)


def test_metric_rejects() -> None:
    with pytest.raises(ValueError, match="median"):
        _Mean(reduction="median")
    with pytest.raises(ValueError, match="call _Mean on at least one batch"):
        _Mean().aggregate()
    with pytest.raises(ValueError, match=r"'y_pred': 2, 'scale': 1"):
        _Mean()([torch.ones(2), torch.ones(2)], scale=torch.ones(1))
