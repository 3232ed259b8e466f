# SPDX-License-Identifier: Apache-2.0
"""Evaluator and predictor of a network whose logits are known; what they tell, computed anew with NumPy."""

from __future__ import annotations

import csv
import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from given import Given
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import CenterSpatialCropd, Compose, EnsureChannelFirstd, LoadImaged, Orientationd
from scipy.ndimage import binary_erosion, distance_transform_edt
from torch import nn

from monai_stochseg.bundle import Options, make_answer_evaluator, make_answer_predictor, save_predictions
from monai_stochseg.data import CaseDataset, CaseError

SHAPE, SPACING = (6, 7, 8), (3.0, 2.5, 1.5)  # at 2 mm, voxels are neighbours along the last axis alone
CLASSES = ("background", "organ", "tumour")
REGIONS = {"whole": (1, 2), "tumour": (2,)}
SCALE = 0.7  # of the checkpoint


class Known(nn.Module):
    """Logits of three classes from an image of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * torch.cat([-x, x, 1.5 * x.abs() - 1], dim=1)


def softmax(image: np.ndarray, scale: float) -> np.ndarray:
    e = np.exp(scale * np.concatenate([-image, image, 1.5 * np.abs(image) - 1]))
    return e / e.sum(0)


@pytest.fixture
def checkpoint(tmp_path) -> str:
    torch.save({"network": {"scale": torch.tensor([SCALE])}}, tmp_path / "model.pt")
    return str(tmp_path / "model.pt")


def make_cases(num_raters: int = 1) -> list[dict[str, Any]]:
    """Two cases; nobody drew the tumour in the second."""
    affine = np.diag([*SPACING, 1.0])
    cases = []
    for name, highest in (("case_a", 2), ("case_b", 1)):
        image = 1.5 * torch.randn(1, *SHAPE)
        noisy = Known()(image + torch.randn(num_raters, *SHAPE)[:, None]).argmax(1)
        cases.append(
            {
                "image": MetaTensor(image, affine=affine, meta={"filename_or_obj": f"in/{name}.nii.gz"}),
                "label": MetaTensor(noisy.clamp(max=highest).float(), affine=affine),
            }
        )
    return cases


def given(cases: list[dict[str, Any]], regions: Any = REGIONS, num_raters: int = 1, nonempty: bool = False) -> Given:
    task = Given(cases, CLASSES, regions, num_raters=num_raters)
    task.nonempty_raters = nonempty
    return task


def evaluate(
    tmp_path: Path, cases: list[dict[str, Any]], num_raters: int = 1, nonempty: bool = False, **options: Any
) -> dict[str, float]:
    """An evaluator's run: its metrics."""
    task, network = given(cases, num_raters=num_raters, nonempty=nonempty), options.pop("network", Known())
    evaluator = make_answer_evaluator(task, network, Options(str(tmp_path / "out")), **options)
    evaluator.run()
    return evaluator.state.metrics


def table(file: Path) -> dict[str, dict[str, float]]:
    with file.open() as lines:
        rows = {row.pop("case"): row for row in csv.DictReader(lines)}
    return {case: {column: float(value) for column, value in row.items()} for case, row in rows.items()}


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum()) if b.any() else math.nan


def surface_dice(a: np.ndarray, b: np.ndarray, tolerance: float) -> float:
    if not (a.any() and b.any()):
        return 0.0 if a.any() or b.any() else math.nan
    edges = [mask ^ binary_erosion(mask) for mask in (a, b)]
    near = [distance_transform_edt(~edge, sampling=SPACING) <= tolerance for edge in edges]
    return ((edges[0] & near[1]).sum() + (edges[1] & near[0]).sum()) / (edges[0].sum() + edges[1].sum())


def ece(confidence: np.ndarray, accuracy: np.ndarray) -> float:
    index = np.clip(np.ceil(confidence * 10) - 1, 0, 9)
    return sum(abs((accuracy - confidence)[index == m].sum()) for m in range(10)) / len(confidence)


def tace(p: np.ndarray, right: np.ndarray) -> float:
    order = np.argsort(p)
    p, right = p[order][p[order] > 1e-3], right[order][p[order] > 1e-3]
    limits = np.arange(11) * len(p) // 10
    return np.mean([abs((right - p)[low:high].mean()) for low, high in pairwise(limits)])


