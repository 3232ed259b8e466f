# SPDX-License-Identifier: Apache-2.0
"""A training that Ctrl-C or SIGTERM stops anywhere continues as if it had not been stopped."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import torch
from given import Given
from ignite.engine import Events
from monai.data import Dataset
from monai.engines.utils import IterationEvents
from monai.transforms import Compose, RandFlipd, RandGaussianNoised
from torch import nn

from monai_stochseg.bundle import Adversary, Options, make_evaluator, make_trainer
from monai_stochseg.handlers import LatentDivergence
from monai_stochseg.losses import ConsistencyLoss, ELBOLoss
from monai_stochseg.networks import nets

EPOCHS, LENGTH = 3, 3
VALIDATED = 2  # cases of a validation
ADAM = sys.modules["torch.optim.adam"]

Build = Callable[[Given, Options, list], Any]


def halves(module: nn.Module, **options: Any) -> torch.optim.Adam:
    """An optimizer of two groups, each with a step of its own."""
    parameters = list(module.parameters())
    return torch.optim.Adam([{"params": parameters[::2]}, {"params": parameters[1::2]}], lr=0.01, **options)


def supervised(task: Given, options: Options, handlers: list) -> Any:
    network = nets.ProbabilisticUNet(2, 1, 2, channels=(2, 4), latent_dim=2)
    optimizer = halves(network)
    evaluator = make_evaluator(task, network, options, num_samples=2, metrics=["ged"])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    loss = ELBOLoss(target_reconstruction=1.0)
    handlers = [LatentDivergence(), *handlers]
    return make_trainer(
        task, network, loss, optimizer, schedule, dataset(task), evaluator, options, EPOCHS, handlers=handlers
    )


def refinement(task: Given, options: Options, handlers: list) -> Any:
    calibration = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2))
    network = nets.CalibratedAdversarialRefinement(calibration, nets.RefinementNetwork(2, 1, 2, 2, channels=(4, 8)))
    discriminator = nets.RefinementDiscriminator(2, 1, 2, channels=(4, 8))
    optimizers = [halves(module, betas=(0.5, 0.99)) for module in (network.refinement, discriminator)]
    schedules = [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5) for optimizer in optimizers]
    evaluator = make_evaluator(task, network, options, num_samples=2, metrics=["ged"])
    adversary = Adversary(discriminator, optimizers[1], schedules[1], {"num_samples": 2, "d_on": 2, "d_off": 3})
    return make_trainer(
        task,
        network,
        ConsistencyLoss(),
        optimizers[0],
        schedules[0],
        dataset(task),
        evaluator,
        options,
        EPOCHS,
        handlers=handlers,
        adversary=adversary,
    )


def dataset(task: Given) -> Dataset:
    augmentation = [RandFlipd(("image", "label"), prob=0.5), RandGaussianNoised("image", prob=0.5)]
    return Dataset(task.cases("train"), Compose(augmentation))


ENGINES: dict[str, Build] = {"supervised": supervised, "refinement": refinement}


class Training:
    """A trainer with its curves: what each iteration, epoch and validation had."""

    def __init__(self, build: Build, task: Given, output: str, resume: bool = False) -> None:
        torch.manual_seed(0)
        self.curve: list[tuple[str, int, Any]] = []
        self.trainer = build(task, Options(output, batch_size=2, experiment_name="stops", resume=resume), [self])
        (self.checkpoint,) = [
            handler.__self__
            for handler, *_ in self.trainer._event_handlers[Events.STARTED]
            if type(getattr(handler, "__self__", None)).__name__ == "TrainingCheckpoint"
        ]
        self.evaluator = self.checkpoint.evaluator
        self.evaluator.add_event_handler(
            Events.COMPLETED,
            lambda engine: self.curve.append(("validation", engine.state.epoch, engine.state.metrics["val_ged"])),
        )

    def attach(self, trainer: Any) -> None:
        """As a method's own handler, before the validation."""
        state = trainer.state
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED,
            lambda engine: self.curve.append(("loss", state.iteration, state.output["loss"].item())),
        )
        trainer.add_event_handler(
            Events.EPOCH_COMPLETED, lambda: self.curve.append(("epoch", state.epoch, repr(state.metrics)))
        )

    def run(self) -> Training:
        self.trainer.run()
        return self

    def state(self) -> list[Any]:
        """All that a resumed training must have."""
        modules = [self.trainer.network, *(self.checkpoint.extra.values())]
        states = [module.state_dict() for module in modules] + [self.trainer.optimizer.state_dict()]
        best = torch.load(self.checkpoint.best_path, weights_only=True)
        evaluator = self.evaluator.state
        return [states, best, evaluator.best_metric, evaluator.best_metric_epoch]


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [x for key, inner in value.items() for x in (key, *flat(inner))]
    if isinstance(value, (list, tuple)):
        return [x for inner in value for x in flat(inner)]
    return [value.tolist() if isinstance(value, torch.Tensor) else value]


