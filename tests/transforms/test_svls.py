# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Rand3DElasticd, RandAffined
from torch.nn import functional as F

from monai_stochseg.transforms import svls
from monai_stochseg.transforms.svls import SVLS, SVLSd, spatially_varying_label_smoothing, svls_kernel


def dense_kernel(sizes, sigma=1.0, spacing=(1.0, 1.0, 1.0)) -> torch.Tensor:
    kernel = torch.ones(sizes, dtype=torch.float64)
    for index in np.ndindex(*sizes):
        square = sum(((i - k // 2) * step) ** 2 for i, k, step in zip(index, sizes, spacing, strict=False))
        kernel[index] = math.exp(-square / (2 * sigma**2))
    centre = tuple(k // 2 for k in sizes)
    neighbours = kernel.sum() - kernel[centre]
    kernel[centre] = neighbours
    return kernel / neighbours


def dense(label: torch.Tensor, num_classes: int, kernel: torch.Tensor) -> torch.Tensor:
    """Grouped convolution of one rater's one-hot, `[*S]` to `[C, *S]`, in float64."""
    one_hot = torch.stack([label == c for c in range(num_classes)])[None].double()
    margins = [k // 2 for k in reversed(kernel.shape) for _ in range(2)]
    convolve = F.conv2d if label.ndim == 2 else F.conv3d
    weight = kernel.expand(num_classes, 1, *kernel.shape)
    return convolve(F.pad(one_hot, margins, mode="replicate"), weight, groups=num_classes)[0] / kernel.sum()


def blobs(shape: tuple[int, ...], num_classes: int, raters: int = 1) -> torch.Tensor:
    coarse = torch.rand(raters, 1, *[max(2, n // 4) for n in shape])
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    return (F.interpolate(coarse, size=shape, mode=mode)[:, 0] * num_classes).long()


@pytest.mark.parametrize(("sizes", "sigma", "spacing"), [((3, 3), 1.0, (1, 1)), ((3, 5, 1), 2.0, (4, 0.8, 0.8))])
def test_kernel(sizes, sigma, spacing):
    kernel = svls_kernel(len(sizes), sigma, sizes, spacing)
    torch.testing.assert_close(kernel.double(), dense_kernel(sizes, sigma, spacing), rtol=1e-6, atol=0)
    assert kernel.flatten()[kernel.numel() // 2] == 1
    assert kernel.sum().item() == pytest.approx(2)


def test_hand_computed_kernel():
    """In 2D the four nearest neighbours weigh exp(-1/2), the corners exp(-1)."""
    edge, corner = math.exp(-0.5), math.exp(-1)
    total = 4 * (edge + corner)
    expected = [[corner / total, edge / total, corner / total], [edge / total, 1, edge / total]]
    torch.testing.assert_close(svls_kernel(2)[:2], torch.tensor(expected))


def test_a_tiny_sigma_leaves_the_nearest_neighbours():
    kernel = svls_kernel(2, sigma=1e-3)
    assert kernel.tolist() == [[0, 0.25, 0], [0.25, 1, 0.25], [0, 0.25, 0]]


@pytest.mark.parametrize(
    ("shape", "kernel_size", "sigma", "spacing"),
    [
        ((17, 23), 3, 1.0, None),
        ((17, 23), (5, 3), 0.7, (0.5, 2.0)),
        ((9, 11, 13), 3, 1.0, None),
        ((9, 11, 13), 5, 2.0, (4.0, 0.8, 0.8)),
        ((2, 30, 3), 7, 3.0, None),  # a kernel larger than the image
    ],
)
@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("slab", [1, 10**6])
def test_equals_the_convolution(shape, kernel_size, sigma, spacing, num_classes, slab, monkeypatch):
    monkeypatch.setattr(svls, "_SLAB_VOXELS", slab)
    monkeypatch.setattr(svls, "_CHUNK_NEIGHBOURS", 100 * slab)
    label = blobs(shape, num_classes)
    label[0, 0, :2] = num_classes - 1
    sizes = (kernel_size,) * len(shape) if isinstance(kernel_size, int) else kernel_size
    kernel = dense_kernel(sizes, sigma, spacing or (1.0, 1.0, 1.0))
    soft = spatially_varying_label_smoothing(label, num_classes, sigma, kernel_size, spacing)
    assert soft.dtype == torch.float32
    torch.testing.assert_close(soft.double(), dense(label[0], num_classes, kernel), rtol=0, atol=1e-6)
    torch.testing.assert_close(soft.sum(0), torch.ones(shape), rtol=0, atol=1e-6)
    assert soft.min() >= 0


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("kernel_size", [3, 7])
def test_a_voxel_alone_is_even_and_homogeneous_ones_stay_one_hot(spatial_dims, sigma, kernel_size):
    label = torch.zeros(1, *[15] * spatial_dims, dtype=torch.uint8)
    centre = (7,) * spatial_dims
    label[0][centre] = 2
    soft = SVLS(3, sigma, kernel_size)(label)
    assert soft[(slice(None), *centre)].tolist() == pytest.approx([0.5, 0, 0.5], abs=1e-6)
    far = torch.ones(label.shape[1:], dtype=torch.bool)
    far[tuple(slice(7 - kernel_size // 2, 8 + kernel_size // 2) for _ in centre)] = False
    assert torch.equal(soft[:, far], torch.tensor([[1.0], [0], [0]]).expand(-1, int(far.sum())))


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 0.25], [0.1, 0.2, 0.3, 0.4]])
@pytest.mark.parametrize("smooth", [True, False])
def test_several_raters_are_averaged(weights, smooth):
    label = blobs((20, 20), 3, raters=4)
    label[:, :6, :6] = 1
    one_hot = F.one_hot(label, 3).movedim(-1, 1).double()
    expected = torch.stack([dense(y, 3, dense_kernel((3, 3))) for y in label]) if smooth else one_hot
    w = torch.tensor(weights or [1.0] * 4, dtype=torch.float64)
    expected = (expected * (w / w.sum())[:, None, None, None]).sum(0)
    soft = SVLS(3, smooth=smooth)(label, weights).as_tensor()
    torch.testing.assert_close(soft.double(), expected, rtol=0, atol=1e-6)
    assert torch.equal(soft[:, :5, :5], torch.tensor([0.0, 1, 0])[:, None, None].expand(-1, 5, 5))


@pytest.mark.parametrize("smooth", [True, False])
def test_a_missing_rater_leaves_the_mean(smooth):
    label = blobs((20, 20), 3, raters=4)
    present = SVLS(3, smooth=smooth)(label[[0, 2, 3]])
    label[1] = 255  # not looked at
    for mask in (torch.tensor([True, False, True, True]), np.array([1, 0, 1, 1]), [1, 0, 1, 1]):
        assert torch.equal(SVLS(3, smooth=smooth)(label, mask), present)
    data = {"label": label, "known": torch.tensor([1.0, 0, 1, 1])}
    assert torch.equal(SVLSd("label", 3, smooth=smooth, rater_weights_key="known")(data)["label"], present)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int64, torch.float16, torch.float32])
def test_types_of_labels(dtype):
    label = blobs((12, 12), 2)
    assert torch.equal(SVLS(2)(label.to(dtype)), SVLS(2)(label))


def test_more_classes_than_a_byte_holds():
    label = torch.full((1, 4, 4), 299)
    label[0, 0, 0] = 298
    soft = SVLS(300)(label)
    assert soft[299, 3, 3] == 1
    assert soft[298, 0, 0] > 0.5


@pytest.mark.parametrize("make", [np.array, torch.tensor, lambda x: MetaTensor(torch.tensor(x))])
def test_metadata_are_kept(make):
    label = make([[[0.0, 1], [1, 1]]])
    if isinstance(label, MetaTensor):
        label.affine = torch.diag(torch.tensor([2.0, 3, 4, 1]))
        label.meta["filename_or_obj"] = "case.nii.gz"
        label.push_applied_operation({"class": "Flip"})
    soft = SVLS(2)(label)
    assert isinstance(soft, MetaTensor)
    assert soft.shape == (2, 2, 2)
    if isinstance(label, MetaTensor):
        assert torch.equal(soft.affine, label.affine)
        assert soft.meta["filename_or_obj"] == "case.nii.gz"
        assert soft.applied_operations == label.applied_operations
    assert label.tolist() == [[[0, 1], [1, 1]]]


@pytest.mark.parametrize("shape", [(8, 9), (5, 6, 7)])
def test_spacing_of_the_affine(shape):
    spacing = [4.0, 0.8, 1.5][: len(shape)]
    label = blobs(shape, 2)
    meta = MetaTensor(label, affine=torch.diag(torch.tensor([4.0, 0.8, 1.5, 1])))
    assert torch.equal(SVLS(2, 2.0, spacing="meta")(meta), SVLS(2, 2.0, spacing=spacing)(label))
    assert not torch.equal(SVLS(2, 2.0, spacing="meta")(meta), SVLS(2, 2.0)(label))


def test_spacing_of_a_slice():
    """The affine of a slice of a volume, across whose first axis the slices lie: its steps have three components."""
    label = blobs((8, 9), 2)
    affine = torch.tensor([[0.0, 0, 1, 0], [0, 1.5, 0, 0], [-4, 0, 0, 0], [0, 0, 0, 1]])
    meta = SVLS(2, 2.0, spacing="meta")(MetaTensor(label, affine=affine))
    assert torch.equal(meta, SVLS(2, 2.0, spacing=(4, 1.5))(label))
    with pytest.raises(ValueError, match=r"spacing must be positive, in mm, got \[0.0, 1.5\]"):
        SVLS(2, spacing="meta")(MetaTensor(label, affine=affine * torch.tensor([[1.0], [1], [0], [1]])))


def test_a_kernel_size_of_numpy():
    label = blobs((8, 9), 2)
    assert torch.equal(SVLS(2, kernel_size=np.int64(5))(label), SVLS(2, kernel_size=5)(label))


def test_dictionary():
    data = {"label": blobs((8, 8), 3), "image": 1}
    result = SVLSd(("label", "absent"), 3, 0.5, 5, allow_missing_keys=True)(data)
    assert torch.equal(result["label"], SVLS(3, 0.5, 5)(data["label"]))
    assert result["image"] == 1
    assert data["label"].shape == (1, 8, 8)


@pytest.mark.parametrize("augmentation", [RandAffined, Rand3DElasticd])
def test_augmentation_moves_every_rater_alike(augmentation):
    """Each rater, moved alone from the same seed, is where it is when all four are moved at once."""
    elastic = {"sigma_range": (2, 3), "magnitude_range": (20, 30)} if augmentation is Rand3DElasticd else {}
    move = augmentation(
        "label",
        prob=1.0,
        rotate_range=0.5,
        translate_range=2,
        scale_range=0.2,
        mode="nearest",
        padding_mode="zeros",
        **elastic,
    )
    label = blobs((16, 16, 12), 3, raters=4).float()
    moved = [move.set_random_state(0)({"label": y[None]})["label"].as_tensor() for y in label]
    assert not torch.equal(moved[0][0], label[0])
    together = move.set_random_state(0)({"label": label})["label"]
    assert torch.equal(together.as_tensor(), torch.cat(moved))
    soft = SVLSd("label", 3)({"label": together})["label"]
    alone = torch.stack([spatially_varying_label_smoothing(y, 3) for y in moved])
    torch.testing.assert_close(soft.as_tensor(), alone.mean(0), rtol=0, atol=1e-6)


def test_a_lazy_pipeline():
    """MONAI interpolates a label there, whatever the transform's mode, unless the pipeline is told not to."""
    data = {"label": MetaTensor(blobs((12, 12, 12), 3).float())}
    transforms = [RandAffined("label", prob=1.0, rotate_range=0.5, mode="nearest"), SVLSd("label", 3)]
    soft = Compose(transforms, lazy=True, overrides={"label": {"mode": "nearest"}})(data)["label"]
    torch.testing.assert_close(soft.sum(0).as_tensor(), torch.ones(12, 12, 12))
    interpolated = Compose(transforms[:1], lazy=True)(data)["label"]
    with pytest.raises(ValueError, match=r"not an integer: .* under Compose\(lazy=True\) by its overrides"):
        SVLS(3)(interpolated)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (torch.tensor([[[0, 3]]]), "from 0 to 3, outside the 3 classes; map them to 0 up to 2"),
        (torch.tensor([[[0, -1]]]), "from -1 to 0, outside the 3 classes"),
        (torch.tensor([[[0, 255]]], dtype=torch.uint8), "from 0 to 255, outside the 3 classes"),
        (torch.tensor([[[0, 0.5]]]), "label holds 0.5, which is not an integer: it has been made soft already, or"),
        (torch.tensor([[[0, torch.nan]]]), "nan, outside the 3 classes"),
        (torch.tensor([[[0, torch.inf]]]), "inf, outside the 3 classes"),
        (torch.zeros(0, 4, 4), r"at least one rater and 2 or 3 spatial axes, got the shape \(0, 4, 4\)"),
        (torch.zeros(4, 4), r"got the shape \(4, 4\)"),
        (torch.zeros(1, 1, 4, 4, 4), r"got the shape \(1, 1, 4, 4, 4\)"),
        (SVLS(3)(torch.tensor([[[0, 1, 2, 2]]])), "it has been made soft already"),
        (SVLS(3, smooth=False)(torch.tensor([[[0, 1, 2, 2]]])), "label is one-hot"),
        (SVLS(3, smooth=False)(torch.tensor([[[0, 1, 2, 2]]])).byte(), "label is one-hot"),
    ],
)
def test_refuses_labels(label, message):
    with pytest.raises(ValueError, match=message):
        SVLS(3)(label)


def test_raters_who_disagree_on_a_whole_crop_are_not_one_hot():
    label = torch.tensor([0.0, 1.0])[:, None, None].expand(-1, 4, 4)
    assert (SVLS(2)(label) == 0.5).all()


@pytest.mark.parametrize(
    "weights", [[1, 1, 1], [[1, 1]], [0, 0], [1, -1], [1, torch.nan], [1, torch.inf], torch.ones(2, 1)]
)
def test_refuses_weights(weights):
    with pytest.raises(
        (TypeError, ValueError), match=r"rater_weights must be (\[1, 2\], one weight for each map|a tensor)"
    ):
        SVLS(2)(torch.zeros(2, 4, 4), weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes counts the background and must be at least 2, got 1"),
        ({"sigma": 0.0}, "sigma must be positive, got 0.0"),
        ({"sigma": -1.0}, "sigma must be positive, got -1.0"),
        ({"sigma": math.nan}, "sigma must be a finite number, got nan"),
        ({"kernel_size": 4}, "kernel_size must be odd, so that a kernel has a centre, got 4"),
        ({"kernel_size": (3, 3, 2)}, r"kernel_size must be odd.*got \(3, 3, 2\)"),
        ({"kernel_size": 0}, "kernel_size must be odd.*got 0"),
        ({"sigma": "1"}, "sigma must be a finite number, got '1'"),
        ({"kernel_size": 3.0}, "kernel_size must be an integer or a sequence, each an integer, got 3.0"),
        ({"spacing": (1, 0, 1)}, r"spacing must be positive, in mm, got \(1, 0, 1\)"),
        ({"spacing": "affine"}, "spacing must be numbers, 'meta' or None, got 'affine'"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        SVLS(**{"num_classes": 3, **options})


@pytest.mark.parametrize("options", [{"kernel_size": (3, 3)}, {"spacing": (1.0, 2.0)}])
def test_one_number_an_axis(options):
    with pytest.raises(ValueError, match="one for each of the 3 axes"):
        SVLS(2, **options)(torch.zeros(1, 4, 4, 4))


def test_spacing_is_missing():
    with pytest.raises(ValueError, match="spacing='meta' needs a label with an affine, a MetaTensor, got Tensor"):
        SVLS(2, spacing="meta")(torch.zeros(1, 4, 4, 4))


def real_label(path, size: int = 48) -> MetaTensor:
    """A cube around the middle of the highest class."""
    label = Compose([LoadImaged("label"), EnsureChannelFirstd("label")])({"label": path})["label"]
    middle = (label[0] == label.max()).nonzero().float().mean(0).long().tolist()
    return label[(slice(None), *[slice(max(0, i - size // 2), i + size // 2) for i in middle])]


def test_real_tumours(real_data):
    label = real_label(next(iter(sorted(real_data.glob("brats2015/train/*/OTMultiClass.nii.gz")))))
    assert label.unique().tolist() == [0, 1, 2, 3, 4]
    soft = SVLSd("label", 5)({"label": label})["label"]
    expected = dense(label[0].as_tensor(), 5, dense_kernel((3, 3, 3)))
    torch.testing.assert_close(soft.as_tensor().double(), expected, rtol=0, atol=1e-6)
    assert soft.gather(0, label.long()).min() >= 0.5 - 1e-6  # a voxel alone is even
    assert torch.equal(soft.affine, label.affine)


def test_real_kidneys_in_millimetres(real_data):
    path = real_data / "kits19" / "case_00004" / "segmentation.nii.gz"
    label = real_label(path)
    spacing = label.pixdim.tolist()
    assert spacing[0] > 2 * spacing[1]  # the first axis is the body's
    soft = SVLS(3, sigma=2.0, spacing="meta")(label)
    expected = dense(label[0].as_tensor(), 3, dense_kernel((3, 3, 3), 2.0, spacing))
    torch.testing.assert_close(soft.as_tensor().double(), expected, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="outside the 2 classes"):
        SVLS(2)(label)
