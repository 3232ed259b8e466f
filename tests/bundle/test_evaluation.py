# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from given import Given
from monai.transforms import CenterSpatialCropd
from torch import nn

from monai_stochseg.bundle import Options, make_evaluator
from monai_stochseg.bundle.evaluation import is_lower
from monai_stochseg.data import CaseError
from monai_stochseg.distributions import with_weights
from monai_stochseg.handlers import CaseTable, SampleFigure, WeightsLoader
from monai_stochseg.metrics import LabelMapDistance
from monai_stochseg.networks.nets import BilinearUNet, DeterministicSampler
from monai_stochseg.tasks.ambiguity import fitted_ambiguity
from monai_stochseg.tasks.sample_metrics import CURVE, first_samples, sample_metric, uncertainty_draws

NAMES = (
    *("ged", "ged_curve", "hm_iou", "diversity", "rater_diversity", "dice", "dice_nonempty", "ambiguity"),
    *("diversity_correlation", "empty_correlation", "ece", "ece_foreground", "brier", "calibration_gap"),
    *("mode_dice", "mode_dice_nonempty", "mode_dice_rater1", "case_dice"),
)


def asked() -> Given:
    cases = [
        {"image": torch.rand(1, 16, 16), "label": torch.randint(0, 2, (2, 16, 16), dtype=torch.uint8)} for _ in "ab"
    ]
    task = Given(cases, ["background", "organ"], num_raters=2)
    task.spatial_dims = 2
    return task


@pytest.mark.parametrize(
    ("current", "best", "better"),
    [(0.1, 0.2, True), (0.2, 0.1, False), (0.1, 0.1, False), (0.1, math.nan, True), (math.nan, 0.1, False)],
)
def test_lower_is_better_and_anything_is_better_than_nothing(current, best, better) -> None:
    assert is_lower(current, best) == better


def test_an_undefined_first_value_is_replaced(tmp_path, monkeypatch) -> None:
    """The engine compares by :py:func:`is_lower`: a NaN before training is not the best for ever."""
    task = asked()
    evaluator = make_evaluator(task, DeterministicSampler(BilinearUNet(2, 1, 2, (2, 4))), Options(str(tmp_path)))
    values = iter([math.nan, 0.4, 0.6])
    metric = task.metric("ged").metric.__class__
    monkeypatch.setattr(metric, "aggregate", lambda self, *args: torch.tensor(next(values)))
    best = []
    for epoch in range(3):
        evaluator.run(epoch + 1)
        best.append(evaluator.state.best_metric)
    assert best[1:] == [pytest.approx(0.4)] * 2


def output(num_samples: int) -> list[dict[str, torch.Tensor]]:
    """Two images of an evaluator; the first sample of each is the only one that the readers agree with."""
    items = []
    for size in (2, 3):
        label = torch.zeros(2, 6, 6, dtype=torch.uint8)
        label[:, :size, :size] = 1
        samples = torch.zeros(num_samples, 6, 6, dtype=torch.uint8)
        samples[0] = label[0]
        foreground = samples.float().mean(0)
        probabilities = torch.stack([1 - foreground, foreground])
        items.append({"samples": samples, "label": label, "probabilities": probabilities, "pred": probabilities})
    return items


