# SPDX-License-Identifier: Apache-2.0
"""A packed bundle in MONAI Label: its own classes where they are installed, and else what they read of a bundle."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import run_workflow
from monai.bundle import ConfigParser
from test_packed_bundles import untrained_output
from tiny import HOME

from monai_stochseg.bundle import ServerCase
from monai_stochseg.bundle.active_learning import MostDiverse, SampleDiversityScoring
from monai_stochseg.bundle.pack import pack
from monai_stochseg.data import CaseError, brats_datalist
from monai_stochseg.tasks import LIDC


class InferTask:
    """What MONAI Label's ``BundleInferTask`` reads of a bundle."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.config = ConfigParser()
        self.config.read_config(f"{path}/configs/inference.json")
        self.config["bundle_root"] = path
        self.config["device"] = "cpu"

    def get_path(self) -> str:
        return f"{self.path}/models/model.pt"

    def pre_transforms(self, data: Any = None) -> list:
        return self.config.get_parsed_content("pre_transforms")

    def post_transforms(self, data: Any = None) -> list:
        return self.config.get_parsed_content("post_transforms")

    def inferer(self, data: Any = None) -> Any:
        return self.config.get_parsed_content("inferer")

    def _get_network(self, device: str, data: Any) -> torch.nn.Module:
        network = self.config.get_parsed_content("network_def")
        network.load_state_dict(torch.load(self.get_path(), weights_only=True))
        return network.eval()

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        data = dict(request)
        for transform in self.pre_transforms():
            data = transform(data)
        with torch.no_grad():
            data["pred"] = self.inferer()(data["image"][None], self._get_network("cpu", None))[0]
        for transform in self.post_transforms():
            data = transform(data)
        return data


class Datastore:
    """MONAI Label's, of files."""

    def __init__(self, images: dict[str, str]) -> None:
        self.images = images
        self.infos: dict[str, dict[str, Any]] = {name: {} for name in images}

    def get_unlabeled_images(self, label_tag: str | None = None, labels: Any = None) -> list[str]:
        return list(self.images)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        return self.infos[image_id]

    def get_image_uri(self, image_id: str) -> str:
        return self.images[image_id]

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        self.infos[image_id].update(info)


def stacked(files: list[str], target: Path) -> str:
    """The modalities of a patient in one file."""
    loaded = [nib.load(file) for file in files]
    voxels = np.stack([image.get_fdata(dtype=np.float32) for image in loaded], axis=-1)
    nib.save(nib.Nifti1Image(voxels, loaded[0].affine), target)
    return str(target)


@pytest.fixture(scope="module")
def bundle(folders, tmp_path_factory) -> str:
    ids = {**HOME["ssn_brats"], "dataset_dir": folders["brats"], "covariance_init": "$None"}
    folder = tmp_path_factory.mktemp("label")
    return pack(untrained_output(folder / "output", "ssn_brats", ids), str(folder / "ssn_brats"))


@pytest.fixture
def images(folders, tmp_path) -> dict[str, str]:
    cases = brats_datalist(folders["brats"])[:2]
    return {case["patient"]: stacked(case["image"], tmp_path / f"{case['patient']}.nii.gz") for case in cases}


def test_the_answer_is_that_of_the_inference(bundle, folders, images, tmp_path) -> None:
    given = {"dataset_dir": folders["brats"], "device": "cpu", "max_cases": 1, "eval_samples": 1}
    run_workflow(files=[f"{bundle}/configs/inference.json"], **given, prediction_dir=str(tmp_path / "own"))
    (mode,) = (tmp_path / "own").glob("*_mode.nii.gz")
    name = mode.name.removesuffix("_mode.nii.gz")
    expected = nib.load(mode)
    answer = InferTask(bundle)({"image": images[name], "device": "cpu", "logging": "error"})
    assert answer["logging"] == "error"
    assert answer["pred"].shape == (1, *expected.shape)
    assert answer["pred"].dtype == torch.uint8
    assert np.array_equal(answer["pred"][0].numpy(), np.asarray(expected.dataobj))
    np.testing.assert_allclose(answer["pred"].affine, expected.affine)
    assert len(np.unique(answer["pred"])) > 1


