# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from mlflow import MlflowClient
from monai.data import Dataset
from torch import nn

from monai_stochseg.bundle import ConsistencyLoss, evaluation_loader, make_refinement_trainer, sample_metrics
from monai_stochseg.engines import AdversarialRefinementTrainer, StochasticEvaluator
from monai_stochseg.handlers import NonFiniteError
from monai_stochseg.networks.nets import (
    CalibratedAdversarialRefinement,
    RefinementDiscriminator,
    RefinementNetwork,
    RefinementOutput,
)

EPOCHS, EPOCH_LENGTH = 4, 3


@pytest.fixture
def make(make_output):
    """Make a trainer of 4 epochs of 3 iterations, whose discriminator steps twice and then rests three times."""
    dataset = Dataset(
        [
            {"image": torch.rand(1, 8, 8, generator=g), "label": torch.randint(0, 2, (4, 8, 8), generator=g)}
            for g in (torch.Generator().manual_seed(i) for i in range(2 * EPOCH_LENGTH))
        ]
    )

    def build(name: str, max_epochs: int = EPOCHS, **kwargs) -> AdversarialRefinementTrainer:
        torch.manual_seed(0)
        calibration = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2))
        network = CalibratedAdversarialRefinement(calibration, RefinementNetwork(2, 1, 2, 2, channels=(4, 8)))
        discriminator = RefinementDiscriminator(2, 1, 2, channels=(4, 8))
        optimizers = [
            torch.optim.Adam(module.parameters(), lr=0.01, betas=(0.5, 0.99), weight_decay=5e-4)
            for module in (network.refinement, discriminator)
        ]
        schedulers = [torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5) for optimizer in optimizers]
        metrics = {f"val_{name}": handler for name, handler in sample_metrics(2, ["ged"]).items()}
        device = torch.device("cpu")
        evaluator = StochasticEvaluator(
            device, evaluation_loader(dataset), network, num_samples=2, key_val_metric=metrics
        )
        return make_refinement_trainer(
            network,
            kwargs.pop("loss", None) or ConsistencyLoss(),
            optimizers[0],
            schedulers[0],
            evaluator,
            dataset,
            discriminator,
            optimizers[1],
            schedulers[1],
            options={"num_samples": 2, "d_on": 2, "d_off": 3},
            output_dir=make_output(name),
            device=device,
            max_epochs=max_epochs,
            batch_size=2,
            experiment_name="refinement",
            parameters={},
            figure=None,
            **kwargs,
        )

    return build


def everything(trainer: AdversarialRefinementTrainer) -> list:
    optimizers = (trainer.optimizer, trainer.discriminator_optimizer)
    moments = [v for o in optimizers for s in o.state_dict()["state"].values() for v in s.values()]
    weights = [v for m in (trainer.network, trainer.discriminator) for v in m.state_dict().values()]
    return [*moments, *weights, torch.tensor([o.param_groups[0]["lr"] for o in optimizers])]


def test_a_resumed_training_continues_bit_for_bit(make):
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
    assert resumed.state.iteration == EPOCHS * EPOCH_LENGTH
    pairs = list(zip(everything(resumed), everything(whole), strict=True))
    assert all(torch.equal(*pair) for pair in pairs)
    assert pairs[-1][0].tolist() == pytest.approx([0.0025, 0.0025])


def _interrupt() -> None:
    raise KeyboardInterrupt


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


def make_output_of_network() -> RefinementOutput:
    logits = torch.tensor([[[[0.0], [1.0]], [[2.0], [0.0]]]])  # [B, N, C, V]
    return RefinementOutput(logits, torch.tensor([[[0.5], [0.5]]]), torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))


def test_consistency_losses():
    output, label = make_output_of_network(), torch.tensor([[[0], [1], [1]]])
    p = output.logits.softmax(2)[0, :, :, 0]
    calibration = (p.mean(0) * (p.mean(0) / 0.5).log()).sum()
    torch.testing.assert_close(ConsistencyLoss()(output, label), calibration, rtol=2e-2, atol=0.0)
    cross_entropy = -(p[:, 0].log() + 2 * p[:, 1].log()).mean() / 3
    torch.testing.assert_close(ConsistencyLoss("cross_entropy")(output, label), cross_entropy)
    assert ConsistencyLoss("latent", beta=3.0)(output, label).item() == pytest.approx(3 * (1 + 4) / 2)


def test_void_voxels_are_left_out():
    seen = make_output_of_network()
    output = seen._replace(logits=seen.logits.repeat(1, 1, 1, 2), calibration=torch.tensor([[[0.5, 1.0], [0.5, 0.0]]]))
    for kind in ("calibration", "cross_entropy"):
        loss = ConsistencyLoss(kind, ignore_index=255)
        expected = loss(seen, torch.tensor([[[0]]]))
        torch.testing.assert_close(loss(output, torch.tensor([[[0, 255]]])), expected)


def test_rejects_an_unknown_loss():
    with pytest.raises(ValueError, match="calibration"):
        ConsistencyLoss("calibrated")