def by_hand(case: dict[str, Any], rater: int = 0, scale: float = SCALE, tolerance: float = 2.0) -> dict[str, float]:
    """The columns of one rater."""
    p = softmax(case["image"].numpy().astype(np.float64), scale)
    pred, y = p.argmax(0), case["label"][rater].numpy()
    row = {}
    for name, classes in REGIONS.items():
        a, b = np.isin(pred, classes), np.isin(y, classes)
        row |= {f"dice_{name}": dice(a, b), f"surface_dice_{name}": surface_dice(a, b, tolerance)}
    drawn = y > 0
    row["ece"] = ece(p.max(0)[drawn], (pred == y)[drawn].astype(float))
    for c in (1, 2):
        flat, right = p[c].ravel(), (y == c).ravel().astype(float)
        row |= {f"ece_{CLASSES[c]}": ece(flat, right), f"tace_{CLASSES[c]}": tace(flat, right)}
    row["tace"] = (row["tace_organ"] + row["tace_tumour"]) / 2
    return row


def test_without_a_checkpoint_it_judges_the_network_as_it_is(tmp_path) -> None:
    cases = make_cases()
    metrics = evaluate(tmp_path, cases)
    expected = [by_hand(case, scale=1.0) for case in cases]
    values = [row[f"dice_{name}"] for row in expected for name in REGIONS]
    assert np.isnan(values).tolist() == [False, False, False, True]
    # MONAI's mean: of the regions of a case, then of the cases
    assert metrics["val_dice"] == pytest.approx((np.mean(values[:2]) + values[2]) / 2)
    assert metrics["val_ece"] == pytest.approx(np.mean([row["ece"] for row in expected]), abs=1e-5)
    assert set(metrics) == {"val_dice", "val_ece"}
    assert not (tmp_path / "out").exists()


def test_the_mean_dice_is_the_key_metric(tmp_path) -> None:
    evaluator = make_answer_evaluator(given(make_cases()), Known(), Options(str(tmp_path)))
    evaluator.run()
    assert evaluator.state.key_metric_name == "val_dice"
    assert evaluator.state.best_metric == evaluator.state.metrics["val_dice"]


def test_the_table_with_a_checkpoint(tmp_path, checkpoint) -> None:
    cases = make_cases()
    evaluate(tmp_path, cases, checkpoint=checkpoint, part="test")
    rows = table(tmp_path / "out" / "evaluation_test.csv")
    expected = {f"case_{name}": by_hand(case) for name, case in zip("ab", cases, strict=True)}
    assert list(rows) == ["case_a", "case_b", "mean", "std"]
    columns = ["dice_whole", "dice_tumour", "surface_dice_whole", "surface_dice_tumour", "ece", "tace", "tace_svls"]
    columns += ["ece_organ", "tace_organ", "ece_tumour", "tace_tumour"]
    assert list(rows["mean"]) == columns
    for case, row in expected.items():
        for column, value in row.items():
            assert rows[case][column] == pytest.approx(value, abs=1e-5, nan_ok=True), (case, column)
        # all voxels are above the threshold, so that the bins hold equally many to one voxel
        assert rows[case]["tace_svls"] == pytest.approx(rows[case]["tace"] / 10, rel=0.02)
    assert math.isnan(rows["case_b"]["dice_tumour"])
    assert rows["case_b"]["surface_dice_tumour"] == 0
    for column in columns:
        values = [rows[case][column] for case in expected]
        assert rows["mean"][column] == pytest.approx(np.nanmean(values), abs=1e-5)
        assert rows["std"][column] == pytest.approx(np.nanstd(values), abs=1e-5)
    assert (tmp_path / "out" / "reliability_test.png").read_bytes()[:4] == b"\x89PNG"


