# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_stochseg.handlers import OptimizerState


def make_state(lr: float = 0.1, gamma: float = 0.5) -> OptimizerState:
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))], lr=lr)
    return OptimizerState(optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=gamma))


def train(state: OptimizerState, epochs: int) -> OptimizerState:
    for _ in range(epochs):
        (parameter,) = state.optimizer.param_groups[0]["params"]
        parameter.grad = torch.ones(2)
        state.optimizer.step()
        state.lr_scheduler.step()
    return state


def test_moments_and_position_are_restored_and_hyperparameters_are_the_configurations():
    trained = train(make_state(), 3)
    resumed = make_state(lr=0.8, gamma=0.25)
    resumed.load_state_dict(trained.state_dict())
    ours, theirs = (s.optimizer.state_dict()["state"][0] for s in (resumed, trained))
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    assert resumed.lr_scheduler.last_epoch == 3
    assert resumed.optimizer.param_groups[0]["lr"] == pytest.approx(0.8 * 0.25)


def test_a_schedule_that_has_taken_steps_is_rejected():
    with pytest.raises(ValueError, match="a schedule resumes from its start, but this StepLR has taken steps"):
        train(make_state(), 1).load_state_dict(make_state().state_dict())
