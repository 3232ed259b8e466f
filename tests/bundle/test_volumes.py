# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Lambdad, ScaleIntensityRanged

from monai_stochseg.bundle import volume_transforms

# Voxels of 2 x 3 x 4 mm whose axes run to the right, front and head; a block of class 1 in the front, left and low.
AFFINE = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))


def make_case(with_label: bool) -> dict:
    label = torch.zeros(1, 8, 6, 5, dtype=torch.uint8)
    label[:, :4, 3:, :2] = 1
    case = {"patient": "p1", "image": MetaTensor(100.0 * label, AFFINE), "mask": MetaTensor(label, AFFINE)}
    return case | ({"label": MetaTensor(label, AFFINE)} if with_label else {})


@pytest.mark.parametrize("with_label", [True, False])
@pytest.mark.parametrize("spacing", [None, (2.0, 1.5, 1.0)])
def test_axes_spacing_and_size(with_label, spacing) -> None:
    intensity = ScaleIntensityRanged("image", 0, 100, 1.0, 2.0)
    size = (5, 6, 8) if spacing is None else (9, 11, 15)
    case = Compose(volume_transforms([], intensity, size, spacing))(make_case(with_label))
    assert case.keys() == ({"patient", "image", "label"} if with_label else {"patient", "image"})
    assert case["image"].shape == (1, *size)
    np.testing.assert_allclose(case["image"].pixdim, spacing or (4, 3, 2))
    low_front_left, high_back_right = (0, 0, 0, -1), (0, -1, -1, 0)
    assert (case["image"][low_front_left], case["image"][high_back_right]) == (2, 1)
    if with_label:
        assert (case["label"][low_front_left], case["label"][high_back_right]) == (1, 0)
        assert set(case["label"].unique().tolist()) == {0, 1}


def test_padding_is_zero_after_the_intensity_and_loading_comes_first() -> None:
    load = Lambdad("image", lambda image: image + 7)
    case = Compose(volume_transforms([load], Lambdad("image", lambda image: image * 0 + image.min()), (7, 6, 8)))(
        make_case(True)
    )
    assert case["image"][0, 1:-1].unique().tolist() == [7]
    assert not case["image"][0, [0, -1]].any()
