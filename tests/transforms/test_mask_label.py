# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_stochseg.transforms import MaskLabel, MaskLabeld

LABEL = [[[1, 2], [3, 0]], [[0, 0], [1, 1]]]
MASK = [[[1, 0], [0, 1]]]
EXPECTED = [[[1, 255], [255, 0]], [[0, 255], [255, 1]]]


@pytest.mark.parametrize("make", [np.array, torch.tensor, MetaTensor])
def test_masks_every_rater(make) -> None:
    label, mask = make(LABEL), make(MASK)
    masked = MaskLabel()(label, mask)
    assert type(masked) is type(label)
    assert masked.dtype == label.dtype
    assert masked.tolist() == EXPECTED
    assert label.tolist() == LABEL


def test_dictionary() -> None:
    data = {"label": torch.tensor(LABEL, dtype=torch.int16), "region": torch.tensor(MASK), "image": 1}
    masked = MaskLabeld(("label", "absent"), "region", ignore_index=-1, allow_missing_keys=True)(data)
    assert masked["label"][0].tolist() == [[1, -1], [-1, 0]]
    assert masked["image"] == 1
    assert data["label"].tolist() == LABEL


def test_refuses() -> None:
    label = torch.tensor(LABEL, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"mask must have the shape \(1, 2, 2\), got \(2, 2\)"):
        MaskLabel()(label, torch.tensor(MASK[0]))
    with pytest.raises(ValueError, match=r"ignore_index -1 does not fit a label of type torch.uint8; .* 0 to 255"):
        MaskLabel(-1)(label, torch.tensor(MASK))
