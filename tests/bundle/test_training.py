# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_stochseg.bundle import statistics, training_handlers
from monai_stochseg.engines import StochasticEvaluator
from monai_stochseg.handlers import TrainingCheckpoint
from monai_stochseg.losses import ELBOLoss


@pytest.fixture
def parts(make_output):
    network = nn.Linear(1, 1)
    optimizer = torch.optim.Adam(network.parameters())
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    evaluator = StochasticEvaluator(device=torch.device("cpu"), val_data_loader=[], network=network)
    return network, optimizer, scheduler, evaluator, make_output(), "experiment", {"rank": 1}


def test_the_handlers_stand_in_their_order(parts, tmp_path):
    loss, extra, companion = ELBOLoss(target_reconstruction=1.0), object(), tmp_path / "split.json"
    handlers = training_handlers(*parts, loss=loss, companions=[companion], extra=[extra])
    checkpoint, tracker = handlers[0], handlers[3]
    assert [type(handler).__name__ for handler in handlers] == [
        "TrainingCheckpoint",
        "EpochSeed",
        "object",
        "MLFlowTracker",
        "LossGuard",
        "LrScheduleHandler",
        "ValidationHandler",
        "TrainingProgress",
        "StatsHandler",
    ]
    assert handlers[2] is extra
    assert checkpoint.extra == {"loss": loss}
    assert checkpoint.companions == [companion]
    assert companion in tracker.artifacts
    tracker.close()


def test_other_processes_print_no_statistics(monkeypatch):
    assert len(statistics("train")) == 1
    monkeypatch.setenv("RANK", "1")
    assert statistics("train") == []


def test_resume_is_told_to_the_checkpoint(parts, tmp_path):
    handlers = training_handlers(*parts, resume=str(tmp_path / "other.pt"))
    assert isinstance(handlers[0], TrainingCheckpoint)
    assert handlers[0].resume_path == tmp_path / "other.pt"
    handlers[2].close()
