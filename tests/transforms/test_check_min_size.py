# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.data import CaseError
from monai_stochseg.transforms import CheckMinSize, CheckMinSized

IMAGE = torch.zeros(1, 4, 5, 6)


@pytest.mark.parametrize("min_size", [4, (4, 5, 6), [1, 1, 6]])
def test_passes_the_image_on(min_size) -> None:
    assert CheckMinSize(min_size)(IMAGE) is IMAGE
    assert CheckMinSized("image", min_size)({"image": IMAGE})["image"] is IMAGE


def test_refuses() -> None:
    with pytest.raises(CaseError, match=r"image: the patch \(5, 5, 5\) is larger than the image \(4, 5, 6\)"):
        CheckMinSize(5)(IMAGE)
    with pytest.raises(
        CaseError, match=r"patient p: image: the patch \(4, 5, 7\) is larger than the image \(4, 5, 6\)"
    ):
        CheckMinSized("image", (4, 5, 7))({"image": IMAGE, "patient": "p"})
