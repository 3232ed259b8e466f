# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_stochseg.data import CaseError
from monai_stochseg.transforms.merge_label_parts import MergeLabelPartsd

MASKS = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], dtype=torch.uint8)[..., None]


def test_merges() -> None:
    affine = torch.diag(torch.tensor([2.0, 3, 1, 1], dtype=torch.float64))
    label = MetaTensor(MASKS, affine=affine)
    merged = MergeLabelPartsd()({"patient": "p", "label": label, "label_classes": [1, 4, 2]})
    assert set(merged) == {"patient", "label"}
    assert merged["label"].flatten().tolist() == [1, 4, 2, 0]
    assert merged["label"].shape == (1, 4, 1)
    assert merged["label"].dtype == torch.uint8
    assert torch.equal(merged["label"].affine, affine)


@pytest.mark.parametrize("case", [{"label": MASKS}, {"label_classes": [1, 2, 3]}])
def test_leaves_others_alone(case) -> None:
    assert MergeLabelPartsd()(case) == {key: value for key, value in case.items() if key == "label"}


def test_refuses_shared_voxels() -> None:
    label = MetaTensor(MASKS.clone())
    label[1, :3] = 1
    with pytest.raises(
        CaseError, match=r"patient p: 2 voxels of label lie in the masks of two of the classes \[1, 2, 3\]"
    ):
        MergeLabelPartsd()({"patient": "p", "label": label, "label_classes": [1, 2, 3]})
