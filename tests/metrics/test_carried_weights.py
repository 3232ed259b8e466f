# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine

from monai_stochseg.distributions import with_weights
from monai_stochseg.metrics import (
    AdaptiveCalibrationErrorMetric,
    AmbiguityAccuracyMetric,
    BrierScoreMetric,
    DiversityCorrelationMetric,
    EmptyFractionCorrelationMetric,
    EnergyDistanceCurveMetric,
    EntropyDecompositionMetric,
    ExpectedCalibrationErrorMetric,
    GeneralizedEnergyDistanceMetric,
    HungarianMatchedIoUMetric,
    ItemCalibrationErrorMetric,
    ItemMetric,
    MaximumDiceMatchMetric,
    ModeFrequencyMetric,
    PixelFlipRatioMetric,
    RaterDiceMetric,
    RegionDiceMetric,
    RegionSurfaceDiceMetric,
    SampleDiceMetric,
    SampleDiversityMetric,
    UncertaintyCorrelationMetric,
    VolumeCRPSMetric,
)

# Metrics of samples against raters, of one set, and of probabilities against raters.
PAIRS = {
    "ged": partial(GeneralizedEnergyDistanceMetric, 3),
    "hm_iou": partial(HungarianMatchedIoUMetric, 3),
    "dice": partial(RaterDiceMetric, 3),
    "maximum_dice": partial(MaximumDiceMatchMetric, 3),
    "ambiguity": AmbiguityAccuracyMetric,
    "diversity_correlation": partial(DiversityCorrelationMetric, 3),
    "empty_correlation": EmptyFractionCorrelationMetric,
    "crps": partial(VolumeCRPSMetric, {"one": (1,), "two": (2,)}),
    "uncertainty": partial(UncertaintyCorrelationMetric, 3),
    "flips": partial(PixelFlipRatioMetric, {1: (2, 0.5)}),
}
MODES = {"modes": partial(ModeFrequencyMetric, 2, 3)}
CURVE = {"ged_curve": partial(EnergyDistanceCurveMetric, (1, 2), 3)}
SETS = {"diversity": partial(SampleDiversityMetric, 3), "entropy": partial(EntropyDecompositionMetric, 3)}
PROBABILITIES = {
    "brier": BrierScoreMetric,
    "ece": ExpectedCalibrationErrorMetric,
    "item_ece": ItemCalibrationErrorMetric,
    "tace": AdaptiveCalibrationErrorMetric,
}
ALL = PAIRS | MODES | CURVE | SETS | PROBABILITIES


def keys(name: str) -> list[str]:
    if name in SETS:
        return ["samples", "samples"]  # MONAI's handler always passes a pair
    return ["probabilities" if name in PROBABILITIES else "samples", "label"]


def items(count: int = 2) -> list[dict[str, torch.Tensor]]:
    """Of each item two samples and two raters, the second of which do without class 1."""
    maps = torch.randint(3, (count, 2, 2, 6, 6))
    maps[:, :, 1].clamp_(max=1).mul_(2)
    probabilities = torch.rand(count, 3, 6, 6).softmax(1)
    return [{"samples": s, "label": y, "probabilities": p} for (s, y), p in zip(maps, probabilities, strict=True)]


