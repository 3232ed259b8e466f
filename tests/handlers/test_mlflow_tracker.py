# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
import torch
from ignite.engine import Events
from mlflow import MlflowClient
from monai.handlers import StatsHandler, ValidationHandler
from monai.utils import path_to_sqlite_uri
from tiny_training import EPOCH_LENGTH, make_evaluator, make_network, make_trainer
from torch import distributed

from monai_stochseg.handlers import MLFlowTracker


def _client(folder):
    return MlflowClient(path_to_sqlite_uri(folder / "mlruns.db"))


def _runs(client, experiment):
    return client.search_runs(client.get_experiment_by_name(experiment).experiment_id)


def _train(tracker, values=(0.5, 0.4), before=(), after=(), **kwargs):
    network = make_network()
    evaluator = make_evaluator(network, values)
    tracker.evaluator = evaluator
    handlers = [*before, tracker, ValidationHandler(1, evaluator), *after]
    make_trainer(handlers, network=network, **kwargs).run()


def test_sqlite_in_the_output_folder_by_default(database, tmp_path):
    figure = tmp_path / "figure.txt"

    class Figure:
        def attach(self, engine):
            engine.add_event_handler(Events.COMPLETED, lambda: figure.write_text("made at completion"))

    tracker = MLFlowTracker(
        database, experiment_name="default", experiment_param={"rank": 10, "train#lr": 1e-3}, artifacts=[figure]
    )
    _train(tracker, after=[Figure()])
    client = _client(database)
    (run,) = _runs(client, "default")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"rank": "10", "train_lr": "0.001", "max_epochs": "2", "epoch_length": str(EPOCH_LENGTH)}
    validations = client.get_metric_history(run.info.run_id, "ged")
    assert [(m.step, m.value) for m in validations] == [(1, 0.5), (2, 0.4)]
    losses = client.get_metric_history(run.info.run_id, "train_loss")
    assert [m.step for m in losses] == list(range(1, 2 * EPOCH_LENGTH + 1))
    assert run.data.metrics["lr_group_0"] == 0.01
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["figure.txt"]
    assert any(p.name == "figure.txt" for p in (database / "mlruns").rglob("*"))


def test_a_new_run_each_time_and_never_an_open_one(database):
    tracker = MLFlowTracker(database, experiment_name="new", run_name="mine")
    client = _client(database)
    for _ in range(2):
        _train(tracker, max_epochs=1)
    left_open = client.create_run(client.get_experiment_by_name("new").experiment_id, run_name="mine")
    _train(tracker, max_epochs=1)
    _train(MLFlowTracker(database, experiment_name="new"), max_epochs=1)
    _train(MLFlowTracker(database, experiment_name="new"), max_epochs=1)
    runs = _runs(client, "new")
    assert sorted(r.info.status for r in runs) == ["FINISHED"] * 5 + ["RUNNING"]
    assert client.get_run(left_open.info.run_id).data.metrics == {}
    names = [r.info.run_name for r in runs]
    assert len({name for name in names if name != "mine"}) == 2


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("out of memory"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(143), "KILLED")],
)
@pytest.mark.parametrize("event", [Events.STARTED, Events.ITERATION_STARTED(once=2), Events.COMPLETED])
def test_status_of_a_run_that_did_not_finish(database, error, status, event):
    class Stop:
        def attach(self, engine):
            @engine.on(event)
            def stop():
                raise error

    experiment = f"{status} {type(error).__name__} {event.name}"
    with pytest.raises(type(error)):
        _train(MLFlowTracker(database, experiment_name=experiment), after=[StatsHandler(iteration_log=False), Stop()])
    (run,) = _runs(_client(database), experiment)
    assert run.info.status == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_a_request_to_end(database, monkeypatch, number):
    tracker = MLFlowTracker(database, experiment_name=f"request {number}")
    log_batch, ended = tracker.client.log_batch, []

    def interrupted(*args, **kwargs):
        if not ended:
            signal.raise_signal(number)
        log_batch(*args, **kwargs)
        ended.append(True)

    monkeypatch.setattr(tracker.client, "log_batch", interrupted)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _train(tracker)
    assert len(ended) >= 1
    (run,) = _runs(_client(database), f"request {number}")
    assert run.info.status == "KILLED"


