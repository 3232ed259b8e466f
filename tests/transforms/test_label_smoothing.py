# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_stochseg.transforms.label_smoothing import LabelSmoothing, LabelSmoothingd

LABEL = [[[0, 1], [2, 3]]]


@pytest.mark.parametrize(("alpha", "low", "high"), [(0.0, 0.0, 1.0), (0.1, 0.025, 0.925), (0.4, 0.1, 0.7)])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_hand_computed(alpha, low, high, spatial_dims):
    label = torch.tensor(LABEL)
    expected = torch.full((4, 4), low).fill_diagonal_(high).reshape(4, 2, 2)
    if spatial_dims == 3:
        label, expected = label[..., None], expected[..., None]
    torch.testing.assert_close(LabelSmoothing(4, alpha)(label).as_tensor(), expected)


def test_raters_are_averaged_and_missing_ones_left_out():
    label = torch.tensor([[[0, 0]], [[0, 1]], [[255, 255]]])
    soft = LabelSmoothing(2, 0.1)(label, [3, 1, 0])
    torch.testing.assert_close(soft.as_tensor(), torch.tensor([[[0.95, 0.725]], [[0.05, 0.275]]]))


def test_dictionary_keeps_metadata():
    label = MetaTensor(torch.tensor(LABEL), affine=torch.diag(torch.tensor([2.0, 2, 2, 1])))
    data = {"label": label, "mask": torch.tensor([True])}
    soft = LabelSmoothingd("label", 4, 0.2, rater_weights_key="mask")(data)["label"]
    assert isinstance(soft, MetaTensor)
    assert torch.equal(soft.affine, label.affine)
    assert torch.equal(soft, LabelSmoothing(4, 0.2)(label))


def test_refuses():
    for alpha in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"alpha must lie in \[0, 1\), got {alpha}"):
            LabelSmoothing(3, alpha)
    with pytest.raises(ValueError, match="num_classes counts the background"):
        LabelSmoothing(1)
    with pytest.raises(ValueError, match="outside the 3 classes"):
        LabelSmoothing(3)(torch.tensor(LABEL))
    with pytest.raises(ValueError, match=r"label holds 1\.5, which is not an integer"):
        LabelSmoothing(4)(torch.tensor([[[0, 1.5]]]))
    with pytest.raises(ValueError, match="at least one rater"):
        LabelSmoothing(4)(torch.tensor(LABEL)[:0])
    with pytest.raises(ValueError, match="label is one-hot"):
        LabelSmoothing(4)(LabelSmoothing(4, 0)(torch.tensor(LABEL)))
    with pytest.raises(ValueError, match="it has been made soft already"):
        LabelSmoothing(4)(LabelSmoothing(4)(torch.tensor(LABEL)))
