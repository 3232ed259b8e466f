# SPDX-License-Identifier: Apache-2.0
"""A rater of weight 0 is missing: whatever its map holds, all figures are those of the raters who are there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import PrepareBatchExtraInput, SupervisedTrainer
from monai.handlers import IgniteMetricHandler, from_engine
from torch import nn

from monai_stochseg import losses, metrics
from monai_stochseg.distributions import (
    ExpertSamples,
    Gaussian,
    LatentLevel,
    LatentOutput,
    RefinementOutput,
    check_labels,
    check_weights,
    weights_of,
    with_weights,
)
from monai_stochseg.engines import AdversarialRefinementTrainer, StochasticEvaluator
from monai_stochseg.networks.nets import (
    CalibratedAdversarialRefinement,
    DeterministicSampler,
    ProbabilisticUNet,
    RefinementDiscriminator,
    RefinementNetwork,
)

BATCH, CLASSES, SHAPE, VOID = 4, 3, (6, 5), 255
GARBAGE = [float("nan"), 255.0, 99.0, -3.0, 0.5, float("inf")]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def raters(missing: int, void: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Labels of the two who are there; with a third of garbage at place ``missing``; and the weights of the three."""
    two = torch.randint(CLASSES, (BATCH, 2, *SHAPE), generator=generator()).float()
    if void:
        two[torch.rand(two.shape, generator=generator(1)) < 0.2] = VOID
    garbage = torch.tensor(GARBAGE)[torch.randint(len(GARBAGE), (BATCH, 1, *SHAPE), generator=generator(2))]
    three = torch.cat([two[:, :missing], garbage, two[:, missing:]], dim=1)
    weights = torch.ones(BATCH, 3)
    weights[:, missing] = 0
    return two, three, weights


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(3)).requires_grad_()


def rater_cross_entropy():
    x = normal(BATCH, CLASSES, *SHAPE)
    return losses.RaterCrossEntropyLoss(VOID), x, x


def multiple_hypotheses():
    x = normal(BATCH, 2, CLASSES, *SHAPE)
    return losses.MultipleHypothesesLoss(ignore_index=VOID), x, x


def optimal_transport(**options):
    x = normal(BATCH, 4, CLASSES, *SHAPE)
    samples = ExpertSamples(x, torch.full((BATCH, 4), 0.25), 2)
    return losses.OptimalTransportLoss(ignore_index=VOID, gamma=0.5, **options), samples, x


def ssn():
    x = normal(BATCH, CLASSES * 4, *SHAPE)
    loss = losses.SSNLoss(CLASSES, rank=2, num_samples=4, raters="mean", ignore_index=VOID)
    return lambda *args: loss(*args, generator=generator(4)), x, x


def consistency(kind: str):
    x = normal(BATCH, 4, CLASSES, *SHAPE)
    code = normal(BATCH, 2)
    calibration = torch.rand(BATCH, CLASSES, *SHAPE, generator=generator(5)).softmax(1)
    loss = losses.ConsistencyLoss(kind, ignore_index=VOID)
    return loss, RefinementOutput(x, calibration, code, torch.zeros_like(code)), code if kind == "latent" else x


LOSSES: dict[str, Callable] = {
    "cross entropy": rater_cross_entropy,
    "multiple hypotheses": multiple_hypotheses,
    "transport, iou": optimal_transport,
    "transport, ce": lambda: optimal_transport(cost="ce"),
    "transport, exact": lambda: optimal_transport(solver="exact"),
    "transport, uniform": lambda: optimal_transport(rater_weighting=0.0),
    "ssn": ssn,
    "calibration": lambda: consistency("calibration"),
    "control": lambda: consistency("cross_entropy"),
    "latent": lambda: consistency("latent"),
    "cvae_gan": lambda: consistency("cvae_gan"),
}


@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_that_of_the_raters_who_are_there(name, missing):
    two, three, weights = raters(missing, void=True)
    loss, output, x = LOSSES[name]()
    values = loss(output, two), loss(output, three, weights)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in values))


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_the_evidence_bound_reads_the_rater_that_was_drawn(missing):
    two, three, weights = raters(missing, void=True)
    zero, rater = torch.zeros(BATCH, 2), torch.tensor([0, 1, 1, 0])
    level = LatentLevel(Gaussian(zero + 1, zero), Gaussian(zero, zero))
    output = LatentOutput(normal(BATCH, CLASSES, *SHAPE), (level,), rater)
    loss = losses.ELBOLoss(ignore_index=VOID)
    moved = output._replace(rater=rater + (rater >= missing))
    torch.testing.assert_close(loss(moved, three, weights), loss(output, two), rtol=0, atol=0)


