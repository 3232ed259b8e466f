# SPDX-License-Identifier: Apache-2.0
"""The bundle car_lidc end to end, its sizes overridden to seconds."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import TORCHRUN, command, first_cause, make_workflow, run_command, run_workflow
from monai.bundle import ConfigWorkflow

from monai_stochseg.data import crops_datalist, load_manifest
from monai_stochseg.inferers import draw_samples
from monai_stochseg.losses import RaterCrossEntropyLoss
from monai_stochseg.networks.nets import BilinearUNet, CalibrationNetwork

TINY = {
    "channels": [2, 4],
    "max_epochs": 2,
    "val_interval": 1,
    "images_per_epoch": 4,
    "batch_size": 2,
    "num_samples": 2,
    "eval_samples": 3,
    "d_on": 1,
    "d_off": 1,
}


@pytest.fixture
def bundle(repository) -> Path:
    return repository / "bundles" / "car_lidc"


@pytest.fixture
def make_folder(make_output, mlflow_database) -> Callable[..., str]:
    """Make an output folder with MLflow's tables of both stages."""

    def make(name: str = "output") -> str:
        output = make_output(name)
        (Path(output) / "calibration").mkdir(exist_ok=True)
        shutil.copy(mlflow_database, Path(output) / "calibration")
        return output

    return make


def runs(folder: Path, experiment: str) -> list:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns.db")
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def saved(folder: str | Path, name: str = "model_best.pt") -> dict[str, torch.Tensor]:
    return torch.load(Path(folder) / name, weights_only=True)["network"]


def calibration_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k.removeprefix("calibration."): v for k, v in state.items() if k.startswith("calibration.")}


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0, msg=key)


