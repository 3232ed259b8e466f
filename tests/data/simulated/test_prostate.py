# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Orientationd

from monai_stochseg.data import simulated_prostate_folder
from monai_stochseg.data.prostatex import prostatex_datalist
from monai_stochseg.data.simulated import simulate_prostate
from monai_stochseg.transforms import LoadCased

SIZE, SPACING = (20, 52, 54), (3.6, 1.6, 1.6)


def test_shapes_and_types() -> None:
    scan = simulate_prostate(SIZE, SPACING, seed=1, num_raters=3)
    assert scan.image.shape == (1, *SIZE)
    assert scan.image.dtype == torch.float32
    assert torch.equal(scan.image, scan.image.round())
    assert scan.label.shape == (3, *SIZE)
    assert scan.label.dtype == torch.uint8
    assert scan.distances.shape == (4, *SIZE)
    assert scan.probability.shape == (5, *SIZE)


def test_deterministic() -> None:
    one, again, other = (simulate_prostate(SIZE, SPACING, seed) for seed in (1, 1, 2))
    assert torch.equal(one.image, again.image)
    assert torch.equal(one.label, again.label)
    assert not torch.equal(one.image, other.image)


@pytest.mark.parametrize("seed", range(8))
def test_anatomy(seed) -> None:
    """Every zone is there, in its place and of its brightness."""
    scan = simulate_prostate(SIZE, SPACING, seed)
    image, label = scan.image[0], scan.label[0]
    places = {zone: np.argwhere(label.numpy() == zone) * SPACING for zone in range(1, 5)}
    volumes = {zone: len(place) * np.prod(SPACING) / 1000 for zone, place in places.items()}
    assert 20 < sum(volumes.values()) < 80
    assert min(volumes[1], volumes[2]) > 5
    assert min(volumes[3], volumes[4]) > 0.2
    up, back, _ = np.array([places[zone].mean(0) for zone in (4, 2, 1, 3)]).T
    assert back[0] < back[1] < back[2], "stroma in front of the transition zone in front of the peripheral zone"
    assert up[3] < up[1], "the urethra leaves towards the apex"
    surely = {zone: image[(scan.probability[zone] > 0.8)].median() for zone in (1, 2, 4) if volumes[zone] > 1}
    assert surely[1] > surely[2] > surely.get(4, 0)


def test_folder_reads_as_prostatex(tmp_path) -> None:
    folder = simulated_prostate_folder(tmp_path / "prostates", 2, SIZE, SPACING, seed=3)
    truth = json.loads(Path(folder, "truth.json").read_text())["patients"]
    cases = prostatex_datalist(folder)
    assert [case["patient"] for case in cases] == list(truth)
    load = Compose([LoadCased(), Orientationd(("image", "label"), axcodes="SPL", labels=None)])
    for case in cases:
        scan = simulate_prostate(SIZE, SPACING, truth[case["patient"]]["seed"])
        loaded = load(case)
        assert torch.equal(loaded["image"].as_tensor(), scan.image)
        assert torch.equal(loaded["label"].as_tensor(), scan.label)
        assert loaded["label"].pixdim.tolist() == pytest.approx(SPACING)
    image = nib.load(cases[0]["image"][0])
    assert image.shape == SIZE[::-1]
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_raters": 0}, "num_raters must be at least 1, got 0"),
        ({"spacing": (3.6, 1.0, 1.0)}, r"at least \[50, 64, 70\] mm to hold the anatomy"),
    ],
)
def test_refuses(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_prostate(**{"spatial_size": SIZE, "spacing": SPACING, **options})
