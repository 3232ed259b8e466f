# SPDX-License-Identifier: Apache-2.0
"""What every training keeps: resumed runs, several processes, weights of raters, MLflow and files."""

from __future__ import annotations

import json
import re
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from bundle_runs import (
    TORCHRUN,
    command,
    config_files,
    first_cause,
    make_workflow,
    mlflow_runs,
    run_command,
    run_workflow,
    table,
)
from filelock import FileLock
from ignite.engine import Engine
from tiny import HOME, HOME_TASK, METHODS, RUN, TASKS

from monai_stochseg.bundle.training import statistics
from monai_stochseg.bundle.version import package_version
from monai_stochseg.data import brats_datalist
from monai_stochseg.inferers import draw_samples
from monai_stochseg.losses import OptimalTransportLoss
from monai_stochseg.networks.nets import TemperatureScaled
from monai_stochseg.transforms import SVLS, PadRatersd

State = dict[str, torch.Tensor]


def at_home(name: str, folders: dict[str, str], output: str | Path, **override: Any) -> dict[str, Any]:
    return {**RUN, **HOME[name], "dataset_dir": folders[HOME_TASK[name]], "output_dir": str(output), **override}


def saved(folder: str | Path, name: str = "model_best.pt") -> State:
    return torch.load(Path(folder) / name, weights_only=True)["network"]


def calibration_of(state: State) -> State:
    return {k.removeprefix("calibration."): v for k, v in state.items() if k.startswith("calibration.")}


def assert_equal(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0, msg=key)


@pytest.fixture(scope="module")
def trained(folders, mlflow_database, tmp_path_factory) -> tuple[Path, str]:
    """The output folder of a training by the command line, started from elsewhere, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "output").mkdir()
    shutil.copy(mlflow_database, folder / "output")
    options = at_home("ssn_brats", folders, folder / "output")
    done = run_command(command("ssn_brats", **options), cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "output", done.stdout


def test_train_leaves_what_it_promises(trained, folders) -> None:
    output, printed = trained
    assert [line.count("val_ged") for line in printed.splitlines() if "Metrics --" in line] == [1, 1, 1]
    assert torch.load(output / "model_best.pt", weights_only=True).keys() >= {"network", "signature"}
    assert (output / "samples.png").read_bytes()[:4] == b"\x89PNG"
    split = json.loads((output / "split.json").read_text())
    assert sorted(chain(*split.values())) == [case["patient"] for case in brats_datalist(folders["brats"])]
    (run,) = mlflow_runs(output, "ssn_brats")
    assert run.info.status == "FINISHED"
    client = mlflow.MlflowClient(f"sqlite:///{output}/mlruns.db")
    assert len(client.get_metric_history(run.info.run_id, "val_ged")) == 3
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 2
    expected = {"rank": "2", "task": "BraTS", "simulated": "True", "seed": "0", "batch_size": "2"}
    assert run.data.params.items() >= {**expected, **package_version()}.items()
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"samples.png", "split.json"}


def odd_lines(printed: str, least: int) -> list[str]:
    """Those of the lines, at least so many, that are not of MONAI's format, after what MONAI prints of its options."""
    lines = printed.split("---\n")[-1].strip().splitlines()
    assert len(lines) > least
    return [line for line in lines if not re.match(r"[\d-]+ [\d:]+,\d{3} - [A-Z]+ - ", line)]


def test_all_lines_of_a_training_have_one_format(trained) -> None:
    assert odd_lines(trained[1], 20) == []


