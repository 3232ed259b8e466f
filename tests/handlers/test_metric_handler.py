# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import from_engine
from monai.metrics import MAEMetric

from monai_stochseg.handlers import MetricHandler
from monai_stochseg.metrics import SampleDiversityMetric

SAMPLES = torch.tensor([[[0, 1]], [[1, 1]]])
KEYS = from_engine(["samples", "samples"])


def run(handler: MetricHandler, batches: list[list[dict]]) -> dict[str, float]:
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine, "value")
    return engine.run(batches).metrics


def test_an_empty_batch_is_no_case():
    item = {"samples": SAMPLES[:, 0]}
    value = run(MetricHandler(metric_fn=SampleDiversityMetric(2), output_transform=KEYS), [[item], []])["value"]
    assert value == run(MetricHandler(metric_fn=SampleDiversityMetric(2), output_transform=KEYS), [[item]])["value"]


@pytest.mark.parametrize("own", [[], [{"a": torch.ones(1, 2), "b": torch.zeros(1, 2)}]])
def test_a_process_without_a_case_has_the_value_of_the_others(monkeypatch, own):
    """Of MONAI's metrics too."""
    monkeypatch.setattr(
        "monai_stochseg.handlers.metric_handler.gather", lambda buffers: [buffers, [torch.tensor([[4.0], [7.0]])]]
    )
    metric = MAEMetric()
    value = run(MetricHandler(metric_fn=metric, output_transform=from_engine(["a", "b"])), [own])["value"]
    expected = [*([1.0] if own else []), 4.0, 7.0]
    assert value == pytest.approx(sum(expected) / len(expected))
    assert metric.get_buffer().flatten().tolist() == expected
