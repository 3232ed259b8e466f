# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_training import cross_entropy, make_trainer, make_training

from monai_stochseg.handlers import LossSchedule
from monai_stochseg.losses import ELBOLoss

POINTS = [[2, 0.0], [4, 1.0], [6, 0.5]]


class _Loss(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.beta = 7.0
        self.seen: list[float] = []

    def forward(self, logits, label):
        self.seen.append(self.beta)
        return cross_entropy(logits, label)


@pytest.mark.parametrize(
    ("interpolation", "expected"),
    [
        ("linear", [0.0, 0.0, 0.5, 1.0, 0.75, 0.5, 0.5]),
        ("step", [0.0, 0.0, 0.0, 1.0, 1.0, 0.5, 0.5]),
    ],
)
@pytest.mark.parametrize("by_epoch", [True, False])
def test_values(interpolation, expected, by_epoch):
    loss = _Loss()
    schedule = LossSchedule(loss, "beta", POINTS, by_epoch, interpolation)
    length = {"max_epochs": 7, "epoch_length": 1} if by_epoch else {"max_epochs": 1, "epoch_length": 7}
    make_trainer([schedule], loss=loss, **length).run()
    assert loss.seen == expected


def test_all_iterations_of_an_epoch_share_a_value():
    loss = _Loss()
    make_trainer([LossSchedule(loss, "beta", [[1, 0], [2, 1]])], max_epochs=3, epoch_length=2, loss=loss).run()
    assert loss.seen == [0, 0, 1, 1, 1, 1]


def test_a_resumed_training_continues_the_schedule(tmp_path):
    seen = []
    for epochs, resume in ((2, False), (4, True)):
        loss = _Loss()
        handlers = [LossSchedule(loss, "beta", [[1, 0], [5, 1]])]
        make_training(tmp_path, epochs, loss=loss, handlers=handlers, epoch_length=1, resume=resume).run()
        seen += loss.seen
    assert seen == [0, 0.25, 0.5, 0.75]


def test_one_point_is_a_constant_and_beta_of_the_bound_is_set():
    loss = ELBOLoss()
    LossSchedule(loss, "beta", [[1, 0.25]])(SimpleNamespace(state=SimpleNamespace(epoch=9)))
    assert loss.beta == 0.25


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("gamma", POINTS), TypeError, "must have a number `gamma` to schedule, but _Loss has not"),
        (("seen", POINTS), TypeError, "must have a number `seen` to schedule"),
        (("beta", []), ValueError, r"pairs \[epoch, value\], at least one, but are \[\]"),
        (("beta", [[1, 2, 3]]), ValueError, r"pairs \[epoch, value\]"),
        (("beta", [1, 2]), ValueError, r"pairs \[epoch, value\]"),
        (("beta", [[2, 0], [1, 1]]), ValueError, "their epochs must ascend"),
        (("beta", [[1, 0], [1, 1]]), ValueError, "their epochs must ascend"),
        (("beta", [[1, float("nan")]]), ValueError, "points must be finite"),
        (("beta", POINTS, True, "cubic"), ValueError, "'linear' or 'step' but is 'cubic'"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        LossSchedule(_Loss(), *arguments)
