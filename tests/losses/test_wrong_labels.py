# SPDX-License-Identifier: Apache-2.0
"""No loss of several raters takes what is not their labels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from monai_stochseg.distributions import ExpertSamples, Gaussian, LatentLevel, LatentOutput, RefinementOutput
from monai_stochseg.losses import (
    ConsistencyLoss,
    ELBOLoss,
    MultipleHypothesesLoss,
    OptimalTransportLoss,
    RaterCrossEntropyLoss,
    SSNLoss,
    cross_entropy_cost,
    iou_cost,
    rater_cross_entropy,
)
from monai_stochseg.transforms import SVLS

CLASSES, SAMPLES, SIZE = 4, 4, (8, 8)
LOGITS, MEMBERS = torch.zeros(1, CLASSES, *SIZE), torch.zeros(1, SAMPLES, CLASSES, *SIZE)
VECTOR = torch.zeros(1, 2)
LEVEL = LatentLevel(Gaussian(VECTOR, VECTOR), Gaussian(VECTOR, VECTOR))
LOSSES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "consistency": lambda y: ConsistencyLoss()(RefinementOutput(MEMBERS, LOGITS.softmax(1), VECTOR, VECTOR), y),
    "cross_entropy_cost": lambda y: cross_entropy_cost(MEMBERS, y, torch.ones_like(y, dtype=torch.bool)),
    "elbo": lambda y: ELBOLoss()(LatentOutput(LOGITS, (LEVEL,), torch.tensor([0])), y),
    "iou_cost": lambda y: iou_cost(MEMBERS, y, torch.ones_like(y, dtype=torch.bool)),
    "multiple_hypotheses": lambda y: MultipleHypothesesLoss()(MEMBERS, y),
    "optimal_transport": lambda y: OptimalTransportLoss()(
        ExpertSamples(MEMBERS, torch.full((1, SAMPLES), 1 / SAMPLES), 2), y
    ),
    "rater_cross_entropy": lambda y: rater_cross_entropy(MEMBERS, y),
    "rater_cross_entropy_loss": lambda y: RaterCrossEntropyLoss()(LOGITS, y),
    "ssn": lambda y: SSNLoss(CLASSES, 1, 2)(torch.zeros(1, CLASSES * 3, *SIZE), y),
}
LABEL = torch.zeros(1, 1, *SIZE, dtype=torch.long)
for value, side in ((1, 6), (2, 4), (3, 2)):
    LABEL[..., 1 : 1 + side, 1 : 1 + side] = value
WRONG = {
    "drift of floats": (LABEL.clamp(max=1) * 0.9999, "must hold integer class labels, got 0.9999"),
    "NaN": (LABEL.float().masked_fill(LABEL == 1, torch.nan), "must hold integer class labels, got nan"),
    "SVLS": (SVLS(CLASSES)(LABEL[0])[None], "must hold integer class labels"),
    "one-hot": (F.one_hot(LABEL[:, 0], CLASSES).movedim(-1, 1), "is one-hot: its 4 channels"),
    "regions": (torch.cat([LABEL > 0, LABEL > 1, LABEL > 2], 1).long(), "is region channels: each of its 3 channels"),
    "negative": (-LABEL, "has label -3, outside the 4 classes"),
    "beyond the classes": (LABEL + 1, "has label 4, outside the 4 classes"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_labels_are_taken(name: str) -> None:
    assert LOSSES[name](LABEL).isfinite().all()


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", LOSSES)
def test_what_is_no_label_is_refused(name: str, wrong: str) -> None:
    label, message = WRONG[wrong]
    with pytest.raises(ValueError, match=f"(target|labels) {message}"):
        LOSSES[name](label)