@pytest.mark.parametrize("what", ["evaluation", "inference"])
def test_all_lines_of_what_follows_have_one_format(trained, folders, tmp_path, what) -> None:
    """Also of a metric that is an array, and of MONAI's writer of files."""
    shutil.copytree(trained[0], tmp_path / "output")
    options = at_home("ssn_brats", folders, tmp_path / "output")
    words = command("ssn_brats", "evaluate", **options)
    if what == "inference":
        files = config_files("ssn_brats", base="inference")
        own = {key: value for key, value in options.items() if key in json.loads(Path(files[0]).read_text())}
        words = [*words[:4], repr(files), *(f"--{name}={value}" for name, value in own.items()), "--max_cases=1"]
    done = run_command(words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert odd_lines(done.stdout, 4) == []


def test_evaluation_is_of_the_part_that_is_asked_for(trained, folders, tmp_path) -> None:
    """By the split of the training, and of all cases."""
    output = tmp_path / "output"
    shutil.copytree(trained[0], output)
    split = json.loads((output / "split.json").read_text())
    for part, cases in (("validation", split["validation"]), ("all", sorted(chain(*split.values())))):
        run_workflow("ssn_brats", "evaluate", **at_home("ssn_brats", folders, output, part=part, test_samples=2))
        rows = table(output / f"evaluation_{part}.csv")
        assert list(rows) == [*cases, "mean", "standard_error"]
        for column in ("ged", "diversity", "dice_WT", "dice_ET", "dice_q95_OD", "better_than_mode_NET"):
            assert column in rows["mean"]


def test_a_new_run_moves_an_earlier_one_aside_and_a_resumed_one_keeps_its_split(trained, folders, tmp_path) -> None:
    output = tmp_path / "output"
    shutil.copytree(trained[0], output)
    split = (output / "split.json").read_text()
    options = at_home("ssn_brats", folders, output, seed=3, val_interval=5)
    run_workflow("ssn_brats", **{**options, "resume": True, "max_epochs": 3})
    assert (output / "split.json").read_text() == split
    run_workflow("ssn_brats", **{**options, "max_epochs": 1})
    assert (output / "split.previous.json").read_text() == split
    assert (output / "split.json").read_text() != split
    assert (output / "model_best.previous.pt").is_file()


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("ssn_brats", {}),
        ("probunet_lidc", {"target_reconstruction": 10.0}),
        ("supervised_uncertainty_lidc", {"uncertainty": "variance"}),
        ("svls_kits", {}),
        ("msvls_lidc", {"target": "all"}),
        ("mose_cityscapes", {}),
    ],
)
def test_a_resumed_run_ends_as_an_uninterrupted_one(folders, make_output, name, ids) -> None:
    def train(output: str, **override: Any) -> State:
        options = at_home(name, folders, make_output(output), val_interval=10, **ids, **override)
        workflow = run_workflow(name, **options)
        network, loss = (workflow.parser.get_parsed_content(part) for part in ("network_def", "loss"))
        assert workflow.parser.get_parsed_content("train#trainer").state.epoch == options["max_epochs"]
        return {**network.state_dict(), **loss.state_dict()}

    whole = train("whole", max_epochs=3)
    train("parts", max_epochs=1, **{"lr_scheduler#total_iters": 3})
    resumed = train("parts", max_epochs=3, resume=True)
    assert ("log_multiplier" in whole) == ("target_reconstruction" in ids)
    assert_equal(resumed, whole)


@pytest.mark.parametrize("name", ["flowssn_lidc", "svls_kits"])
def test_averaged_weights_by_one_id(folders, make_output, name) -> None:
    """They are the best, are evaluated, and go on in a resumed training bit for bit."""
    averaging = {"options#averaging": 0.5, "images_per_epoch": 6}

    def train(output: str, **override: Any) -> dict[str, Any]:
        folder = make_output(output)
        run_workflow(name, **at_home(name, folders, folder, val_interval=10, **averaging, **override))
        return torch.load(Path(folder) / "model_last.pt", weights_only=True)

    whole = train("whole", max_epochs=3)
    train("parts", max_epochs=1, **{"lr_scheduler#total_iters": 3})
    resumed = train("parts", max_epochs=3, resume=True)
    for state in (whole, resumed):
        assert state["extra"]["AveragedWeights"]["n_averaged"] == 9
    assert_equal(resumed["network"], whole["network"])
    assert_equal(resumed["extra"]["AveragedWeights"], whole["extra"]["AveragedWeights"])
    average = {k.removeprefix("module."): v for k, v in whole["extra"]["AveragedWeights"].items() if k != "n_averaged"}
    assert_equal(saved(make_output("whole")), average)
    assert any(not torch.equal(average[key], value) for key, value in whole["network"].items())
    run_workflow(name, "evaluate", **at_home(name, folders, make_output("whole")))
    assert (Path(make_output("whole")) / "evaluation_test.csv").is_file()


