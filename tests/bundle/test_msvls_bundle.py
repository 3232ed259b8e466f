# SPDX-License-Identifier: Apache-2.0
"""The bundle msvls_lidc end to end, its sizes overridden to seconds."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import mlflow
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import TORCHRUN, command, first_cause, make_workflow, run_command, run_workflow
from disc_crops import disc_crops
from monai.bundle import verify_net_in_out

from monai_stochseg.data import CaseError, crops_datalist, load_manifest, prepare_lidc
from monai_stochseg.data.lidc import write_crops

TINY: dict[str, Any] = {
    "channels": [4, 8, 8, 8],  # crops of 12 are padded to 16
    "max_epochs": 1,
    "val_interval": 1,
    "batch_size": 4,
    "device": "$torch.device('cpu')",
}
SCAN = "LIDC-IDRI-0003"


@pytest.fixture(scope="module")
def bundle(repository) -> Path:
    return repository / "bundles" / "msvls_lidc"


def rows(file: Path) -> dict[str, dict[str, str]]:
    with file.open() as opened:
        return {row["case"]: row for row in csv.DictReader(opened)}


def test_train_evaluate_and_infer(bundle, lidc_crops, make_output) -> None:
    """The last of the four readers of these crops drew nothing."""
    output = Path(make_output())
    options = {**TINY, "dataset_dir": lidc_crops[3], "output_dir": str(output)}
    run_workflow(bundle, **options)
    client = mlflow.MlflowClient(f"sqlite:///{output}/mlruns.db")
    (run,) = client.search_runs([client.get_experiment_by_name("msvls_lidc").experiment_id])
    assert run.data.params.items() >= {"target": "msvls", "manifest": load_manifest("kohl").id}.items()
    assert run.data.metrics.keys() >= {"train_loss", "val_dice", "val_ece"}

    run_workflow(bundle, "evaluate.json", **options)
    table = rows(output / "evaluation_test.csv")
    test = load_manifest("kohl").parts["test"][:2]
    assert list(table) == [*(f"{patient}_{i}" for patient in test for i in range(2)), "mean", "std"]
    judged = [f"{metric}_nodule_rater{rater}" for metric in ("dice", "surface_dice") for rater in range(4)]
    assert set(table["mean"]) == {"case", *judged, "ece", "tace", "tace_svls", "ece_nodule"}
    for row in table.values():
        assert math.isnan(float(row["dice_nodule_rater3"]))
        assert math.isnan(float(row["surface_dice_nodule_rater3"]))
        assert 0 <= float(row["dice_nodule_rater0"]) <= 1
        assert 0 <= float(row["ece"]) <= 1
    assert (output / "reliability_test.png").read_bytes()[:4] == b"\x89PNG"

    workflow = run_workflow(bundle, "inference.json", **options, max_crops=1)
    assert "label" not in workflow.parser.get_parsed_content("predictor").data_loader.dataset[0]
    case = crops_datalist(lidc_crops[3])[0]["name"]
    for kind, dtype in {"mode": np.uint8, "entropy": np.float32}.items():
        saved = nib.load(output / "predictions" / f"{case}_{kind}.nii.gz")
        assert saved.shape == (12, 12, 12)
        assert saved.get_data_dtype() == dtype
        np.testing.assert_allclose(np.abs(saved.affine.diagonal()), [0.5, 0.5, 0.5, 1])
    assert len(list((output / "predictions").iterdir())) == 2


def test_a_reader_who_says_background_is_judged(bundle, lidc_crops, make_output) -> None:
    """The last reader, who drew nothing, lowers the frequency of the nodule, or is missing."""
    output = Path(make_output())
    options = {**TINY, "dataset_dir": lidc_crops[3], "output_dir": str(output)}
    run_workflow(bundle, **options)
    state = torch.load(output / "model_best.pt", weights_only=True)
    found = "model.2.1.conv.unit0.conv.bias"  # of the last layer: all voxels become nodule
    state["network"][found] = torch.tensor([-100.0, 100.0])
    torch.save(state, output / "model_best.pt")
    mean = {}
    for nonempty in (True, False):
        run_workflow(bundle, "evaluate.json", nonempty_raters=nonempty, **options)
        mean[nonempty] = rows(output / "evaluation_test.csv")["mean"]
    assert float(mean[False]["ece_nodule"]) > float(mean[True]["ece_nodule"])
    assert math.isnan(float(mean[True]["surface_dice_nodule_rater3"]))
    assert float(mean[False]["surface_dice_nodule_rater3"]) == 0


def test_a_resumed_run_ends_as_an_uninterrupted_one(bundle, lidc_crops, make_output) -> None:
    def train(output: str, **override: object) -> dict[str, torch.Tensor]:
        options = {**TINY, "dataset_dir": lidc_crops[3], "output_dir": make_output(output), "val_interval": 3}
        workflow = run_workflow(bundle, **{**options, "target": "all", **override})
        return workflow.parser.get_parsed_content("network_def").state_dict()

    whole = train("whole", max_epochs=3)
    train("parts", max_epochs=1, **{"lr_scheduler#total_iters": 3})
    resumed = train("parts", max_epochs=3, resume=True)
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=0, msg=key)


def test_two_processes(bundle, lidc_crops, make_output) -> None:
    output = Path(make_output())
    args = command(bundle, "multi_gpu_train.json", **TINY, dataset_dir=lidc_crops[3], output_dir=output)
    done = run_command([*TORCHRUN, *args], cwd=output)
    assert done.returncode == 0, done.stderr[-3000:]
    state = torch.load(output / "model_best.pt", weights_only=True)["network"]
    assert not any(key.startswith("module.") for key in state)


def test_targets(bundle, lidc_crops, tmp_path) -> None:
    """One seed, the same images; three readers drew spheres of different sizes, the fourth nothing."""

    def first(**override: object) -> dict[str, Any]:
        options = {**TINY, "augmentation": [], "output_dir": str(tmp_path), "dataset_dir": lidc_crops[3], **override}
        return make_workflow(bundle, **options).parser.get_parsed_content("train#trainer").data_loader.dataset[0]

    one, drawn, moh, msvls = (first(target=target) for target in ("one", "all", "moh", "msvls"))
    background = first(target="moh", nonempty_raters=False)
    for case in (one, drawn, moh, msvls, background):
        assert case["label"].shape == (2, 16, 16, 16)
        assert case["label"].sum(0).sub(1).abs().max() < 1e-5
        assert torch.equal(case["image"], one["image"])
    nodule = one["image"][0] > 0
    assert torch.equal(one["label"][1].bool(), nodule)
    assert one["image"][0, 0, 0, 0] == -1  # air around
    assert set(drawn["label"].unique().tolist()) == {0, 1}
    assert drawn["label"][1].any()
    assert {round(3 * value, 4) for value in moh["label"].unique().tolist()} == {0, 1, 2, 3}
    torch.testing.assert_close(background["label"][1], moh["label"][1] * 3 / 4)
    changed = (msvls["label"] != moh["label"]).any(0).float().mean()
    assert 0 < changed < 0.5


def test_the_augmentation_turns_image_and_masks_in_the_axial_plane(bundle, tmp_path) -> None:
    """Of a block that is longest along the slices' axis, which keeps its extent there."""
    crops = list(disc_crops(3, 32))
    for crop in crops:
        crop.label[:3] = False
        crop.label[:3, 12:20, 8:24, 4:28] = True
        crop.image[...] = np.where(crop.label[0], 400, -1000)
    write_crops(crops, tmp_path / "crops", {})
    options = {**TINY, "dataset_dir": str(tmp_path / "crops"), "output_dir": str(tmp_path), "target": "moh"}
    dataset = make_workflow(bundle, **options).parser.get_parsed_content("train#trainer").data_loader.dataset
    turned = 0
    for case in (dataset[i] for i in range(len(dataset))):
        nodule = case["image"][0] > 0
        assert (nodule == case["label"][1].bool()).float().mean() > 0.98
        assert set(case["label"].unique().tolist()) == {0, 1}  # the readers agree still
        slices = nodule.flatten(0, 1).any(0).nonzero()
        assert (slices.min(), slices.max()) == (4, 27)
        turned += int(nodule.any(2).sum() != 8 * 16)
    assert 0 < turned < len(dataset)


