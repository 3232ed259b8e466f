# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from given import Given
from ignite.engine import Engine, Events
from mlflow import MlflowClient
from monai.data import Dataset
from torch import nn

from monai_stochseg.bundle import Adversary, Options, make_evaluator, make_trainer
from monai_stochseg.bundle.training import _takes_label
from monai_stochseg.engines import AdversarialRefinementTrainer
from monai_stochseg.handlers import NonFiniteError, TrainingCheckpoint
from monai_stochseg.losses import ConsistencyLoss, ELBOLoss
from monai_stochseg.networks import nets

EPOCHS, EPOCH_LENGTH = 4, 3


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def task() -> Given:
    cases = [
        {"image": torch.rand(1, 8, 8, generator=g), "label": torch.randint(0, 2, (4, 8, 8), generator=g)}
        for g in map(generator, range(2 * EPOCH_LENGTH))
    ]
    given = Given(cases, ["background", "organ"], num_raters=4)
    given.spatial_dims = 2
    return given


@pytest.fixture
def make(task, make_output):
    """Make a trainer of 4 epochs of 3 iterations, whose discriminator steps twice and then rests three times."""

    def build(name: str, max_epochs: int = EPOCHS, **options: Any) -> AdversarialRefinementTrainer:
        torch.manual_seed(0)
        calibration = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2))
        network = nets.CalibratedAdversarialRefinement(calibration, nets.RefinementNetwork(2, 1, 2, 2, channels=(4, 8)))
        discriminator = nets.RefinementDiscriminator(2, 1, 2, channels=(4, 8))
        optimizers = [
            torch.optim.Adam(module.parameters(), lr=0.01, betas=(0.5, 0.99), weight_decay=5e-4)
            for module in (network.refinement, discriminator)
        ]
        schedulers = [torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5) for optimizer in optimizers]
        run = Options(make_output(name), batch_size=2, experiment_name="refinement", **options)
        return make_trainer(
            task,
            network,
            ConsistencyLoss(),
            optimizers[0],
            schedulers[0],
            Dataset(task.cases("train")),
            make_evaluator(task, network, run, num_samples=2, metrics=["ged"]),
            run,
            max_epochs,
            adversary=Adversary(discriminator, optimizers[1], schedulers[1], {"num_samples": 2, "d_on": 2, "d_off": 3}),
        )

    return build


def everything(trainer: AdversarialRefinementTrainer) -> list[torch.Tensor]:
    optimizers = (trainer.optimizer, trainer.discriminator_optimizer)
    moments = [v for o in optimizers for s in o.state_dict()["state"].values() for v in s.values()]
    weights = [v for m in (trainer.network, trainer.discriminator) for v in m.state_dict().values()]
    return [*moments, *weights, torch.tensor([o.param_groups[0]["lr"] for o in optimizers])]


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_a_refinement_that_was_interrupted_continues_bit_for_bit(make):
    """The discriminator's alternation too."""
    whole = make("whole")
    whole.run()
    stopped = make("run")
    stopped.add_event_handler(Events.EPOCH_STARTED(once=3), _interrupt)
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    torch.rand(7)
    resumed = make("run", resume=True)
    steps = []
    resumed.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: steps.append("discriminator_loss" in engine.state.output)
    )
    resumed.run()
    assert steps == [(i % 5) < 2 for i in range(2 * EPOCH_LENGTH, EPOCHS * EPOCH_LENGTH)]
    pairs = list(zip(everything(resumed), everything(whole), strict=True))
    assert all(torch.equal(*pair) for pair in pairs)
    assert pairs[-1][0].tolist() == pytest.approx([0.0025, 0.0025])