def test_train_evaluate_and_infer(bundle, lidc_crops, make_folder):
    output = Path(make_folder())
    options = {**TINY, "dataset_dir": lidc_crops[2], "output_dir": str(output)}
    run_workflow(bundle, **options)
    assert_equal(calibration_of(saved(output)), saved(output / "calibration"))  # frozen
    (calibration,), (refinement,) = runs(output / "calibration", "car_lidc_calibration"), runs(output, "car_lidc")
    assert calibration.data.metrics.keys() >= {"train_loss", "val_brier", "val_dice"}
    assert refinement.data.metrics.keys() >= {"val_ged", "val_calibration_gap", "sample_diversity", "calibration_gap"}
    assert refinement.data.params["manifest"] == load_manifest("kohl").id
    assert refinement.data.params["consistency"] == "calibration"

    workflow = run_workflow(bundle, "evaluate.json", **options)
    with (output / "evaluation_test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() == {"case", "ged", "diversity", "hm_iou", "dice", "calibration_gap"}
    assert (output / "samples_test.png").is_file()
    network = workflow.parser.get_parsed_content("network_def").eval()
    evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    images = next(iter(evaluator.data_loader))["image"].as_tensor()
    distribution = network.predictive(images)
    samples = draw_samples(distribution, 3, torch.Generator().manual_seed(1))  # as the evaluator's first batch
    gap = (samples.probabilities - distribution.calibration_output()).abs().mean((1, 2, 3))
    assert [float(row["calibration_gap"]) for row in rows[:-1]] == pytest.approx(gap.tolist(), rel=1e-4)

    run_workflow(bundle, "inference.json", **options, **{"predictor#max_crops": 1})
    case = crops_datalist(lidc_crops[2])[0]["name"]
    found = {
        kind: nib.load(output / "predictions" / f"{case}_{kind}.nii.gz")
        for kind in ("mode", "samples", "entropy", "answer_entropy")
    }
    assert {kind: image.shape[3] for kind, image in found.items()} == {
        **dict.fromkeys(found, 1),
        "samples": 3,
    }
    predictor = make_workflow(bundle, "inference.json", **options).parser.get_parsed_content("predictor")
    image = next(iter(predictor.data_loader))["image"].as_tensor()
    np.testing.assert_allclose(
        found["answer_entropy"].get_fdata()[..., 0, 0], network.predictive(image).entropy()[0, 0], atol=1e-6
    )


def test_both_stages_resume_bit_for_bit(bundle, lidc_crops, make_folder):
    """Stopped within the first stage, and then within the second; the second alone is that of a whole run."""
    schedules = {f"{name}#total_iters": 2 for name in ("calibration#lr_scheduler", "lr_scheduler")}
    epochs = {"max_epochs": 4, "calibration_epochs": 2}
    options = {**TINY, **epochs, **schedules, "dataset_dir": lidc_crops[2], "discriminator_lr_scheduler#total_iters": 2}

    def train(output: str, **override: object) -> None:
        run_workflow(bundle, **{**options, "output_dir": make_folder(output), **override})

    train("whole")
    train("parts", run_id="calibrate", calibration_epochs=1)
    train("parts", resume=True, max_epochs=3)
    train("parts", resume=True)
    whole, parts = (Path(make_folder(name)) for name in ("whole", "parts"))
    assert_equal(saved(parts / "calibration", "model_last.pt"), saved(whole / "calibration", "model_last.pt"))
    states = [torch.load(folder / "model_last.pt", weights_only=True) for folder in (parts, whole)]
    assert_equal(states[0]["network"], states[1]["network"])
    assert_equal(states[0]["extra"]["discriminator"], states[1]["extra"]["discriminator"])
    assert states[0]["trainer"]["iteration"] == 4

    other = torch.load(whole / "calibration" / "model_best.pt", weights_only=True)
    other["network"]["final.bias"] += 1
    torch.save(other, whole / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt is not the calibration network that the resumed"), first_cause():
        train("whole", resume=True, max_epochs=5, calibration_checkpoint=str(whole / "other.pt"), run_id="refine")


def test_two_processes(bundle, lidc_crops, make_folder, tmp_path):
    output = Path(make_folder())
    options = {**TINY, "dataset_dir": lidc_crops[2], "output_dir": str(output), "device": "$torch.device('cpu')"}
    args = command(bundle, "multi_gpu_train.json", **options)
    done = run_command([*TORCHRUN, *args], cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_equal(calibration_of(saved(output)), saved(output / "calibration"))
    assert len(runs(output, "car_lidc")) == 1  # one logs


def test_a_torchscript_black_box_in_volumes(bundle, lidc_crops, make_folder, tmp_path):
    """The second stage alone, by the control's loss."""
    black_box = BilinearUNet(3, 1, 2, (2, 4), "BATCH").eval()
    torch.jit.script(black_box).save(str(tmp_path / "black_box.ts"))
    options = {
        **TINY,
        **{"dataset_dir": lidc_crops[3], "spatial_dims": 3, "consistency": "cross_entropy"},
        "calibration_def": f"$torch.jit.load('{tmp_path}/black_box.ts')",
        **{"calibration_checkpoint": None, "output_dir": make_folder()},
    }
    workflow = run_workflow(bundle, run_id="refine", **options)
    assert_equal(calibration_of(saved(options["output_dir"])), black_box.state_dict())
    trainer = workflow.parser.get_parsed_content("train#trainer")
    output, label = trainer.state.output["pred"], trainer.state.output["label"]
    expected = RaterCrossEntropyLoss()(output.logits.detach(), label.as_tensor())
    torch.testing.assert_close(trainer.state.output["reconstruction_loss"].detach(), expected)
    run_workflow(bundle, "inference.json", **options, **{"predictor#max_crops": 1})
    case = crops_datalist(lidc_crops[3])[0]["name"]
    assert nib.load(tmp_path / "output" / "predictions" / f"{case}_answer_entropy.nii.gz").shape == (12, 12, 12)


def test_a_black_box_under_a_small_calibration_network(bundle, lidc_crops, make_folder, tmp_path):
    """The first stage trains the small network alone."""
    black_box = BilinearUNet(2, 1, 2, (2, 4), "BATCH").eval()
    torch.jit.script(black_box).save(str(tmp_path / "black_box.ts"))
    parts = f"BlackBox('{tmp_path}/black_box.ts')", "BlackBoxCalibrationNetwork(2, 2, 2, channels=2)"
    calibration = ", ".join(f"monai_stochseg.networks.nets.{part}" for part in parts)
    options = {**TINY, "dataset_dir": lidc_crops[2], "calibration_def": f"$torch.nn.Sequential({calibration})"}
    output = Path(make_folder())
    parser = run_workflow(bundle, **options, output_dir=str(output)).parser
    state = calibration_of(saved(output))
    found = {k.removeprefix("0.network."): v for k, v in state.items() if k.startswith("0.network.")}
    assert_equal(found, black_box.state_dict())
    assert parser.get_parsed_content("calibration#optimizer").state  # some weights moved
    assert_equal(state, saved(output / "calibration"))


def test_a_network_of_another_bundle(bundle, lidc_crops, make_folder, tmp_path):
    """Its definition by MONAI's macro, its weights a plain state dictionary."""
    definition = {
        "_target_": "monai.networks.nets.UNet",
        **{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [2, 4], "strides": [2]},
    }
    (tmp_path / "train.json").write_text(json.dumps({"network_def": definition}))
    options = {
        **TINY,
        **{"dataset_dir": lidc_crops[2], "calibration_def": f"%{tmp_path}/train.json#network_def"},
        **{"calibration_checkpoint": str(tmp_path / "model.pt"), "calibration_key": None},
        **{"output_dir": make_folder(), "consistency": "latent"},
    }
    network = make_workflow(bundle, **options).parser.get_parsed_content("network_def")
    assert network.refinement.code is not None
    torch.save(network.calibration.state_dict(), tmp_path / "model.pt")
    run_workflow(bundle, run_id="refine", **options)
    assert_equal(calibration_of(saved(options["output_dir"])), network.calibration.state_dict())


def test_the_published_recipe_runs_small(bundle, lidc_crops, make_folder):
    """paper.json with thin networks and crops of 12 out of 16."""
    small = {
        **{"calibration_epochs": 1, "discriminator_channels": [2, 4], "crop_size": [12, 12]},
        **{"calibration_def#channels": [2, 4], "calibration_def#num_convs": [1, 1], "train#trainer#num_workers": 0},
    }
    options = {**TINY, **small, "dataset_dir": lidc_crops[2], "output_dir": make_folder()}
    parser = run_workflow(bundle, "paper.json", **options).parser
    assert isinstance(parser.get_parsed_content("network_def").calibration, CalibrationNetwork)
    for name in ("validate#evaluator", "train#trainer", "calibration#trainer", "calibration#evaluator"):
        loader = parser.get_parsed_content(name).data_loader
        assert loader.dataset[0]["label"].shape == (4, 12, 12)


def test_the_published_recipe_is_the_papers(bundle):
    config = {**json.loads((bundle / "train.json").read_text()), **json.loads((bundle / "paper.json").read_text())}
    assert (config["crop_size"], config["batch_size"], config["latent_dim"]) == ([128, 128], 32, 8)
    assert (config["d_on"], config["d_off"], config["num_samples"]) == (50, 200, 20)
    assert (config["adversarial_weight"], config["consistency_weight"]) == (10.0, 5.0)
    parser = make_workflow(bundle, "paper.json", channels=[2, 2], discriminator_channels=[2, 2]).parser
    for name, rate in (("calibration#", 2e-4), ("", 2e-4), ("discriminator_", 1e-5)):
        optimizer, schedule = (parser.get_parsed_content(name + part) for part in ("optimizer", "lr_scheduler"))
        (group,) = optimizer.param_groups
        assert (group["initial_lr"], group["betas"], group["weight_decay"]) == (rate, (0.5, 0.99), 5e-4)
        for _ in range(30):
            assert group["lr"] == rate
            optimizer.step()
            schedule.step()
        assert group["lr"] == rate / 2


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ({"consistency": "magic"}, ValueError, "'magic' is not found|magic"),
        ({"num_samples": 0}, ValueError, "num_samples must be at least 1, got 0"),
        ({"d_on": 0}, ValueError, "got d_on=0, d_off=1"),
        ({"resume": True}, FileNotFoundError, "no checkpoint at .*model_last.pt"),
        ({}, FileNotFoundError, r"no checkpoint at .*calibration/model_best\.pt: train first"),
    ],
)
def test_bad_input_is_one_line(bundle, lidc_crops, make_folder, override, error, message):
    options = {**TINY, "dataset_dir": lidc_crops[2], "output_dir": make_folder(), **override}
    with pytest.raises(error, match=f"^.*({message}).*$"), first_cause():
        _refine(bundle, **options)
    assert not list(Path(options["output_dir"]).rglob("*.pt"))


def _refine(bundle: Path, **options: object) -> ConfigWorkflow:
    return run_workflow(bundle, run_id="refine", **options)
