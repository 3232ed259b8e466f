# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from functools import partial

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler

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
    WeightedMaps,
    from_evaluator,
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
        return ["samples"]
    return ["probabilities" if name in PROBABILITIES else "samples", "label"]


def items(count: int = 2) -> list[dict[str, torch.Tensor]]:
    """Of each item two samples and two raters, the second of which do without class 1."""
    maps = torch.randint(3, (count, 2, 2, 6, 6))
    maps[:, :, 1].clamp_(max=1).mul_(2)
    probabilities = torch.rand(count, 3, 6, 6).softmax(1)
    return [{"samples": s, "label": y, "probabilities": p} for (s, y), p in zip(maps, probabilities, strict=True)]


def values(name: str, output: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """What the metric keeps of each item when MONAI's handler updates it in an engine."""
    metric = ALL[name]()
    handler = IgniteMetricHandler(metric_fn=metric, output_transform=from_evaluator(keys(name)), save_details=False)
    engine = Engine(lambda _, batch: batch)
    handler.attach(engine, name)
    engine.run([output])
    return metric.get_buffer()


def check(name: str, key: str, weights_key: str) -> None:
    output = items()
    quarters = torch.tensor([3, 1])
    repeated = [item | {key: item[key].repeat_interleave(quarters, 0)} for item in output]
    weighted = [item | {weights_key: quarters / 4} for item in output]
    missing = torch.full((1, 6, 6), 9)
    with_a_missing = [
        item | {key: torch.cat([missing, item[key]]), weights_key: torch.tensor([0, 3, 1]) / 4} for item in output
    ]
    expected = values(name, repeated)
    changes = not torch.equal(values(name, weighted), values(name, output))
    assert changes or name == "ambiguity" or (name == "maximum_dice" and key == "samples")  # which ask for no share
    torch.testing.assert_close(values(name, weighted), expected)
    torch.testing.assert_close(values(name, with_a_missing), expected)


@pytest.mark.parametrize("name", [*PAIRS, *MODES, *SETS])
def test_samples_of_a_weight_are_as_many_samples(name: str) -> None:
    check(name, "samples", "sample_weights")


@pytest.mark.parametrize("name", [*(name for name in PAIRS if name != "flips"), *CURVE, *PROBABILITIES])
def test_raters_of_a_weight_are_as_many_raters(name: str) -> None:
    check(name, "label", "label_weights")


def test_items_may_be_with_weights_and_without() -> None:
    first, second = items()
    both = values("ged", [first | {"sample_weights": torch.tensor([0.75, 0.25])}, second])
    torch.testing.assert_close(both[1:], values("ged", [second]))
    torch.testing.assert_close(both[:1], values("ged", [first | {"sample_weights": torch.tensor([0.75, 0.25])}]))


def test_without_weights_there_are_plain_maps() -> None:
    output = items()
    y_pred, y = from_evaluator(("samples", "label"))(output)
    assert all(a is b["samples"] for a, b in zip(y_pred, output, strict=True))
    assert all(a is b["label"] for a, b in zip(y, output, strict=True))
    assert from_evaluator(["label"])(output)[1] is None


@pytest.mark.parametrize("wrong", ["samples", [], ["samples", "label", "pred"]])
def test_from_evaluator_rejects(wrong: list[str] | str) -> None:
    with pytest.raises(ValueError, match="keys must be a sequence of the key of y_pred and that of y"):
        from_evaluator(wrong)


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
    maps = torch.ones(2, 6, 6, 6)
    with pytest.raises(ValueError, match=f"{type(metric).__name__} knows no weights of the maps in y_pred"):
        metric([WeightedMaps(maps, torch.tensor([0.5, 0.5]))], [maps])


def test_probabilities_have_no_weights() -> None:
    pair = WeightedMaps(torch.full((2, 4, 4), 0.5), torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match="BrierScoreMetric knows no weights of the maps in y_pred"):
        BrierScoreMetric()([pair], [torch.ones(1, 4, 4)])


MAPS = torch.ones(2, 4, 4)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, 0.4], "y_pred_weights must sum to 1"),
        ([1.5, -0.5], "y_pred_weights must be finite and at least 0"),
        ([float("nan"), 1.0], "y_pred_weights must be finite"),
        ([1.0], r"y_pred_weights must have shape \(1, 2\), one per map, got \(1, 1\)"),
    ],
)
def test_bad_weights(weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneralizedEnergyDistanceMetric(2)([WeightedMaps(MAPS, torch.tensor(weights))], [MAPS])


def test_weights_come_once_and_by_item() -> None:
    pair = WeightedMaps(MAPS, torch.tensor([0.5, 0.5]))
    metric = GeneralizedEnergyDistanceMetric(2)
    with pytest.raises(ValueError, match="y_weights is given twice, by keyword and with the maps in y"):
        metric([MAPS], [pair], y_weights=[torch.tensor([0.5, 0.5])])
    with pytest.raises(TypeError, match="y_pred must be a list with one WeightedMaps an item, got a single one"):
        metric(pair, [MAPS, MAPS])
    with pytest.raises(TypeError, match="y must be a list with one WeightedMaps"):
        metric(MAPS, pair)
