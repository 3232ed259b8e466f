# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import resource
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CenterSpatialCropd, Compose, EnsureChannelFirstd, LoadImaged, Orientationd
from PIL import Image

from monai_stochseg.bundle import save_predictions


def task(spatial_dims: int) -> SimpleNamespace:
    """What saving asks a task."""
    return SimpleNamespace(spatial_dims=spatial_dims, num_classes=2, regions={"lesion": (1,)})


@pytest.mark.parametrize(
    ("size", "shapes"),
    [((6, 5), [(6, 5, 1, 1), (6, 5, 1, 3)]), ((6, 5, 4), [(6, 5, 4), (6, 5, 4, 3)])],
    ids=["2D", "3D"],
)
def test_files_lie_in_the_grid_of_the_input(tmp_path, size, shapes):
    """The transform cuts one voxel at each end of the first axis, which comes back as background."""
    transform = Compose([CenterSpatialCropd("image", (4, *size[1:]))])
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    image = MetaTensor(torch.zeros(1, *size), affine=affine, meta={"filename_or_obj": "case_1"})
    item = transform({"image": image})
    cut = item["image"].shape[1:]
    foreground = torch.full((1, *cut), 0.9)

    def like(x: torch.Tensor) -> MetaTensor:
        return MetaTensor(x, meta=item["image"].meta, applied_operations=item["image"].applied_operations)

    item["pred"] = item["probabilities"] = like(torch.cat([1 - foreground, foreground]))
    item["samples"] = like(torch.ones(3, *cut, dtype=torch.uint8))
    save_predictions(str(tmp_path), transform, task(len(size)))(item)
    kinds = {"mode": shapes[0], "samples": shapes[1], "entropy": shapes[0], "probability_lesion": shapes[0]}
    for kind, shape in kinds.items():
        file = nib.load(tmp_path / f"case_1_{kind}.nii.gz")
        values = np.asanyarray(file.dataobj)
        assert values.shape == shape
        np.testing.assert_allclose(np.abs(file.affine.diagonal()[:2]), 0.5)
        assert not values[[0, -1]].any()
        entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
        expected = {"entropy": entropy, "probability_lesion": 0.9}.get(kind, 1)
        np.testing.assert_allclose(values[1:-1], expected, rtol=1e-5)


def test_a_pre_processing_that_changes_no_grid_needs_no_inverse(tmp_path):
    """MONAI's ``Invertd`` refuses one without a step that it can invert."""
    image = MetaTensor(torch.zeros(1, 4, 5), affine=np.eye(4), meta={"filename_or_obj": "case_1"})
    probabilities = torch.full((2, 4, 5), 0.5)
    item = {"image": image, "samples": MetaTensor(torch.ones(2, 4, 5, dtype=torch.uint8), meta=image.meta)}
    item["pred"] = item["probabilities"] = MetaTensor(probabilities, meta=image.meta)
    for i, transform in enumerate((Compose([lambda case: case]), lambda case: case, None)):
        save_predictions(str(tmp_path / str(i)), transform, task(2))(dict(item))
        assert nib.load(tmp_path / str(i) / "case_1_samples.nii.gz").shape == (4, 5, 1, 2)


def test_samples_in_a_file_each(tmp_path):
    image = MetaTensor(torch.zeros(1, 4, 5, 3), affine=np.eye(4), meta={"filename_or_obj": "case_1.nii.gz"})
    samples = torch.stack([torch.full((4, 5, 3), n, dtype=torch.uint8) for n in range(3)])
    probabilities = MetaTensor(torch.full((2, 4, 5, 3), 0.5), meta=image.meta)
    item = {"image": image, "samples": MetaTensor(samples, meta=image.meta)}
    item["pred"] = item["probabilities"] = probabilities
    save_predictions(str(tmp_path), None, task(3), stack_samples=False, probabilities=False)(item)
    assert sorted(file.name for file in tmp_path.glob("*samples*")) == [f"case_1_samples_{n}.nii.gz" for n in range(3)]
    assert np.asarray(nib.load(tmp_path / "case_1_samples_2.nii.gz").dataobj).shape == (4, 5, 3)
    assert (np.asarray(nib.load(tmp_path / "case_1_samples_2.nii.gz").dataobj) == 2).all()
    assert not list(tmp_path.glob("*probability*"))


