# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from disc_crops import PATIENTS, disc_crops
from matplotlib.figure import Figure
from monai.transforms import CenterSpatialCropd, Compose
from torch import nn

from monai_stochseg.bundle import flip_and_rotate, lidc_dataset, lidc_evaluator, lidc_predictor
from monai_stochseg.data import CaseError, load_manifest
from monai_stochseg.data.lidc import write_crops
from monai_stochseg.networks.nets import BilinearUNet, DeterministicSampler


@pytest.mark.parametrize(("spatial_dims", "size"), [(2, (16, 16)), (3, (12, 12, 12))])
def test_parts_are_those_of_the_manifest(lidc_crops, spatial_dims, size):
    for part, number in PATIENTS.items():
        dataset = lidc_dataset(lidc_crops[spatial_dims], "kohl", part, spatial_dims=spatial_dims)
        assert len(dataset) == 2 * number
        assert {case["patient"] for case in dataset} == set(load_manifest("kohl").parts[part][:number])
        assert dataset[0]["image"].shape == (1, *size)
        assert dataset[0]["label"].shape == (4, *size)


def test_a_split_that_came_with_the_data(tmp_path):
    write_crops(disc_crops(2, 8, came_split=True), tmp_path / "crops", {})
    assert [len(lidc_dataset(tmp_path / "crops", None, part)) for part in PATIENTS] == [8, 4, 4]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((None, "train"), {}, r"2d came without a split: give a manifest, one of \('kohl'"),
        (("koala", "train"), {}, "'koala' is none of"),
        (("kohl", "tests"), {}, r"part must be one of \('train', 'validation', 'test'\), got 'tests'"),
        (("svls", "test"), {}, "part 'test' is empty: svls has none of its patients in"),
        (("kohl", "train"), {"spatial_dims": 3}, "2d holds 2D crops, but spatial_dims is 3"),
    ],
)
def test_bad_input(lidc_crops, arguments, options, message):
    with pytest.raises(CaseError, match=message):
        lidc_dataset(lidc_crops[2], *arguments, **options)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_augmentation_keeps_image_and_masks_together(lidc_crops, spatial_dims):
    """Of a voxel that is marked in both; in 3D the quarter turns are axial."""
    transform = Compose(flip_and_rotate()).set_random_state(0)
    places = set()
    for _ in range(60):
        image, label = torch.zeros(1, *[4] * spatial_dims), torch.zeros(4, *[4] * spatial_dims)
        image[:, 0, 1], label[:, 0, 1] = 1, 1
        moved = transform({"image": image, "label": label})
        assert (moved["label"] == moved["image"]).all()
        places.add(tuple(moved["image"].nonzero()[0].tolist()[1:3]))
    assert len(places) == 8  # all symmetries of a square: the voxel is off its diagonals


def test_the_evaluators_transforms_act_on_image_and_masks(lidc_crops, tmp_path):
    network = DeterministicSampler(BilinearUNet(2, 1, 2, (2, 4)))
    crop = CenterSpatialCropd(["image", "label"], (8, 8))
    evaluator = lidc_evaluator(
        *(network, lidc_crops[2], "kohl", str(tmp_path), torch.device("cpu")), num_samples=2, transforms=[crop]
    )
    evaluator.run()
    assert evaluator.state.metrics.keys() == {"val_ged", "val_diversity", "val_hm_iou", "val_dice"}
    assert evaluator.state.output[0]["samples"].shape == (2, 8, 8)
    assert evaluator.state.output[0]["label"].shape == (4, 8, 8)


def test_the_figure_says_where_the_ct_is_simulated(lidc_crops, tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(
        "monai_stochseg.handlers.sample_figure.plot_samples",
        lambda *args, title, **kwargs: titles.append(title) or Figure(),
    )
    write_crops(disc_crops(2, 16), tmp_path / "real", {})
    network = DeterministicSampler(BilinearUNet(2, 1, 2, (2, 4)))
    for folder in (lidc_crops[2], str(tmp_path / "real")):
        evaluator = lidc_evaluator(network, folder, "kohl", str(tmp_path), torch.device("cpu"), num_samples=2)
        evaluator.state.epoch = 0
        evaluator.run()
    torch.save({"network": network.state_dict()}, tmp_path / "model.pt")
    lidc_evaluator(
        *(network, lidc_crops[2], "kohl", str(tmp_path), torch.device("cpu"), "test", str(tmp_path / "model.pt"))
    ).run()
    assert titles == ["simulated CT", None, "simulated CT"]


def test_window_and_chunk_size_reach_loader_and_evaluator(lidc_crops, tmp_path):
    """Crops are -1000 HU, and 400 inside the disc: 0.4 of the window from -1000 to 1000."""
    dataset = lidc_dataset(lidc_crops[2], "kohl", "test", window=(-1000, 1000))
    torch.testing.assert_close(dataset[0]["image"].unique().as_tensor(), torch.tensor([-1.0, 0.4]))
    network, device, window = nn.Identity(), torch.device("cpu"), (-1000.0, 1000.0)
    options = {"window": window, "chunk_size": 3}
    for evaluator in (
        lidc_evaluator(network, lidc_crops[2], "kohl", str(tmp_path), device, **options),
        lidc_predictor(network, lidc_crops[2], str(tmp_path), device, "model.pt", **options),
    ):
        assert evaluator.data_loader.dataset[0]["image"].max() == pytest.approx(0.4)
        assert evaluator.chunk_size == 3


def test_the_predictor_refuses_crops_of_another_dimension(lidc_crops, tmp_path):
    with pytest.raises(CaseError, match="3d holds 3D crops, but spatial_dims is 2"):
        lidc_predictor(
            nn.Identity(), lidc_crops[3], str(tmp_path), torch.device("cpu"), str(tmp_path / "model.pt"), spatial_dims=2
        )