def test_four_raters_have_columns_of_their_own(tmp_path, checkpoint) -> None:
    cases = make_cases(num_raters=4)
    metrics = evaluate(tmp_path, cases, checkpoint=checkpoint, num_raters=4)
    rows = table(tmp_path / "out" / "evaluation_validation.csv")
    structures = [f"{k}_{name}_rater{r}" for r in range(4) for k in ("dice", "surface_dice") for name in REGIONS]
    calibration = [f"{kind}_rater{r}" for r in range(4) for kind in ("ece", "tace", "tace_svls")]
    assert [column for column in rows["mean"] if "rater" in column] == [*structures, *calibration]
    assert not {"dice_whole", "dice_tumour", "surface_dice_whole"} & set(rows["mean"])
    for case, given in zip(("case_a", "case_b"), cases, strict=True):
        for r in range(4):
            for column, value in by_hand(given, r).items():
                if "dice" in column or column in ("ece", "tace"):
                    assert rows[case][f"{column}_rater{r}"] == pytest.approx(value, abs=1e-5, nan_ok=True)
        # the calibration is against the raters' frequency, over the voxels that any of them drew
        p, y = softmax(given["image"].numpy().astype(np.float64), SCALE), given["label"].numpy()
        drawn = (y > 0).any(0)
        accuracy = (y == p.argmax(0)).mean(0)
        assert rows[case]["ece"] == pytest.approx(ece(p.max(0)[drawn], accuracy[drawn]), abs=1e-5)
        organ = ece(p[1].ravel(), (y == 1).mean(0).ravel())
        assert rows[case]["ece_organ"] == pytest.approx(organ, abs=1e-5)
    assert {f"val_dice_rater{r}" for r in range(4)} < set(metrics)


def test_raters_who_drew_nothing_may_leave_the_calibration(tmp_path, checkpoint) -> None:
    cases = make_cases(num_raters=4)
    for case in cases:
        case["label"][[0, 2]] = 0
    drew = [{**case, "label": case["label"][[1, 3]]} for case in cases]
    without, among, alone = (
        evaluate(tmp_path, given, checkpoint=checkpoint, num_raters=raters, nonempty=left_out)
        for given, raters, left_out in ((cases, 4, True), (cases, 4, False), (drew, 2, False))
    )
    calibration = [name for name in without if "ece" in name or "tace" in name or "reliability" in name]
    calibration = [name for name in calibration if "rater" not in name]
    assert len(calibration) == 8
    for name in calibration:
        assert without[name] == pytest.approx(alone[name])
        assert without[name] != pytest.approx(among[name], rel=1e-3)
    assert without["val_dice"] == among["val_dice"]
    for kind in ("ece", "tace", "tace_svls"):
        assert math.isnan(without[f"val_{kind}_rater0"])  # of both cases
        assert without[f"val_{kind}_rater3"] == pytest.approx(alone[f"val_{kind}_rater1"])
    assert among["val_tace_rater0"] > 0  # it says background, which has no voxel of ece
    assert math.isnan(among["val_ece_rater0"])


def test_a_rater_of_weight_0_has_no_calibration(tmp_path, checkpoint) -> None:
    """The rows of the case without the rater are undefined, those of the other case are as ever."""
    cases = make_cases(num_raters=2)
    cases[0]["rater_weights"], cases[1]["rater_weights"] = torch.tensor([1.0, 0.0]), torch.ones(2)
    evaluate(tmp_path, cases, checkpoint=checkpoint, num_raters=2)
    rows = table(tmp_path / "out" / "evaluation_validation.csv")
    for kind in ("ece", "tace"):
        assert math.isnan(rows["case_a"][f"{kind}_rater1"])
        for case, rater in ((0, 0), (1, 0), (1, 1)):
            expected = by_hand(cases[case], rater)[kind]
            assert rows[f"case_{'ab'[case]}"][f"{kind}_rater{rater}"] == pytest.approx(expected, abs=1e-5)


def test_windows(tmp_path, checkpoint) -> None:
    """A network without a field of view has the same logits in every window."""
    cases = make_cases()
    whole = evaluate(tmp_path, cases, checkpoint=checkpoint)
    windows = evaluate(tmp_path, cases, checkpoint=checkpoint, inferer=SlidingWindowInferer((4, 4, 4)))
    assert windows == pytest.approx(whole, rel=1e-5)


def _spoil(change: Any) -> list[dict[str, Any]]:
    cases = make_cases()
    cases[1]["label"] = change(cases[1]["label"])
    return cases


