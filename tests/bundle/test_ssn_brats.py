# SPDX-License-Identifier: Apache-2.0
"""The ssn_brats bundle end to end, its sizes overridden to seconds."""

from __future__ import annotations

import csv
import json
import shutil
from itertools import chain
from pathlib import Path

import mlflow
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import TORCHRUN, command, first_cause, make_workflow, run_command, run_workflow
from monai.bundle import ConfigWorkflow, ckpt_export, verify_net_in_out

from monai_stochseg.data import CaseError, brats_datalist, simulated_brain_folder

TINY = {
    "patch_size": [16, 16, 16],
    "roi_size": [24, 24, 24],
    "channels": [4, 8],
    "strides": [2],
    "feature_channels": 4,
    "rank": 2,
    "num_samples": 3,  # odd: the last antithetic sample stands alone
    "eval_samples": 3,
    "max_epochs": 2,
    "val_interval": 1,
    "pretrain_epochs": 1,
    "images_per_epoch": 2,
    "patches_per_image": 2,
    "split_fractions": [0.5, 0.25, 0.25],
}


@pytest.fixture(scope="module")
def bundle(repository) -> Path:
    return repository / "bundles" / "ssn_brats"


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory) -> str:
    return simulated_brain_folder(tmp_path_factory.mktemp("simulated") / "brains", 4, (24, 24, 24))


