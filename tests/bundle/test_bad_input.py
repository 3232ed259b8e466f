# SPDX-License-Identifier: Apache-2.0
"""What cannot work stops before anything is written, and the last line of the error says what to mend."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_runs import command, first_cause, make_workflow, run_command, run_workflow
from tiny import HOME, HOME_TASK, METHODS, RUN, TASKS

from monai_stochseg.data import CaseError
from monai_stochseg.data.lidc import crops_datalist


def at_home(name: str, folders: dict[str, str], output: str, **override: Any) -> dict[str, Any]:
    return {**RUN, **HOME[name], "dataset_dir": folders[HOME_TASK[name]], "output_dir": output, **override}


def elsewhere(method: str, task: str, folders: dict[str, str], output: str, **override: Any) -> dict[str, Any]:
    options = {**RUN, **METHODS[method].ids, **TASKS[task], "dataset_dir": folders[task], "output_dir": output}
    return {**options, **override}


CASES: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("ssn_brats", {"rank": 0}, ValueError, "rank must be at least 1, got 0"),
    ("ssn_brats", {"patch_size": [16, 64, 16]}, CaseError, "patch .* is larger than the image"),
    ("ssn_brats", {"dataset_dir": "no_such_folder"}, CaseError, "no patient found under"),
    ("ssn_brats", {"modalities": ["flair", "pet"]}, CaseError, "'pet' is unknown"),
    ("ssn_brats", {"resume": "other/model_last.pt"}, CaseError, r"other/split\.json is not there"),
    ("ssn_brats", {"device": "cuda:7"}, ValueError, "device 'cuda:7' is not there: this machine has cpu"),
    ("ssn_brats", {"device": "gpu"}, ValueError, "device 'gpu' is not there: this machine has cpu"),
    ("ssn_brats", {"part": "vaildation"}, CaseError, r"part must be one of .*'all'\), got 'vaildation'"),
    ("ssn_brats", {"split_fractions": [0.5, 0.0, 0.5]}, CaseError, "part 'validation' is empty"),
    ("ssn_brats", {"num_workers": -1}, ValueError, "num_workers"),
    ("svls_kits", {"target": "soft"}, ValueError, "target must be one of onehot, ls, svls, .* got 'soft'"),
    ("svls_brats", {"regions": ["ET", "ED"]}, ValueError, "regions must be of .*'WT'.* got 'ED'"),
    ("svls_prostatex", {"dataset_dir": "no_such_folder"}, CaseError, "no T2 image found under"),
    ("msvls_lidc", {"sigma": 0}, ValueError, "sigma must be positive, got 0"),
    ("msvls_lidc", {"kernel_size": 2}, ValueError, "kernel_size must be odd"),
    ("msvls_lidc", {"manifest": "svls", "part": "test"}, CaseError, "part 'test' is empty"),
    ("msvls_lidc", {"manifest": None}, CaseError, "came without a split: give a manifest"),
    ("baselines_lidc", {"method": "magic"}, ValueError, "method must be one of deterministic, .* got 'magic'"),
    ("baselines_lidc", {"manifest": "koala"}, CaseError, "'koala' is none of .*'kohl'.* and no file"),
    ("baselines_lidc", {"manifest": None}, CaseError, "came without a split: give a manifest, one of"),
    ("baselines_lidc", {"dataset_dir": "no_folder"}, CaseError, r"no_folder holds no crops \(crops.json\)"),
    ("baselines_lidc", {"spatial_dims": 3}, CaseError, "holds 2D crops, but spatial_dims is 3"),
    ("baselines_lidc", {"part": "tests"}, CaseError, "part must be one of .* got 'tests'"),
    ("baselines_lidc", {"validate#evaluator#metrics": ["geed"]}, ValueError, "metrics must be of .* got 'geed'"),
    ("baselines_lidc", {"method": "mheads", "num_hypotheses": 1}, ValueError, "at least 2 heads, got 1"),
    ("ssn_lidc", {"rank": 0}, ValueError, "rank must be at least 1, got 0"),
    ("mose_lidc", {"num_experts": 0}, ValueError, "num_experts must be at least 1, got 0"),
    ("mose_lidc", {"representation": "compact", "num_samples": 4}, ValueError, "12 in all: n=3 must be that"),
    ("probunet_lidc", {"beta": []}, ValueError, "points must be pairs"),
    ("probunet_lidc", {"target_reconstruction": -1}, ValueError, "target_reconstruction must be positive"),
    ("mose_cityscapes", {"part": "tests"}, CaseError, "part must be one of .* got 'tests'"),
    ("mose_cityscapes", {"dataset_dir": "no_folder"}, CaseError, "no scene found under"),
    ("mose_cityscapes", {"crop_size": [64, 64]}, ValueError, r"crop_size \[64, 64\] does not fit into a scene"),
    ("mose_cityscapes", {"scale": [0.9, 0.5]}, ValueError, "scale must be the lowest and the highest factor"),
    ("mose_cityscapes", {"num_experts": 0}, ValueError, "num_experts must be at least 1, got 0"),
    ("mose_cityscapes", {"eval_samples": 5}, ValueError, "n=5 must be that"),
    ("mose_cityscapes", {"gamma": [[1, 0.1]]}, ValueError, "gamma"),
    ("mose_cityscapes", {"predictions_dir": "no_folder"}, CaseError, "no_folder holds no prediction"),
    ("car_lidc", {"run_id": "refine", "consistency": "magic"}, ValueError, "magic"),
    ("car_lidc", {"run_id": "refine", "num_samples": 0}, ValueError, "num_samples must be at least 1, got 0"),
    ("car_lidc", {"run_id": "refine", "d_on": 0}, ValueError, "got d_on=0, d_off=1"),
    ("car_lidc", {"run_id": "refine", "resume": "other.pt"}, FileNotFoundError, "no checkpoint at other.pt"),
    (
        "car_lidc",
        {"run_id": "refine"},
        FileNotFoundError,
        r"no checkpoint at .*calibration/model_best\.pt: train",
    ),
]


@pytest.mark.parametrize(("name", "override", "error", "message"), CASES)
def test_a_wrong_id_is_named(folders, make_output, name, override, error, message) -> None:
    options = at_home(name, folders, make_output(), **override)
    with pytest.raises(error, match=f"^.*({message}).*$"), first_cause():
        run_workflow(name, **options)
    assert not list(Path(options["output_dir"]).rglob("*.pt"))


@pytest.mark.parametrize(
    ("method", "task", "override", "message"),
    [
        ("ssn_unet", "lidc", {"backbone#spatial_dims": 3}, "task LIDC has 2D images, but .* 3D"),
        ("car", "lidc", {"calibration_def#spatial_dims": 3}, "task LIDC has 2D images, but .* 3D"),
        ("probunet", "kits", {"network_def#spatial_dims": 2}, "task KiTS has 3D images, but .* convolutions of 2D"),
        ("ssn", "cityscapes", {"loss#ignore_index": None}, "labelled 255, .* set its ignore_index to 255"),
        ("mose", "brats", {"loss#ignore_index": 254}, "labelled 255, .* set its ignore_index to 255"),
        ("onehot", "brats", {}, "labelled 255, .* set its ignore_index to 255"),
        ("threshold", "brats", {"loss": "$torch.nn.L1Loss()"}, "void voxels, .* has no ignore_index, so this method"),
    ],
)
def test_a_method_that_cannot_answer_is_named(folders, make_output, method, task, override, message) -> None:
    options = elsewhere(method, task, folders, make_output(), **override)
    with pytest.raises(ValueError, match=f"^.*({message}).*$"), first_cause():
        run_workflow(METHODS[method].bundle, f"tasks/{task}", **options)
    assert not list(Path(options["output_dir"]).rglob("*.pt"))


def test_the_published_network_of_volumes_has_no_slices(folders, make_output) -> None:
    """DeepMedic of ``paper.json`` is 3D."""
    thin = {"backbone#channels": [2] * 8, "backbone#fully_connected": [4, 4], "feature_channels": 4}
    options = elsewhere("ssn_unet", "lidc", folders, make_output(), **thin)
    with (
        pytest.raises(ValueError, match=r"^task LIDC has 2D images, but .* spatial_dims=2"),
        first_cause(),
    ):
        run_workflow("ssn_brats", "paper", "tasks/lidc", **options)


def test_a_checkpoint_of_another_task_is_named(folders, make_output) -> None:
    """KiTS and a ProstateX of two zones have the same channels and number of classes."""
    output = make_output()
    ids = {"max_epochs": 1}
    run_workflow("svls_brats", "tasks/kits", **elsewhere("onehot", "kits", folders, output, **ids))
    zones = {"task#zones": ["PZ", "TZ"], "split_file": f"{output}/split.json"}
    other = elsewhere("onehot", "prostatex", folders, output, **zones)
    for run in (
        lambda: run_workflow("svls_brats", "tasks/prostatex", "evaluate", **other),
        lambda: run_workflow("svls_brats", "tasks/prostatex", **other, resume=True),
        lambda: run_workflow("svls_brats", "tasks/prostatex", base="inference", **other),
    ):
        message = r"^.*model_(best|last)\.pt .*task.*KiTS.*ProstateX.*$"
        with pytest.raises(ValueError, match=message), first_cause():
            run()


def test_a_checkpoint_of_another_architecture_is_named(folders, make_output) -> None:
    options = at_home("svls_kits", folders, make_output(), max_epochs=1)
    run_workflow("svls_kits", **options)
    for overlays, base in ((("evaluate",), "train"), ((), "inference")):
        with (
            pytest.raises(ValueError, match=r"model_best\.pt was saved from another architecture"),
            first_cause(),
        ):
            run_workflow("svls_kits", *overlays, base=base, **{**options, "channels": [3, 4]})


@pytest.mark.parametrize("name", ["ssn_lidc", "svls_kits"])
def test_evaluation_before_training_is_named(folders, make_output, name) -> None:
    options = at_home(name, folders, make_output())
    given = {"split_file": None} if name == "svls_kits" else {}
    for overlays, base in ((("evaluate",), "train"), ((), "inference")):
        with pytest.raises(FileNotFoundError, match=r"^no checkpoint at .*train first"), first_cause():
            run_workflow(name, *overlays, base=base, **options, **given)
    if given:
        with pytest.raises(CaseError, match=r"split\.json is not there"), first_cause():
            run_workflow(name, "evaluate", **options)


def test_a_misspelt_id_is_the_last_line(tmp_path) -> None:
    done = run_command(command("ssn_brats", output_dir=tmp_path / "output", devise="cpu"), cwd=tmp_path)
    assert done.returncode != 0
    expected = "ValueError: --devise: the configuration has no id devise; did you mean device"
    assert done.stderr.strip().splitlines()[-1].startswith(expected)
    assert not (tmp_path / "output").exists()


@pytest.fixture
def own(tmp_path) -> Callable[..., str]:
    """Make a manifest of one's own."""

    def make(train: Sequence[str], **parts: Any) -> str:
        path = tmp_path / "own.json"
        path.write_text(json.dumps({"name": "own", "train": list(train), "validation": [], "test": [], **parts}))
        return str(path)

    return make


