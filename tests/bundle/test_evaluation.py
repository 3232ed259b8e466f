# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_stochseg.bundle import evaluation_handlers, sample_metrics, validation_handlers
from monai_stochseg.bundle.evaluation import CURVE
from monai_stochseg.handlers import CaseTable, SampleFigure, WeightsLoader

NAMES = (
    *("ged", "ged_curve", "hm_iou", "diversity", "rater_diversity", "dice", "dice_nonempty", "ambiguity"),
    *("diversity_correlation", "empty_correlation", "ece"),
)


def output(num_samples: int) -> list[dict[str, torch.Tensor]]:
    """Two images of an evaluator; the first sample of each is the only one that the readers agree with."""
    items = []
    for size in (2, 3):
        label = torch.zeros(2, 6, 6, dtype=torch.uint8)
        label[:, :size, :size] = 1
        samples = torch.zeros(num_samples, 6, 6, dtype=torch.uint8)
        samples[0] = label[0]
        foreground = samples.float().mean(0)
        items.append({"samples": samples, "label": label, "probabilities": torch.stack([1 - foreground, foreground])})
    return items


def value(
    name: str, num_samples: int = 4, first: dict[str, int] | None = None, **weights: torch.Tensor
) -> torch.Tensor:
    handler = sample_metrics(2, [name], first)[name]
    y_pred, y = handler._output_transform([item | weights for item in output(num_samples)])
    handler.metric_fn(y_pred=y_pred, y=y)
    return torch.as_tensor(handler.metric_fn.aggregate())


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_takes_an_evaluators_output(name):
    assert value(name, max(CURVE)).numel() == (len(CURVE) if name == "ged_curve" else 1)


def test_first_is_of_the_samples():
    """4 samples of which one agrees: 2 * 3/4 - (1 - 1/16 - 9/16) = 9/8; the first alone: 0."""

    def ged(first: dict[str, int] | None = None) -> float:
        return value("ged", first=first).item()

    assert ged() == pytest.approx(9 / 8)
    assert ged({"ged": 1}) == pytest.approx(0)
    assert ged({"dice": 1}) == pytest.approx(9 / 8)


WEIGHTS = torch.tensor([0.4, 0.2, 0.2, 0.2])


def test_weights_reach_the_metrics():
    """2 * 3/5 - (1 - 4/25 - 9/25) = 18/25."""
    assert value("ged", sample_weights=WEIGHTS).item() == pytest.approx(18 / 25)
    assert value("diversity", sample_weights=WEIGHTS).item() == pytest.approx(12 / 25)
    for name in NAMES:
        if name != "ged_curve":
            assert value(name, sample_weights=WEIGHTS, label_weights=torch.tensor([0.25, 0.75])).numel() == 1


def test_the_first_of_weighted_samples_are_an_error():
    with pytest.raises(ValueError, match="first=1 needs samples that weigh the same"):
        value("ged", first={"ged": 1}, sample_weights=WEIGHTS)
    with pytest.raises(ValueError, match="EnergyDistanceCurveMetric knows no weights of the maps in y_pred"):
        value("ged_curve", sample_weights=WEIGHTS)


def test_unknown_names_are_told():
    with pytest.raises(ValueError, match=r"names must be of \['ambiguity', .*\], got \['geed'\]"):
        sample_metrics(2, ["ged", "geed"])


def test_the_table_has_the_metrics_of_cases(tmp_path):
    metrics = {name: handler.metric_fn for name, handler in sample_metrics(2, NAMES).items()}
    loader, table, figure = evaluation_handlers(nn.Identity(), "model.pt", str(tmp_path), "test", ("a", "b"), metrics)
    assert isinstance(loader, WeightsLoader)
    assert isinstance(table, CaseTable)
    assert isinstance(figure, SampleFigure)
    assert table.filename == tmp_path / "evaluation_test.csv"
    assert figure.filename == tmp_path / "samples_test.png"
    assert "ged" in table.metrics
    assert metrics.keys() - table.metrics.keys() == {"diversity_correlation", "empty_correlation", "ece"}


def test_only_the_first_process_prints(tmp_path, monkeypatch):
    assert len(validation_handlers(str(tmp_path), ("a", "b"))) == 2
    monkeypatch.setenv("RANK", "1")
    assert len(validation_handlers(str(tmp_path), ("a", "b"))) == 1