@pytest.fixture(scope="module")
def trained(bundle, dataset_dir, tmp_path_factory) -> tuple[Path, str]:
    """The output folder of a training by the command line, started from elsewhere, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    args = command(bundle, dataset_dir=dataset_dir, output_dir=folder / "output", **TINY)
    done = run_command(args, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "output", done.stdout


def test_train_leaves_what_it_promises(trained, dataset_dir):
    output, printed = trained
    assert [line.count("val_ged") for line in printed.splitlines() if "Metrics --" in line] == [1, 1, 1]
    assert torch.load(output / "model_best.pt", weights_only=True).keys() >= {"network"}
    assert (output / "samples.png").read_bytes()[:4] == b"\x89PNG"
    split = json.loads((output / "split.json").read_text())
    assert sorted(chain(*split.values())) == [case["patient"] for case in brats_datalist(dataset_dir)]
    client = mlflow.MlflowClient(f"sqlite:///{output}/mlruns.db")
    (run,) = client.search_runs([client.get_experiment_by_name("ssn_brats").experiment_id])
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "val_ged")) == 3
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 2
    assert run.data.params["rank"] == "2"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"samples.png", "split.json"}


def test_a_resumed_run_ends_as_an_uninterrupted_one(bundle, dataset_dir, tmp_path):
    def train(output: str, **override: object) -> ConfigWorkflow:
        options = {**TINY, "val_interval": 10, "output_dir": str(tmp_path / output), **override}
        return run_workflow(bundle, dataset_dir=dataset_dir, **options)

    whole = train("whole", max_epochs=4)
    train("parts", max_epochs=2, **{"lr_scheduler#total_iters": 4})
    resumed = train("parts", max_epochs=4, resume=True)
    one, other = (workflow.parser.get_parsed_content("network_def").state_dict() for workflow in (whole, resumed))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=0, msg=name)
    assert resumed.parser.get_parsed_content("train#trainer").state.epoch == 4


def test_evaluate_writes_a_table(trained, bundle, dataset_dir):
    output, _ = trained
    run_workflow(bundle, "evaluate.json", dataset_dir=dataset_dir, output_dir=str(output), **TINY)
    rows = list(csv.DictReader((output / "evaluation_validation.csv").open()))
    split = json.loads((output / "split.json").read_text())
    assert [row["case"] for row in rows] == [*split["validation"], "mean"]
    for column in ("ged", "diversity", "dice_WT", "dice_ET", "dice_q95_OD", "better_than_mode_NET"):
        assert column in rows[0]
    run_workflow(bundle, "evaluate.json", dataset_dir=dataset_dir, output_dir=str(output), part="test", **TINY)
    rows = list(csv.DictReader((output / "evaluation_test.csv").open()))
    assert [row["case"] for row in rows] == [*split["test"], "mean"]


def test_inference_needs_no_label_and_keeps_the_geometry(trained, bundle, tmp_path):
    output, _ = trained
    affine = np.diag([-2.0, -1.5, 3.0, 1.0])
    affine[:3, 3] = [5, 6, 7]
    patient = tmp_path / "data" / "p1"
    patient.mkdir(parents=True)
    volume = np.zeros((20, 22, 18), np.float32)
    volume[3:17, 2:20, 2:16] = np.random.default_rng(0).random((14, 18, 14)) + 1
    for name in ("flair", "t1", "t1ce", "t2"):
        nib.save(nib.Nifti1Image(volume, affine), patient / f"p1_{name}.nii.gz")
    run_workflow(
        bundle,
        "inference.json",
        dataset_dir=str(tmp_path / "data"),
        output_dir=str(output),
        prediction_dir=str(tmp_path / "predictions"),
        spacing=[1.0, 1.0, 1.0],
        **TINY,
    )
    shapes = {"mode": volume.shape, "samples": (*volume.shape, 3), "entropy": volume.shape}
    for name, shape in shapes.items():
        image = nib.load(tmp_path / "predictions" / f"p1_{name}.nii.gz")
        values = np.asanyarray(image.dataobj)
        assert values.shape == shape
        np.testing.assert_allclose(image.affine, affine, atol=1e-4)
        assert (values[0] == 0).all()  # three voxels outside the brain
        assert values.dtype == (np.float32 if name == "entropy" else np.uint8)


def test_two_processes(bundle, dataset_dir, tmp_path):
    cpu = {**TINY, "device": "$torch.device('cpu')"}
    args = command(bundle, "multi_gpu_train.json", dataset_dir=dataset_dir, output_dir=tmp_path, **cpu)
    done = run_command([*TORCHRUN, *args], cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sum("Metrics --" in line for line in done.stdout.splitlines()) == 3  # one process prints
    state = torch.load(tmp_path / "model_best.pt", weights_only=True)["network"]
    assert not any(name.startswith("module.") for name in state)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns.db")
    assert len(client.search_runs([client.get_experiment_by_name("ssn_brats").experiment_id])) == 1  # one process logs
    evaluation = command(
        bundle, "multi_gpu_train.json", "evaluate.json", dataset_dir=dataset_dir, output_dir=tmp_path, **cpu
    )
    assert run_command([*TORCHRUN, *evaluation], cwd=tmp_path).returncode == 0
    rows = list(csv.DictReader((tmp_path / "evaluation_validation.csv").open()))
    assert [row["case"] for row in rows] == [*json.loads((tmp_path / "split.json").read_text())["validation"], "mean"]


def test_the_published_recipe_runs_small(bundle, tmp_path):
    """paper.json with a thin DeepMedic and one batch an epoch."""
    dataset_dir = simulated_brain_folder(tmp_path / "brains", 3, (110, 110, 110))
    thin = {"backbone#channels": [2] * 8, "backbone#fully_connected": [8, 8], "feature_channels": 4}
    small = {"patch_size": [95] * 3, "label_size": [15] * 3, "images_per_epoch": 1, "batch_size": 1}
    workflow = run_workflow(
        bundle,
        "paper.json",
        dataset_dir=dataset_dir,
        output_dir=str(tmp_path / "output"),
        max_epochs=1,
        val_interval=1,
        num_samples=2,
        eval_samples=2,
        **thin,
        **small,
    )
    assert (tmp_path / "output" / "model_best.pt").is_file()
    optimizer = workflow.parser.get_parsed_content("optimizer")
    assert {k: optimizer.param_groups[0][k] for k in ("momentum", "alpha", "weight_decay")} == {
        "momentum": 0.6, "alpha": 0.9, "weight_decay": 1e-4
    }  # fmt: skip


def test_the_published_recipe_is_the_papers(bundle):
    paper = json.loads((bundle / "paper.json").read_text())
    train = json.loads((bundle / "train.json").read_text())
    assert paper["patch_size"] == [110] * 3
    assert paper["batch_size"] * paper["patches_per_image"] == 10
    assert paper["images_per_epoch"] * paper["patches_per_image"] == 50 * 20
    assert paper["max_epochs"] == 1200
    assert paper["lr_scheduler"]["milestones"] == [440, 640, 800, 900, 980, 1050]
    assert (train["rank"], train["num_samples"]) == (10, 20)


def test_real_patients_by_overriding_ids_alone(bundle, real_data, tmp_path):
    run_workflow(
        bundle,
        dataset_dir=str(real_data / "brats2015"),
        modalities=["flair", "t1c"],
        spacing=[4.0, 4.0, 4.0],
        output_dir=str(tmp_path),
        **{**TINY, "max_epochs": 1},
    )
    split = json.loads((tmp_path / "split.json").read_text())
    assert split["validation"] == ["brats_2013_pat0003_1", "brats_2013_pat0004_1"]
    assert (tmp_path / "model_best.pt").is_file()


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ({"rank": 0}, ValueError, "rank must be at least 1, got 0"),
        ({"class_names": ["background"]}, ValueError, "at least 2, got 1"),
        ({"patch_size": [16, 64, 16]}, CaseError, "patch .* is larger than the image"),
        ({"dataset_dir": "no_such_folder"}, CaseError, "no patient found under"),
        ({"modalities": ["flair", "pet"]}, CaseError, "'pet' is unknown"),
        ({"resume": True}, CaseError, r"split\.json is not there"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing_half_written(bundle, dataset_dir, tmp_path, override, error, message):
    with pytest.raises(error, match=message), first_cause():
        run_workflow(bundle, **{"dataset_dir": dataset_dir, "output_dir": str(tmp_path), **TINY, **override})
    assert not list(tmp_path.glob("*.pt")) + list(tmp_path.glob("*.json"))


def test_a_failed_run_leaves_an_earlier_one_as_it_was(trained, bundle, dataset_dir, tmp_path):
    output = tmp_path / "output"
    shutil.copytree(trained[0], output)
    before = {name: (output / name).read_bytes() for name in ("split.json", "model_best.pt", "model_last.pt")}
    with pytest.raises(CaseError, match="patch"), first_cause():
        run_workflow(
            bundle, dataset_dir=dataset_dir, output_dir=str(output), **{**TINY, "seed": 5, "patch_size": [16, 64, 16]}
        )
    assert before == {name: (output / name).read_bytes() for name in before}


def test_a_new_run_moves_an_earlier_one_aside_and_a_resumed_one_keeps_its_split(trained, bundle, dataset_dir, tmp_path):
    output = tmp_path / "output"
    shutil.copytree(trained[0], output)
    split = (output / "split.json").read_text()
    options = {"dataset_dir": dataset_dir, "output_dir": str(output), **TINY, "seed": 3}
    run_workflow(bundle, **{**options, "resume": True, "max_epochs": 3})
    assert (output / "split.json").read_text() == split
    run_workflow(bundle, **{**options, "max_epochs": 1})
    assert (output / "split.previous.json").read_text() == split
    assert (output / "split.json").read_text() != split
    assert (output / "model_best.previous.pt").is_file()


def test_training_reaches_the_border_of_the_brain(bundle, dataset_dir, tmp_path):
    """With labels smaller than the patch, as without padding, each voxel of the brain can be a label."""
    sizes = {
        "patch_size": [16] * 3,
        "label_size": [4] * 3,
        "split_fractions": [1.0, 0.0, 0.0],
        "patches_per_image": 200,
    }
    workflow = make_workflow(bundle, dataset_dir=dataset_dir, output_dir=str(tmp_path), **{**TINY, **sizes})
    dataset = workflow.parser.get_parsed_content("train#dataset")
    size = dataset[0][0]["image"].meta["spatial_shape"]
    corner = [np.inf] * 3
    for patch in dataset[0]:
        assert patch["image"].shape == (4, 16, 16, 16)
        assert patch["label"].shape == (4, 4, 4, 4)
        corner = np.minimum(corner, patch["label"].affine[:3, 3])
    assert (np.asarray(corner) < 5).all(), f"no label nearer to the border of {size} than {corner}"


def test_a_gpu_keeps_cudnn_benchmark(bundle, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    make_workflow(bundle, device="$torch.device('cuda', 0)")
    assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.deterministic


def test_a_checkpoint_of_another_architecture_is_refused(trained, bundle, dataset_dir):
    output, _ = trained
    with pytest.raises(ValueError, match=r"^.*model_best\.pt.*$"), first_cause():
        run_workflow(
            bundle, "evaluate.json", dataset_dir=dataset_dir, output_dir=str(output), **{**TINY, "feature_channels": 6}
        )


def test_an_unknown_id_is_the_last_line(bundle, tmp_path):
    done = run_command(command(bundle, output_dir=tmp_path / "output", max_epoch=1), cwd=tmp_path)
    assert done.returncode != 0
    expected = "ValueError: --max_epoch: the configuration has no id max_epoch; did you mean max_epochs"
    assert done.stderr.strip().splitlines()[-1].startswith(expected)
    assert not (tmp_path / "output").exists()


def test_monai_commands(trained, bundle, tmp_path):
    """MONAI's own checks and TorchScript export work on the bundle."""
    output, _ = trained
    meta = str(bundle / "metadata.json")
    tiny = {name: TINY[name] for name in ("channels", "strides", "feature_channels")}
    verify_net_in_out(
        "network_def", meta_file=meta, config_file=str(bundle / "train.json"), p=2, n=4, device="cpu", **tiny
    )
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(output / "model_best.pt"),
        meta_file=meta,
        config_file=str(bundle / "train.json"),
        key_in_ckpt="network",
        input_shape=[1, 4, 16, 16, 16],
        **{**tiny, "rank": 2},
    )
    assert torch.jit.load(str(tmp_path / "model.ts"))(torch.zeros(1, 4, 16, 16, 16)).shape == (
        1,
        4 * (2 + 2),
        16,
        16,
        16,
    )
