# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import warnings

import pytest
import torch
from monai.optimizers import WarmupCosineSchedule
from torch.optim import lr_scheduler as schedulers

from monai_stochseg.handlers.schedule_state import resume_schedule, schedule_state

SHORT, LONG, TAKEN = 4, 10, 3

CASES = {
    "linear": lambda o, n: schedulers.LinearLR(o, 1.0, 0.0, total_iters=n),
    "polynomial": lambda o, n: schedulers.PolynomialLR(o, total_iters=n, power=0.9),
    "cosine": lambda o, n: schedulers.CosineAnnealingLR(o, T_max=n),
    "multi_step": lambda o, n: schedulers.MultiStepLR(o, milestones=[n // 2, n - 1], gamma=0.5),
    "lambda": lambda o, n: schedulers.LambdaLR(o, lambda epoch: (1 - epoch / n) ** 0.9),
    "multiplicative": lambda o, n: schedulers.MultiplicativeLR(o, lambda epoch: 1 - 1 / n),
    "exponential": lambda o, n: schedulers.ExponentialLR(o, gamma=0.01 ** (1 / n)),
    "one_cycle": lambda o, n: schedulers.OneCycleLR(o, max_lr=0.1, total_steps=n + 1),
    "warm_restarts": lambda o, n: schedulers.CosineAnnealingWarmRestarts(o, T_0=n // 2),
    "monai_warmup": lambda o, n: WarmupCosineSchedule(o, warmup_steps=2, t_total=n),
    "sequential": lambda o, n: schedulers.SequentialLR(
        o,
        [schedulers.LinearLR(o, 0.1, total_iters=2), schedulers.CosineAnnealingLR(o, T_max=n - 2)],
        milestones=[2],
    ),
    "chained": lambda o, n: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o, 0.1, total_iters=2), schedulers.ExponentialLR(o, gamma=0.01 ** (1 / n))]
    ),
}


def _make(case, length):
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1]}, {"params": weights[1:], "lr": 0.3}], lr=0.1, momentum=0.9)
    return optimizer, CASES[case](optimizer, length)


def _run(optimizer, scheduler, steps):
    rates = []
    for _ in range(steps):
        optimizer.step()
        rates.append([(group["lr"], group["momentum"]) for group in optimizer.param_groups])
        scheduler.step()
    return rates


def _through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("saved_length", [SHORT, LONG])
@pytest.mark.parametrize("case", CASES)
def test_resumed_rates_are_those_of_the_uninterrupted_long_schedule(case, saved_length):
    uninterrupted = _run(*_make(case, LONG), LONG)
    optimizer, scheduler = _make(case, saved_length)
    _run(optimizer, scheduler, TAKEN)
    state = _through_a_file(schedule_state(scheduler))

    optimizer, scheduler = _make(case, LONG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resume_schedule(scheduler, state)
    assert _run(optimizer, scheduler, LONG - TAKEN) == uninterrupted[TAKEN:]  # exactly


def test_plateau_remembers_its_metric_and_takes_its_patience_from_the_configuration():
    def make(patience):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        return optimizer, schedulers.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience)

    optimizer, scheduler = make(patience=0)
    for metric in (1.0, 2.0, 0.5, 0.7):  # two reductions
        scheduler.step(metric)
    assert optimizer.param_groups[0]["lr"] == 0.25
    state = _through_a_file(schedule_state(scheduler))

    optimizer, scheduler = make(patience=1)
    resume_schedule(scheduler, state)
    rates = []
    for metric in (0.6, 0.6, 0.4):  # worse than 0.5 twice: one reduction with patience 1
        scheduler.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [0.25, 0.125, 0.125]


def test_errors():
    optimizer, scheduler = _make("linear", LONG)
    state = schedule_state(scheduler)
    _run(optimizer, scheduler, 1)
    with pytest.raises(ValueError, match="resumes from its start, but this LinearLR has taken steps"):
        resume_schedule(scheduler, state)
    with pytest.raises(ValueError, match="a ReduceLROnPlateau cannot resume from the state"):
        resume_schedule(schedulers.ReduceLROnPlateau(optimizer), state)
