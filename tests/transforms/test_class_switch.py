# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from scipy.stats import binom

from monai_stochseg.data import CITYSCAPES_SWITCHES
from monai_stochseg.transforms import (
    ClassSwitchModesd,
    ClassSwitchProbabilitiesd,
    RandClassSwitch,
    RandClassSwitchd,
    class_switch_modes,
    class_switch_probabilities,
)

SWITCHES = {0: (3, 0.25), 2: (4, 0.9)}
LABEL = torch.tensor([[[0, 1, 2], [2, 0, 255]]], dtype=torch.uint8)


def test_hand_computed_modes() -> None:
    modes, probabilities = class_switch_modes(LABEL, SWITCHES, 5)
    assert modes.tolist() == [
        [[0, 1, 2], [2, 0, 255]],
        [[3, 1, 2], [2, 3, 255]],
        [[0, 1, 4], [4, 0, 255]],
        [[3, 1, 4], [4, 3, 255]],
    ]
    assert probabilities.tolist() == pytest.approx([0.75 * 0.1, 0.25 * 0.1, 0.75 * 0.9, 0.25 * 0.9])
    assert modes.dtype == torch.uint8
    assert probabilities.dtype == torch.float32


@pytest.mark.parametrize("size", [(2, 30), (2, 3, 10)])
def test_modes_of_cityscapes(size) -> None:
    label = torch.arange(60).reshape(1, *size) % 19
    modes, probabilities = class_switch_modes(label, CITYSCAPES_SWITCHES, 24)
    assert modes.shape == (32, *size)
    assert len(modes.flatten(1).unique(dim=0)) == 32
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities[0b00101] == pytest.approx(8 * 10 * 6 * 12 * 13 / 17**5), "sidewalk and car"
    assert set(modes[0b00101].unique().tolist()) == {*range(19), 19, 21} - {1, 13}


def test_modes_that_coincide_are_kept() -> None:
    modes, probabilities = class_switch_modes(torch.full((1, 2, 2), 2), SWITCHES, 5)
    assert torch.equal(modes[0], modes[1])
    assert len(modes) == len(probabilities) == 4


def test_two_switches_may_share_a_target() -> None:
    modes, _ = class_switch_modes(LABEL, {0: (1, 0.5), 2: (1, 0.5)}, 3)
    assert modes[3].tolist() == [[1, 1, 1], [1, 1, 255]]


def test_each_switch_is_thrown_independently_and_for_the_whole_image() -> None:
    """In 2000 draws, each mode lies within the central 1 - 1e-6 of its binomial distribution."""
    modes, probabilities = class_switch_modes(LABEL, SWITCHES, 5)
    transform = RandClassSwitch(SWITCHES, 5).set_random_state(0)
    counts = Counter(tuple(transform(LABEL).flatten().tolist()) for _ in range(2000))
    assert sum(counts.values()) == 2000
    for mode, probability in zip(modes, probabilities.tolist(), strict=True):
        low, high = binom.interval(1 - 1e-6, 2000, probability)
        assert low <= counts.pop(tuple(mode.flatten().tolist())) <= high
    assert not counts, "no draw but the modes"


@pytest.mark.parametrize(("probability", "expected"), [(0, 0), (1, 1)])
def test_certain_switches(probability, expected) -> None:
    transform = RandClassSwitch({0: (1, probability)}, 2)
    assert all(transform(torch.zeros(1, 2, 2)).unique().tolist() == [expected] for _ in range(20))


def test_replays_from_its_seed() -> None:
    def draws(seed: int) -> list:
        transform = RandClassSwitchd("label", SWITCHES, 5).set_random_state(seed)
        return [transform({"label": LABEL})["label"].tolist() for _ in range(20)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)


def test_dictionary_switches_all_keys_and_raters_alike() -> None:
    data = {"label": LABEL.repeat(3, 1, 1), "other": LABEL.numpy().astype(np.int64), "image": 1}
    pipeline = Compose([RandClassSwitchd(("label", "other", "absent"), SWITCHES, 5, allow_missing_keys=True)])
    pipeline.set_random_state(0)
    seen = set()
    for _ in range(100):
        result = pipeline(data)
        assert result["label"].shape == (3, 2, 3)
        assert (result["label"].numpy() == result["other"].numpy()).all()
        assert result["label"][0, 1, 2] == 255
        seen.add(tuple(result["label"][0].flatten().tolist()))
    assert len(seen) == 4
    assert LABEL.tolist() == [[[0, 1, 2], [2, 0, 255]]], "the input stays"