@pytest.mark.parametrize(
    ("name", "overlays", "ids"),
    [
        ("ssn_lidc", (), {}),
        ("svls_kits", (), {"vector": True}),
        ("probunet_lidc", ("tasks/cityscapes",), {**TASKS["cityscapes"], "vector": True}),
    ],
)
def test_a_temperature_by_an_overlay(folders, make_output, name, overlays, ids) -> None:
    """Of samplers and single answers, with void voxels, windows and weights."""
    output = Path(make_output())
    options = at_home(name, folders, output, max_epochs=1, val_interval=10)
    options |= {k: v for k, v in ids.items() if k != "vector"}
    if overlays:
        options["dataset_dir"] = folders["cityscapes"]
    run_workflow(name, *overlays, **options)
    workflow = run_workflow(name, *overlays, "temperature", **{**options, **ids})
    found = json.loads((output / "temperature.json").read_text())
    classes = workflow.parser.get_parsed_content("task").num_classes
    assert (found["fitted_on"], found["judged_on"]) == ("validation", "test")
    assert len(found["scale"]) == len(found["bias"]) == classes
    assert (len(set(found["scale"])) > 1) == ("vector" in ids)
    assert all(0 <= found[key] <= 1 for key in ("ece_before", "ece_after"))
    TemperatureScaled(torch.nn.Conv2d(1, classes, 1), found["scale"], found["bias"])


@pytest.mark.parametrize("name", ["ssn_brats", "svls_kits", "mose_cityscapes"])
def test_the_number_of_workers_changes_nothing(folders, make_output, name) -> None:
    """Random patches, rotations, and a crop with a class switch."""

    def train(num_workers: int) -> State:
        output = make_output(f"workers_{num_workers}")
        run_workflow(name, **at_home(name, folders, output, num_workers=num_workers, images_per_epoch=4))
        return saved(output, "model_last.pt")

    assert_equal(train(2), train(0))


def test_a_queue_may_always_ask_to_resume(folders, make_output, caplog) -> None:
    """Before the first checkpoint, between the stages, and when all is done."""

    def train(output: str, **override: Any) -> Path:
        run_workflow("car_lidc", **at_home("car_lidc", folders, make_output(output), **override))
        return Path(make_output(output))

    whole = train("whole")
    train("parts", resume=True, run_id="calibrate")
    assert "there is no" in caplog.text
    for _ in range(2):
        parts = train("parts", resume=True)
        assert_equal(saved(parts, "model_last.pt"), saved(whole, "model_last.pt"))


def test_a_second_training_is_refused_in_each_stage(folders, make_output) -> None:
    """Before it touches a file: a first stage would replace the calibration that a second stage refines."""
    output = Path(make_output())
    options = at_home("car_lidc", folders, output)
    run_workflow("car_lidc", **options)
    files = {path: path.read_bytes() for path in output.rglob("*.pt")}
    with FileLock(output / ".training.lock"):
        for stage in ("calibrate", "refine"):
            with pytest.raises(RuntimeError, match=r"another training, process .* runs in"), first_cause():
                run_workflow("car_lidc", **options, run_id=stage)
        run_workflow("car_lidc", "evaluate", **options)
    assert {path: path.read_bytes() for path in output.rglob("*.pt")} == files


