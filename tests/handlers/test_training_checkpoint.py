# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest
import torch
from ignite.engine import Events
from monai.handlers import StatsHandler
from tiny_training import EPOCH_LENGTH, cross_entropy, make_dataset, make_network, make_training
from torch import distributed

from monai_stochseg.handlers import LossGuard, NonFiniteError, TrainingCheckpoint, load_weights


def _load(path):
    return torch.load(path, weights_only=True)


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def _stop_at(trainer, event, error):
    @trainer.on(event)
    def stop():
        raise error


@pytest.mark.parametrize(("num_workers", "epoch_length"), [(0, 3), (0, 2), (2, 3)])
def test_resumed_training_continues_bit_for_bit(tmp_path, num_workers, epoch_length):
    kwargs = {"num_workers": num_workers, "epoch_length": epoch_length}
    whole = make_training(tmp_path / "whole", max_epochs=3, **kwargs).run()
    resumed = make_training(tmp_path, max_epochs=3, **kwargs)
    _stop_at(resumed.trainer, Events.EPOCH_STARTED(once=2), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        resumed.run()
    torch.rand(7)
    resumed = make_training(tmp_path, max_epochs=3, resume=True, **kwargs).run()
    assert _same(resumed.network.state_dict(), whole.network.state_dict())
    ours, theirs = resumed.trainer.optimizer.state_dict(), whole.trainer.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    assert all(_same(ours["state"][i], theirs["state"][i]) for i in theirs["state"])
    assert resumed.trainer.state.iteration == whole.trainer.state.iteration == 3 * epoch_length


def test_longer_training_follows_the_longer_schedule(tmp_path):
    def rates(training):
        seen = []

        @training.trainer.on(Events.ITERATION_STARTED)
        def keep(engine):
            seen.append(engine.optimizer.param_groups[0]["lr"])

        training.run()
        return seen

    whole = rates(make_training(tmp_path / "whole", max_epochs=5))
    short = make_training(tmp_path / "run", max_epochs=2).run()
    assert short.trainer.optimizer.param_groups[0]["lr"] == 0.0  # where stock handlers would go on
    resumed = rates(make_training(tmp_path / "run", max_epochs=5, resume=True))
    assert resumed == whole[2 * EPOCH_LENGTH :]
    assert min(resumed) > 0


def test_hyperparameters_are_those_of_the_configuration(tmp_path):
    make_training(tmp_path).run()
    resumed = make_training(tmp_path, max_epochs=3, resume=True)
    group = resumed.trainer.optimizer.param_groups[0]
    group["weight_decay"], group["initial_lr"] = 0.25, 0.5
    resumed.run()
    assert resumed.trainer.optimizer.param_groups[0]["weight_decay"] == 0.25


def test_first_validation_after_a_resume_does_not_replace_a_better_best(tmp_path):
    first = make_training(tmp_path, values=[0.5, 0.09]).run()
    best = _load(tmp_path / "model_best.pt")
    assert (best["metric"], best["value"], best["epoch"]) == ("ged", 0.09, 2)
    resumed = make_training(tmp_path, max_epochs=4, values=[1.0, 0.05], resume=True)
    _stop_at(resumed.trainer, Events.EPOCH_STARTED(once=4), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        resumed.run()
    assert _load(tmp_path / "model_best.pt")["value"] == 0.09
    assert _same(_load(tmp_path / "model_best.pt")["network"], first.network.state_dict())
    make_training(tmp_path, max_epochs=4, values=[0.05], resume=True).run()
    assert _load(tmp_path / "model_best.pt")["epoch"] == 4


def test_the_best_of_the_evaluator_is_that_of_the_file(tmp_path):
    """Also after a resume, and where MONAI's own comparison, "greater" by default, is another."""
    nan = float("nan")
    for values, best in (([nan, 0.9], (0.9, 2)), ([0.5], (0.5, 3)), ([0.6], (0.5, 3))):
        first = make_training(tmp_path, max_epochs=1).checkpoint.last_path.exists()
        epochs = best[1] + (values == [0.6])
        training = make_training(tmp_path, max_epochs=epochs, values=values, resume=first).run()
        state = training.evaluator.state
        assert (state.best_metric, state.best_metric_epoch) == best
        saved = _load(tmp_path / "model_best.pt")
        assert (saved["value"], saved["epoch"]) == best


@pytest.mark.parametrize(
    ("mode", "values", "epoch"),
    [
        ("min", [0.5, 0.4, 0.6], 2),
        ("max", [0.5, 0.4, 0.6], 3),
        ("min", [float("nan"), 0.4, float("nan")], 2),
        ("max", [torch.tensor(0.5), torch.tensor(0.5), torch.tensor(0.1)], 1),
        ("min", [0.5, -float("inf"), 0.1], 2),
        ("min", [float("nan")] * 3, None),
    ],
)
def test_best(tmp_path, mode, values, epoch):
    make_training(tmp_path, max_epochs=3, values=values, mode=mode).run()
    path = tmp_path / "model_best.pt"
    assert path.exists() == (epoch is not None)
    if epoch is not None:
        assert _load(path)["epoch"] == epoch
        load_weights(make_network(), path)


def test_files_do_not_pile_up_and_have_the_rights_of_the_umask(tmp_path):
    former = os.umask(0o027)
    try:
        make_training(tmp_path, max_epochs=3, values=[3.0, 2.0, 1.0]).run()
    finally:
        os.umask(former)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model_best.pt", "model_last.pt"]
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o640}


def test_a_fresh_run_keeps_the_files_of_the_one_before(tmp_path):
    first = make_training(tmp_path).run()
    second = make_training(tmp_path, max_epochs=1).run()
    names = ["model_best.previous.pt", "model_best.pt", "model_last.previous.pt", "model_last.pt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert _same(_load(tmp_path / "model_last.previous.pt")["network"], first.network.state_dict())
    assert _same(_load(tmp_path / "model_last.pt")["network"], second.network.state_dict())


def test_resuming_in_another_folder_leaves_the_first_as_it_is(tmp_path):
    make_training(tmp_path / "a", values=[0.1, 0.2]).run()
    before = {p: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    make_training(tmp_path / "b", max_epochs=3, values=[0.7], resume=tmp_path / "a" / "model_last.pt").run()
    assert {p: p.read_bytes() for p in (tmp_path / "a").iterdir()} == before
    assert _load(tmp_path / "b" / "model_best.pt")["epoch"] == 3


def test_a_best_of_another_metric_is_kept_aside(tmp_path):
    make_training(tmp_path, values=[0.1, 0.1]).run()
    make_training(tmp_path, max_epochs=3, values=[0.7], mode="max", resume=True).run()
    assert _load(tmp_path / "model_best.previous.pt")["mode"] == "min"
    assert _load(tmp_path / "model_best.pt")["value"] == 0.7


def test_nan_loss_leaves_both_files_clean(tmp_path):
    calls = []

    def loss(logits, label):
        calls.append(1)
        return cross_entropy(logits, label) * (float("nan") if len(calls) == EPOCH_LENGTH + 2 else 1)

    training = make_training(tmp_path, handlers=[LossGuard(), StatsHandler(iteration_log=False)], loss=loss)
    with pytest.raises(NonFiniteError, match="the loss is nan at epoch 2, iteration 5"):
        training.run()
    last, best = _load(tmp_path / "model_last.pt"), _load(tmp_path / "model_best.pt")
    assert last["trainer"]["iteration"] == EPOCH_LENGTH
    assert _same(last["network"], best["network"])
    assert all(torch.isfinite(v).all() for v in last["network"].values())


def test_a_network_with_nan_is_not_written_without_the_guard_either(tmp_path, caplog):
    training = make_training(tmp_path, max_epochs=2, values=[0.5, 0.1])
    before = {}

    @training.trainer.on(Events.EPOCH_STARTED(once=2))
    def poison():
        before.update({p: p.read_bytes() for p in tmp_path.iterdir()})
        with torch.no_grad():
            training.network[0].weight.fill_(torch.nan)

    training.run()
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert "model_best.pt is not written, for 0.weight of the network is not finite" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize(
    ("event", "done"),
    [
        (Events.ITERATION_STARTED(once=EPOCH_LENGTH + 2), EPOCH_LENGTH + 1),
        (Events.ITERATION_STARTED(once=2 * EPOCH_LENGTH), 2 * EPOCH_LENGTH - 1),
        (Events.GET_BATCH_STARTED(once=EPOCH_LENGTH + 1), EPOCH_LENGTH + 1),
        (Events.EPOCH_STARTED(once=3), 2 * EPOCH_LENGTH),
    ],
)
def test_a_stop_keeps_what_was_done_and_resuming_does_the_rest(tmp_path, event, done, error):
    training = make_training(tmp_path, max_epochs=3, interval=3)
    _stop_at(training.trainer, event, error)
    with pytest.raises(type(error)):
        training.run()
    last = _load(tmp_path / "model_last.pt")
    assert last["trainer"]["iteration"] == done
    assert last["optimizer"]["state"][0]["step"] == done
    resumed = make_training(tmp_path, max_epochs=3, resume=True).run()
    assert resumed.trainer.state.epoch == 3
    assert resumed.trainer.optimizer.state_dict()["state"][0]["step"] == 3 * EPOCH_LENGTH
    assert resumed.trainer.optimizer.param_groups[0]["lr"] == 0.0  # the end of the schedule


def test_a_stop_before_the_first_iteration_or_while_loading_writes_nothing(tmp_path):
    training = make_training(tmp_path)
    _stop_at(training.trainer, Events.ITERATION_STARTED, RuntimeError("bad file"))
    with pytest.raises(RuntimeError, match="bad file"):
        training.run()
    assert not list(tmp_path.iterdir())
    make_training(tmp_path).run()
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="another architecture"):
        make_training(tmp_path, network=make_network(channels=8), resume=True).run()
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_failed_write_leaves_the_former_file(tmp_path, monkeypatch):
    training = make_training(tmp_path).run()
    before = (tmp_path / "model_last.pt").read_bytes()

    def disk_full(state, path):
        path.write_bytes(b"half")
        raise RuntimeError("file write failed")  # as torch says

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match=r"model_last.pt could not be written, and is as it was before \(file write"):
        training.checkpoint.save(training.trainer)
    assert (tmp_path / "model_last.pt").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model_best.pt", "model_last.pt"]


def test_interval_and_end(tmp_path):
    written = []
    training = make_training(tmp_path, max_epochs=5, interval=2)

    @training.trainer.on(Events.EPOCH_STARTED)
    def look(engine):
        path = tmp_path / "model_last.pt"
        written.append(path.exists() and _load(path)["trainer"]["iteration"] // EPOCH_LENGTH)

    training.run()
    assert written == [False, False, 2, 2, 4]
    assert _load(tmp_path / "model_last.pt")["trainer"]["iteration"] == 5 * EPOCH_LENGTH


@pytest.mark.parametrize("resume", [True, "true", "True"])
def test_resume_as_the_command_line_gives_it(tmp_path, resume):
    make_training(tmp_path).run()
    assert make_training(tmp_path, max_epochs=3, resume=resume).run().trainer.state.iteration == 3 * EPOCH_LENGTH
    assert make_training(tmp_path, resume="false").checkpoint.resume_path is None


def test_nothing_left_to_train(tmp_path):
    make_training(tmp_path).run()
    before = _load(tmp_path / "model_last.pt")["network"]
    make_training(tmp_path, resume=True).run()
    assert _same(_load(tmp_path / "model_last.pt")["network"], before)


def test_more_data_than_before(tmp_path):
    make_training(tmp_path, max_epochs=2).run()
    resumed = make_training(tmp_path, max_epochs=3, resume=True, dataset=make_dataset(size=10)).run()
    assert (resumed.trainer.state.epoch, resumed.trainer.state.iteration) == (3, 15)


def test_other_ranks_read_but_do_not_write(tmp_path):
    training = make_training(tmp_path)
    training.trainer.state.rank = 1
    training.run()
    assert not list(tmp_path.iterdir())
    make_training(tmp_path).run()
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    other = make_training(tmp_path, max_epochs=3, resume=True)
    other.trainer.state.rank = 1
    other.run()
    assert other.trainer.optimizer.state_dict()["state"][0]["step"] == 3 * EPOCH_LENGTH
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_distributed_network_is_saved_and_resumed_unwrapped(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        for resume in (False, True):
            network = torch.nn.parallel.DistributedDataParallel(make_network())
            make_training(tmp_path / "run", max_epochs=1 + resume, network=network, resume=resume).run()
    finally:
        distributed.destroy_process_group()
    single = make_training(tmp_path / "run", max_epochs=3, resume=True).run()
    load_weights(single.network, tmp_path / "run" / "model_best.pt")
    assert single.trainer.state.epoch == 3


def test_scaler_and_extra_objects(tmp_path):
    class Scaler:
        def __init__(self, scale):
            self.scale = scale

        def state_dict(self):
            return {"scale": self.scale}

        def load_state_dict(self, state):
            self.scale = state["scale"]

    def run(scale, max_epochs, **kwargs):
        training = make_training(tmp_path, max_epochs=max_epochs, **kwargs)

        @training.trainer.on(Events.STARTED)
        def finish(engine):
            engine.scaler = None

        # SupervisedTrainer makes its scaler in run, before STARTED, and uses it under AMP only
        training.trainer.add_event_handler(
            Events.EPOCH_STARTED, lambda engine: setattr(engine, "scaler", Scaler(scale))
        )
        return training.run()

    run(8.0, 1, extra={"ema": make_network(2)})
    saved = _load(tmp_path / "model_last.pt")
    assert saved["scaler"] == {"scale": 8.0}
    average = make_network(2)
    with torch.no_grad():
        average[0].weight.fill_(3)
    run(2.0, 2, extra={"ema": average}, resume=True)
    assert _same(average.state_dict(), make_network(2).state_dict())
    with pytest.raises(ValueError, match=r"has no extra object 'teacher', but \['ema'\]"):
        run(2.0, 3, extra={"teacher": average}, resume=True)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"resume": "nowhere.pt"}, FileNotFoundError, "no checkpoint at nowhere.pt"),
        ({"network": make_network(8)}, ValueError, "model_last.pt was saved from another architecture"),
        (
            {"optimizer_class": torch.optim.SGD},
            ValueError,
            "optimizer and parameters .*Adam.*, not .*SGD.*: use the same",
        ),
        ({"max_epochs": 1}, ValueError, "max_epochs=1 is less than the 2 epochs of .*model_last.pt"),
    ],
)
def test_errors_on_resume(tmp_path, kwargs, error, message):
    make_training(tmp_path).run()
    with pytest.raises(error, match=message):
        make_training(tmp_path, **{"resume": True, **kwargs}).run()