def test_metadata_is_kept() -> None:
    label = MetaTensor(LABEL, affine=torch.eye(4) * 3)
    switched = RandClassSwitch(SWITCHES, 5)(label)
    modes = ClassSwitchModesd("label", SWITCHES, 5)({"label": label})["label"]
    for result in (switched, modes):
        assert isinstance(result, MetaTensor)
        assert result.dtype == torch.uint8
        assert torch.equal(result.affine, label.affine)


def test_dictionary_of_modes() -> None:
    switches = {str(source): list(switch) for source, switch in SWITCHES.items()}  # as in a JSON file
    data = {"label": LABEL, "patient": "ulm"}
    result = ClassSwitchModesd("label", switches, 5, rater_weights_key="weights")(data)
    modes, probabilities = class_switch_modes(LABEL, SWITCHES, 5)
    assert torch.equal(result["label"], modes)
    assert torch.equal(result["weights"], probabilities)
    assert result["patient"] == "ulm"
    assert torch.equal(ClassSwitchModesd("label", switches, 5)(data)["rater_weights"], probabilities)
    assert ClassSwitchModesd("absent", SWITCHES, 5, allow_missing_keys=True)(data) == data


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({}, "switches is empty"),
        ({0: (5, 0.5)}, "the target 5 of 0 -> 5 is outside the 5 classes"),
        ({0: (-1, 0.5)}, "the target -1 of 0 -> -1 is outside"),
        ({255: (1, 0.5)}, "the source 255 of 255 -> 1 is outside the 5 classes"),
        ({0: (1, 0.5), 1: (2, 0.5)}, "the source 1 is the target of a switch as well"),
        ({3: (3, 0.5)}, "the source 3 is the target of a switch as well"),
        ({0: (1, 1.5)}, r"the probability of 0 -> 1 must be in \[0, 1\], got 1.5"),
        ({0: (1, -0.5)}, r"the probability of 0 -> 1 must be in \[0, 1\], got -0.5"),
        ({0: (1, float("nan"))}, "got nan"),
    ],
)
def test_refuses_switches(switches, message) -> None:
    with pytest.raises(ValueError, match=message):
        RandClassSwitch(switches, 5)
    with pytest.raises(ValueError, match=message):
        RandClassSwitchd("label", switches, 5)
    with pytest.raises(ValueError, match=message):
        ClassSwitchModesd("label", switches, 5)
    with pytest.raises(ValueError, match=message):
        class_switch_modes(LABEL, switches, 5)


def test_refuses() -> None:
    with pytest.raises(ValueError, match=r"label must be \[1, \*S\], one rater, got the shape \(2, 2, 3\)"):
        class_switch_modes(LABEL.repeat(2, 1, 1), SWITCHES, 5)
    with pytest.raises(ValueError, match=r"label of type torch\.bool cannot hold the class 4"):
        RandClassSwitch(SWITCHES, 5)(LABEL > 0)
    with pytest.raises(ValueError, match=r"label of type torch\.uint8 cannot hold the class 300"):
        class_switch_modes(LABEL, {0: (300, 0.5)}, 400)
    with pytest.raises(ValueError, match=r"num_classes .* must be at least 2, got 1"):
        RandClassSwitch({0: (1, 0.5)}, 1)


@pytest.mark.parametrize("switches", [SWITCHES, {0: (3, 0.25), 2: (3, 0.9)}])
def test_true_distribution_by_hand_and_by_the_modes(switches) -> None:
    given = class_switch_probabilities(LABEL, switches, 5, ignore_index=255)
    assert given[:, 0, 0].tolist() == pytest.approx([0.75, 0, 0, 0.25, 0])
    assert given[:, 1, 2].tolist() == pytest.approx([0.2] * 5)
    modes, probabilities = class_switch_modes(LABEL, switches, 5)
    known = LABEL[0] != 255
    for k in range(5):
        mean = ((modes == k) * probabilities[:, None, None]).sum(0)
        torch.testing.assert_close(given[k][known], mean[known])
    with pytest.raises(ValueError, match="label"):
        class_switch_probabilities(LABEL, switches, 5)


def test_the_true_distribution_beside_the_label() -> None:
    label = MetaTensor(LABEL, affine=torch.eye(4) * 2)
    transform = ClassSwitchProbabilitiesd("label", SWITCHES, 5, names="truth", ignore_index=255)
    found = transform({"label": label})
    assert torch.equal(found["label"], label)
    torch.testing.assert_close(found["truth"].as_tensor(), class_switch_probabilities(LABEL, SWITCHES, 5, 255))
    assert torch.equal(found["truth"].affine, label.affine)