def weighted(output: list[dict[str, torch.Tensor]], key: str, weights: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    return [item | {key: with_weights(item[key], weights)} for item in output]


def run(metric: ItemMetric, output: list[dict[str, torch.Tensor]], output_transform: Callable) -> float:
    """The value of the metric when MONAI's handler updates it in an engine."""
    engine = Engine(lambda _, batch: batch)
    IgniteMetricHandler(metric_fn=metric, output_transform=output_transform, save_details=False).attach(engine, "value")
    engine.run([output])
    return engine.state.metrics["value"]


def values(name: str, output: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """What the metric keeps of each item."""
    metric = ALL[name]()
    run(metric, output, from_engine(keys(name)))
    return metric.get_buffer()


def check(name: str, key: str) -> None:
    output = items()
    quarters = torch.tensor([3, 1])
    expected = values(name, [item | {key: item[key].repeat_interleave(quarters, 0)} for item in output])
    found = values(name, weighted(output, key, quarters))
    changes = not torch.equal(found, values(name, output))
    assert changes or name == "ambiguity" or (name == "maximum_dice" and key == "samples")  # which ask for no share
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(values(name, weighted(output, key, quarters.half() / 4)), expected)
    missing = torch.full((1, 6, 6), 9)
    with_a_missing = [item | {key: torch.cat([missing, item[key]])} for item in output]
    torch.testing.assert_close(values(name, weighted(with_a_missing, key, torch.tensor([0, 3, 1]))), expected)


@pytest.mark.parametrize("name", [*PAIRS, *MODES, *SETS])
def test_samples_of_a_weight_are_as_many_samples(name: str) -> None:
    check(name, "samples")


@pytest.mark.parametrize("name", [*(name for name in PAIRS if name != "flips"), *CURVE, *PROBABILITIES])
def test_raters_of_a_weight_are_as_many_raters(name: str) -> None:
    check(name, "label")


def test_two_samples_of_different_weight() -> None:
    """Half of the samples agree with the rater, and they have nine tenths of the weight."""
    rater = torch.tensor([[[0, 1]]])
    samples = torch.tensor([[[0, 1]], [[1, 0]]])
    for weights, expected in ((None, 0.5), (torch.tensor([0.9, 0.1]), 0.02), (torch.tensor([9, 1]), 0.02)):
        output = [{"samples": with_weights(samples, weights), "label": rater}]
        value = run(GeneralizedEnergyDistanceMetric(2), output, from_engine(["samples", "label"]))
        assert value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_one_set_in_an_engine(name: str) -> None:
    output = weighted(items(2), "samples", torch.tensor([0.9, 0.1]))
    expected = values(name, output)
    for output_transform in (
        lambda output: (from_engine("samples")(output), None),
        lambda output: ([item["samples"] for item in output], [item["samples"] for item in output]),
    ):
        metric = ALL[name]()
        run(metric, output, output_transform)
        torch.testing.assert_close(metric.get_buffer(), expected)
    with pytest.raises(ValueError, match=r"y must be None, .* judges one set of maps: .* name its key twice"):
        run(ALL[name](), output, from_engine(["samples", "label"]))
    with pytest.raises(ValueError, match=r"y must be None, .* judges one set of maps: .* name its key twice"):
        run(ALL[name](), output, from_engine("samples"))  # the two items as a pair


def test_items_may_be_with_weights_and_without() -> None:
    first, second = items()
    (heavy,) = weighted([first], "samples", torch.tensor([0.75, 0.25]))
    both = values("ged", [heavy, second])
    torch.testing.assert_close(both[1:], values("ged", [second]))
    torch.testing.assert_close(both[:1], values("ged", [heavy]))


def test_a_batch_carries_weights() -> None:
    output = items(3)
    weights = torch.rand(3, 2)
    rows = [weighted([item], "samples", row)[0] for item, row in zip(output, weights, strict=True)]
    samples, label = (torch.stack([item[key] for item in output]) for key in ("samples", "label"))
    found = GeneralizedEnergyDistanceMetric(3)(with_weights(samples, weights), label)
    torch.testing.assert_close(found, values("ged", rows))
    mixed = GeneralizedEnergyDistanceMetric(3)(with_weights(samples, weights), list(label))
    torch.testing.assert_close(mixed, found)
    one = GeneralizedEnergyDistanceMetric(3)(rows[0]["samples"][None], label[:1])
    torch.testing.assert_close(one, found[:1])


@pytest.mark.parametrize(
    "metric",
    [
        EnergyDistanceCurveMetric((1,), 3),
        RegionDiceMetric({"one": (1,)}),
        SampleDiceMetric({"one": (1,)}),
        RegionSurfaceDiceMetric(1.0, {"one": (1,)}),
    ],
)
def test_a_metric_without_weights_says_so(metric: ItemMetric) -> None:
    maps = MetaTensor(torch.ones(2, 6, 6, 6))
    plain = metric([maps], [maps])
    torch.testing.assert_close(metric([with_weights(maps, torch.tensor([3, 3]))], [maps]), plain)
    with pytest.raises(ValueError, match=f"{type(metric).__name__} knows no weights of the maps in y_pred"):
        metric([maps, with_weights(maps, torch.tensor([0.5, 0.4]))], [maps, maps])


def test_probabilities_have_no_weights() -> None:
    probabilities = with_weights(torch.full((2, 4, 4), 0.5), torch.tensor([0.5, 0.4]))
    with pytest.raises(ValueError, match="BrierScoreMetric knows no weights of the maps in y_pred"):
        BrierScoreMetric()([probabilities], [torch.ones(1, 4, 4)])
    with pytest.raises(ValueError, match="BrierScoreMetric knows no weights of the maps in y_pred"):
        BrierScoreMetric()(with_weights(probabilities[None], torch.tensor([[0.5, 0.4]])), torch.ones(1, 1, 4, 4))


MAPS = torch.ones(2, 4, 4)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.5, -0.5], [float("nan"), 1.0]])
def test_bad_weights(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"y_pred_weights must be \[1, 2\], one weight for each map of y_pred, finite"):
        GeneralizedEnergyDistanceMetric(2)([with_weights(MAPS, torch.tensor(weights))], [MAPS])


def test_there_is_a_weight_for_each_map() -> None:
    with pytest.raises(ValueError, match=r"weights must be .* of maps .* of shape \(2, 4, 4\), got \(1,\)"):
        with_weights(MAPS, torch.ones(1))


def test_weights_come_once() -> None:
    carrying = with_weights(MAPS, torch.tensor([0.5, 0.5]))
    metric = GeneralizedEnergyDistanceMetric(2)
    with pytest.raises(ValueError, match="y_weights is given twice, by keyword and with the maps in y: drop one"):
        metric([MAPS], [carrying], y_weights=[torch.tensor([0.5, 0.5])])
    with pytest.raises(ValueError, match="y_pred_weights is given twice"):
        metric(carrying[None], MAPS[None], y_pred_weights=torch.tensor([[0.5, 0.5]]))
    metric([MAPS], [carrying], y_weights=None)