def value(
    name: str,
    num_samples: int = 4,
    first: int | None = None,
    sample_weights: torch.Tensor | None = None,
    rater_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    task_metric = asked().metric(name)
    if first is not None:
        task_metric = first_samples(task_metric, first)
    items = [
        {
            **item,
            "samples": with_weights(item["samples"], sample_weights),
            "label": with_weights(item["label"], rater_weights),
        }
        for item in output(num_samples)
    ]
    y_pred, y = task_metric.output_transform(items)
    task_metric.metric(y_pred=y_pred, y=y)
    return torch.as_tensor(task_metric.metric.aggregate())


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_takes_an_evaluators_output(name) -> None:
    assert value(name, max(CURVE)).numel() == {"ged_curve": len(CURVE), "case_dice": 7}.get(name, 1)


def test_first_is_of_the_samples() -> None:
    """4 samples of which one agrees: 2 * 3/4 - (1 - 1/16 - 9/16) = 9/8; the first alone: 0."""
    assert value("ged").item() == pytest.approx(9 / 8)
    assert value("ged", first=1).item() == pytest.approx(0)


def test_both_uncertainties_of_voxels_that_are_not_void() -> None:
    """Given two draws of the weights a voxel has 1/2 and 1: log 2 / 2 is aleatoric; the void voxels have another."""
    given = torch.zeros(2, 2, 2, 2)
    given[0, :, 0], given[1, 1, 0] = 0.5, 1.0
    given[:, 0, 1] = 1.0
    label = torch.tensor([[[0, 1], [255, 0]], [[0, 1], [0, 255]]])
    names = ["uncertainty", "aleatoric_uncertainty", "epistemic_uncertainty"]
    whole = 2 * math.log(2) - 0.75 * math.log(3)
    expected = torch.tensor([whole, math.log(2) / 2, whole - math.log(2) / 2])
    for ignore_index, share in ((255, 1.0), (None, 0.5)):
        metric, output_transform = sample_metric("uncertainty", LabelMapDistance(2, ignore_index=ignore_index))
        y_pred, y = output_transform([{"weight_probabilities": given, "label": label}])
        metric(y_pred=y_pred, y=y)
        torch.testing.assert_close(metric.aggregate(), share * expected)
        assert metric.names == names


def test_the_draws_that_an_uncertainty_asks_for() -> None:
    assert uncertainty_draws(["ged", "dice"]) is None
    assert uncertainty_draws(["ged", "uncertainty"]) == (10, 10)
    assert uncertainty_draws(["uncertainty_20x5"]) == (20, 5)
    with pytest.raises(ValueError, match=r"one number of draws of the weights, got \[\(10, 10\), \(20, 5\)\]"):
        uncertainty_draws(["uncertainty_20x5", "uncertainty"])
    with pytest.raises(ValueError, match=r"metrics must be of .*'uncertainty'"):
        asked().metric("uncertainty_20x")


WEIGHTS = torch.tensor([0.4, 0.2, 0.2, 0.2])


def test_weights_reach_the_metrics() -> None:
    """2 * 3/5 - (1 - 4/25 - 9/25) = 18/25."""
    assert value("ged", sample_weights=WEIGHTS).item() == pytest.approx(18 / 25)
    assert value("diversity", sample_weights=WEIGHTS).item() == pytest.approx(12 / 25)
    for name in ("ged", "hm_iou", "dice", "dice_nonempty", "diversity_correlation", "empty_correlation", "ece"):
        assert value(name, sample_weights=WEIGHTS, rater_weights=torch.tensor([0.25, 0.75])).numel() == 1


def test_the_first_of_weighted_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="first=1 needs samples that weigh the same"):
        value("ged", first=1, sample_weights=WEIGHTS)


def test_an_unknown_metric_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"metrics must be of \['ambiguity', .*\], got 'geed'"):
        make_evaluator(asked(), nn.Identity(), Options(str(tmp_path)), metrics=["ged", "geed"])


def handlers_of(monkeypatch: pytest.MonkeyPatch, **options: object) -> dict[str, object]:
    """What the engine is made of."""
    seen: dict[str, object] = {}
    monkeypatch.setattr("monai_stochseg.bundle.evaluation.StochasticEvaluator", lambda **kwargs: seen.update(kwargs))
    make_evaluator(asked(), nn.Identity(), **options)
    return seen


def test_the_table_has_the_metrics_of_cases(tmp_path, monkeypatch) -> None:
    run = Options(str(tmp_path))
    seen = handlers_of(monkeypatch, options=run, part="test", checkpoint="model.pt", metrics=NAMES, first={"ged": 2})
    loader, table, figure, *_ = seen["val_handlers"]
    assert isinstance(loader, WeightsLoader)
    assert loader.signature == asked().signature
    assert isinstance(table, CaseTable)
    assert isinstance(figure, SampleFigure)
    assert table.filename == tmp_path / "evaluation_test.csv"
    assert figure.filename == tmp_path / "samples_test.png"
    assert set(NAMES) == set(table.metrics)
    assert list(seen["key_val_metric"]) == [f"val_{name}" for name in NAMES]