@pytest.fixture
def task() -> Given:
    generators = [torch.Generator().manual_seed(seed) for seed in range(2 * LENGTH)]
    cases = [
        {"image": torch.rand(1, 8, 8, generator=g), "label": torch.randint(0, 2, (4, 8, 8), generator=g)}
        for g in generators
    ]

    class Split(Given):
        def split(self, datalist: Any) -> dict[str, list]:
            return {**super().split(datalist), "validation": list(datalist)[:VALIDATED]}

    given = Split(cases, ["background", "organ"], num_raters=4)
    given.spatial_dims = 2
    return given


@pytest.fixture
def make(task, make_output) -> Callable[..., Training]:
    def build(engine: str, name: str, **options: Any) -> Training:
        return Training(ENGINES[engine], task, make_output(name), **options)

    return build


_WHOLE: dict[str, tuple[list, list]] = {}


@pytest.fixture
def whole(make) -> Callable[[str], tuple[list, list]]:
    """The curve and the end of a training that was not stopped, of each engine."""

    def get(engine: str) -> tuple[list, list]:
        if engine not in _WHOLE:
            training = make(engine, "whole").run()
            _WHOLE[engine] = training.curve, flat(training.state())
        return _WHOLE[engine]

    return get


def signal_in_loss(training: Training, number: int, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = training.checkpoint.extra["loss"]
    calls = count(1)
    loss.register_forward_hook(lambda *_: signal.raise_signal(number) if next(calls) == nth else None)


def signal_in_step(training: Training, number: int, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two groups, of which the first has stepped."""
    optimizer, seen = training.trainer.optimizer, count(1)
    adam = ADAM.adam

    def step(params: Any, *args: Any, **kwargs: Any) -> None:
        adam(params, *args, **kwargs)
        if params[0] is optimizer.param_groups[0]["params"][0] and next(seen) == nth:
            signal.raise_signal(number)

    monkeypatch.setattr(ADAM, "adam", step)


def signal_in_validation(training: Training, number: int, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first case of the ``nth`` validation, the first being that of the untrained network."""
    calls = count()
    training.evaluator.add_event_handler(
        IterationEvents.FORWARD_COMPLETED,
        lambda: signal.raise_signal(number) if next(calls) == VALIDATED * (nth - 1) else None,
    )


# Where the signal comes, and the iteration that the state on disk is of.
STOPS = [
    *((signal_in_loss, nth, done) for nth, done in ((1, 1), (LENGTH, LENGTH), (LENGTH + 2, LENGTH + 2))),
    *((signal_in_step, nth, done) for nth, done in ((1, 1), (2 * LENGTH, 2 * LENGTH), (LENGTH + 1, LENGTH + 1))),
    *((signal_in_validation, nth, done) for nth, done in ((1, 0), (2, LENGTH), (1 + EPOCHS, EPOCHS * LENGTH))),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("where", "nth", "done"), STOPS)
def test_a_stop_anywhere_is_as_if_it_had_not_been(make, whole, monkeypatch, engine, where, nth, done) -> None:
    number, error = (signal.SIGTERM, SystemExit) if nth % 2 else (signal.SIGINT, KeyboardInterrupt)
    curve, end = whole(engine)
    with monkeypatch.context() as patch:
        stopped = make(engine, "run")
        where(stopped, number, nth, patch)
        with pytest.raises(error) as raised:
            stopped.run()
    if error is SystemExit:
        assert raised.value.code == 128 + signal.SIGTERM
    path = stopped.checkpoint.last_path
    assert path.exists() == (done > 0)
    if done:
        assert torch.load(path, weights_only=True)["trainer"]["iteration"] == done
    torch.rand(5)
    resumed = make(engine, "run", resume=True).run()
    assert stopped.curve + resumed.curve == curve
    assert flat(resumed.state()) == end


@pytest.mark.parametrize("engine", ENGINES)
def test_what_cannot_wait_leaves_the_last_state_as_it_is(make, whole, monkeypatch, engine) -> None:
    """A third Ctrl-C within a step, and an error there: half of the weights have stepped."""
    curve, end = whole(engine)
    stopped = make(engine, "run")
    adam, seen = ADAM.adam, count(1)
    first = stopped.trainer.optimizer.param_groups[0]["params"][0]

    def step(params: Any, *args: Any, **kwargs: Any) -> None:
        adam(params, *args, **kwargs)
        if params[0] is first and next(seen) == LENGTH + 2:
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(ADAM, "adam", step)
        with pytest.raises(KeyboardInterrupt):
            stopped.run()
    assert torch.load(stopped.checkpoint.last_path, weights_only=True)["trainer"]["iteration"] == LENGTH
    resumed = make(engine, "run", resume=True).run()
    assert resumed.curve == curve[curve.index(next(e for e in curve if e[:2] == ("loss", LENGTH + 1))) :]
    assert flat(resumed.state()) == end
