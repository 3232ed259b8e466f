# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from tiny_training import make_trainer
from torch import nn

from monai_stochseg.distributions import Gaussian, LatentLevel, LatentOutput
from monai_stochseg.handlers import ReconstructionIoU
from monai_stochseg.handlers.reconstruction_iou import compute_reconstruction_iou


def logits_of(answer: list[int], classes: int = 3) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor([answer]), classes).movedim(-1, 1).float()


@pytest.mark.parametrize(
    ("answer", "label", "value"),
    [
        ([0, 1, 1, 2], [0, 1, 1, 2], 1.0),
        ([0, 1, 1, 2], [0, 1, 0, 2], 0.75),  # 1/2 and 1
        ([0, 1, 1, 0], [0, 1, 0, 0], 0.5),  # a class that neither has is left out
        ([0, 1, 1, 2], [0, 1, 255, 2], 1.0),
        ([1, 1, 0, 0], [0, 0, 2, 2], 0.0),
        ([0, 0, 0, 0], [0, 0, 0, 0], math.nan),
    ],
)
def test_by_hand(answer, label, value):
    found = compute_reconstruction_iou(logits_of(answer), torch.tensor([label]), 255)
    torch.testing.assert_close(found, torch.tensor([value]), equal_nan=True)


class _Answers(nn.Module):
    """Two voxels; the posterior of the second rater, whom it always draws, decodes to the first class alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> LatentOutput:
        zero = self.weight.expand(len(x), 1)
        level = LatentLevel(Gaussian(zero, zero), Gaussian(zero, zero))
        logits = torch.cat([logits_of([1, 0], 2)] * len(x)) + self.weight
        return LatentOutput(logits, (level,), torch.ones(len(x), dtype=torch.long))


class _Labels:
    """Puts labels of two raters, behind weights as the bundle's trainer has them, into the output."""

    def __init__(self, seen: list[list[int]]) -> None:
        self.seen = iter(seen)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.put)

    def put(self, engine: Engine) -> None:
        label = torch.tensor([[[0, 0], next(self.seen)]]).expand(len(engine.state.output["image"]), -1, -1)
        engine.state.output["label"] = (label, torch.ones(label.shape[:2]))


def test_the_epochs_mean_is_of_the_raters_that_were_drawn():
    found = []
    handler = ReconstructionIoU()
    seen = [[1, 1], [1, 0], [0, 0], [0, 1]]
    trainer = make_trainer(
        [_Labels(seen), handler], 2, _Answers(), loss=lambda pred, _: pred.logits.sum(), epoch_length=2
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: found.append(e.state.metrics["reconstruction_iou"]))
    trainer.run()
    assert found == [0.75, 0.0]


def test_the_sums_are_kept_in_the_checkpoint():
    handler = ReconstructionIoU()
    handler._total = torch.tensor([1.0, 2.0])
    other = ReconstructionIoU()
    other.load_state_dict(handler.state_dict())
    assert other._total is handler._total


def test_an_output_without_latents_is_refused():
    trainer = make_trainer([ReconstructionIoU()], 1)
    with pytest.raises(TypeError, match="output must be LatentOutput"):
        trainer.run()