def test_resume_before_the_first_checkpoint_begins_with_a_warning(tmp_path, caplog):
    """A queue that starts a job again passes the same command each time; a best file may be there already."""
    make_training(tmp_path, values=[0.1, 0.2]).run()
    (tmp_path / "model_last.pt").unlink()
    training = make_training(tmp_path, resume=True).run()
    assert "resume: there is no" in caplog.text
    assert training.trainer.state.iteration == 2 * EPOCH_LENGTH
    assert _load(tmp_path / "model_best.previous.pt")["value"] == 0.1
    assert _load(tmp_path / "model_best.pt")["value"] == 0.5
    (tmp_path / "model_last.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*model_last\.pt"):
        make_training(tmp_path, resume=tmp_path / "model_last.pt").run()  # this one is meant


def test_resume_from_the_best(tmp_path):
    make_training(tmp_path).run()
    with pytest.raises(ValueError, match=r"model_best.pt has no trainer and .* to resume: give a model_last.pt"):
        make_training(tmp_path, resume=tmp_path / "model_best.pt").run()


def test_resume_with_a_schedule_of_a_training_without(tmp_path):
    training = make_training(tmp_path)
    training.checkpoint.lr_scheduler = None
    training.run()
    with pytest.raises(ValueError, match="was trained without lr_scheduler"):
        make_training(tmp_path, resume=True).run()


