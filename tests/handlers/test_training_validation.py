# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import count

import pytest
import torch
from ignite.engine import Events
from tiny_training import EPOCH_LENGTH, make_evaluator, make_network, make_trainer

from monai_stochseg.handlers import TrainingCheckpoint, TrainingValidation


def _train(folder, interval=1, max_epochs=2, resume=False, stop=None, values=(0.5,) * 10):
    """The epochs of the validations that were completed; ``stop`` is an engine, its event, and which of these fails."""
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters())
    evaluator = make_evaluator(network, values)
    checkpoint = TrainingCheckpoint(folder, network, optimizer, evaluator=evaluator, resume=resume)
    handlers = [checkpoint, TrainingValidation(interval, evaluator, checkpoint)]
    trainer = make_trainer(handlers, max_epochs=max_epochs, network=network, optimizer=optimizer)
    epochs: list[int] = []
    evaluator.add_event_handler(Events.COMPLETED, lambda engine: epochs.append(trainer.state.epoch))

    calls = count(1)

    def fail():
        if next(calls) == stop[2]:
            raise RuntimeError("out of memory")

    if stop is not None:
        engine, event, _ = stop
        {"trainer": trainer, "evaluator": evaluator}[engine].add_event_handler(event, fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            trainer.run()
    else:
        trainer.run()
    return epochs, evaluator


@pytest.mark.parametrize(
    ("interval", "max_epochs", "expected"), [(1, 2, [0, 1, 2]), (2, 5, [0, 2, 4, 5]), (4, 2, [0, 2]), (3, 3, [0, 3])]
)
def test_before_every_interval_and_after_the_last(tmp_path, interval, max_epochs, expected):
    assert _train(tmp_path, interval, max_epochs)[0] == expected
    assert torch.load(tmp_path / "model_best.pt", weights_only=True)["epoch"] == expected[1]


def test_a_resumed_training_validates_what_the_stop_cut_off(tmp_path):
    assert _train(tmp_path, 2, 4, stop=("evaluator", Events.ITERATION_STARTED, 2))[0] == [0]
    last = torch.load(tmp_path / "model_last.pt", weights_only=True)["trainer"]
    assert (last["iteration"], last["validation_pending"]) == (2 * EPOCH_LENGTH, True)
    assert _train(tmp_path, 2, 4, resume=True)[0] == [2, 4]


def test_a_resumed_training_does_not_validate_otherwise(tmp_path):
    assert _train(tmp_path, 2, 4, stop=("trainer", Events.EPOCH_STARTED, 2))[0] == [0]
    assert _train(tmp_path, 2, 4, stop=("trainer", Events.ITERATION_STARTED, 2), resume=True)[0] == []
    assert _train(tmp_path, 2, 4, resume=True)[0] == [2, 4]
    assert _train(tmp_path, 2, 4, resume=True)[0] == []


def test_a_training_at_its_end_without_a_best_network_validates_once_more(tmp_path):
    _train(tmp_path, 2, 4)
    (tmp_path / "model_best.pt").unlink()
    assert _train(tmp_path, 2, 4, resume=True)[0] == [4]
    assert torch.load(tmp_path / "model_best.pt", weights_only=True)["epoch"] == 4


def test_the_untrained_network_is_never_the_best(tmp_path):
    """MONAI's log and state count it, and no file has it."""
    _, evaluator = _train(tmp_path, values=(9.0, 0.5, 0.4))
    assert (evaluator.state.best_metric, evaluator.state.best_metric_epoch) == (0.4, 2)


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="the interval of validations must be at least 1 epoch, got 0"):
        _train(tmp_path, interval=0)
