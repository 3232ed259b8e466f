# SPDX-License-Identifier: Apache-2.0
"""Refinement of networks that are there already, and images with another model's predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import make_workflow, run_workflow, table
from PIL import Image
from tiny import HOME, METHODS, RUN, TASKS

from monai_stochseg.data import cityscapes_datalist
from monai_stochseg.data.lidc import crops_datalist
from monai_stochseg.data.simulated import simulate_street
from monai_stochseg.losses import RaterCrossEntropyLoss
from monai_stochseg.networks.nets import BilinearUNet

SIZE = (32, 64)
State = dict[str, torch.Tensor]


def options(folders: dict[str, str], task: str, output: str, **override: Any) -> dict[str, Any]:
    return {**RUN, **HOME["car_lidc"], "dataset_dir": folders[task], "output_dir": output, **override}


def calibration_in(folder: str | Path) -> State:
    state = torch.load(Path(folder) / "model_best.pt", weights_only=True)["network"]
    return {k.removeprefix("calibration."): v for k, v in state.items() if k.startswith("calibration.")}


def assert_equal(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=0, msg=key)


def script(spatial_dims: int, file: Path) -> BilinearUNet:
    """A network that is known by its TorchScript file alone."""
    network = BilinearUNet(spatial_dims, 1, 2, (2, 4), "BATCH").eval()
    torch.jit.script(network).save(str(file))
    return network


def test_a_torchscript_black_box_in_volumes(folders, make_output, tmp_path) -> None:
    """The second stage alone, by the control's loss."""
    black_box = script(3, tmp_path / "black_box.ts")
    given = options(
        folders,
        "lidc_3d",
        make_output(),
        **{"spatial_dims": 3, "consistency": "cross_entropy", "calibration_checkpoint": None},
        calibration_def=f"$torch.jit.load('{tmp_path}/black_box.ts')",
    )
    workflow = run_workflow("car_lidc", run_id="refine", **given)
    assert_equal(calibration_in(given["output_dir"]), black_box.state_dict())
    trainer = workflow.parser.get_parsed_content("train#trainer")
    output, label = trainer.state.output["pred"], trainer.state.output["label"]
    expected = RaterCrossEntropyLoss()(output.logits.detach(), label.as_tensor())
    torch.testing.assert_close(trainer.state.output["reconstruction_loss"].detach(), expected)
    run_workflow("car_lidc", base="inference", **given, max_cases=1)
    case = crops_datalist(folders["lidc_3d"])[0]["name"]
    file = Path(given["output_dir"]) / "predictions" / f"{case}_answer_entropy.nii.gz"
    assert nib.load(file).shape == (12, 12, 12)


def test_a_black_box_under_a_small_calibration_network(folders, make_output, tmp_path) -> None:
    """The first stage trains the small network alone."""
    black_box = script(2, tmp_path / "black_box.ts")
    parts = f"BlackBox('{tmp_path}/black_box.ts')", "BlackBoxCalibrationNetwork(2, 2, 2, channels=2)"
    calibration = ", ".join(f"monai_stochseg.networks.nets.{part}" for part in parts)
    given = options(folders, "lidc", make_output(), calibration_def=f"$torch.nn.Sequential({calibration})")
    parser = run_workflow("car_lidc", **given).parser
    state = calibration_in(given["output_dir"])
    found = {k.removeprefix("0.network."): v for k, v in state.items() if k.startswith("0.network.")}
    assert_equal(found, black_box.state_dict())
    assert parser.get_parsed_content("calibration#optimizer").state  # some weights moved
    calibrated = torch.load(Path(given["output_dir"]) / "calibration" / "model_best.pt", weights_only=True)
    assert_equal(state, calibrated["network"])


def test_a_network_of_another_bundle(folders, make_output, tmp_path) -> None:
    """Its definition by MONAI's macro, its weights a plain state dictionary."""
    definition = {
        "_target_": "monai.networks.nets.UNet",
        **{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [2, 4], "strides": [2]},
    }
    (tmp_path / "train.json").write_text(json.dumps({"network_def": definition}))
    given = options(
        folders,
        "lidc",
        make_output(),
        calibration_def=f"%{tmp_path}/train.json#network_def",
        calibration_checkpoint=str(tmp_path / "model.pt"),
        **{"calibration_key": None, "consistency": "latent"},
    )
    network = make_workflow("car_lidc", **given).parser.get_parsed_content("network_def")
    assert network.refinement.code is not None
    torch.save(network.calibration.state_dict(), tmp_path / "model.pt")
    run_workflow("car_lidc", run_id="refine", **given)
    assert_equal(calibration_in(given["output_dir"]), network.calibration.state_dict())


def write_scene(folder: Path, part: str, city: str, index: int, with_label: bool = True) -> str:
    """A scene as the organisers deliver it, with the label of 34 ids, in which 7 is the road and 0 is void."""
    picture, label = simulate_street(SIZE, index)
    name = f"{city}_{index:06d}_000019"
    ids = np.where(label == 0, 7, np.where(label == 13, 26, 0)).astype(np.uint8)
    files = {f"leftImg8bit/{part}/{city}/{name}_leftImg8bit.png": picture}
    if with_label:
        files[f"gtFine/{part}/{city}/{name}_gtFine_labelIds.png"] = ids
    for file, pixels in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / file)
    return name


@pytest.mark.parametrize("method", ["mose_cityscapes", "probunet"])
def test_streets_with_another_models_predictions(make_output, tmp_path, method) -> None:
    """The organisers' layout: void pixels, labels of 34 ids, and at inference a scene without label."""
    real, predictions = tmp_path / "real", tmp_path / "predictions"
    predictions.mkdir()
    places = [("train", "aachen", 0), ("train", "ulm", 1), ("val", "munster", 2)]
    for place in places:
        name = write_scene(real, *place)
        np.save(predictions / f"{name}.npy", np.full((5, 8, 16), place[2], np.float16))
    given: dict[str, Any] = {**RUN, **TASKS["cityscapes"], "dataset_dir": str(real), "output_dir": make_output()}
    given["predictions_dir"] = str(predictions)
    bundle, ids, overlays = method, HOME.get(method, {}), ()
    if method in METHODS:
        bundle, ids, overlays = METHODS[method].bundle, METHODS[method].ids, ("tasks/cityscapes",)
    given |= ids
    workflow = run_workflow(bundle, *overlays, **given)
    dataset = workflow.parser.get_parsed_content("validate#evaluator").data_loader.dataset
    assert dataset[0]["image"].shape == (8, *SIZE)
    assert (dataset[0]["image"][3:] == 1).all()
    assert dataset[0]["label"].max() == 255
    run_workflow(bundle, *overlays, "evaluate", **given)
    output = Path(given["output_dir"])
    (case, mean, _) = table(output / "evaluation_test.csv")
    assert (case.removesuffix(".png"), mean) == ("munster_000002_000019", "mean")

    name = write_scene(tmp_path / "new", "val", "munster", 2, with_label=False)
    assert "label" not in cityscapes_datalist(tmp_path / "new", require_label=False)[0]
    samples = 6 if method == "mose_cityscapes" else 3
    unlabelled = {**given, "dataset_dir": str(tmp_path / "new"), "eval_samples": samples}
    run_workflow(bundle, *overlays, base="inference", **unlabelled)
    pictures = sorted((output / "predictions").glob(f"{name}_samples_*.png"))
    assert [Image.open(file).size for file in pictures] == [(SIZE[1], SIZE[0])] * samples