def test_errors_of_arguments(tmp_path):
    network = make_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    cases = [
        ({"mode": "lower"}, ValueError, "mode must be .* but is 'lower'"),
        ({"interval": 0}, ValueError, "interval must be at least 1 epoch but is 0"),
        ({"best_metric": "ged"}, ValueError, "best_metric='ged' needs the evaluator"),
        ({"lr_scheduler": "linear"}, TypeError, "must be a torch LRScheduler but is str"),
    ]
    for kwargs, error, message in cases:
        with pytest.raises(error, match=message):
            TrainingCheckpoint(tmp_path, network, optimizer, **kwargs)
    with pytest.raises(ValueError, match=r"best_metric='dice' is not one of the metrics \['ged'\]"):
        make_training(tmp_path, best_metric="dice").run()
    training = make_training(tmp_path)
    training.checkpoint.evaluator.state.key_metric_name = None
    with pytest.raises(ValueError, match="the evaluator has no key metric"):
        training.run()


@pytest.mark.parametrize("name", ["model_last.pt", "model_best.pt"])
def test_a_checkpoint_that_lacks_entries_says_which(tmp_path, name):
    make_training(tmp_path).run()
    state = _load(tmp_path / name)
    removed = ["optimizer", "extra"] if name == "model_last.pt" else ["value", "epoch"]
    torch.save({key: value for key, value in state.items() if key not in removed}, tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} has no {' and '.join(removed)}"):
        make_training(tmp_path, max_epochs=3, resume=True).run()


