# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from monai_stochseg.metrics import VolumeCRPSMetric, compute_volume_crps

REGIONS = {"all": (1, 2), "core": (2,)}
SPACING = (10.0, 20.0, 5.0)  # a voxel is 1 ml


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


@pytest.mark.parametrize(
    ("y_pred", "y", "options", "expected"),
    [
        (maps([1, 2, 0, 0]), maps([1, 2, 1, 0]), {}, [1, 0]),
        (maps([0, 0, 0, 0]), maps([0, 0, 0, 0]), {}, [0, 0]),
        # volumes 1, 3 against 2: 1 - 2 / 4; core 0, 1 against 0: 1/2 - 1/4
        (maps([1, 0, 0, 0], [1, 1, 2, 0]), maps([1, 1, 0, 0]), {}, [0.5, 0.25]),
        (maps([1, 0, 0, 0], [1, 1, 2, 0]), maps([1, 1, 0, 0]), {"self_pairs": False}, [0, 0]),
        # the second rater drew nothing: (1 + 2) / 2 - 1/2
        (maps([1, 0, 0, 0], [1, 1, 2, 0]), maps([1, 1, 0, 0], [0, 0, 0, 0]), {}, [1, 0.25]),
        (maps([1, 0, 0, 0], [1, 1, 2, 0]), maps([1, 1, 0, 0], [0] * 4), {"y_weights": [[1.0, 0.0]]}, [0.5, 0.25]),
        # 1 - 3/4 1/4 2; core 1/4 - 3/16
        (maps([1, 0, 0, 0], [1, 1, 2, 0]), maps([1, 1, 0, 0]), {"y_pred_weights": [[0.75, 0.25]]}, [0.625, 0.0625]),
        (maps([1] * 4, [0] * 4), maps([1] * 4), {"self_pairs": False, "y_pred_weights": [[1.0, 0.0]]}, [math.nan] * 2),
        (maps([1, 2, 0, 0]), maps([1, 2, 1, 0]), {"spacing": torch.tensor([[1.0, 2.0, 3.0]])}, [0.006, 0]),
    ],
)
def test_by_hand(y_pred: torch.Tensor, y: torch.Tensor, options: dict, expected: list[float]) -> None:
    options = {name: torch.tensor(v) if name.endswith("weights") else v for name, v in options.items()}
    value = compute_volume_crps(y_pred, y, REGIONS, **{"spacing": SPACING, **options})
    torch.testing.assert_close(value, torch.tensor([expected]).float(), equal_nan=True, rtol=0, atol=1e-6)


def test_equals_the_integral() -> None:
    """CRPS is the integral of the squared difference of the distribution functions, for each rater by itself."""
    s, r = torch.randint(3, (2, 5, 3, 4, 2)), torch.randint(3, (2, 3, 3, 4, 2))
    grid = torch.arange(25)
    x, y = ((m == 2).flatten(2).sum(2) for m in (s, r))
    forecast = (x[:, :, None] <= grid).float().mean(1, keepdim=True)
    expected = (forecast - (y[:, :, None] <= grid).float()).square().sum(2).mean(1)
    torch.testing.assert_close(compute_volume_crps(s, r, {"core": (2,)}, spacing=SPACING)[:, 0], expected)


def test_scales_with_the_voxel() -> None:
    s, r = torch.randint(3, (2, 5, 3, 4, 2)), torch.randint(3, (2, 3, 3, 4, 2))
    one = compute_volume_crps(s, r, REGIONS, spacing=SPACING)
    spacing = torch.tensor([SPACING, [20.0, 20.0, 10.0]])
    torch.testing.assert_close(compute_volume_crps(s, r, REGIONS, spacing=spacing), one * torch.tensor([[1.0], [4.0]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regions": {}}, "at least one region"),
        ({"spacing": (1.0, 1.0)}, r"spacing must be 3 positive sizes in mm.*got \[1.0, 1.0\].*slice's thickness"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing must be 3 positive sizes"),
        ({"spacing": (1.0, math.nan, 1.0)}, "spacing must be a tensor .* a finite number"),
        ({"spacing": torch.ones(2, 3)}, r"\[B, 3\] = \(1, 3\)"),
        ({"y": maps([0, 1])}, "y_pred and y must agree"),
        ({"self_pairs": False}, "at least 2 maps in y_pred, got 1"),
        ({"y_weights": torch.tensor([[0.0]])}, "y_weights must be .* one weight for each map"),
    ],
)
def test_rejects(options: dict, message: str) -> None:
    arguments = {"y_pred": maps([0, 1, 2]), "y": maps([0, 1, 2]), "regions": REGIONS, "spacing": SPACING}
    with pytest.raises(ValueError, match=message):
        compute_volume_crps(**{**arguments, **options})


def test_metric() -> None:
    metric = VolumeCRPSMetric(REGIONS, spacing=SPACING, reduction="mean_batch")
    assert metric.names == ["all", "core"]
    s, r = maps([1, 0, 0, 0], [1, 1, 2, 0])[0], maps([1, 1, 0, 0])[0]
    torch.testing.assert_close(metric([s, s[:1]], [r, r]), torch.tensor([[0.5, 0.25], [1.0, 0.0]]))
    torch.testing.assert_close(metric.aggregate(), torch.tensor([0.75, 0.125]))
    spacing = torch.tensor([SPACING, [10.0, 10.0, 5.0]])
    values = metric([s, s], [r, r], spacing=spacing)
    torch.testing.assert_close(values, torch.tensor([[0.5, 0.25], [0.25, 0.125]]))
    unbiased = VolumeCRPSMetric(REGIONS, spacing=SPACING, self_pairs=False)
    torch.testing.assert_close(unbiased(s[None], r[None]), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="at least one region"):
        VolumeCRPSMetric({})
