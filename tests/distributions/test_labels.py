# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from monai_stochseg.distributions import check_labels

LABEL = torch.tensor([[[[0, 1, 2], [2, 1, 0]]]])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.float16, torch.float32])
def test_any_type_of_whole_numbers_is_taken(dtype):
    labels, valid = check_labels(LABEL.to(dtype), 3)
    torch.testing.assert_close(labels, LABEL)
    assert valid.all()


def test_void_voxels_are_marked():
    labels, valid = check_labels(LABEL, 2, ignore_index=2)
    torch.testing.assert_close(labels, torch.tensor([[[[0, 1, 0], [0, 1, 0]]]]))
    torch.testing.assert_close(valid, LABEL != 2)


@pytest.mark.parametrize("value", [0.9999, float("nan"), float("inf")])
def test_what_is_no_integer_is_refused(value):
    maps = LABEL.float()
    maps[0, 0, 1, 1] = value
    with pytest.raises(ValueError, match="y must hold integer class labels, got"):
        check_labels(maps, 3, name="y")


@pytest.mark.parametrize(("value", "classes"), [(-1, 3), (2, 2)])
def test_labels_outside_the_classes_are_refused(value, classes):
    maps = LABEL.clone()
    maps[0, 0, 0, 2] = value
    with pytest.raises(ValueError, match=f"target has label {value}, outside the {classes} classes"):
        check_labels(maps.clamp(max=value) if value > 0 else maps, classes)


@pytest.mark.parametrize("as_float", [False, True])
def test_one_hot_channels_are_no_raters(as_float):
    one_hot = F.one_hot(LABEL[:, 0], 3).movedim(-1, 1)
    with pytest.raises(ValueError, match="target is one-hot"):
        check_labels(one_hot.float() if as_float else one_hot, 3)


def test_raters_who_disagree_everywhere_are_raters():
    check_labels(torch.tensor([[[[0, 0]], [[1, 1]]]]), 2)
    check_labels(torch.tensor([[[[0, 1]], [[0, 1]]]]), 2)


@pytest.mark.parametrize("maps", [torch.zeros(2, 2), torch.zeros(1, 0, 2, 2), torch.zeros(0, 1, 2, 2)])
def test_empty_sets_are_refused(maps):
    with pytest.raises(ValueError, match=r"target must be label maps of shape \[B, K, \*S\]"):
        check_labels(maps, 2)


def test_what_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="target must be a tensor of integer class labels, got list"):
        check_labels([[0]], 2)


def test_a_map_of_weight_0_may_hold_anything():
    maps = torch.tensor([[[[0.0, 1.0]], [[float("nan"), 7.0]]]])
    labels, valid = check_labels(maps, 2, weights=torch.tensor([[1.0, 0.0]]))
    assert labels.tolist() == [[[[0, 1]], [[0, 0]]]]
    assert valid.tolist() == [[[[True, True]], [[False, False]]]]
    with pytest.raises(ValueError, match="target must hold integer class labels, got nan"):
        check_labels(maps, 2, weights=torch.tensor([[0.9, 0.1]]))


def test_a_rater_of_void_alone_does_not_make_the_others_one_hot():
    check_labels(torch.tensor([[[[0, 1]], [[255, 255]]]]), 2, ignore_index=255)


def regions(order: tuple[int, ...] = (0, 1, 2)) -> torch.Tensor:
    """Whole tumour, tumour core and enhancing tumour, each within the one before, of two items."""
    channels = torch.zeros(2, 3, 8, 8, dtype=torch.int64)
    for channel, side in zip(order, (6, 4, 2), strict=True):
        channels[:, channel, 1 : 1 + side, 1 : 1 + side] = 1
    return channels


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)])
@pytest.mark.parametrize("num_classes", [3, 4])
def test_channels_of_nested_regions_are_no_raters(num_classes, order):
    with pytest.raises(ValueError, match="target is region channels: each of its 3 channels"):
        check_labels(regions(order).float(), num_classes)


def test_channels_of_classes_without_the_background_are_no_raters():
    channels = torch.zeros(1, 3, 4, 4)
    channels[0, 0, 0], channels[0, 1, 1], channels[0, 2, 2] = 1, 1, 1
    with pytest.raises(ValueError, match="target is region channels"):
        check_labels(channels, 4)


def test_maps_that_nest_may_be_raters():
    check_labels(regions(), 2)  # of a binary task, such as outlines of three sizes
    check_labels(regions(), 5)
    check_labels(regions()[:, :2], 3)
    overlap = regions()
    overlap[:, 1, 0, 7] = 1  # no rater's map lies within another's
    overlap[:, 2, 7, 0] = 1
    check_labels(overlap, 4)
    same = regions()
    same[:, 1] = same[:, 0]
    check_labels(same, 4)


def test_regions_are_found_under_autocast():
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="region channels"):
        check_labels(regions().repeat_interleave(9, 2).repeat_interleave(9, 3), 4)
