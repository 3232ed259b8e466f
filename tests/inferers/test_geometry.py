# SPDX-License-Identifier: Apache-2.0
"""Samples of a plain MONAI pipeline come back to the image's grid."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged, Orientationd, SaveImaged, Spacingd
from torch import nn

from monai_stochseg.distributions import DeterministicDistribution
from monai_stochseg.inferers import PredictiveInferer, draw_samples
from monai_stochseg.networks.nets import StochasticSegmentationNetwork, ThresholdSampler


class Bright(nn.Module):
    """Class 1 where the image is above 0.5."""

    def predictive(self, x: torch.Tensor) -> DeterministicDistribution:
        logit = 100 * (x - 0.5)
        return DeterministicDistribution(torch.cat([-logit, logit], 1))


@pytest.fixture
def pre() -> Compose:
    return Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", "RAS", labels=None),
            Spacingd("image", (1, 1, 1), mode="nearest"),
        ]
    )


def test_samples_are_saved_on_the_grid_of_the_image(tmp_path, pre) -> None:
    affine = np.array([[0, 0, 2.0, 4], [-2.0, 0, 0, 3], [0, 2.0, 0, -7], [0, 0, 0, 1]])
    voxels = np.zeros((6, 5, 4), np.float32)
    voxels[1:4, 2:4, 1] = 1
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "case.nii.gz")
    batch = next(iter(DataLoader(Dataset([{"image": str(tmp_path / "case.nii.gz")}], pre))))
    drawn = draw_samples(PredictiveInferer()(batch["image"], Bright()), 3)
    for item in decollate_batch({"image": batch["image"], "samples": drawn.labels}):
        back = Invertd("samples", pre, orig_keys="image", nearest_interp=True)(item)
        SaveImaged("samples", output_dir=tmp_path, output_postfix="samples", separate_folder=False, resample=True)(back)
    saved = nib.load(tmp_path / "case_samples.nii.gz")
    np.testing.assert_allclose(saved.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(saved.dataobj)[..., 0], voxels)
    assert saved.shape == (6, 5, 4, 3)


@pytest.mark.parametrize("windows", [None, SlidingWindowInferer((8, 8))], ids=["whole", "windows"])
@pytest.mark.parametrize("kind", ["parameters", "predictive"])
def test_every_way_of_inference_keeps_the_affine(windows, kind: str) -> None:
    unet = UNet(2, 1, 4, (4, 8), (2,))
    network = (
        StochasticSegmentationNetwork(unet, 4, 2, rank=2, spatial_dims=2)
        if kind == "parameters"
        else ThresholdSampler(UNet(2, 1, 2, (4, 8), (2,)))
    )
    image = MetaTensor(torch.rand(1, 1, 16, 16), affine=3 * torch.eye(4))
    distribution = PredictiveInferer(windows)(image, network.eval())
    assert distribution.sample_logits(2).affine[0, 0] == 3
    assert distribution.mode_logits().affine[0, 0] == 3
    plain = PredictiveInferer(windows)(image.as_tensor(), network)
    assert not isinstance(plain.sample_logits(2), MetaTensor)
    assert not isinstance(draw_samples(plain, 2).labels, MetaTensor)
