# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from monai_stochseg.data import CaseError
from monai_stochseg.data.prediction_record import PredictionRecord, prediction_name

RECORD = PredictionRecord(
    name="case_1",
    task="Given",
    spatial_dims=3,
    simulated=True,
    channel_names=["flair"],
    class_names=["background", "tumour"],
    regions={"tumour": [1]},
    indexing="xy",
    ending="nii.gz",
    nifti_ending="nii.gz",
    num_samples=2,
    stacked=True,
    sample_weights=[0.25, 0.75],
    noise_seed=3,
    has_image=True,
    rater_weights=[1.0],
    rater_names=[],
    maps=["entropy"],
    unit="mm",
)


def test_a_record_comes_back_as_it_was_written(tmp_path) -> None:
    for record in (RECORD, replace(RECORD, sample_weights=None, noise_seed=None)):
        record.write(tmp_path)
        assert PredictionRecord.read(tmp_path / "case_1_prediction.json") == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "is of format 2, and this version of monai_stochseg reads 1"),
        ({"format": None}, "is of format None"),
        ({"name": "../../etc/passwd"}, "name is '../../etc/passwd'"),
        ({"name": ""}, "name is ''"),
        ({"name": 3}, "damaged: name"),
        ({"spatial_dims": 4}, "neither 2D nor 3D"),
        ({"ending": "exe"}, "neither 2D nor 3D, NIfTI nor PNG"),
        ({"regions": {"tumour": [2]}}, "a structure has a class that is not there"),
        ({"class_names": ["one"]}, "a structure has a class"),
        ({"sample_weights": [1.0]}, "its samples and their weights do not fit"),
        ({"sample_weights": [0.0, 0.0]}, "no weights"),
        ({"sample_weights": [-1.0, 2.0]}, "no weights"),
        ({"num_samples": "2"}, "damaged: num_samples"),
        ({"regions": {}}, "its structures, axes or unit are none"),
        ({"indexing": "kl"}, "its structures, axes or unit are none"),
        ({"ending": "png"}, "a volume is no PNG"),
        ({"rater_weights": [float("nan")]}, "damaged"),
        ({"rater_weights": [-1.0]}, "its raters' weights are no weights"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, change, message) -> None:
    path = tmp_path / "case_1_prediction.json"
    path.write_text(json.dumps({"format": 1, **asdict(RECORD), **change}))
    with pytest.raises(CaseError, match=message):
        PredictionRecord.read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', "[" * 100000])
def test_what_is_no_record_is_refused(tmp_path, text) -> None:
    path = tmp_path / "case_1_prediction.json"
    path.write_text(text)
    with pytest.raises(CaseError, match=r"case_1_prediction\.json"):
        PredictionRecord.read(path)


@pytest.mark.parametrize(
    ("filename", "name"),
    [("a/case.1.nii.gz", "case.1"), ("case_1.nii", "case_1"), ("p 1.png", "p 1"), ("case_1.nii.gz", "case_1")],
)
def test_the_name_is_that_of_the_saved_files(filename, name) -> None:
    assert prediction_name(filename) == name
