# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import distributed, multiprocessing

from monai_stochseg.distributions import RefinementOutput
from monai_stochseg.handlers import RefinementMonitor


def output(labels: list[list[int]], calibration: float, accuracy: float) -> dict:
    """Sure samples with these labels of an image, each row one sample, of which any voxel is class 1 in this share."""
    one = torch.tensor(labels, dtype=torch.float)[None, :, None]
    logits = 1e3 * torch.cat([1 - one, one], dim=2)
    target = torch.tensor([1 - calibration, calibration])[None, :, None].expand(1, 2, len(labels[0]))
    code = torch.zeros(1, 1)
    pred = RefinementOutput(logits, target, code, code)
    return {"pred": pred, "loss": torch.zeros(()), "discriminator_accuracy": torch.tensor(accuracy).double()}


ALIKE = output([[0, 1], [0, 1]], calibration=0.5, accuracy=0.5)
DIFFERENT = output([[1, 0], [0, 0]], calibration=0.25, accuracy=1.0)


def run(outputs: list[dict], *handlers, epoch_length: int = 1) -> list[dict]:
    """The metrics of each epoch, as a logger sees them."""
    given = iter(outputs)

    def step(engine, _):
        engine.state.output = next(given)
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        return engine.state.output

    engine = Engine(step)
    engine.register_events(*IterationEvents)
    for handler in handlers:
        handler.attach(engine)
    seen: list[dict] = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(dict(engine.state.metrics)))
    engine.run([0] * epoch_length, max_epochs=len(outputs) // epoch_length)
    return seen


def test_metrics_are_the_means_over_an_epoch():
    first, second = run([ALIKE, DIFFERENT, ALIKE, ALIKE], RefinementMonitor(), epoch_length=2)
    # of the 4 pairs of DIFFERENT, those of a sample with itself included, 2 have distance 1; its gaps are 1/4 both
    expected = {"sample_diversity": 0.25, "calibration_gap": (0.5 + 0.25) / 2, "discriminator_accuracy": 0.75}
    assert first == pytest.approx(expected)
    assert second == pytest.approx({"sample_diversity": 0, "calibration_gap": 0.5, "discriminator_accuracy": 0.5})


@pytest.mark.parametrize(
    ("epochs", "warnings"),
    [
        ([ALIKE, ALIKE], 1),
        ([ALIKE] * 5, 1),
        ([ALIKE, DIFFERENT, ALIKE], 0),
        ([DIFFERENT, ALIKE, ALIKE, DIFFERENT, ALIKE, ALIKE], 2),
        ([DIFFERENT] * 3, 0),
    ],
)
def test_a_collapse_is_warned_of_once(epochs, warnings, caplog):
    with caplog.at_level(logging.WARNING):
        run(epochs, RefinementMonitor(patience=2))
    messages = [r.message for r in caplog.records if "collapse" in r.message]
    assert len(messages) == warnings
    assert all("for 2 epochs" in message and "0.001" in message for message in messages)


def test_nothing_is_kept_from_run_to_run(caplog):
    handler = RefinementMonitor(patience=2)
    for _ in range(2):
        run([ALIKE], handler)
    assert "collapse" not in caplog.text


def _rank(rank, folder):
    distributed.init_process_group("gloo", f"file://{folder}/init", rank=rank, world_size=2)
    (metrics,) = run([(ALIKE, DIFFERENT)[rank]], RefinementMonitor())
    (folder / f"{rank}").write_text(str(metrics["discriminator_accuracy"]))
    distributed.destroy_process_group()


def test_processes_are_averaged(tmp_path):
    multiprocessing.start_processes(_rank, (tmp_path,), nprocs=2, start_method="fork")
    assert [float((tmp_path / f"{rank}").read_text()) for rank in range(2)] == [0.75, 0.75]


def test_errors():
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\) but is -1"):
        RefinementMonitor(threshold=-1)
    with pytest.raises(ValueError, match="patience must be at least 1 epoch but is 0"):
        RefinementMonitor(patience=0)
