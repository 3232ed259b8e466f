# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Lambdad, ScaleIntensityRanged

from monai_stochseg.tasks.volumes import SplitOptions, VolumeOptions, VolumeTask

# Voxels of 2 x 3 x 4 mm whose axes run to the right, front and head; a block of class 1 in the front, left and low.
AFFINE = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))


class Volumes(VolumeTask):
    """Cases that are read already."""

    def __init__(self, options: VolumeOptions, steps: Sequence[Callable]) -> None:
        super().__init__("none", ["ct"], ["background", "block"], None, options, SplitOptions())
        self.steps = list(steps)

    def datalist(self, require_label: bool = True) -> list[dict[str, Any]]:
        return [{"label": ["one"]}]

    def read(self, with_label: bool) -> list[Callable]:
        return []

    def intensity(self) -> list[Callable]:
        return self.steps


def make_case(with_label: bool) -> dict[str, Any]:
    label = torch.zeros(1, 8, 6, 5, dtype=torch.uint8)
    label[:, :4, 3:, :2] = 1
    case = {"patient": "p1", "image": MetaTensor(100.0 * label, AFFINE), "mask": MetaTensor(label, AFFINE)}
    return case | ({"label": MetaTensor(label, AFFINE)} if with_label else {})


@pytest.mark.parametrize("with_label", [True, False])
@pytest.mark.parametrize("spacing", [None, (2.0, 1.5, 1.0)])
def test_axes_spacing_and_size_of_the_centre(with_label, spacing) -> None:
    size = (5, 6, 8) if spacing is None else (9, 11, 15)
    task = Volumes(VolumeOptions(size, spacing), [ScaleIntensityRanged("image", 0, 100, 1.0, 2.0)])
    case = Compose(task.load(with_label))(make_case(with_label))
    assert case.keys() == ({"patient", "image", "label"} if with_label else {"patient", "image"})
    assert case["image"].shape == (1, *size)
    np.testing.assert_allclose(case["image"].pixdim, spacing or (4, 3, 2))
    low_front_left, high_back_right = (0, 0, 0, -1), (0, -1, -1, 0)
    assert (case["image"][low_front_left], case["image"][high_back_right]) == (2, 1)
    if with_label:
        assert (case["label"][low_front_left], case["label"][high_back_right]) == (1, 0)
        assert set(case["label"].unique().tolist()) == {0, 1}


def test_padding_is_zero_after_the_intensity() -> None:
    task = Volumes(VolumeOptions((7, 6, 8)), [Lambdad("image", lambda image: image * 0 + 7)])
    case = Compose(task.load())(make_case(True))
    assert case["image"][0, 1:-1].unique().tolist() == [7]
    assert not case["image"][0, [0, -1]].any()


def test_the_answers_dice_is_of_the_raters_who_are_there() -> None:
    from monai_stochseg.distributions import with_weights

    task = Volumes(VolumeOptions((5, 6, 8)), [])
    label = torch.zeros(2, 4, 4, 4)
    label[0, :2], label[1, 3:] = 1, 1
    pred = torch.stack([1 - label[0], label[0]])
    samples = label[:1].repeat(3, 1, 1, 1).to(torch.uint8)

    def dice(name: str, weights: list[float] | None) -> float:
        metric, output_transform = task.metric(name)
        y = label if weights is None else with_weights(label, torch.tensor(weights))
        y_pred, y = output_transform([{"pred": pred, "label": y, "samples": samples}])
        metric(y_pred=y_pred, y=y)
        return float(torch.as_tensor(metric.aggregate()).flatten()[0])

    for name in ("dice", "sample_dice"):
        assert dice(name, None) == pytest.approx(0.5)
        assert dice(name, [0.7, 0.0]) == pytest.approx(1)
