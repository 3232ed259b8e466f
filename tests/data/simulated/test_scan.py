# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_stochseg.data.simulated.scan import ellipsoid, paint, read_scan, scan_axes

AXES = scan_axes((21, 31, 41), (2.0, 1.0, 0.5), (1, 1, 1))
FINE = scan_axes((40, 40, 40), (0.5, 0.5, 0.5), (1, 1, 1))


def test_axes() -> None:
    assert [(axis[0], axis[-1]) for axis in AXES] == [(-20, 20), (-15, 15), (-10, 10)]


def test_ellipsoid_is_a_ball() -> None:
    distance = ellipsoid(AXES, (2, 0, 0), (6, 6, 6), turn=0.7)
    expected = np.linalg.norm(np.stack(np.meshgrid(*AXES, indexing="ij")) - np.reshape([2, 0, 0], (3, 1, 1, 1)), axis=0)
    assert np.allclose(distance, expected - 6, atol=1e-4)


def test_ellipsoid_turns_and_extends() -> None:
    upright, lying = ellipsoid(FINE, (0, 0, 0), (8, 3, 3)), ellipsoid(FINE, (0, 0, 0), (3, 3, 8), np.pi / 2)
    assert np.allclose(upright, lying, atol=1e-3)
    assert (upright < 0).sum() == pytest.approx(8 * 4 / 3 * np.pi * 8 * 3 * 3, rel=0.02)
    cylinder = ellipsoid(AXES, (0, 0, 0), (np.inf, 4, 4))
    assert np.allclose(cylinder, np.hypot(AXES[1][:, None], AXES[2]) - 4, atol=1e-4)


def test_paint_blurs_the_edge() -> None:
    image = np.zeros((3, 1, 1), dtype=np.float32)
    paint(image, np.reshape([-9.0, 0.0, 9.0], (3, 1, 1)), 1.0, 10)
    assert image.flatten().tolist() == pytest.approx([10, 5, 0])


def test_readings_follow_the_probabilities() -> None:
    distances = [np.array([-1.0, 0.0, 0.5, 3.0]), np.array([0.5, -0.5, 2.0, 0.0])]
    scan = read_scan(np.array([0.4, 0.6, 3, 4]), distances, np.array([1.0, 2.0]), (1,), 4000, seed=0)
    assert scan.image.tolist() == [[0, 1, 3, 4]]
    readings = scan.label
    assert torch.equal(readings, scan.sample(4000, torch.Generator().manual_seed(0)))
    frequency = torch.stack([(readings == number).float().mean(0) for number in range(3)])
    assert torch.allclose(scan.probability.sum(0), torch.ones(4))
    assert torch.allclose(frequency, scan.probability, atol=0.03)
    second = torch.special.ndtr(torch.tensor(0.25)).item()  # of the second voxel, which is on the first one's border
    assert scan.probability[:, 1].tolist() == pytest.approx([(1 - second) / 2, (1 - second) / 2, second], abs=1e-5)


@pytest.mark.parametrize(
    ("size", "spacing", "message"),
    [
        ((32, 32), (1, 1, 1), r"spatial_size must be 3 positive numbers, got \[32, 32\]"),
        ((32, 32, 32), (1, 0, 1), r"spacing must be 3 positive numbers, got \[1, 0, 1\]"),
        ((32, 32, 9), (1, 1, 1), r"at least \[10, 10, 10\] mm to hold the anatomy, got \[32, 32, 9\]"),
    ],
)
def test_refuses(size, spacing, message) -> None:
    with pytest.raises(ValueError, match=message):
        scan_axes(size, spacing, (10, 10, 10))
