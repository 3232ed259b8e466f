# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import label as components

from monai_stochseg.data import simulated_kidney_folder
from monai_stochseg.data.kits import kits_datalist
from monai_stochseg.data.simulated import simulate_kidneys
from monai_stochseg.transforms import LoadCased

SIZE, SPACING = (24, 48, 48), (6.0, 4.5, 4.5)


def test_shapes_and_types() -> None:
    scan = simulate_kidneys(SIZE, SPACING, seed=1, num_raters=3)
    assert scan.image.shape == (1, *SIZE)
    assert scan.image.dtype == torch.float32
    assert torch.equal(scan.image, scan.image.round())
    assert scan.label.shape == (3, *SIZE)
    assert scan.label.dtype == torch.uint8
    assert scan.distances.shape == (2, *SIZE)
    assert scan.probability.shape == (3, *SIZE)
    assert scan.spacing == SPACING


def test_deterministic() -> None:
    one, again, other = (simulate_kidneys(SIZE, SPACING, seed) for seed in (1, 1, 2))
    assert torch.equal(one.image, again.image)
    assert torch.equal(one.label, again.label)
    assert not torch.equal(one.image, other.image)


@pytest.mark.parametrize("seed", range(6))
def test_anatomy(seed) -> None:
    """Two kidneys of 100 to 250 ml, and a tumour on one of them that shows less than its parenchyma."""
    scan = simulate_kidneys(SIZE, SPACING, seed)
    image, label = scan.image[0].numpy(), scan.label[0].numpy()
    parts, _ = components(label > 0)
    volumes = np.bincount(parts.flat)[1:] * np.prod(SPACING) / 1000
    assert sum(volumes > 70) == 2
    assert volumes.max() < 320
    assert sum(np.abs(np.argwhere(label > 0)[:, 2] - 23.5) < 3) == 0, "the spine lies between them"
    tumour = label == 2
    assert 2 < tumour.sum() * np.prod(SPACING) / 1000 < 110
    assert len(np.unique(parts[tumour & (parts > 0)])) == 1
    kidney = (label == 1) & (scan.probability[1].numpy() > 0.9)
    surely = scan.probability[2].numpy() > 0.9
    assert 110 < np.median(image[kidney]) < 200
    assert 20 < np.median(image[surely]) < 115
    assert image.min() >= -1024


def test_readers_disagree_at_borders_only() -> None:
    scan = simulate_kidneys(SIZE, SPACING, seed=0)
    readings = scan.sample(8, torch.Generator().manual_seed(0))
    disagree = (readings != readings[0]).any(0)
    assert disagree.any()
    assert (scan.distances.abs().amin(0)[disagree] < 5 * scan.sigmas.max()).all()


def test_folder_reads_as_kits(tmp_path) -> None:
    folder = simulated_kidney_folder(tmp_path / "kidneys", 2, SIZE, SPACING, seed=3)
    truth = json.loads(Path(folder, "truth.json").read_text())["patients"]
    cases = kits_datalist(folder)
    assert [case["patient"] for case in cases] == list(truth)
    for case in cases:
        scan = simulate_kidneys(SIZE, SPACING, truth[case["patient"]]["seed"])
        loaded = LoadCased()(case)
        assert torch.equal(loaded["image"].as_tensor(), scan.image)
        assert torch.equal(loaded["label"].as_tensor(), scan.label)
        assert loaded["label"].pixdim.tolist() == pytest.approx(SPACING)
        assert truth[case["patient"]]["sigmas"] == scan.sigmas.tolist()
    assert simulated_kidney_folder(folder, 2, SIZE, SPACING, seed=3) == folder


def test_orientation_is_that_of_kits(tmp_path, real_data) -> None:
    (case,) = kits_datalist(simulated_kidney_folder(tmp_path / "kidneys", 1, SIZE, (6.0, 4.5, 5.0)))
    affine = LoadCased(with_label=False)(case)["image"].affine.numpy()
    real = real_data / "kits19" / "case_00004"
    (tmp_path / "real").mkdir()
    for name in ("imaging.nii.gz", "segmentation.nii.gz"):
        (tmp_path / "real" / name).symlink_to(real / "segmentation.nii.gz")
    real_affine = LoadCased(with_label=False)(kits_datalist(tmp_path / "real")[0])["image"].affine.numpy()
    assert np.array_equal(np.sign(affine), np.sign(real_affine))
    assert np.array_equal(np.abs(affine[:3, :3]).sum(0), [6.0, 4.5, 5.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_raters": 0}, "num_raters must be at least 1, got 0"),
        ({"spatial_size": (16, 32, 32)}, r"at least \[120, 180, 190\] mm to hold the anatomy, got \[96.0, 144.0, 144"),
    ],
)
def test_refuses(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_kidneys(**{"spatial_size": SIZE, "spacing": SPACING, **options})
