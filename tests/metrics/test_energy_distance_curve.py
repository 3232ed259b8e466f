# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from distance_options import with_distance

from monai_stochseg.metrics import (
    EnergyDistanceCurveMetric,
    compute_energy_distance_curve,
    compute_generalized_energy_distance,
)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"include_background": True},
        {"overlap": "dice"},
        {"classes": (2,), "y_weights": torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.0, 0.25, 0.25]])},
    ],
)
@pytest.mark.parametrize("size", [(5, 4), (3, 4, 2)])
def test_equals_the_distance_of_the_first_samples(size, options):
    generator = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 3, (2, 7, *size), generator=generator)
    raters = torch.randint(0, 3, (2, 4, *size), generator=generator)
    raters[0, 3] = 0
    options = with_distance({"num_classes": 3, **options})
    curve = compute_energy_distance_curve(samples, raters, (1, 3, 7), **options)
    for column, n in zip(curve.unbind(1), (1, 3, 7), strict=True):
        expected = compute_generalized_energy_distance(
            samples[:, :n], raters, **with_distance({"num_classes": 3, **options})
        )
        torch.testing.assert_close(column, expected)


def test_metric_has_a_column_for_each_number():
    maps = torch.tensor([[[1, 0, 0, 0], [1, 1, 0, 0]]])
    metric = EnergyDistanceCurveMetric((1, 2), 2)
    assert metric.names == ["ged_1", "ged_2"]
    metric(maps, maps)
    metric([maps[0]], [maps[0]])
    # the first sample alone: 2 * (0 + 1/2) / 2 - 0 - 2 * 1/2 / 4
    torch.testing.assert_close(metric.aggregate(), torch.tensor([0.25, 0.0]))


@pytest.mark.parametrize("numbers", [(0,), (3,), (1, 5)])
def test_numbers_outside_the_samples_are_named(numbers):
    maps = torch.zeros(1, 2, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"num_samples must lie in 1 to 2"):
        compute_energy_distance_curve(maps, maps, numbers, distance=2)


def test_there_must_be_a_number():
    with pytest.raises(ValueError, match="one or more different numbers"):
        EnergyDistanceCurveMetric((), 2)
