# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_stochseg.transforms import staple
from monai_stochseg.transforms.majority_vote import MajorityVote
from monai_stochseg.transforms.staple import STAPLE, STAPLEd


@pytest.fixture(autouse=True)
def _needs_simpleitk(request):
    if "without" not in request.node.name:
        pytest.importorskip("SimpleITK")


def noisy(truth: torch.Tensor, num_classes: int, rates: list[float]) -> torch.Tensor:
    """Raters who each draw a class at random in some share of the voxels."""
    wrong = [torch.rand(truth.shape) < rate for rate in rates]
    drawn = [torch.randint(num_classes, truth.shape) for _ in rates]
    return torch.stack([torch.where(w, d, truth) for w, d in zip(wrong, drawn, strict=True)])


@pytest.mark.parametrize("shape", [(40, 40), (12, 14, 16)])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_trusts_the_good_raters(shape, num_classes):
    truth = torch.zeros(shape, dtype=torch.long)
    for c in range(1, num_classes):
        truth[3 * c :, 2 * c :] = c
    label = noisy(truth, num_classes, [0.05, 0.05, 0.8, 0.8, 0.8])
    errors = [int((t(num_classes)(label)[0] != truth).sum()) for t in (STAPLE, MajorityVote)]
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize(
    ("raters", "expected"),
    [
        ([[0, 0], [0, 0], [0, 0]], [0, 0]),
        ([[1, 1], [1, 1]], [1, 1]),
        ([[0, 1]], [0, 1]),
        ([[0, 1], [0, 1], [0, 1]], [0, 1]),
        ([[0, 1, 0], [1, 0, 0]], [0, 0, 0]),
    ],
)
def test_agreement_and_undecided_voxels(num_classes, raters, expected):
    label = torch.tensor(raters)[:, None]
    assert STAPLE(num_classes)(label).tolist() == [[expected]]


def test_dictionary_leaves_missing_raters_out_and_keeps_metadata():
    truth = torch.zeros(20, 20, dtype=torch.uint8)
    truth[5:15, 5:15] = 1
    label = MetaTensor(torch.stack([truth, truth, 1 - truth, 1 - truth, 1 - truth]), affine=torch.eye(4) * 2)
    result = STAPLEd("label", 2, rater_mask_key="mask")({"label": label, "mask": torch.tensor([1, 1, 0, 0, 0])})
    assert result["label"].dtype == torch.uint8
    assert torch.equal(result["label"][0].as_tensor(), truth)
    assert torch.equal(result["label"].affine, label.affine)


def test_refuses():
    with pytest.raises(ValueError, match="outside the 2 classes"):
        STAPLE(2)(torch.full((2, 4, 4), 2))
    with pytest.raises(ValueError, match="which is not an integer"):
        STAPLE(2)(torch.full((2, 4, 4), 0.5))
    with pytest.raises(ValueError, match="at least one rater"):
        STAPLE(2)(torch.zeros(0, 4, 4))
    with pytest.raises(ValueError, match="max_iterations must be at least 1, got 0"):
        STAPLE(2, max_iterations=0)


def test_without_simpleitk(monkeypatch):
    monkeypatch.setattr(staple, "_has_sitk", False)
    with pytest.raises(ImportError, match=r'STAPLE needs SimpleITK: pip install "monai_stochseg\[staple\]"'):
        STAPLEd("label", 2)