def test_the_published_recipe_is_the_papers(bundle, lidc_crops, tmp_path) -> None:
    parser = make_workflow(bundle, "paper.json", dataset_dir=lidc_crops[3], output_dir=str(tmp_path)).parser
    optimizer, network = (parser.get_parsed_content(part) for part in ("optimizer", "network_def"))
    assert isinstance(optimizer, torch.optim.Adam)
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (1e-4, 1e-4)
    assert list(network.channels) == [16, 32, 64, 128, 256]
    assert parser.get_parsed_content("manifest") == "svls"
    assert type(parser.get_parsed_content("loss")) is torch.nn.CrossEntropyLoss
    pad = parser.get_parsed_content("padding")[0]
    assert pad({"image": torch.zeros(1, 90, 90, 90)})["image"].shape == (1, 96, 96, 96)


def test_the_published_recipe_runs_small(bundle, make_output, tmp_path) -> None:
    """On the patients of the last checkpoint, whom the paper's split calls validation."""
    write_crops(disc_crops(3, 30), tmp_path / "crops", {})  # padded to 32
    output = Path(make_output())
    small = {"channels": [2, 2, 4, 4, 4], "num_workers": 0, "max_epochs": 1, "device": "$torch.device('cpu')"}
    options = {"dataset_dir": str(tmp_path / "crops"), "output_dir": str(output), **small}
    run_workflow(bundle, "paper.json", **options)
    assert not (output / "model_best.pt").exists()
    run_workflow(bundle, "paper.json", "evaluate.json", **options)
    assert len(rows(output / "evaluation_validation.csv")) == 4 + 2


