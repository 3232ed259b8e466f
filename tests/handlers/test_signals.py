# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM as a user's shell and a cluster send them, to a training in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from monai.utils import path_to_sqlite_uri
from tiny_training import EPOCH_LENGTH, make_training

TRAINING = """
import sys
from pathlib import Path
from ignite.engine import Events
from monai.handlers import StatsHandler
from monai_stochseg.handlers import LossGuard, MLFlowTracker
from tiny_training import make_training

folder = Path(sys.argv[1])
handlers = [LossGuard(), MLFlowTracker(folder, experiment_name="signals"), StatsHandler(iteration_log=False)]
training = make_training(folder, max_epochs=100_000, values=[0.5] * 100_000, interval=100_000, handlers=handlers)
training.trainer.add_event_handler(Events.EPOCH_STARTED(once=3), lambda: (folder / "trains").touch())
training.run()
"""


# Python ends a process by SIGINT itself after KeyboardInterrupt, or with 1 when another thread ran `exec` meanwhile.
@pytest.mark.parametrize(
    ("number", "statuses"), [(signal.SIGINT, [-signal.SIGINT, 1]), (signal.SIGTERM, [128 + signal.SIGTERM])]
)
def test_a_signal_keeps_the_last_state_and_ends_the_run(database, tmp_path, number, statuses):
    shutil.copy(database / "mlruns.db", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        for _ in range(900):
            if (tmp_path / "trains").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in statuses, errors
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
    last = torch.load(tmp_path / "model_last.pt", weights_only=True)
    assert last["trainer"]["iteration"] >= 2 * EPOCH_LENGTH
    epoch = last["trainer"]["iteration"] // EPOCH_LENGTH
    resumed = make_training(tmp_path, max_epochs=epoch + 1, resume=True).run()
    assert resumed.trainer.state.iteration == (epoch + 1) * EPOCH_LENGTH
    client = MlflowClient(path_to_sqlite_uri(tmp_path / "mlruns.db"))
    (run,) = client.search_runs(client.get_experiment_by_name("signals").experiment_id)
    assert run.info.status == "KILLED"