def test_an_error_within_an_iteration_leaves_the_last_state(tmp_path, caplog):
    calls = []

    def loss(logits, label):
        calls.append(1)
        if len(calls) == EPOCH_LENGTH + 2:
            raise RuntimeError("out of memory")
        return cross_entropy(logits, label)

    with pytest.raises(RuntimeError, match="out of memory"):
        make_training(tmp_path, max_epochs=2, loss=loss).run()
    assert _load(tmp_path / "model_last.pt")["trainer"]["iteration"] == EPOCH_LENGTH
    assert f"has the state after iteration {EPOCH_LENGTH}, from which" in caplog.text


def test_what_a_killed_training_left_is_removed(tmp_path):
    (tmp_path / ".partial.123.model_last.pt").write_bytes(b"half")
    make_training(tmp_path, max_epochs=1).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model_best.pt", "model_last.pt"]


def test_processes_that_resume_from_different_states_are_an_error(tmp_path, monkeypatch):
    """Such as where each machine has an output folder of its own."""
    make_training(tmp_path, max_epochs=1).run()
    others = [(0, "node-1")]
    monkeypatch.setattr("monai_stochseg.handlers.training_checkpoint.gather", lambda own: [own, *others])
    with pytest.raises(RuntimeError, match=rf"rank 0 on .*: {EPOCH_LENGTH}, rank 1 on node-1: 0\): .* one folder that"):
        make_training(tmp_path, max_epochs=2, resume=True).run()
    others[0] = (EPOCH_LENGTH, "node-1")
    make_training(tmp_path, max_epochs=2, resume=True).run()