def test_only_the_first_process_prints(tmp_path, monkeypatch) -> None:
    run = Options(str(tmp_path))
    assert len(handlers_of(monkeypatch, options=run)["val_handlers"]) == 3
    monkeypatch.setenv("RANK", "1")
    assert len(handlers_of(monkeypatch, options=run)["val_handlers"]) == 2


def test_further_transforms_act_on_image_and_label(tmp_path) -> None:
    network = DeterministicSampler(BilinearUNet(2, 1, 2, (2, 4)))
    crop = CenterSpatialCropd(["image", "label"], (8, 8))
    evaluator = make_evaluator(asked(), network, Options(str(tmp_path)), transforms=[crop], num_samples=2)
    evaluator.run()
    assert evaluator.state.metrics.keys() == {"val_ged", "val_diversity", "val_hm_iou", "val_dice"}
    assert evaluator.state.output[0]["samples"].shape == (2, 8, 8)
    assert evaluator.state.output[0]["label"].shape == (2, 8, 8)


def test_values_by_hand_of_the_single_answer_and_the_foreground() -> None:
    """The answer of 4 samples, of which one is the readers', is empty: Dice 0, and its foreground has 1/4."""
    assert value("mode_dice").item() == 0
    assert value("mode_dice", first=None, num_samples=1).item() == 1
    assert value("mode_dice_rater1", num_samples=1, rater_weights=torch.tensor([1.0, 0.0])).isnan()
    assert value("mode_dice_rater0", num_samples=1, rater_weights=torch.tensor([1.0, 0.0])).item() == 1
    voxels, drawn = 2 * 36, 4 + 9
    assert value("ece").item() == pytest.approx((drawn * 0.75 + 0) / voxels)
    assert value("ece_foreground").item() == pytest.approx(drawn * 0.75 / voxels)


def test_the_foreground_is_all_its_classes() -> None:
    """Of two classes of 0.3 and 0.2 the foreground has 0.5, and it is always there."""
    task = Given([], ["background", "organ", "tumour"])
    metric, output_transform = task.metric("ece_foreground")
    probabilities = torch.tensor([0.5, 0.3, 0.2]).reshape(3, 1, 1).expand(3, 4, 4)
    y_pred, y = output_transform([{"probabilities": probabilities, "label": torch.full((1, 4, 4), 2)}])
    metric(y_pred=y_pred, y=y)
    assert float(metric.aggregate()) == pytest.approx(0.5)


def test_the_fitted_threshold_is_the_one_that_is_applied(tmp_path) -> None:
    file = tmp_path / "ambiguity_validation.csv"
    file.write_text("threshold,accuracy,cases\n0.25,1,4\n")
    metric = fitted_ambiguity(tmp_path, asked().metric("ambiguity")).metric
    assert metric.threshold == 0.25
    shown = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0]]).reshape(2, 4, 1, 1)  # by a quarter of the samples, and by half
    assert metric(shown, shown[1:].expand(2, -1, -1, -1)).tolist() == [[0.0], [1.0]]
    for wrong in ("", "threshold,accuracy,cases\n", "threshold,accuracy,cases\n0.7,1,4\n", "a,b,c\n0.1,1,4\n"):
        file.write_text(wrong)
        with pytest.raises(CaseError, match="is no table of threshold, accuracy, cases"):
            fitted_ambiguity(tmp_path, asked().metric("ambiguity"))


def test_the_curve_may_be_the_key_metric(tmp_path) -> None:
    network = DeterministicSampler(BilinearUNet(2, 1, 2, (2, 4)))
    run = Options(str(tmp_path))
    evaluator = make_evaluator(asked(), network, run, num_samples=100, metrics=["ged_curve", "ged"])
    evaluator.run()
    assert evaluator.state.metrics["val_ged_curve"] == pytest.approx(evaluator.state.metrics["val_ged"])
    with pytest.raises(ValueError, match="case_dice has several columns and cannot be the first"):
        make_evaluator(asked(), network, run, metrics=["case_dice"])
