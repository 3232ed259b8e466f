# SPDX-License-Identifier: Apache-2.0
"""What metrics of sets refuse as label maps, and what they do where nothing can be compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from monai_stochseg.metrics import (
    DiversityCorrelationMetric,
    LabelMapDistance,
    ModeFrequencyMetric,
    RegionDiceMetric,
    compute_ambiguity,
    compute_brier_score,
    compute_calibration_bins,
    compute_case_dice,
    compute_energy_distance_curve,
    compute_generalized_energy_distance,
    compute_hungarian_matched_iou,
    compute_maximum_dice_match,
    compute_mode_frequency,
    compute_pixel_flip_ratio,
    compute_rater_dice,
    compute_region_dice,
    compute_sample_diversity,
    compute_uncertainty_correlation,
    compute_volume_crps,
)

NAN = float("nan")
WITH_VOID = LabelMapDistance(3, ignore_index=255)

# Of y_pred, y and perhaps weights, with a distance where they take one.
OF_DISTANCE: dict[str, Callable] = {
    "ged": compute_generalized_energy_distance,
    "ged_curve": lambda y_pred, y, distance: compute_energy_distance_curve(y_pred, y, (2,), distance),
    "hm_iou": compute_hungarian_matched_iou,
    "maximum_dice": compute_maximum_dice_match,
    "dice": compute_rater_dice,
}
WITHOUT_CLASSES: dict[str, Callable] = {
    "ambiguity": compute_ambiguity,
    "flips": partial(compute_pixel_flip_ratio, switches={1: 2}),
    "crps": partial(compute_volume_crps, regions={"one": (1,)}, spacing=(1, 1, 1)),
}
SETS = {name: partial(function, distance=WITH_VOID) for name, function in OF_DISTANCE.items()} | WITHOUT_CLASSES
PAIRS = SETS | {
    "uncertainty": partial(compute_uncertainty_correlation, num_classes=3),
    "regions": partial(compute_region_dice, regions={"one": (1,)}),
    "case_dice": partial(compute_case_dice, regions={"one": (1,)}),
}

GOOD = torch.randint(3, (2, 2, 6, 5), generator=torch.Generator().manual_seed(0)).float()
ONE_HOT = torch.nn.functional.one_hot(GOOD[:, 0].long(), 3).movedim(-1, 1)


@pytest.mark.parametrize("wrong", [0.9999, NAN, 0.3])
@pytest.mark.parametrize("name", PAIRS)
def test_labels_are_integers(name: str, wrong: float) -> None:
    bad = GOOD.clone()
    bad[1, 1, 2, 3] = wrong
    for y_pred, y, argument in ((GOOD, bad, "y"), (bad, GOOD, "y_pred")):
        with pytest.raises(
            ValueError, match=f"{argument} must hold integer class labels, got {wrong}: pass label maps"
        ):
            PAIRS[name](y_pred, y)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
@pytest.mark.parametrize("name", PAIRS)
def test_one_hot_maps_are_no_raters(name: str, dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="y is one-hot: its 3 channels"):
        PAIRS[name](GOOD, ONE_HOT.to(dtype))
    PAIRS[name](ONE_HOT.to(dtype), GOOD)  # samples may be any maps
    PAIRS[name](GOOD, ONE_HOT[:, :2].to(dtype))


@pytest.mark.parametrize("function", [compute_brier_score, compute_calibration_bins])
def test_one_hot_maps_are_no_raters_of_probabilities(function: Callable) -> None:
    with pytest.raises(ValueError, match="y is one-hot: its 3 channels"):
        function(torch.full((2, 3, 6, 5), 1 / 3), ONE_HOT)


def test_one_hot_maps_with_void() -> None:
    void = ONE_HOT.clone()
    void[:, :, 0] = 255
    with pytest.raises(ValueError, match="y is one-hot"):
        compute_generalized_energy_distance(GOOD, void, WITH_VOID)
    two = torch.tensor([[[[0, 255]], [[1, 0]]]])  # one voxel, in which two raters differ
    compute_generalized_energy_distance(two, two, LabelMapDistance(2, ignore_index=255))


@pytest.mark.parametrize("name", [name for name in SETS if name != "ged_curve"])
def test_a_missing_rater_may_hold_anything(name: str) -> None:
    weights = torch.tensor([[0, 1, 1], [1, 0, 1]])
    junk = torch.tensor([NAN, 0.5, 77.0]).repeat(10).reshape(1, 6, 5)
    padded = torch.stack([torch.cat([junk, *GOOD[0, :, None]]), torch.cat([GOOD[1, :1], junk, GOOD[1, 1:]])])
    expected = SETS[name](GOOD, GOOD)
    torch.testing.assert_close(SETS[name](GOOD, padded, y_weights=weights), expected)
    torch.testing.assert_close(SETS[name](padded, GOOD, y_pred_weights=weights), expected)


@pytest.mark.parametrize("empty", ["agree", "ignore", "ignore_or_agree", "miss"])
@pytest.mark.parametrize("name", [*OF_DISTANCE, "diversity", "modes"])
def test_an_item_without_a_valid_voxel_is_undefined(name: str, empty: str) -> None:
    distance = LabelMapDistance(3, empty=empty, ignore_index=255)
    void = GOOD.clone()
    void[0, 1] = 255  # void for this map is void for the whole item
    if name == "diversity":
        values = compute_sample_diversity(void, distance)
    elif name == "modes":
        values = compute_mode_frequency(GOOD, void, distance).flatten(1)
        assert ModeFrequencyMetric(2, distance)(GOOD, void)[0].isnan().all()
    else:
        values = OF_DISTANCE[name](GOOD, void, distance=distance)
    assert values[0].isnan().all()
    assert not values[1].isnan().any()


def test_channels_of_regions_are_no_raters() -> None:
    regions = torch.zeros(1, 3, 8, 8)
    for channel, side in enumerate((6, 4, 2)):
        regions[:, channel, 1 : 1 + side, 1 : 1 + side] = 1
    samples = torch.zeros(1, 2, 8, 8)
    four = LabelMapDistance(4)
    brats = {"ET": (3,), "TC": (1, 3)}
    calls: list[Callable] = [partial(function, distance=four) for function in OF_DISTANCE.values()]
    calls += [
        partial(compute_region_dice, regions=brats),
        partial(compute_volume_crps, regions=brats, spacing=(1, 1, 1)),
        lambda y_pred, y: DiversityCorrelationMetric(four)(y_pred, y),
        lambda y_pred, y: RegionDiceMetric(brats, rater=0)(y_pred, y),
        lambda y_pred, y: compute_brier_score(torch.full((1, 4, 8, 8), 0.25), y),
        lambda y_pred, y: compute_calibration_bins(torch.full((1, 4, 8, 8), 0.25), y),
        lambda y_pred, y: compute_uncertainty_correlation(y_pred, y, num_classes=4),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="y is region channels"):
            call(samples, regions)


def test_one_hot_is_refused_before_a_rater_is_taken() -> None:
    with pytest.raises(ValueError, match="y is one-hot"):
        RegionDiceMetric({"one": (1,)}, rater=1)(GOOD, ONE_HOT)