def test_an_empty_part_of_a_manifest_is_named(folders, make_output, own) -> None:
    patients = [case["patient"] for case in crops_datalist(folders["lidc"])][::2]
    options = at_home("ssn_lidc", folders, make_output(), manifest=own(patients))
    with pytest.raises(CaseError, match=r"^part 'validation' is empty"), first_cause():
        run_workflow("ssn_lidc", **options)


def test_a_manifest_that_lacks_a_patient_is_named(folders, make_output, own) -> None:
    patients = sorted({case["patient"] for case in crops_datalist(folders["lidc"])})
    options = at_home("ssn_lidc", folders, make_output(), manifest=own(patients[1:]))
    with pytest.raises(CaseError, match=rf"{patients[0]}.* is not in the manifest own-"), first_cause():
        run_workflow("ssn_lidc", **options)


def test_a_label_outside_the_classes_is_named(folders, make_output, tmp_path) -> None:
    import nibabel as nib

    copy = tmp_path / "kits"
    shutil.copytree(folders["kits"], copy)
    for file in copy.rglob("segmentation.nii.gz"):
        image = nib.load(file)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 2, image.affine), file)
    options = at_home("svls_kits", folders, make_output(), dataset_dir=str(copy))
    with pytest.raises(ValueError, match=r"simulated_00\d.*(label|class)"), first_cause():
        run_workflow("svls_kits", **options)


def test_fewer_epochs_than_stages_are_named(folders, make_output) -> None:
    """A refinement of one epoch leaves none for its calibration."""
    options = at_home("car_lidc", folders, make_output(), max_epochs=1)
    with pytest.raises(ValueError, match=r"^max_epochs must be at least 1, got 0"), first_cause():
        run_workflow("car_lidc", **options)
    assert not list(Path(options["output_dir"]).rglob("*.pt"))


def test_metrics_are_of_the_task(folders, make_output) -> None:
    options = elsewhere("ssn", "lidc", folders, make_output(), **{"validate#evaluator#metrics": ["flip_ratio"]})
    with pytest.raises(ValueError, match=r"metrics must be of .* got 'flip_ratio'"), first_cause():
        make_workflow("ssn_lidc", "tasks/lidc", **options).parser.get_parsed_content("validate#evaluator")