def test_png_in_gives_png_out(tmp_path):
    """A palette's indices are the classes; shares are grey of 16 bits, the entropy's largest value is log(C)."""
    image = MetaTensor(torch.zeros(1, 2, 3), affine=np.eye(4), meta={"filename_or_obj": "p 1.png"})
    foreground = torch.tensor([[0.0, 0.25, 0.5], [0.75, 1.0, 1.0]])
    probabilities = MetaTensor(torch.stack([1 - foreground, foreground]), meta=image.meta)
    samples = torch.tensor([[[0, 0, 1], [1, 1, 1]], [[0, 0, 0], [0, 1, 1]]], dtype=torch.uint8)
    item = {"image": image, "samples": MetaTensor(samples, meta=image.meta)}
    item["pred"] = item["probabilities"] = probabilities
    save_predictions(str(tmp_path), None, task(2))(item)
    kinds = ("mode", "samples_00", "samples_01", "entropy", "probability_lesion")
    pictures = {kind: Image.open(tmp_path / f"p 1_{kind}.png") for kind in kinds}
    assert pictures["mode"].mode == pictures["samples_00"].mode == "P"
    for number in range(2):
        np.testing.assert_array_equal(np.asarray(pictures[f"samples_0{number}"]), samples[number].numpy())
    share = np.asarray(pictures["probability_lesion"]) / 65535
    np.testing.assert_allclose(share, foreground.numpy(), atol=1e-5)
    assert np.asarray(pictures["entropy"])[0, 2] == 65535
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(f"p 1_{kind}.png" for kind in kinds)


def test_a_full_disk_ends_with_an_error_and_no_broken_file(tmp_path):
    """The system allows 500 bytes a file here, where a disk allows no more; MONAI's other writer would say nothing."""
    image = MetaTensor(torch.zeros(1, 40, 50), affine=np.eye(4), meta={"filename_or_obj": "case_1"})
    probabilities = torch.rand(2, 40, 50).softmax(0)
    item = {"image": image, "samples": MetaTensor(torch.randint(0, 9, (3, 40, 50)), meta=image.meta)}
    item["pred"] = item["probabilities"] = MetaTensor(probabilities, meta=image.meta)
    save = save_predictions(str(tmp_path), None, task(2))
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, former[1]))
    try:
        with pytest.raises(RuntimeError) as error:
            save(dict(item))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    cause: BaseException = error.value
    while cause.__cause__ is not None:
        cause = cause.__cause__
    assert re.search(r"case_1_\w+\.nii\.gz could not be written.*File too large", str(cause).strip().splitlines()[-1])
    assert not [path for path in tmp_path.iterdir() if path.stat().st_size > 500 or path.name.startswith(".")]
    for path in tmp_path.iterdir():  # those that were small enough are whole
        np.asanyarray(nib.load(path).dataobj)


@pytest.mark.parametrize("codes", [(1, 0), (0, 2), (4, 1), (0, 0)])
def test_units_and_codes_of_the_header_are_kept(tmp_path, codes):
    affine = np.diag([0.5, 0.7, 2.0, 1.0])
    source = nib.Nifti1Image(np.zeros((4, 5, 3), np.float32), affine)
    source.set_sform(affine, code=codes[0])
    source.set_qform(affine, code=codes[1])
    source.header.set_xyzt_units("micron", "sec")
    nib.save(source, tmp_path / "case_1.nii.gz")
    transform = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), Orientationd("image", "LPS", labels=None)])
    item = transform({"image": str(tmp_path / "case_1.nii.gz")})
    like = {"meta": item["image"].meta, "applied_operations": item["image"].applied_operations}
    item["samples"] = MetaTensor(torch.zeros(2, 4, 5, 3, dtype=torch.uint8), **like)
    item["pred"] = item["probabilities"] = MetaTensor(torch.full((2, 4, 5, 3), 0.5), **like)
    save_predictions(str(tmp_path / "out"), transform, task(3))(item)
    loaded = nib.load(tmp_path / "case_1.nii.gz").affine
    for file in (tmp_path / "out").glob("*.nii.gz"):
        saved = nib.load(file)
        assert saved.header.get_xyzt_units()[0] == "micron"
        assert (int(saved.header["sform_code"]), int(saved.header["qform_code"])) == (codes if any(codes) else (1, 1))
        np.testing.assert_allclose(saved.affine, loaded, atol=1e-5)