class Cropping(Known):
    """Returns fewer voxels than it gets."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)[..., 1:]


@pytest.mark.parametrize(
    ("cases", "options", "error", "message"),
    [
        (list, {}, CaseError, "part 'validation' is empty"),
        (lambda: _spoil(lambda y: y * 0 + 3), {}, ValueError, "y has label 3, outside the 3 classes 0 to 2"),
        (lambda: _spoil(lambda y: y + 0.5), {}, ValueError, r"y must hold integer class labels, got \d\.5"),
        (make_cases, {"network": Cropping()}, ValueError, "y_pred and y must agree in all axes but the second"),
        (make_cases, {"checkpoint": "absent.pt"}, FileNotFoundError, "no checkpoint at absent.pt: train first"),
        (make_cases, {"num_raters": 2, "checkpoint": True}, ValueError, "rater must be one of the 1 raters of y"),
    ],
)
def test_refuses(tmp_path, checkpoint, cases, options, error, message) -> None:
    if options.get("checkpoint") is True:
        options = {**options, "checkpoint": checkpoint}
    with pytest.raises(error, match=message):
        evaluate(tmp_path, cases(), **options)


AFFINE = np.array([[0, 0, -1.5, 9], [0, -2.5, 0, 5], [3.0, 0, 0, -7], [0, 0, 0, 1]])  # axes as KiTS has them


@pytest.fixture
def image(tmp_path) -> Path:
    values = 1.5 * torch.randn(SHAPE).numpy()
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "case_c.nii.gz")
    return tmp_path / "case_c.nii.gz"


TASK = SimpleNamespace(spatial_dims=3, num_classes=2, regions={})


def predict(cases: list[dict[str, Any]], transforms: list[Any], output: Path, checkpoint: str) -> None:
    postprocessing = save_predictions(str(output), Compose(transforms), TASK, samples=False, probabilities=False)
    dataset = CaseDataset(cases, Compose(transforms), progress=False)
    make_answer_predictor(given([]), Known(), Options("out"), dataset, checkpoint, postprocessing).run()


def test_predictions_lie_in_the_grid_of_the_input(tmp_path, checkpoint, image) -> None:
    """The transforms turn the axes and cut the first slice off, where the answer is background."""
    transforms = [
        LoadImaged("image"),
        EnsureChannelFirstd("image"),
        Orientationd("image", axcodes="RAS", labels=None),
        CenterSpatialCropd("image", (8, 7, 5)),
    ]
    output = tmp_path / "predictions"
    predict([{"image": image}], transforms, output, checkpoint)
    assert sorted(path.name for path in output.iterdir()) == ["case_c_entropy.nii.gz", "case_c_mode.nii.gz"]
    mode, entropy = (nib.load(output / f"case_c_{kind}.nii.gz") for kind in ("mode", "entropy"))
    for saved in (mode, entropy):
        assert saved.shape == SHAPE
        np.testing.assert_allclose(saved.affine, AFFINE, atol=1e-5)
    assert (mode.get_data_dtype(), entropy.get_data_dtype()) == (np.uint8, np.float32)

    p = softmax(np.asarray(nib.load(image).dataobj, dtype=np.float64)[None], SCALE)
    seen = np.asarray(entropy.dataobj).any((1, 2))
    assert sorted(seen) == [False] + [True] * 5
    assert not np.asarray(mode.dataobj)[~seen].any()
    np.testing.assert_array_equal(np.asarray(mode.dataobj)[seen], p.argmax(0)[seen])
    np.testing.assert_allclose(np.asarray(entropy.dataobj)[seen], -(p * np.log(p)).sum(0)[seen], atol=1e-5)
    assert len(np.unique(mode.dataobj)) == 3


def test_predictor_needs_a_checkpoint_and_a_case(tmp_path, checkpoint, image) -> None:
    transforms = [LoadImaged("image"), EnsureChannelFirstd("image")]
    with pytest.raises(FileNotFoundError, match="no checkpoint at absent"):
        predict([{"image": image}], transforms, tmp_path, "absent.pt")
    with pytest.raises(CaseError, match="data is empty"):
        predict([], transforms, tmp_path, checkpoint)