def test_a_random_rater_is_never_the_missing_one():
    two, three, weights = raters(1)
    loss = losses.SSNLoss(CLASSES, rank=2, mean_only=True, reduction="none")
    x = normal(BATCH, CLASSES * 4, *SHAPE)
    either = torch.stack([loss(x, y) for y in two.split(1, dim=1)])
    seen = torch.stack([loss(x, three, weights, generator=generator(seed)) for seed in range(40)])
    for item in range(BATCH):
        torch.testing.assert_close(seen[:, item].unique(), either[:, item].unique())


@pytest.mark.parametrize("weights", [None, torch.ones(BATCH, 3)])
def test_a_rater_who_is_there_is_checked(weights):
    _, three, _ = raters(1)
    with pytest.raises(ValueError, match="target must hold integer class labels"):
        losses.RaterCrossEntropyLoss()(normal(BATCH, CLASSES, *SHAPE), three, weights)


def test_a_binary_rater_beside_a_missing_one_is_not_taken_for_one_hot_channels():
    label = torch.tensor([[[[0, 1]], [[1, 0]], [[7, 7]]]])
    labels, valid = check_labels(label, 3, weights=check_weights(torch.tensor([[1, 1, 0]]), label))
    assert labels.tolist() == [[[[0, 1]], [[1, 0]], [[0, 0]]]]
    assert valid.tolist() == [[[[True, True]], [[True, True]], [[False, False]]]]


SAMPLES = torch.randint(CLASSES, (BATCH, 5, *SHAPE), generator=generator(6))
PROBABILITIES = torch.rand(BATCH, CLASSES, *SHAPE, generator=generator(7)).softmax(1)
# ModeFrequencyMetric is not among them: a mode of probability 0 is there, and samples may be nearest to it.
METRICS: dict[str, tuple[Callable, torch.Tensor]] = {
    "energy distance": (lambda: metrics.GeneralizedEnergyDistanceMetric(CLASSES), SAMPLES),
    "its curve": (lambda: metrics.EnergyDistanceCurveMetric([2, 5], CLASSES), SAMPLES),
    "matched iou": (lambda: metrics.HungarianMatchedIoUMetric(CLASSES), SAMPLES),
    "matched dice": (lambda: metrics.MaximumDiceMatchMetric(CLASSES), SAMPLES),
    "rater dice": (lambda: metrics.RaterDiceMetric(CLASSES), SAMPLES),
    "volume": (lambda: metrics.VolumeCRPSMetric({"one": [1]}), SAMPLES),
    "diversity correlation": (lambda: metrics.DiversityCorrelationMetric(CLASSES), SAMPLES),
    "empty correlation": (lambda: metrics.EmptyFractionCorrelationMetric(), SAMPLES),
    "ambiguity": (lambda: metrics.AmbiguityAccuracyMetric(), SAMPLES),
    "uncertainty": (lambda: metrics.UncertaintyCorrelationMetric(CLASSES), SAMPLES),
    "brier": (lambda: metrics.BrierScoreMetric(), PROBABILITIES),
    "calibration": (lambda: metrics.ExpectedCalibrationErrorMetric(), PROBABILITIES),
    "calibration of an item": (lambda: metrics.ItemCalibrationErrorMetric(), PROBABILITIES),
    "adaptive calibration": (lambda: metrics.AdaptiveCalibrationErrorMetric(), PROBABILITIES),
}


@pytest.mark.parametrize("missing", [0, 2])
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_that_of_the_raters_who_are_there(name, missing):
    two, three, weights = raters(missing)
    make, y_pred = METRICS[name]
    values = []
    for label in (two, with_weights(three, weights)):
        metric = make()
        metric(list(y_pred), [with_weights(y, w) for y, w in zip(label, weights_of_items(label), strict=True)])
        values.append(torch.as_tensor(metric.aggregate()))
    torch.testing.assert_close(*values, equal_nan=True)


def weights_of_items(label: torch.Tensor) -> list[torch.Tensor | None]:
    weights = weights_of(label)
    return [None] * len(label) if weights is None else list(weights)


def batches(label: torch.Tensor, weights: torch.Tensor | None) -> DataLoader:
    images = torch.rand(BATCH, 1, *label.shape[2:], generator=generator(8))
    items = [{"image": x, "label": y} for x, y in zip(images, label, strict=True)]
    for item, own in zip(items, weights if weights is not None else [], strict=weights is not None):
        item["rater_weights"] = own
    return DataLoader(Dataset(items), batch_size=2)


