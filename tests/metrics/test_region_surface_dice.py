# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import compute_surface_dice
from monai.transforms import LoadImage
from scipy.ndimage import binary_erosion, distance_transform_edt
from torch import distributed, multiprocessing

from monai_stochseg.metrics.region_surface_dice import RegionSurfaceDiceMetric, compute_region_surface_dice

REGIONS = {"all": (1, 2), "core": (2,)}


def box(*slices: tuple[int, int], shape: tuple[int, ...] = (12, 12), label: int = 1) -> torch.Tensor:
    """A label map ``[1, *S]`` with one box."""
    labels = torch.zeros(shape, dtype=torch.int64)
    labels[tuple(slice(*limits) for limits in slices)] = label
    return labels[None]


def with_spacing(labels: torch.Tensor, *spacing: float) -> MetaTensor:
    return MetaTensor(labels, affine=torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)))


SQUARE = box((4, 8), (4, 8))
MOVED = box((6, 10), (4, 8))  # two voxels down: of 12 voxels of each surface, 4 are 2 away and 2 are 1 away


@pytest.mark.parametrize(
    ("y_pred", "y", "spacing", "tolerance", "expected"),
    [
        (SQUARE, SQUARE, [1, 1], 0, 1.0),
        (MOVED, SQUARE, [1, 1], 2, 1.0),
        (MOVED, SQUARE, [2, 1], 2, None),
        (MOVED, SQUARE, [1, 2], 2, 1.0),
        (MOVED, SQUARE, [3, 3], 2, None),
        (0 * SQUARE, SQUARE, [1, 1], 2, 0.0),
        (SQUARE, 0 * SQUARE, [1, 1], 2, 0.0),
        (0 * SQUARE, 0 * SQUARE, [1, 1], 2, math.nan),
    ],
)
def test_by_hand(
    y_pred: torch.Tensor, y: torch.Tensor, spacing: list[float], tolerance: float, expected: float | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        value = compute_region_surface_dice(
            y_pred[None], y[None], {"all": (1,)}, spacing=spacing, tolerance=tolerance
        ).item()
    if expected is None:
        expected = _reference(y_pred[0].numpy(), y[0].numpy(), spacing, tolerance)
        assert 0.3 < expected < 0.9
    assert value == pytest.approx(expected, nan_ok=True)


def _reference(a: np.ndarray, b: np.ndarray, spacing: list[float], tolerance: float) -> float:
    """By distance maps of the whole image."""
    edges = [mask ^ binary_erosion(mask) for mask in (a > 0, b > 0)]
    near = [distance_transform_edt(~edge, sampling=spacing) <= tolerance for edge in edges]
    inside = (edges[0] & near[1]).sum() + (edges[1] & near[0]).sum()
    return inside / (edges[0].sum() + edges[1].sum())


def test_equals_the_definition_in_3d() -> None:
    y_pred, y = torch.randint(4, (2, 2, 1, 7, 8, 6)).clamp(max=2)
    spacing = torch.tensor([[0.7, 1.1, 2.5], [1.6, 1.6, 3.2]])
    value = compute_region_surface_dice(y_pred, y, REGIONS, spacing=spacing, tolerance=1.0)
    for item in range(2):
        for k, classes in enumerate(REGIONS.values()):
            a, b = (np.isin(maps[item, 0].numpy(), classes) for maps in (y_pred, y))
            assert value[item, 0, k].item() == pytest.approx(_reference(a, b, spacing[item].tolist(), 1.0))


def test_equals_monais() -> None:
    y_pred, y = torch.randint(3, (2, 2, 1, 7, 8, 6))
    one_hot = [torch.nn.functional.one_hot(maps[:, 0], 3).movedim(-1, 1) for maps in (y_pred, y)]
    for use_subvoxels in (False, True):
        options = {"spacing": [1.0, 1.5, 3.0], "use_subvoxels": use_subvoxels}
        expected = compute_surface_dice(*one_hot, class_thresholds=[1.5, 1.5], **options)
        value = compute_region_surface_dice(y_pred, y, {"one": (1,), "two": (2,)}, tolerance=1.5, **options)
        torch.testing.assert_close(value[:, 0], expected)


def test_raters_and_one_of_them() -> None:
    far = box((0, 2), (0, 2))
    y = torch.cat([SQUARE, MOVED, far, 0 * far])[None]
    options = {"spacing": torch.ones(1, 2)}
    for rater, expected in [(0, 1.0), (1, 1.0), (2, 0.0), (3, 0.0), (None, 0.5)]:
        metric = RegionSurfaceDiceMetric(regions={"all": (1,)}, rater=rater)
        metric(SQUARE[None], y, **options)
        assert metric.aggregate().item() == pytest.approx(expected)
    # the one who drew nothing either is left out
    metric = RegionSurfaceDiceMetric(regions={"all": (1,)})
    metric(0 * SQUARE[None], y[:, 2:], **options)
    assert metric.aggregate().item() == 0
    metric(0 * SQUARE[None], y[:, 3:], **options)
    assert metric.get_buffer().isnan().flatten().tolist() == [False, True]
    with pytest.raises(ValueError, match="rater must not be negative, got -1"):
        RegionSurfaceDiceMetric(rater=-1)(SQUARE[None], y, **options)


def test_several_maps_are_averaged() -> None:
    metric = RegionSurfaceDiceMetric(regions={"all": (1,)})
    metric(torch.cat([SQUARE, 0 * SQUARE])[None], SQUARE[None], spacing=torch.ones(1, 2))
    assert metric.aggregate().item() == 0.5


def test_each_items_spacing_is_its_affines() -> None:
    fine, coarse = with_spacing(SQUARE, 1, 1), with_spacing(SQUARE, 3, 1)
    expected = [1.0, _reference(MOVED[0].numpy(), SQUARE[0].numpy(), [3, 1], 2)]
    collated = list_data_collate([{"y": fine}, {"y": coarse}])
    for y in ([fine, coarse], collated["y"], [item["y"] for item in decollate_batch(collated)]):
        metric = RegionSurfaceDiceMetric(regions={"all": (1,)})
        metric([MOVED, MOVED] if isinstance(y, list) else torch.stack([MOVED, MOVED]), y)
        assert metric.get_buffer()[:, 0].tolist() == pytest.approx(expected)
    metric = RegionSurfaceDiceMetric(regions={"all": (1,)})
    metric([with_spacing(MOVED, 3, 1)], [SQUARE])  # the prediction's, where the label is a plain tensor
    metric([with_spacing(MOVED, 7, 7)], [SQUARE], spacing=[torch.tensor([3.0, 1.0])])  # what is passed comes first
    assert metric.get_buffer()[:, 0].tolist() == pytest.approx([expected[1]] * 2)


def test_spacing_of_turned_axes() -> None:
    """The first axis of the array runs along z, as in KiTS19, and the image lies askew."""
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = turn @ torch.tensor([[0.0, 0, -0.8], [0, -0.8, 0], [-4.0, 0, 0]], dtype=torch.float64)
    shape = (12, 12, 12)
    square = MetaTensor(box((4, 8), (4, 8), (4, 8), shape=shape), affine=affine)
    values = []
    for moved in (box((5, 9), (4, 8), (4, 8), shape=shape), box((4, 8), (6, 10), (4, 8), shape=shape)):
        metric = RegionSurfaceDiceMetric(regions={"all": (1,)})
        metric([moved], [square])
        values.append(metric.aggregate().item())
    assert values[0] < 0.8  # 4 mm
    assert values[1] == 1.0  # 1.6 mm


def test_a_slice_of_a_volume() -> None:
    """Two spatial axes with the affine of three, which mixes world axes."""
    affine = torch.tensor([[0, 0, 2.0, 0], [1.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    metric = RegionSurfaceDiceMetric(regions={"all": (1,)})
    metric([box((4, 8), (5, 9))], [MetaTensor(SQUARE, affine=affine)])
    assert metric.aggregate().item() == pytest.approx(
        _reference(box((4, 8), (5, 9))[0].numpy(), SQUARE[0].numpy(), [1, 3], 2)
    )


def test_names() -> None:
    assert RegionSurfaceDiceMetric(regions=REGIONS).names == ["surface_dice_all", "surface_dice_core"]
    assert "surface_dice_WT" in RegionSurfaceDiceMetric().names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": -1}, "tolerance must be a length in mm of at least 0, got -1"),
        ({"tolerance": math.nan}, "tolerance must be"),
        ({"regions": {}}, "regions must name at least one region"),
        ({"y": torch.zeros(1, 1, 3, 3)}, "y_pred and y must agree in all axes but the second"),
        ({"y": SQUARE[None, :0]}, r"y must be label maps of shape \[B, K, \*S\], none of its axes empty"),
        ({"y": 0.5 * SQUARE[None]}, "y must hold integer class labels, got 0.5"),
        ({"spacing": [1, 0]}, r"spacing must be 2 positive sizes in mm.*got \[1.0, 0.0\]"),
        ({"spacing": [1, 1, 1]}, "spacing must be 2 positive sizes"),
        ({"spacing": [math.nan, 1]}, "spacing must be a tensor .* a finite number"),
    ],
)
def test_rejects(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_region_surface_dice(
            **{"y_pred": SQUARE[None], "y": SQUARE[None], "regions": REGIONS, "spacing": [1, 1], **options}
        )


def test_metric_rejects() -> None:
    with pytest.raises(ValueError, match="tolerance must be"):
        RegionSurfaceDiceMetric(tolerance=math.inf)
    with pytest.raises(ValueError, match=r"spacing is missing.*affine has it, or pass spacing \[B, D\]"):
        RegionSurfaceDiceMetric()(SQUARE[None], SQUARE[None])
    with pytest.raises(ValueError, match="y_pred and y must agree in all axes but the second"):
        RegionSurfaceDiceMetric()([with_spacing(SQUARE, 1, 1)], [with_spacing(SQUARE[..., None], 1, 1, 1)])
    with pytest.raises(ValueError, match="affines disagree in spacing"):
        RegionSurfaceDiceMetric()([with_spacing(SQUARE, 1, 1)], [with_spacing(SQUARE, 1, 2)])
    with pytest.raises(ValueError, match=r"spacing must be 2 positive sizes in mm.*0.0"):
        RegionSurfaceDiceMetric()([SQUARE], [with_spacing(SQUARE, 1, 0)])


def test_in_an_engine() -> None:
    batch = [
        {"pred": with_spacing(MOVED, 3, 1), "label": with_spacing(SQUARE, 3, 1)},
        {"pred": with_spacing(MOVED, 1, 1), "label": with_spacing(SQUARE, 1, 1)},
    ]
    engine = Engine(lambda _, items: items)
    metric = RegionSurfaceDiceMetric(regions=REGIONS)
    IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["pred", "label"])).attach(engine, "nsd")
    expected = (1 + _reference(MOVED[0].numpy(), SQUARE[0].numpy(), [3, 1], 2)) / 2
    for _ in range(2):
        engine.run([batch])
        assert engine.state.metrics["nsd"] == pytest.approx(expected)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    metric = RegionSurfaceDiceMetric(regions=REGIONS, reduction="mean_batch")
    for spacing in [(1,), (1, 3)][rank]:
        metric([MOVED], [with_spacing(SQUARE, spacing, 1)])
    torch.save(metric.aggregate(), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_over_processes(tmp_path: Path) -> None:
    multiprocessing.start_processes(_rank, args=(str(tmp_path),), nprocs=2, start_method="fork")
    expected = (2 + _reference(MOVED[0].numpy(), SQUARE[0].numpy(), [3, 1], 2)) / 3
    for rank in range(2):
        value = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(value, torch.tensor([expected, math.nan]).float(), equal_nan=True)


def test_on_a_real_kidney(real_data: Path) -> None:
    """KiTS19's first axis is axial, 4 mm apart: two voxels along it are out of tolerance, along others within."""
    y = LoadImage(ensure_channel_first=True)(real_data / "kits19" / "case_00004" / "segmentation.nii.gz")
    spacing = y.pixdim.tolist()
    assert spacing[0] >= 3
    assert max(spacing[1:]) < 1
    drawn = (y[0] > 0).nonzero()
    low, high = drawn.min(0).values - 3, drawn.max(0).values + 4
    crop = y[:, slice(*_pair(low, high, 0)), slice(*_pair(low, high, 1)), slice(*_pair(low, high, 2))]
    kidney = {"kidney": (1, 2), "tumour": (2,)}
    values = {}
    for axis in (1, 2, 3):
        metric = RegionSurfaceDiceMetric(regions=kidney, reduction="mean_batch")
        metric([crop.as_tensor().roll(2, dims=axis)], [crop])
        values[axis] = metric.aggregate()
    assert (values[1] < 0.95).all()
    assert (values[2] == 1).all()
    assert (values[3] == 1).all()


def _pair(low: torch.Tensor, high: torch.Tensor, axis: int) -> tuple[int, int]:
    return max(0, int(low[axis])), int(high[axis])
