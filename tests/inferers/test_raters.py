# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from monai_stochseg.inferers import RaterInferer, draw_samples

LABEL = torch.tensor([[[0, 1, 1], [0, 0, 1], [0, 2, 0]], [[1, 1, 1], [1, 1, 1], [1, 1, 1]]])[:, :, None]  # [2, 3, 1, 3]


@pytest.mark.parametrize("kind", [torch.Tensor, MetaTensor])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_draws_the_raters(kind, dtype) -> None:
    label = LABEL.to(dtype)
    distribution = RaterInferer(3)(
        torch.zeros(2, 1, 1, 3), nn.Identity(), MetaTensor(label) if kind is MetaTensor else label
    )
    samples = draw_samples(distribution, 300, torch.Generator().manual_seed(0))
    drawn = [{tuple(sample.flatten().tolist()) for sample in item} for item in samples.labels]
    assert drawn == [{tuple(rater.flatten().tolist()) for rater in item} for item in LABEL]
    first = (samples.labels[0] == LABEL[0, 0]).flatten(1).all(1).double().mean()
    assert abs(first - 1 / 3) < 4 * (1 / 3 * 2 / 3 / 300) ** 0.5
    one_hot = nn.functional.one_hot(samples.labels.long(), 3).movedim(-1, 2).float()
    torch.testing.assert_close(torch.as_tensor(samples.probabilities), one_hot.mean(1))


def test_the_single_answer_is_the_frequency_of_the_labels() -> None:
    distribution = RaterInferer(3)(torch.zeros(2, 1, 1, 3), nn.Identity(), LABEL)
    frequencies = nn.functional.one_hot(LABEL, 3).movedim(-1, 2).float().mean(1)
    torch.testing.assert_close(distribution.mode_logits().softmax(1), frequencies)


def test_is_certain_in_half_precision() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distribution = RaterInferer(2)(torch.zeros(2, 1, 1, 3), nn.Identity(), LABEL.clamp(max=1))
        probabilities = distribution.sample_logits(4, torch.Generator().manual_seed(0)).softmax(2)
    assert set(probabilities.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("value", [-1, 2])
def test_refuses_a_label_of_no_class(value) -> None:
    label = torch.zeros(1, 4, 2, 2, dtype=torch.long)
    label[0, 1, 0, 0] = value
    with pytest.raises(ValueError, match=f"label has label {value}, outside the 2 classes"):
        RaterInferer(2)(torch.zeros(1, 1, 2, 2), nn.Identity(), label)
