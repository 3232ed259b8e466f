# SPDX-License-Identifier: Apache-2.0
"""The bundles on real patients, by ids alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import first_cause, mlflow_runs, run_workflow, table
from disc_crops import disc_crops
from tiny import HOME, METHODS, RUN, TASKS

from monai_stochseg.data import CaseError
from monai_stochseg.data.lidc import crops_datalist, load_manifest, prepare_lidc
from monai_stochseg.data.lidc.crops_folder import write_crops

BRAINS = {"modalities": ["flair", "t1c"], "spacing": [4.0, 4.0, 4.0]}
SCAN = "LIDC-IDRI-0003"


def run_options(name: str, folder: Path | str, output: str, **override: Any) -> dict[str, Any]:
    return {**RUN, **HOME[name], "dataset_dir": str(folder), "output_dir": output, **override}


@pytest.mark.parametrize("name", ["ssn_brats", "svls_brats"])
def test_brains(real_data, make_output, name) -> None:
    sizes = {"roi_size": [32] * 3} if name == "svls_brats" else {}
    output = make_output()
    options = run_options(name, real_data / "brats2015", output, **BRAINS, **sizes, max_epochs=1, batch_size=1)
    run_workflow(name, **options)
    patients = ["brats_2013_pat0003_1", "brats_2013_pat0004_1"]
    assert json.loads(Path(output, "split.json").read_text())["validation"] == patients
    run_workflow(name, "evaluate", **{**options, "part": "validation"})
    rows = list(table(Path(output, "evaluation_validation.csv")))
    assert rows == [*patients, "mean", "std" if name == "svls_brats" else "standard_error"]


def test_brains_by_an_overlay(real_data, make_output) -> None:
    """The same ids, of another method."""
    bundle, ids, _ = METHODS["probunet"]
    options = {**RUN, **ids, **TASKS["brats_whole"], **BRAINS, "roi_size": [32] * 3, "max_epochs": 1, "batch_size": 1}
    options |= {"dataset_dir": str(real_data / "brats2015"), "output_dir": make_output()}
    workflow = run_workflow(bundle, "tasks/brats_whole", **options)
    assert not workflow.parser.get_parsed_content("task").simulated
    assert Path(options["output_dir"], "model_best.pt").is_file()


def test_an_abdomen(real_data, make_output, tmp_path) -> None:
    """One patient, who has no tumour, to train and to evaluate."""
    (tmp_path / "kits" / "case_00000").mkdir(parents=True)
    for file in ("imaging.nii.gz", "segmentation_totalsegmentator.nii.gz"):
        (tmp_path / "kits" / "case_00000" / file).symlink_to(real_data / "abdomen_ct" / file)
    output = make_output()
    own = {"split_fractions": [1, 0, 0], "part": "train", "spacing": [6.0] * 3, "max_epochs": 1}
    options = run_options("svls_kits", tmp_path / "kits", output, **own)
    run_workflow("svls_kits", **options)
    run_workflow("svls_kits", "evaluate", **options)
    rows = table(Path(output, "evaluation_train.csv"))
    assert list(rows) == ["case_00000", "mean", "std"]
    assert math.isnan(float(rows["case_00000"]["dice_tumour"]))
    assert not math.isnan(float(rows["case_00000"]["dice_kidney"]))
    run_workflow("svls_kits", base="inference", **{**options, "part": "all"})
    mode = nib.load(Path(output, "predictions", "case_00000_mode.nii.gz"))
    given = nib.load(real_data / "abdomen_ct" / "imaging.nii.gz")
    assert mode.shape == given.shape
    np.testing.assert_allclose(mode.affine, given.affine, atol=1e-3)


def test_a_lung(few_scans, real_data, make_output, manifest: Callable, tmp_path) -> None:
    """One patient, in train of a manifest of one's own, with validation and evaluation on train."""
    dicom_dir = real_data / "lidc" / "dicom"
    crops = prepare_lidc(dicom_dir, tmp_path / "crops", spatial_size=32, spacing=1.0, missing="skip", progress=False)
    options = run_options("probunet_lidc", crops, make_output(), manifest=manifest([SCAN]), part="train")
    run_workflow("probunet_lidc", **options)
    (run,) = mlflow_runs(options["output_dir"], "probunet_lidc")
    assert run.data.params["manifest"] == load_manifest(options["manifest"]).id
    assert run.data.params["simulated"] == "False"
    run_workflow("probunet_lidc", "evaluate", **options)
    assert len(table(Path(options["output_dir"], "evaluation_train.csv"))) == 30 + 2


def test_a_lung_in_3d(few_scans, real_data, make_output, manifest: Callable, tmp_path) -> None:
    """A reader who drew nothing has no Dice."""
    dicom_dir = real_data / "lidc" / "dicom"
    crops = prepare_lidc(dicom_dir, tmp_path / "crops", 3, spatial_size=30, spacing=1.5, missing="skip", progress=False)
    options = run_options("msvls_lidc", crops, make_output(), manifest=manifest([SCAN]), part="train", max_epochs=1)
    run_workflow("msvls_lidc", **options)
    run_workflow("msvls_lidc", "evaluate", **options)
    rows = table(Path(options["output_dir"], "evaluation_train.csv"))
    assert len(rows) == 4 + 2
    readers = [sum(not math.isnan(float(row[f"dice_nodule_rater{i}"])) for i in range(4)) for row in rows.values()]
    assert readers[:4] == [sum(case["drawn"]) for case in crops_datalist(crops)]


def test_real_readings_on_a_simulated_ct(few_scans, make_output, manifest: Callable) -> None:
    """The crops are made when a training asks for them, and stay where its manifest has no patient of theirs."""
    output = make_output()
    dataset = "$monai_stochseg.data.lidc.simulated_lidc_folder(@output_dir + '/data', @spatial_dims, 3, @size)"
    kohl = manifest(load_manifest("kohl").parts["train"])
    with pytest.raises(CaseError, match="is not in the manifest own-"), first_cause():
        run_workflow("ssn_lidc", **run_options("ssn_lidc", dataset, output, size=16, manifest=kohl))
    patients = sorted({case["patient"] for case in crops_datalist(Path(output) / "data")})
    assert len(patients) == 3
    options = run_options("ssn_lidc", f"{output}/data", output, manifest=manifest(patients), part="train")
    workflow = run_workflow("ssn_lidc", **options)
    assert workflow.parser.get_parsed_content("task").simulated


def test_a_split_that_came_with_the_data(make_output, tmp_path) -> None:
    write_crops(disc_crops(2, 8, came_split=True), tmp_path / "crops", {})
    options = run_options("ssn_lidc", tmp_path / "crops", make_output(), manifest=None)
    run_workflow("ssn_lidc", **options)
    run_workflow("ssn_lidc", "evaluate", **options)
    assert len(table(Path(options["output_dir"], "evaluation_test.csv"))) == 4 + 2