def test_the_next_image_is_the_most_diverse(bundle, images) -> None:
    datastore = Datastore(images)
    strategy, scoring = MostDiverse(), SampleDiversityScoring(InferTask(bundle), num_samples=3)
    assert strategy({}, datastore)["sample_diversity"] == -1  # nothing has a score yet
    assert scoring({}, datastore) == {"executed": 2, "skipped": 0}
    assert scoring({}, datastore) == {"executed": 0, "skipped": 2}
    scores = {name: info["sample_diversity"] for name, info in datastore.infos.items()}
    assert all(0 < score <= 1 for score in scores.values())
    assert strategy({}, datastore) == {"id": max(scores, key=scores.get), "sample_diversity": max(scores.values())}
    assert strategy({}, Datastore({})) is None
    assert strategy.info() == {"description": "the image whose samples differ most"}
    assert "samples" in scoring.info()["description"]


def test_refuses(folders) -> None:
    with pytest.raises(CaseError, match="MONAI Label gives one file an image, but task LIDC reads other files"):
        ServerCase(LIDC(folders["lidc"]), lambda case: case)({"image": "scan.nii.gz"})
    with pytest.raises(ValueError, match="num_samples must be at least 2, got 1"):
        SampleDiversityScoring(None, num_samples=1)


@pytest.mark.slow
def test_in_monai_label(bundle, folders, images, tmp_path) -> None:
    infer = pytest.importorskip("monailabel.tasks.infer.bundle")
    task = infer.BundleInferTask(bundle, {})
    assert task.is_valid()
    assert task.labels == {"net": 1, "od": 2, "et": 3}
    name, file = next(iter(images.items()))
    result, params = task({"image": file, "device": "cpu", "result_extension": ".nii.gz"})
    answer, expected = nib.load(result), InferTask(bundle)({"image": file})["pred"]
    assert params["label_names"] == task.labels
    assert np.array_equal(np.asarray(answer.dataobj), expected[0].numpy())
    np.testing.assert_allclose(answer.affine, nib.load(file).affine)
    datastore = Datastore({name: file})
    SampleDiversityScoring(task, num_samples=2)({}, datastore)
    assert MostDiverse()({}, datastore)["id"] == name


@pytest.mark.slow
def test_monai_label_starts_the_bundle_s_own_training(bundle, folders, images, tmp_path, monkeypatch) -> None:
    """From the packed weights, on a folder of patients: what it leaves is packed again."""
    train = pytest.importorskip("monailabel.tasks.train.bundle")
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "label_app"))
    copied = shutil.copytree(bundle, tmp_path / "served")
    conf = {"dataset_dir": folders["brats"]}
    task = importlib.import_module("main").TrainTask(str(copied), conf)
    assert task.is_valid()
    assert task.config()["model_filename"] == ["model.pt"]
    request = {"model": "served", "device": "cpu", "max_epochs": 1, "val_split": 0.5}
    store = Datastore(images)
    store.datalist = lambda: [{"image": file, "label": file} for file in images.values()]
    with pytest.raises(KeyError, match="dataset"):  # as MONAI Label has it: there is no validate#dataset
        train.BundleTrainTask(str(copied), conf)(request, store)
    task(request, store)
    loaded = torch.load(copied / "output" / "model_best.pt", weights_only=True)
    assert loaded["epoch"] == 1
    first = torch.load(copied / "models" / "model.pt", weights_only=True)
    assert not all(torch.equal(first[key], value) for key, value in loaded["network"].items())
    again = pack(str(copied / "output"), str(tmp_path / "again"))
    assert InferTask(again)({"image": next(iter(images.values()))})["pred"].dtype == torch.uint8
