# SPDX-License-Identifier: Apache-2.0
"""The bundles svls_kits, svls_prostatex and svls_brats end to end, their sizes overridden to seconds."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import TORCHRUN, command, first_cause, make_workflow, run_command, run_workflow
from monai.bundle import verify_net_in_out

from monai_stochseg.data import simulated_brain_folder, simulated_kidney_folder, simulated_prostate_folder

TINY: dict[str, Any] = {
    "channels": [4, 8],
    "strides": [2],
    "roi_size": [16, 32, 32],
    "max_epochs": 1,
    "val_interval": 1,
    "split_fractions": [0.5, 0.25, 0.25],
    "device": "$torch.device('cpu')",
}
STRUCTURES = {
    "svls_kits": ["kidney", "tumour", "composite"],
    "svls_prostatex": ["PZ", "TZ", "DPU", "AFS"],
    "svls_brats": ["ET", "TC", "WT"],
}
CLASSES = {**STRUCTURES, "svls_kits": ["kidney", "tumour"], "svls_brats": ["NET", "OD", "ET"]}
IMAGES = {"svls_kits": ["imaging"], "svls_prostatex": ["t2"], "svls_brats": ["flair", "t1", "t1c", "t2"]}
NAMES = list(STRUCTURES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("simulated")
    return {
        "svls_kits": simulated_kidney_folder(folder / "kits", 4, (16, 40, 40), (10.0, 6.0, 6.0)),
        "svls_prostatex": simulated_prostate_folder(folder / "prostatex", 4, (16, 32, 32), (4.5, 2.5, 2.5)),
        "svls_brats": simulated_brain_folder(folder / "brats", 4, (32, 32, 32), 0, 1),
    }


def rows(file: Path) -> dict[str, dict[str, str]]:
    return {row["case"]: row for row in csv.DictReader(file.open())}


@pytest.mark.parametrize("name", NAMES)
def test_train_evaluate_and_infer(repository, folders, make_output, tmp_path, name) -> None:
    bundle, output = repository / "bundles" / name, Path(make_output())
    options = {"output_dir": str(output), **TINY}
    run_workflow(bundle, dataset_dir=folders[name], **options)
    assert not (output / "samples.png").exists()

    run_workflow(bundle, "evaluate.json", dataset_dir=folders[name], **options)
    split = json.loads((output / "split.json").read_text())
    table = rows(output / "evaluation_test.csv")
    assert list(table) == [*split["test"], "mean", "std"]
    expected = [f"{metric}_{structure}" for metric in ("dice", "surface_dice") for structure in STRUCTURES[name]]
    expected += [f"{metric}_{one}" for metric in ("ece", "tace") for one in CLASSES[name]]
    assert set(table["mean"]) == {"case", "ece", "tace", "tace_svls", *expected}
    assert 0 <= float(table["mean"]["ece"]) <= 1
    assert (output / "reliability_test.png").read_bytes()[:4] == b"\x89PNG"

    patient = tmp_path / "unlabelled" / "simulated_000"
    patient.mkdir(parents=True)
    for image in IMAGES[name]:
        (patient / f"{image}.nii.gz").symlink_to(Path(folders[name], patient.name, f"{image}.nii.gz"))
    run_workflow(bundle, "inference.json", dataset_dir=str(patient.parent), **options)
    given = nib.load(patient / f"{IMAGES[name][0]}.nii.gz")
    for kind, dtype in {"mode": np.uint8, "entropy": np.float32}.items():
        saved = nib.load(output / "predictions" / f"simulated_000_{kind}.nii.gz")
        assert saved.shape == given.shape
        assert saved.get_data_dtype() == dtype
        np.testing.assert_allclose(saved.affine, given.affine, atol=1e-4)


def test_a_resumed_run_ends_as_an_uninterrupted_one(repository, folders, make_output) -> None:
    def train(output: str, **override: object) -> dict[str, torch.Tensor]:
        options = {**TINY, "dataset_dir": folders["svls_kits"], "output_dir": make_output(output), **override}
        workflow = run_workflow(repository / "bundles" / "svls_kits", **options)
        return workflow.parser.get_parsed_content("network_def").state_dict()

    whole = train("whole", max_epochs=3)
    train("parts", max_epochs=1, **{"lr_scheduler#total_iters": 3})
    resumed = train("parts", max_epochs=3, resume=True)
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=0, msg=key)


def test_two_processes(repository, folders, make_output) -> None:
    output = Path(make_output())
    options = {**TINY, "dataset_dir": folders["svls_prostatex"], "output_dir": output}
    args = command(repository / "bundles" / "svls_prostatex", "multi_gpu_train.json", **options)
    done = run_command([*TORCHRUN, *args], cwd=output)
    assert done.returncode == 0, done.stderr[-3000:]
    state = torch.load(output / "model_best.pt", weights_only=True)["network"]
    assert not any(key.startswith("module.") for key in state)


@pytest.mark.parametrize("name", NAMES)
def test_targets(repository, folders, tmp_path, name) -> None:
    """One seed, three targets: the same images, and labels that differ where classes meet."""

    def first(**override: object) -> dict[str, Any]:
        options = {**TINY, "augmentation": [], "output_dir": str(tmp_path), **override}
        workflow = make_workflow(repository / "bundles" / name, dataset_dir=folders[name], **options)
        return workflow.parser.get_parsed_content("train#dataset")[0]

    hard, smooth, svls = first(target="onehot"), first(target="ls", alpha=0.3), first()
    classes = len(CLASSES[name]) + 1
    assert hard["label"].shape == (classes, *TINY["roi_size"])
    assert torch.equal(hard["image"], svls["image"])
    assert set(hard["label"].unique().tolist()) == {0, 1}
    torch.testing.assert_close(smooth["label"].as_tensor(), hard["label"].as_tensor() * 0.7 + 0.3 / classes)
    changed = (svls["label"] != hard["label"]).any(0).float().mean()
    assert 0 < changed < 0.5
    assert svls["label"].sum(0).sub(1).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "train", "test", "voxels", "spacing"),
    [
        ("svls_kits", 168, 42, [80, 160, 160], [3.22, 1.62, 1.62]),
        ("svls_prostatex", 78, 20, [24, 320, 320], [3.0, 0.5, 0.5]),
        ("svls_brats", 269, 66, [128, 192, 192], None),
    ],
)
def test_the_published_recipe_is_the_papers(repository, folders, tmp_path, name, train, test, voxels, spacing) -> None:
    people = [{"patient": f"{i:03d}"} for i in range(train + test)]
    options = {"dataset_dir": folders[name], "output_dir": str(tmp_path), "datalist": people}
    parser = make_workflow(repository / "bundles" / name, "paper.json", **options).parser
    parts = parser.get_parsed_content("split")
    assert {part: len(cases) for part, cases in parts.items()} == {"train": train, "validation": 0, "test": test}
    assert parser.get_parsed_content("roi_size") == voxels
    assert parser.get_parsed_content("spacing") == spacing
    optimizer = parser.get_parsed_content("optimizer")
    assert isinstance(optimizer, torch.optim.Adam)
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (1e-4, 1e-4)


@pytest.mark.parametrize(
    ("name", "voxels", "spacing"),
    [
        ("svls_kits", [16, 32, 32], [11.0, 7.0, 7.0]),
        ("svls_prostatex", [24, 32, 32], [6.0, 5.0, 5.0]),
        ("svls_brats", [32, 32, 32], None),
    ],
)
def test_the_published_recipe_runs_small(repository, folders, make_output, name, voxels, spacing) -> None:
    output = Path(make_output())
    small = {"roi_size": voxels, "spacing": spacing, "channels": [2, 2, 4, 4, 4], "num_workers": 0}
    options = {"dataset_dir": folders[name], "output_dir": str(output), "max_epochs": 1, **small}
    bundle = repository / "bundles" / name
    workflow = run_workflow(bundle, "paper.json", **options)
    assert workflow.parser.get_parsed_content("train#dataset")[0]["image"].shape[1:] == tuple(voxels)
    run_workflow(bundle, "paper.json", "evaluate.json", **options)
    split = json.loads((output / "split.json").read_text())
    assert [len(split[part]) for part in ("train", "validation", "test")] == [3, 0, 1]
    assert list(rows(output / "evaluation_test.csv")) == [*split["test"], "mean", "std"]


@pytest.mark.parametrize("name", NAMES)
def test_the_network_takes_and_gives_what_the_metadata_say(repository, name) -> None:
    meta, config = (repository / "bundles" / name / file for file in ("metadata.json", "train.json"))
    verify_net_in_out("network_def", meta_file=str(meta), config_file=str(config), n=2, device="cpu")
    formats = json.loads(meta.read_text())["network_data_format"]
    assert list(formats["inputs"]["image"]["channel_def"]) == [str(i) for i in range(len(IMAGES[name]))]
    channels = list(formats["outputs"]["pred"]["channel_def"].values())
    assert [channel.split(" (")[0] for channel in channels] == ["background", *CLASSES[name]]


@pytest.mark.parametrize("name", NAMES)
def test_the_default_data_fill_the_field_of_view(repository, tmp_path, name) -> None:
    """Every class lies in the centre that the network sees, and its size suits the strides."""
    root = {"bundle_root": str(tmp_path), "simulated_patients": 6, "output_dir": str(tmp_path / "output")}
    parser = make_workflow(repository / "bundles" / name, target="onehot", **root).parser
    dataset, roi_size = (parser.get_parsed_content(key) for key in ("train#dataset", "roi_size"))
    assert len(dataset) == 6 - 2
    found = [case["label"].flatten(1).any(1) for case in dataset]
    assert torch.stack(found).any(0).all()
    network = parser.get_parsed_content("network_def")
    with torch.no_grad():
        assert network(dataset[0]["image"].as_tensor()[None]).shape == (1, len(CLASSES[name]) + 1, *roi_size)


def test_real_brains(repository, real_data, make_output) -> None:
    output = Path(make_output())
    options = {**TINY, "modalities": ["flair", "t1c"], "spacing": [4.0] * 3, "roi_size": [32] * 3}
    options |= {"dataset_dir": str(real_data / "brats2015"), "output_dir": str(output)}
    run_workflow(repository / "bundles" / "svls_brats", **options)
    run_workflow(repository / "bundles" / "svls_brats", "evaluate.json", part="validation", **options)
    patients = ["brats_2013_pat0003_1", "brats_2013_pat0004_1"]
    assert list(rows(output / "evaluation_validation.csv")) == [*patients, "mean", "std"]


def test_a_real_abdomen(repository, real_data, make_output, tmp_path) -> None:
    """One patient, who has no tumour, to train and to evaluate."""
    (tmp_path / "kits" / "case_00000").mkdir(parents=True)
    for file in ("imaging.nii.gz", "segmentation_totalsegmentator.nii.gz"):
        (tmp_path / "kits" / "case_00000" / file).symlink_to(real_data / "abdomen_ct" / file)
    output = Path(make_output())
    options = {**TINY, "split_fractions": [1, 0, 0], "validation_part": "train", "spacing": [6.0] * 3}
    options |= {"dataset_dir": str(tmp_path / "kits"), "output_dir": str(output)}
    run_workflow(repository / "bundles" / "svls_kits", **options)
    run_workflow(repository / "bundles" / "svls_kits", "evaluate.json", part="train", **options)
    assert list(rows(output / "evaluation_train.csv")) == ["case_00000", "mean", "std"]


def test_an_unknown_target_is_named(repository, folders, tmp_path) -> None:
    options = {**TINY, "dataset_dir": folders["svls_kits"], "output_dir": str(tmp_path), "target": "soft"}
    with pytest.raises(ValueError, match="target must be one of onehot, ls, svls"), first_cause():
        run_workflow(repository / "bundles" / "svls_kits", **options)