def test_both_stages_of_a_refinement_resume_bit_for_bit(folders, make_output) -> None:
    """Stopped within the first stage, and then within the second."""
    schedules = ("calibration#lr_scheduler", "lr_scheduler", "discriminator_lr_scheduler")
    epochs = {"max_epochs": 4, "calibration_epochs": 2, **{f"{name}#total_iters": 2 for name in schedules}}

    def train(output: str, **override: Any) -> None:
        options = at_home("car_lidc", folders, make_output(output), **{**epochs, "images_per_epoch": 4, **override})
        run_workflow("car_lidc", **options)

    train("whole")
    train("parts", run_id="calibrate", calibration_epochs=1)
    train("parts", resume=True, max_epochs=3)
    train("parts", resume=True)
    whole, parts = (Path(make_output(name)) for name in ("whole", "parts"))
    assert_equal(saved(parts / "calibration", "model_last.pt"), saved(whole / "calibration", "model_last.pt"))
    states = [torch.load(folder / "model_last.pt", weights_only=True) for folder in (parts, whole)]
    assert_equal(states[0]["network"], states[1]["network"])
    assert_equal(states[0]["extra"]["discriminator"], states[1]["extra"]["discriminator"])
    moments = [state["extra"]["discriminator_optimizer"]["state"] for state in states]
    torch.testing.assert_close(moments[0], moments[1], rtol=0, atol=0)
    assert states[0]["trainer"]["iteration"] == 4

    other = torch.load(whole / "calibration" / "model_best.pt", weights_only=True)
    other["network"]["final.bias"] += 1
    torch.save(other, whole / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt is not the calibration network that the resumed"), first_cause():
        train("whole", resume=True, max_epochs=5, calibration_checkpoint=str(whole / "other.pt"), run_id="refine")


def test_a_refinement_logs_and_judges_its_calibration(folders, make_output) -> None:
    output = Path(make_output())
    options = at_home("car_lidc", folders, output)
    run_workflow("car_lidc", **options)
    assert_equal(calibration_of(saved(output)), saved(output / "calibration"))  # frozen
    (calibration,) = mlflow_runs(output / "calibration", "car_lidc_calibration")
    (refinement,) = mlflow_runs(output, "car_lidc")
    assert calibration.data.metrics.keys() >= {"train_loss", "val_brier", "val_dice"}
    judged = {"val_ged", "val_calibration_gap", "sample_diversity", "calibration_gap", "discriminator_accuracy"}
    assert refinement.data.metrics.keys() >= judged
    assert refinement.data.params["consistency"] == "calibration"

    workflow = run_workflow("car_lidc", "evaluate", **{**options, "evaluation_batch_size": 4})
    rows = table(output / "evaluation_test.csv")
    assert rows["mean"].keys() == {"case", "ged", "diversity", "hm_iou", "dice", "calibration_gap"}
    network = workflow.parser.get_parsed_content("network_def").eval()
    evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    images = next(iter(evaluator.data_loader))["image"].as_tensor()
    distribution = network.predictive(images)
    samples = draw_samples(distribution, 3, torch.Generator().manual_seed(1))  # as the evaluator's first batch
    gap = (samples.probabilities - distribution.calibration_output()).abs().mean((1, 2, 3))
    found = [float(row["calibration_gap"]) for case, row in rows.items() if case not in ("mean", "standard_error")]
    assert found == pytest.approx(gap.tolist(), rel=1e-4)


def test_the_entropy_of_a_calibration_output_is_saved(folders, make_output) -> None:
    import nibabel as nib

    output = Path(make_output())
    options = at_home("car_lidc", folders, output, val_interval=5, max_cases=1)
    run_workflow("car_lidc", **options)
    workflow = run_workflow("car_lidc", base="inference", **options, checkpoint=str(output / "model_last.pt"))
    (file,) = (output / "predictions").glob("*_answer_entropy.nii.gz")
    network = workflow.parser.get_parsed_content("network_def").eval()
    image = workflow.parser.get_parsed_content("dataset")[0]["image"].as_tensor()
    entropy = network.predictive(image[None]).entropy()[0, 0]
    np.testing.assert_allclose(nib.load(file).get_fdata()[..., 0, 0], entropy.detach(), atol=1e-6)


DISTRIBUTED = ("probunet_lidc", "svls_prostatex", "car_lidc", "supervised_uncertainty_lidc")  # engines; weights


@pytest.fixture(scope="module")
def by_two_processes(folders, mlflow_database, tmp_path_factory) -> tuple[Path, str]:
    """Trainings by two processes of one torchrun, an evaluation at the end, and what they printed."""
    folder = tmp_path_factory.mktemp("processes")
    jobs: list[tuple[list[str], dict[str, Any]]] = []
    for name in DISTRIBUTED:
        for output in (folder / name, folder / name / "calibration"):
            output.mkdir()
            shutil.copy(mlflow_database, output)
        geco = {"target_reconstruction": 10.0} if name == "probunet_lidc" else {}
        jobs.append((config_files(name), at_home(name, folders, folder / name, val_interval=2, **geco)))
    (folder / "jobs.json").write_text(json.dumps(jobs))
    script = Path(__file__).with_name("two_processes.py")
    done = run_command([*TORCHRUN, str(script), str(folder / "jobs.json")], cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


@pytest.mark.parametrize("name", DISTRIBUTED)
def test_two_processes(by_two_processes, name) -> None:
    """The process group follows from torchrun, without an id."""
    output = by_two_processes[0] / name
    assert not any(key.startswith("module.") for key in saved(output))
    (run,) = mlflow_runs(output, name)  # one logs
    assert run.info.status == "FINISHED"
    if name == "car_lidc":
        assert_equal(calibration_of(saved(output)), saved(output / "calibration"))
    else:
        assert saved(output, "model_last.pt").keys() == saved(output).keys()


def test_one_of_two_processes_prints(by_two_processes) -> None:
    epochs = [line for line in by_two_processes[1].splitlines() if "Metrics --" in line]
    # validations of each stage, before its first epoch and after its last
    stages = [("val_ged", 2 + 2 + 2), ("val_brier", 2), ("val_ece", 2)]
    assert {name: sum(name in line for line in epochs) for name, _ in stages} == dict(stages)


@pytest.fixture
def uneven_brains(folders, tmp_path) -> str:
    """The brains; the patients have two to four raters."""
    copy = tmp_path / "uneven"
    shutil.copytree(folders["brats"], copy)
    for i, case in enumerate(brats_datalist(copy)):
        for file in case["label"][2 + i % 3 :]:
            Path(file).unlink()
    return str(copy)


def three_of_four(dataset_dir: str, output: str) -> str:
    """A split whose training has two, three and four raters."""
    names = [case["patient"] for case in brats_datalist(dataset_dir)]
    file = Path(output) / "given.json"
    file.write_text(json.dumps({"train": names[:3], "validation": names[3:], "test": []}))
    return str(file)


@pytest.mark.parametrize("method", ["ssn", "probunet", "mose", "mheads", "car", "threshold"])
def test_missing_raters_reach_the_loss(uneven_brains, make_output, monkeypatch, method) -> None:
    """Cases with fewer raters share a batch with others."""
    bundle, ids, _ = METHODS[method]
    options = {**RUN, **ids, **TASKS["brats_whole"], "split_file": three_of_four(uneven_brains, make_output())}
    options |= {"dataset_dir": uneven_brains, "output_dir": make_output(), "val_interval": 5}
    options |= {"batch_size": 3, "images_per_epoch": 3}
    workflow = make_workflow(bundle, "tasks/brats_whole", **options)
    loss = workflow.parser.get_parsed_content("loss")
    forward, seen = loss.forward, []

    def spy(output: Any, target: torch.Tensor, rater_weights: torch.Tensor | None = None, **kwargs: Any) -> Any:
        seen.append((target, rater_weights))
        return forward(output, target, rater_weights, **kwargs)

    monkeypatch.setattr(loss, "forward", spy)
    workflow.run()
    assert seen
    for target, weights in seen:
        assert target.shape[:2] == (3, 4)
        assert sorted((weights > 0).sum(1).tolist()) == [2, 3, 4]
        assert not target.transpose(0, 1).flatten(2)[weights.T == 0].any()


def test_missing_raters_are_left_out_of_soft_targets(uneven_brains, make_output) -> None:
    bundle, ids, _ = METHODS["msvls"]
    options = {**RUN, **ids, **TASKS["brats_whole"], "dataset_dir": uneven_brains, "augmentation": []}
    options |= {"output_dir": make_output(), "split_file": three_of_four(uneven_brains, make_output())}
    expected = {
        "msvls": SVLS(4),
        "moh": SVLS(4, smooth=False),
        "one": lambda label: SVLS(4, smooth=False)(label[:1]),
    }
    for target, transform in expected.items():
        parser = make_workflow(bundle, "tasks/brats_whole", **{**options, "target": target}).parser
        task, cases = (parser.get_parsed_content(name) for name in ("task", "train#dataset"))
        for case, given in zip(cases, task.dataset("train", task.evaluation()), strict=True):
            assert "rater_weights" not in case
            present = given["label"].as_tensor()[given["rater_weights"] > 0]
            torch.testing.assert_close(case["label"].as_tensor(), transform(present).as_tensor())


@pytest.mark.parametrize("method", ["ssn", "svls"])
def test_missing_raters_are_left_out_of_an_evaluation(uneven_brains, make_output, monkeypatch, method) -> None:
    """What the maps of missing raters hold is without effect; where they are no raters, it has one."""
    bundle, ids, _ = METHODS[method]
    options = {**RUN, **ids, **TASKS["brats_whole"], "dataset_dir": uneven_brains, "output_dir": make_output()}
    options |= {"split_file": three_of_four(uneven_brains, make_output()), "val_interval": 5, "task#regions": ["WT"]}
    run_workflow(bundle, "tasks/brats_whole", **options)
    options |= {"checkpoint": f"{options['output_dir']}/model_last.pt", "part": "train"}
    split = {"split_file": options["split_file"]}

    def evaluate(fill: int, weight: float) -> list[float]:
        def call(self: PadRatersd, data: Any) -> Any:
            d = pad(self, data)
            missing = d["rater_weights"] == 0
            d["label"][missing] = fill
            d["rater_weights"][missing] = weight
            return d

        monkeypatch.setattr(PadRatersd, "__call__", call)
        run_workflow(bundle, "tasks/brats_whole", "evaluate", **{**options, **split})
        mean = table(f"{options['output_dir']}/evaluation_train.csv")["mean"]
        return [float(value) for name, value in mean.items() if name != "case"]

    pad = PadRatersd.__call__
    one, other, among = evaluate(0, 0.0), evaluate(3, 0.0), evaluate(3, 1.0)
    assert one == pytest.approx(other, nan_ok=True)
    assert one != pytest.approx(among, nan_ok=True)


def test_the_loss_sees_all_modes_with_their_probabilities_or_one_draw(folders, make_output, monkeypatch) -> None:
    seen: list[tuple] = []
    forward = OptimalTransportLoss.forward

    def spy(self, input, target, rater_weights=None):
        seen.append((target.shape, rater_weights, self.gamma, self.rater_weighting))
        return forward(self, input, target, rater_weights)

    monkeypatch.setattr(OptimalTransportLoss, "forward", spy)
    scheduled = {"val_interval": 10, "images_per_epoch": 4, "rater_weighting": [[1, 0.0], [2, 1.0]]}
    run_workflow("mose_cityscapes", **at_home("mose_cityscapes", folders, make_output("modes"), **scheduled))
    shapes, weights, gammas, weightings = zip(*seen, strict=True)
    assert set(shapes) == {(2, 32, 24, 24)}
    for row in torch.cat(weights):
        torch.testing.assert_close(row.sum(), torch.tensor(1.0))
        torch.testing.assert_close(row[0], torch.tensor(9 * 10 * 11 * 12 * 13 / 17**5))  # no switch is thrown
    assert gammas == (0.5, 0.5, 1.0, 1.0)
    assert weightings == (0.0, 0.0, 1.0, 1.0)
    seen.clear()
    options = at_home("mose_cityscapes", folders, make_output("draw"), **scheduled, all_modes=False, max_epochs=1)
    run_workflow("mose_cityscapes", **options)
    assert [(shape, weights) for shape, weights, *_ in seen] == [((2, 1, 24, 24), None)] * 2


def test_experts_answer_with_weights_or_with_any_number_of_samples(real_figures, folders, make_output) -> None:
    output = make_output()
    options = at_home("mose_cityscapes", folders, output, val_interval=2)
    run_workflow("mose_cityscapes", **options)
    workflow = run_workflow("mose_cityscapes", "evaluate", **options)
    evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    assert 0 <= evaluator.state.metrics["val_mode_frequency"] <= 1
    assert 0 <= evaluator.state.metrics["val_flip_ratio"] <= 8 / 17
    (_, *rows) = (Path(output) / "mode_frequency_test.csv").read_text().splitlines()
    assert sum(float(row.split(",")[2]) for row in rows) == pytest.approx(1)
    assert len(rows) == 32
    for figure in ("samples", "mode_frequency", "flip_ratio"):
        assert (Path(output) / f"{figure}_test.png").read_bytes()[:4] == b"\x89PNG"
    last = evaluator.state.output[0]
    assert last["samples"].shape == (6, 32, 64)
    torch.testing.assert_close(last["sample_weights"].sum(), torch.tensor(1.0))
    workflow = run_workflow("mose_cityscapes", "evaluate", **options, representation="standard", test_samples=4)
    last = workflow.parser.get_parsed_content("validate#evaluator").state.output[0]
    assert last["samples"].shape == (4, 32, 64)
    assert "sample_weights" not in last


def test_metrics_of_an_epoch_are_one_line(capsys) -> None:
    """Also of arrays; large ones are left to the tables."""
    engine = Engine(lambda engine, batch: None)
    statistics("one_line")[0].attach(engine)
    parts = {"parts": np.linspace(0, 1, 11), "dice": torch.rand(40), "dims": torch.tensor([0.5, 1])}
    engine.state.metrics = {"kl": torch.tensor(0.5), "ged": 1, **parts}
    engine.run([0])
    (line,) = capsys.readouterr().out.splitlines()
    shown = ", ".join(f"{each:.4f}" for each in parts["parts"])
    expected = f"dims: [0.5000, 1.0000] ged: 1.0000 kl: 0.5000 parts: [{shown}]"
    assert line.endswith(f" - INFO - Epoch[1] Metrics -- {expected}")


def test_other_processes_print_no_statistics(monkeypatch) -> None:
    assert len(statistics("train")) == 1
    monkeypatch.setenv("RANK", "1")
    assert statistics("train") == []