def test_odd_metrics_and_parameters_do_not_stop_a_training(database):
    values = [
        torch.tensor([0.25, 0.5]),
        [[1, 2], [3, math.nan]],
        math.nan,
        -math.inf,
        "text",
        None,
        torch.rand(101),
        {"a@b": torch.tensor(3, dtype=torch.bfloat16), "c": object()},
        [1, [2, 3]],
    ]
    parameters = {f"parameter#{i}": i for i in range(250)} | {"long": "x" * 10000, "list": [1, 2]}
    tracker = MLFlowTracker(database, experiment_name="odd", experiment_param=parameters, iteration_log=False)
    network = make_network()
    evaluator = make_evaluator(network, values)
    evaluator.metric_cmp_fn = lambda *_: False
    evaluator.state.key_metric_name = None
    tracker.evaluator = evaluator
    handlers = [tracker, ValidationHandler(1, evaluator)]
    trainer = make_trainer(handlers, network=network, max_epochs=len(values), epoch_length=1)
    trainer.run()
    (run,) = _runs(_client(database), "odd")
    metrics = run.data.metrics
    assert {k: metrics[k] for k in ("ged_1", "ged_2", "a_b")} == {"ged_1": 2.0, "ged_2": 3.0, "a_b": 3.0}
    history = _client(database).get_metric_history(run.info.run_id, "ged_0")
    assert [(m.step, m.value) for m in history] == [(1, 0.25), (2, 1.0)]
    assert math.isnan(metrics["ged_3"])
    assert [m.step for m in _client(database).get_metric_history(run.info.run_id, "ged")] == [3, 4]
    assert "c" not in metrics
    assert run.data.params["parameter_249"] == "249"


def test_a_validation_outside_training_is_not_logged(database):
    network = make_network()
    evaluator = make_evaluator(network, [0.9, 0.5, 0.1])
    tracker = MLFlowTracker(database, evaluator=evaluator, experiment_name="outside")
    trainer = make_trainer([tracker, ValidationHandler(1, evaluator)], network=network, max_epochs=1)
    evaluator.run()
    trainer.run()
    evaluator.run()
    (run,) = _runs(_client(database), "outside")
    history = _client(database).get_metric_history(run.info.run_id, "ged")
    assert [(m.step, m.value) for m in history] == [(1, 0.5)]


def test_a_missing_artifact_is_named(database, tmp_path, caplog):
    _train(MLFlowTracker(database, experiment_name="missing", artifacts=str(tmp_path / "figure.png")), max_epochs=1)
    assert "there is no artifact" in caplog.text


def test_a_figure_is_logged_where_there_is_one(database, tmp_path, caplog):
    figure = tmp_path / "samples.txt"
    for name in ("none", "some"):
        _train(MLFlowTracker(database, experiment_name=name, figures=[figure]), max_epochs=1)
        figure.write_text("drawn")
    client = _client(database)
    logged = [client.list_artifacts(_runs(client, name)[0].info.run_id) for name in ("none", "some")]
    assert [[file.path for file in files] for files in logged] == [[], ["samples.txt"]]
    assert "there is no artifact" not in caplog.text


def test_other_ranks_do_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    tracker = MLFlowTracker(tmp_path / "output")
    monkeypatch.undo()
    _train(tracker, max_epochs=1)
    tracker.close()
    assert not (tmp_path / "output").exists()


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="give `output_dir` for a database in that folder, or the `tracking_uri`"):
        MLFlowTracker()
    with pytest.raises(TypeError, match=r"experiment_param must be flat, but \['loss'\] are dictionaries"):
        MLFlowTracker(tmp_path, experiment_param={"loss": {"rank": 1}})


def _wait_until_it_answers(server, url, seconds=60):
    for _ in range(10 * seconds):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"no mlflow server at {url}, exit status {server.poll()}")


def test_logs_to_a_server(database, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", path_to_sqlite_uri(database / "mlruns.db")]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # it starts faster
    with open(tmp_path / "server.log", "w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait_until_it_answers(server, url)
            config = tmp_path / "train.json"
            config.write_text("{}")
            tracker = MLFlowTracker(
                tracking_uri=url, experiment_name="server", experiment_param={"rank": 10}, artifacts=str(config)
            )
            _train(tracker, values=[math.nan, torch.tensor([0.5, 0.25])])
            client = MlflowClient(url)
            (run,) = _runs(client, "server")
            assert run.info.status == "FINISHED"
            assert run.data.params["rank"] == "10"
            assert (run.data.metrics["ged_0"], run.data.metrics["ged_1"]) == (0.5, 0.25)
            assert math.isnan(run.data.metrics["ged"])
            assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 2 * EPOCH_LENGTH
            assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["train.json"]
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)
    assert list((tmp_path / "artifacts").rglob("train.json"))


def test_a_tracker_asked_for_by_name_comes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/environment.db")
    named = MLFlowTracker(tracking_uri=f"sqlite:///{tmp_path}/named.db")
    assert named.client.tracking_uri.endswith("named.db")
    assert os.environ["MLFLOW_TRACKING_URI"].endswith("environment.db")
