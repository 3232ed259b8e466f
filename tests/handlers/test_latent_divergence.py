# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import torch
from ignite.engine import Events
from mlflow import MlflowClient
from monai.engines import PrepareBatchExtraInput
from monai.handlers import StatsHandler
from monai.utils import path_to_sqlite_uri
from tiny_training import EPOCH_LENGTH, make_trainer
from torch import distributed, multiprocessing, nn

from monai_stochseg.distributions import Gaussian, LatentLevel, LatentOutput
from monai_stochseg.handlers import LatentDivergence, MLFlowTracker
from monai_stochseg.losses import ELBOLoss
from monai_stochseg.networks.nets import ProbabilisticUNet


class _Scripted(nn.Module):
    """The posterior's mean of iteration i is ``means[i]`` against a standard normal prior: KL of mean^2 / 2."""

    def __init__(self, means: list[list[float]]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.means = iter(means)

    def forward(self, x):
        mean = torch.tensor(next(self.means)).expand(len(x), -1) + self.weight
        zero = torch.zeros_like(mean)
        level = LatentLevel(Gaussian(mean, zero), Gaussian(zero, zero))
        return LatentOutput(x + self.weight, (level,), torch.zeros(len(x)))


class _Record:
    """The trainer's metrics of each epoch, as a logger sees them."""

    def __init__(self) -> None:
        self.metrics: list[dict] = []

    def attach(self, engine):
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: self.metrics.append(dict(e.state.metrics)))


def run(means, *handlers, **kwargs):
    """Epochs of two iterations."""
    trainer = make_trainer(
        handlers, len(means) // 2, _Scripted(means), loss=lambda pred, _: pred.logits.sum(), epoch_length=2, **kwargs
    )
    for group in trainer.optimizer.param_groups:
        group["lr"] = 0.0
    trainer.run()
    return trainer


def test_metrics_are_the_means_over_an_epoch():
    record = _Record()
    run([[0.0, 2.0], [2.0, 2.0], [1.0, 0.0], [1.0, 0.0]], LatentDivergence(), record)
    first, second = record.metrics
    assert isinstance(first["kl"], float)
    assert first["kl"] == pytest.approx(3.0)
    np.testing.assert_allclose(first["kl_dimension"], [1.0, 2.0])
    np.testing.assert_allclose(second["kl_dimension"], [0.5, 0.0])


SMALL, LARGE = [0.1, 0.1], [0.1, 1.0]  # 0.005 nats, and 0.5


@pytest.mark.parametrize(
    ("epochs", "warnings"),
    [
        ([SMALL, SMALL], 1),
        ([SMALL] * 5, 1),
        ([SMALL, LARGE, SMALL], 0),
        ([LARGE, SMALL, SMALL, LARGE], 1),
        ([[float("nan")] * 2] * 3, 0),
    ],
)
def test_a_collapse_is_warned_of_once(epochs, warnings, caplog):
    with caplog.at_level(logging.WARNING):
        run([mean for mean in epochs for _ in range(2)], LatentDivergence(threshold=0.01, patience=2))
    messages = [r.message for r in caplog.records if "posterior collapse" in r.message]
    assert len(messages) == warnings
    assert all("below 0.01 nats for 2 epochs" in message and "beta" in message for message in messages)


def test_nothing_is_kept_from_run_to_run(caplog):
    handler = LatentDivergence(patience=2)
    for _ in range(2):
        run([SMALL] * 2, handler)
    assert "posterior collapse" not in caplog.text


def test_stats_and_mlflow_log_a_real_network(database, capsys):
    torch.manual_seed(0)
    network = ProbabilisticUNet(2, 1, 2, channels=(2, 4), latent_dim=3)
    tracker = MLFlowTracker(database, experiment_name="latent")
    stats = StatsHandler(name="latent_stats", output_transform=lambda _: None)
    trainer = make_trainer([LatentDivergence(), tracker, stats], network=network, loss=ELBOLoss())
    trainer.prepare_batch = PrepareBatchExtraInput("label")
    trainer.run()
    assert re.search(r"Epoch\[2\] Metrics -- kl: [\d.]+ kl_dimension: \[", capsys.readouterr().out)
    client = MlflowClient(path_to_sqlite_uri(database / "mlruns.db"))
    (logged,) = client.search_runs(client.get_experiment_by_name("latent").experiment_id)
    parts = [logged.data.metrics[f"kl_dimension_{i}"] for i in range(3)]
    assert logged.data.metrics["kl"] == pytest.approx(sum(parts))
    assert [m.step for m in client.get_metric_history(logged.info.run_id, "kl")] == [1, 2]
    assert len(client.get_metric_history(logged.info.run_id, "train_loss")) == 2 * EPOCH_LENGTH


def _rank(rank, folder):
    distributed.init_process_group("gloo", f"file://{folder}/init", rank=rank, world_size=2)
    record = _Record()
    run([[2.0 * rank]] * 2, LatentDivergence(), record)
    (folder / f"{rank}").write_text(str(record.metrics[0]["kl"]))
    distributed.destroy_process_group()


def test_processes_are_averaged(tmp_path):
    multiprocessing.start_processes(_rank, (tmp_path,), nprocs=2, start_method="fork")
    assert [float((tmp_path / f"{rank}").read_text()) for rank in range(2)] == [1.0, 1.0]


def test_errors():
    with pytest.raises(ValueError, match="threshold must be positive but is 0"):
        LatentDivergence(threshold=0)
    with pytest.raises(ValueError, match="patience must be at least 1 epoch but is 0"):
        LatentDivergence(patience=0)
    with pytest.raises(TypeError, match=r"must be LatentOutput, .* as that of ProbabilisticUNet, got .*Tensor"):
        make_trainer([LatentDivergence()]).run()