def test_the_evaluator_gives_the_metrics_of_the_raters_who_are_there():
    two, three, weights = raters(1)
    values = []
    for label, own in ((two, None), (three, weights)):
        torch.manual_seed(0)
        evaluator = StochasticEvaluator(
            torch.device("cpu"),
            batches(label, own),
            DeterministicSampler(nn.Conv2d(1, CLASSES, 3, padding=1)),
            num_samples=2,
            key_val_metric={
                "ged": IgniteMetricHandler(
                    metric_fn=metrics.GeneralizedEnergyDistanceMetric(CLASSES),
                    output_transform=from_engine(["samples", "label"]),
                )
            },
        )
        evaluator.run()
        values.append(evaluator.state.metrics["ged"])
        for item in evaluator.state.output:
            assert ("rater_weights" in item) == (own is not None)
            if own is not None:
                assert item["rater_weights"].tolist() == weights_of(item["label"]).tolist() == [0.5, 0, 0.5]
    assert values[0] == pytest.approx(values[1])


def refinement_trainer(loader: DataLoader) -> AdversarialRefinementTrainer:
    torch.manual_seed(0)
    network = CalibratedAdversarialRefinement(nn.Conv2d(1, CLASSES, 1), RefinementNetwork(2, 1, CLASSES, 2, (4, 8)))
    discriminator = RefinementDiscriminator(2, 1, CLASSES, channels=(4, 8))
    return AdversarialRefinementTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=loader,
        network=network,
        optimizer=torch.optim.SGD((p for p in network.parameters() if p.requires_grad), lr=0.01),
        loss_function=losses.ConsistencyLoss("cross_entropy", ignore_index=VOID),
        discriminator=discriminator,
        discriminator_optimizer=torch.optim.SGD(discriminator.parameters(), lr=0.01),
        num_samples=2,
        ignore_index=VOID,
        decollate=False,
    )


@pytest.mark.parametrize("missing", [0, 1])
def test_the_refinement_is_never_set_against_the_missing_rater(missing, monkeypatch):
    two, three, weights = (torch.nn.functional.pad(x, (0, 3, 0, 2)) if x.ndim > 2 else x for x in raters(missing))
    # the draw of one of two and of three raters differs: both trainings see the same rater of the two
    draws: list[list[int]] = []
    monkeypatch.setattr(
        "monai_stochseg.engines.adversarial_refinement.draw_map",
        lambda w: draws.append((w > 0).tolist()) or torch.stack([row.nonzero()[-1, 0] for row in w]),
    )
    seen = []
    for label, own in ((two, None), (three, weights)):
        outputs: list[dict] = []
        trainer = refinement_trainer(batches(label, own))
        trainer.add_event_handler("ITERATION_COMPLETED", lambda engine, o=outputs: o.append(engine.state.output))
        trainer.run()
        seen.append(outputs)
    assert draws[-1] == (weights[:2] > 0).tolist()
    for one, other in zip(*seen, strict=True):
        for key in ("reals", "loss", "discriminator_loss", "reconstruction_loss"):
            torch.testing.assert_close(one[key], other[key])


def test_the_refinement_draws_by_the_weights():
    _, three, weights = raters(0)
    trainer = refinement_trainer(batches(three, weights))
    reals = {tuple(trainer._draw_reals(three, weights, CLASSES)[0].flatten(1).argmax(1).tolist()) for _ in range(40)}
    maps = [trainer._draw_reals(y[:, None], None, CLASSES)[0].flatten(1).argmax(1) for y in three[:, 1:].unbind(1)]
    expected = [set(x.tolist()) for x in torch.stack(maps, 1)]
    for item in range(BATCH):
        assert {drawn[item] for drawn in reals} <= expected[item]


def test_the_network_with_a_latent_never_draws_the_missing_rater():
    _, three, weights = raters(1)
    three = torch.nn.functional.pad(three, (0, 3, 0, 2))
    torch.manual_seed(0)
    network = ProbabilisticUNet(2, 1, CLASSES, channels=(2, 4), latent_dim=2)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=5,
        train_data_loader=batches(three, weights),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.01),
        loss_function=lambda output, y: losses.ELBOLoss()(output, y, weights[:2]),
        prepare_batch=PrepareBatchExtraInput({"y": "label", "rater_weights": "rater_weights"}),
        decollate=False,
    )
    raters_seen: set[int] = set()
    trainer.add_event_handler(
        "ITERATION_COMPLETED", lambda engine: raters_seen.update(engine.state.output["pred"].rater.tolist())
    )
    trainer.run()
    assert raters_seen == {0, 2}