def test_the_default_data_are_simulated(bundle, tmp_path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr("monai_stochseg.data.simulated_lidc_folder", lambda *args: asked.append(args) or "folder")
    for overlays in ((), ("paper.json",)):
        parser = make_workflow(bundle, *overlays, bundle_root=str(tmp_path / "bundles" / "msvls_lidc")).parser
        assert parser.get_parsed_content("dataset_dir") == "folder"
    assert [(Path(folder).name, *args) for folder, *args in asked] == [
        ("simulated_3d_120", 3, 120, 24, 1.0),
        ("simulated_90", 3, None, 90, 1.0),
    ]
    assert {Path(folder).parent.resolve() for folder, *_ in asked} == {tmp_path / "bundles" / "lidc_data"}


def test_a_real_scan(few_scans, real_data, bundle, make_output, manifest, tmp_path) -> None:
    """One patient, in train of a manifest of one's own, with validation and evaluation on train."""
    dicom_dir = real_data / "lidc" / "dicom"
    crops = prepare_lidc(dicom_dir, tmp_path / "crops", 3, spatial_size=30, spacing=1.5, missing="skip", progress=False)
    output = Path(make_output())
    options = {**TINY, "dataset_dir": crops, "output_dir": str(output), "manifest": manifest([SCAN])}
    run_workflow(bundle, **options, validation_part="train")
    run_workflow(bundle, "evaluate.json", **options, part="train")
    table = rows(output / "evaluation_train.csv")
    assert len(table) == 4 + 2
    readers = [sum(not math.isnan(float(row[f"dice_nodule_rater{i}"])) for i in range(4)) for row in table.values()]
    assert readers[:4] == [sum(case["drawn"]) for case in crops_datalist(crops)]


@pytest.mark.parametrize(
    ("dims", "override", "error", "message"),
    [
        (3, {"target": "mean"}, ValueError, "target must be one of .*one, all, moh, msvls, got 'mean'"),
        (3, {"sigma": 0}, ValueError, "sigma must be positive, got 0"),
        (3, {"kernel_size": 2}, ValueError, "kernel_size must be odd"),
        (3, {"manifest": "svls", "validation_part": "test"}, CaseError, "part 'test' is empty: svls has none"),
        (3, {"manifest": None}, CaseError, "came without a split: give a manifest"),
        (2, {}, CaseError, "holds 2D crops, but spatial_dims is 3"),
    ],
)
def test_bad_input_is_one_line(bundle, lidc_crops, make_output, dims, override, error, message) -> None:
    options = {**TINY, "dataset_dir": lidc_crops[dims], "output_dir": make_output(), **override}
    with pytest.raises(error, match=f"^.*{message}.*$"), first_cause():
        run_workflow(bundle, **options)
    assert not list(Path(options["output_dir"]).glob("*.pt"))


def test_monais_check_of_the_network(bundle) -> None:
    meta, config = (str(bundle / f"{name}.json") for name in ("metadata", "train"))
    verify_net_in_out("network_def", meta_file=meta, config_file=config, n=1, device="cpu", channels=[4, 8, 8, 8])
