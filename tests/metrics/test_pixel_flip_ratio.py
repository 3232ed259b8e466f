# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.distributions import with_weights
from monai_stochseg.metrics import PixelFlipRatioMetric, compute_pixel_flip_ratio
from monai_stochseg.transforms import class_switch_modes

NAN = float("nan")
SWITCHES = {1: 3, 2: 4}


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


LABEL = [1, 1, 1, 2, 0, 255]


@pytest.mark.parametrize(
    ("y_pred", "y", "options", "expected"),
    [
        (maps(LABEL), maps(LABEL), {}, [0, 0]),
        (maps([3, 3, 3, 4, 0, 0]), maps(LABEL), {}, [1, 1]),
        # A target outside its source, and a third class within, are no flips.
        (maps([3, 0, 4, 3, 3, 3]), maps(LABEL), {}, [1 / 3, 0]),
        (maps([3, 3, 3, 4, 0, 0], [3, 1, 1, 2, 0, 0]), maps(LABEL), {}, [2 / 3, 1 / 2]),
        (maps([3, 3, 3, 4, 0, 0], LABEL), maps(LABEL), {"y_pred_weights": [[0.1, 0.9]]}, [0.1, 0.1]),
        (maps([3] * 6, LABEL), maps(LABEL), {"y_pred_weights": [[0.0, 1.0]]}, [0, 0]),
        (maps([3, 1, 1, 0, 0, 0]), maps([1, 1, 1, 0, 0, 0]), {}, [1 / 3, NAN]),
        # All modes tell the voxels of the source as the label does, but not a missing map.
        (maps([3, 1, 1, 4, 3, 0]), maps(LABEL, [3, 3, 3, 2, 0, 255], [3, 3, 3, 4, 0, 255]), {}, [1 / 3, 1]),
        (maps([3, 1, 1, 4, 3, 3]), maps(LABEL, [1] * 6), {"y_weights": [[1.0, 0.0]]}, [1 / 3, 1]),
    ],
)
def test_by_hand(y_pred: torch.Tensor, y: torch.Tensor, options: dict, expected: list) -> None:
    options = {name: torch.tensor(v) for name, v in options.items()}
    value = compute_pixel_flip_ratio(y_pred, y, SWITCHES, **options)
    torch.testing.assert_close(value, torch.tensor([expected], dtype=torch.float64), equal_nan=True)


def test_the_truth_has_its_probabilities() -> None:
    switches = {1: (3, 0.25), 2: (4, 0.625)}
    modes, weights = class_switch_modes(torch.randint(3, (1, 4, 5, 6)), switches, 5)
    metric = PixelFlipRatioMetric(switches)
    pair = with_weights(modes, weights)
    metric([pair], [pair])
    torch.testing.assert_close(metric.ratios(), torch.tensor([0.25, 0.625], dtype=torch.float64))
    assert metric.aggregate().item() == pytest.approx(0)


def test_voxels_of_all_items_count_the_same() -> None:
    metric = PixelFlipRatioMetric({"1": (3, 0.5), "2": (4, 0.25)})  # JSON's keys
    metric([maps([3, 1, 1, 1])[0]], [maps([1, 1, 1, 1])[0]])
    metric(maps([3, 0]), maps([1, 0]))
    torch.testing.assert_close(metric.ratios(), torch.tensor([2 / 5, NAN], dtype=torch.float64), equal_nan=True)
    assert metric.aggregate().item() == pytest.approx(0.1)  # class 2 is in no item
    metric(maps([4, 4], [3, 2]), maps([2, 2]))
    assert metric.ratios()[1].item() == pytest.approx(1 / 2)
    assert metric.aggregate().item() == pytest.approx((0.1 + 0.25) / 2)
    assert metric.names == ["voxels_1", "flipped_1", "voxels_2", "flipped_2"]
    assert metric.get_buffer().tolist() == [[4, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 1]]


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({}, "switches must name at least one source"),
        ({1: (2, 0.5), 2: (3, 0.5)}, r"targets that are no source, got \[2\] as both"),
        ({1: (1, 0.5)}, r"got \[1\] as both"),
        ({1: (2, 1.5)}, r"probabilities of switches must be in \[0, 1\], got \[1.5\]"),
        ({1: (2, NAN)}, "probabilities of switches"),
    ],
)
def test_rejects_switches(switches: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelFlipRatioMetric(switches)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"switches": {}}, "switches must name at least one source"),
        ({"switches": {1: 2, 2: 1}}, r"got \[1, 2\] as both"),
        ({"y_pred_weights": torch.tensor([[0.0]])}, "y_pred_weights must be .* one weight for each map"),
        ({"y": maps([0, 1])}, "y_pred and y must agree"),
    ],
)
def test_rejects(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_pixel_flip_ratio(**{"y_pred": maps(LABEL), "y": maps(LABEL), "switches": SWITCHES, **options})