def test_the_tracker_logs_what_shows_a_collapse_with_its_epoch(make, tmp_path):
    trainer = make("logged", max_epochs=2)
    seen = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen.append(dict(engine.state.metrics)))
    trainer.run()
    client = MlflowClient(f"sqlite:///{tmp_path / 'logged' / 'mlruns.db'}")
    (logged,) = client.search_runs(client.get_experiment_by_name("refinement").experiment_id)
    for name in ("sample_diversity", "calibration_gap", "discriminator_accuracy"):
        history = client.get_metric_history(logged.info.run_id, name)
        assert [(m.step, m.value) for m in history] == [(i + 1, pytest.approx(seen[i][name])) for i in range(2)]


def test_a_discriminator_that_is_not_finite_stops_the_training(make):
    trainer = make("guarded")
    trainer.discriminator.head[0].weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NonFiniteError, match=r"the norm of the gradient is nan, of head.0.weight first"):
        trainer.run()


class Recorder:
    """Notes what is attached before it and whether it runs."""

    attached = False

    def attach(self, engine: Engine) -> None:
        self.attached = True


def train(task: Given, output: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[list[Any], Recorder]:
    """The handlers of a training."""
    seen: list[Any] = []
    monkeypatch.setattr(
        "monai_stochseg.bundle.training.SupervisedTrainer", lambda train_handlers, **kwargs: seen.extend(train_handlers)
    )
    network = nets.ProbabilisticUNet(2, 1, 2, channels=(2, 4), latent_dim=2)
    optimizer = torch.optim.Adam(network.parameters())
    own, run = Recorder(), Options(output, parameters={"rank": 1}, **options)
    make_trainer(
        task,
        network,
        ELBOLoss(target_reconstruction=1.0),
        optimizer,
        torch.optim.lr_scheduler.ConstantLR(optimizer),
        Dataset(task.cases("train")),
        make_evaluator(task, network, run),
        run,
        1,
        handlers=[own],
    )
    return seen, own


def test_the_handlers_stand_in_their_order(task, make_output, monkeypatch):
    output = make_output()
    handlers, own = train(task, output, monkeypatch)
    assert [type(handler).__name__ for handler in handlers] == [
        "FolderLock",
        "TrainingCheckpoint",
        "RunConfig",
        "EpochSeed",
        "Recorder",
        "MLFlowTracker",
        "LossGuard",
        "LrScheduleHandler",
        "TrainingValidation",
        "TrainingProgress",
        "StatsHandler",
    ]
    checkpoint, tracker = handlers[1], handlers[5]
    assert handlers[4] is own
    assert isinstance(checkpoint.extra["loss"], ELBOLoss)
    assert checkpoint.signature == task.signature
    assert checkpoint.companions == []
    assert tracker.experiment_param.items() >= {"rank": 1, "task": "Given", "seed": 0}.items()
    tracker.close()


def test_a_drawn_split_is_recorded_and_belongs_to_the_run(task, make_output, monkeypatch):
    task.draws_split = True
    output = make_output()
    handlers, _ = train(task, output, monkeypatch)
    assert [type(handler).__name__ for handler in handlers[4:6]] == ["SplitRecord", "Recorder"]
    companion = str(Path(output) / "split.json")
    assert [str(path) for path in handlers[1].companions] == [companion]
    assert companion in handlers[6].artifacts
    handlers[6].close()


def test_resume_is_told_to_the_checkpoint(task, make_output, tmp_path, monkeypatch):
    handlers, _ = train(task, make_output(), monkeypatch, resume=str(tmp_path / "other.pt"))
    assert isinstance(handlers[1], TrainingCheckpoint)
    assert handlers[1].resume_path == tmp_path / "other.pt"
    handlers[5].close()


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nets.ProbabilisticUNet(2, 1, 2, channels=(2, 4)), True),
        (nn.DataParallel(nets.ProbabilisticUNet(2, 1, 2, channels=(2, 4))), True),
        (nets.Image2ImageVAE(2, 1, 2, (2, 4)), True),
        (nets.BilinearUNet(2, 1, 2, (2, 4)), False),
        (nets.MixtureOfStochasticExpertsUNet(2, 1, 2, (2, 4), num_experts=2), False),
    ],
)
def test_a_posterior_takes_the_label(network, expected):
    assert _takes_label(network) == expected
