# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CenterSpatialCropd, Compose

from monai_stochseg.bundle import save_predictions


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
    save_predictions(str(tmp_path), transform, spatial_dims=len(size))(item)
    for kind, shape in {"mode": shapes[0], "samples": shapes[1], "entropy": shapes[0]}.items():
        file = nib.load(tmp_path / f"case_1_{kind}.nii.gz")
        values = np.asanyarray(file.dataobj)
        assert values.shape == shape
        np.testing.assert_allclose(np.abs(file.affine.diagonal()[:2]), 0.5)
        assert not values[[0, -1]].any()
        expected = 1 if kind != "entropy" else -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
        np.testing.assert_allclose(values[1:-1], expected, rtol=1e-5)


def test_a_pre_processing_that_changes_no_grid_needs_no_inverse(tmp_path):
    """MONAI's ``Invertd`` refuses one without a step that it can invert."""
    image = MetaTensor(torch.zeros(1, 4, 5), affine=np.eye(4), meta={"filename_or_obj": "case_1"})
    probabilities = torch.full((2, 4, 5), 0.5)
    item = {"image": image, "samples": MetaTensor(torch.ones(2, 4, 5, dtype=torch.uint8), meta=image.meta)}
    item["pred"] = item["probabilities"] = MetaTensor(probabilities, meta=image.meta)
    for i, transform in enumerate((Compose([lambda case: case]), lambda case: case, None)):
        save_predictions(str(tmp_path / str(i)), transform, spatial_dims=2)(dict(item))
        assert nib.load(tmp_path / str(i) / "case_1_samples.nii.gz").shape == (4, 5, 1, 2)
