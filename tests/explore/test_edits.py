# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math

import pytest
import torch

from monai_stochseg.data import CaseError
from monai_stochseg.distributions import (
    ExpertMixtureDistribution,
    IndependentDistribution,
    LatentDistribution,
    LowRankNormal,
    MaskedDistribution,
    WindowedDistribution,
)
from monai_stochseg.distributions.refined import RefinedDistribution
from monai_stochseg.explore.edits import make_editor
from monai_stochseg.inferers import draw_samples

CLASSES = ["background", "tumour", "core"]
SEED = 5


def normal(mask: torch.Tensor | None = None) -> LowRankNormal:
    parameters = torch.randn(1, 3 * (2 + 4), 9, 8, generator=torch.Generator().manual_seed(0))
    return LowRankNormal.from_parameters(parameters, 3, 4, mask=mask)


def decode(latent: torch.Tensor) -> torch.Tensor:
    """Three classes on a line of 101 places from -5 to 5: which class is at a place follows the latent."""
    place = torch.linspace(-5, 5, 101)
    logits = torch.stack([0 * place, place - latent[0, 0], 2 * (place - 2 - latent[0, 1])])
    return logits[None, :, :, None]


def ssn(**changed: object) -> str:
    return json.dumps({"sample": 0, "class_scale": [1, 1, 1], "rank_scale": [1] * 4, **changed})


@pytest.mark.parametrize("masked", [False, True])
def test_scales_of_one_give_the_sample_itself(masked) -> None:
    mask = None
    if masked:
        mask = torch.zeros(1, 1, 9, 8)
        mask[..., 2:6, 1:7] = 1
    distribution = normal(mask)
    samples = draw_samples(distribution, 6, torch.Generator().manual_seed(SEED)).labels
    editor = make_editor(distribution, SEED, CLASSES)
    assert editor.description() == {"kind": "ssn", "classes": CLASSES, "rank": 4, "range": [-3.0, 3.0]}
    for number in range(6):
        assert torch.equal(editor.label_map(ssn(sample=number)), samples[:, number])


def test_the_temperature_goes_through_the_single_answer() -> None:
    distribution = normal()
    editor = make_editor(distribution, SEED, CLASSES)
    assert torch.equal(editor.label_map(ssn(temperature=0)).long(), distribution.mode_logits().argmax(1))
    three, minus = (editor.label_map(ssn(temperature=t)) for t in (3.0, -3.0))
    assert not torch.equal(three, minus)
    assert torch.equal(three, editor.label_map(ssn(class_scale=[3, 3, 3])))


def test_one_class_and_one_rank_alone() -> None:
    """Class scales of 0 but for one leave the others at their mean; ranks of 0 leave the diagonal's noise."""
    distribution = normal()
    editor = make_editor(distribution, SEED, CLASSES)
    scaled = distribution.scaled(class_scale=[0, 2, 0], rank_scale=[0, 1, 0, 0])
    expected = scaled.sample_logits(3, torch.Generator().manual_seed(SEED))[:, 2].argmax(1)
    found = editor.label_map(ssn(sample=2, class_scale=[0, 2, 0], rank_scale=[0, 1, 0, 0]))
    assert torch.equal(found.long(), expected)


def test_a_place_in_the_latent_plane() -> None:
    """In deviations of the prior from its mean; the other dimensions stay."""
    mean, log_std = torch.tensor([[0.5, 1.0]]), torch.tensor([[0.5, 2.0]]).log()
    distribution = LatentDistribution(mean, log_std, decode)
    editor = make_editor(distribution, SEED, CLASSES)
    assert editor.description() == {"kind": "latent", "dims": 2, "range": [-3.0, 3.0]}
    middle = editor.label_map('{"axes": [0, 1], "values": [0, 0]}')
    assert torch.equal(middle.long(), distribution.mode_logits().argmax(1))
    moved = editor.label_map('{"axes": [1, 0], "values": [-1.5, 2]}')
    assert torch.equal(moved.long(), decode(torch.tensor([[1.5, -2.0]])).argmax(1))


def test_an_expert_at_its_mean_and_its_draws() -> None:
    gate, mean = torch.tensor([[0.25, 0.75]]), torch.tensor([[-2.0, 0.0], [2.0, 0.0]])
    distribution = ExpertMixtureDistribution(gate, mean, torch.zeros(2), decode)
    editor = make_editor(distribution, SEED, CLASSES)
    assert editor.description() == {"kind": "experts", "probabilities": [0.25, 0.75]}
    for expert in range(2):
        found = editor.label_map(json.dumps({"expert": expert}))
        assert torch.equal(found.long(), decode(mean[expert][None]).argmax(1))
    drawn = [editor.label_map(json.dumps({"expert": 1, "seed": seed})) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_between_two_codes() -> None:
    """At the ends the two codes, and in the middle one of typical length: the mixture's variance is 1 everywhere."""
    mean, log_std = torch.tensor([[0.5, 0.0]]), torch.tensor([[1.0, 0.5]]).log()
    distribution = RefinedDistribution(mean, log_std, decode, torch.zeros(1, 3, 101, 1))
    editor = make_editor(distribution, SEED, CLASSES)
    assert editor.description() == {"kind": "code", "dims": 2}
    codes = [distribution.sample_latents(1, torch.Generator().manual_seed(seed))[:, 0] for seed in (3, 4)]
    for position, expected in (
        (0.0, codes[0]),
        (1.0, codes[1]),
        (0.5, mean + math.sqrt(0.5) * (codes[0] + codes[1] - 2 * mean)),
    ):
        found = editor.label_map(json.dumps({"seeds": [3, 4], "position": position}))
        assert (found.long() != decode(expected).argmax(1)).sum() <= 1  # rounding at a border
    same = editor.label_map('{"seeds": [3, 3], "position": 0.5}')
    assert torch.equal(same.long(), decode(codes[0]).argmax(1))


def test_outside_a_mask_every_choice_is_background() -> None:
    mask = torch.zeros(1, 1, 101, 1)
    mask[:, :, 60:70] = 1
    distribution = LatentDistribution(torch.zeros(1, 2), torch.zeros(1, 2), decode)
    found = make_editor(MaskedDistribution(distribution, mask), SEED, CLASSES).label_map(
        '{"axes": [0, 1], "values": [-3, 0]}'
    )
    assert found[:, 60:70].all()
    assert not found[:, :60].any()
    assert not found[:, 70:].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("", "settings"),
        ("[]", "settings"),
        ("{}", "settings: sample"),
        (ssn(sample=-1), "settings: sample"),
        (ssn(sample=1.5), "settings: sample"),
        (ssn(sample=10**9), "settings: sample"),
        (ssn(temperature=4), "settings: temperature"),
        (ssn(temperature=math.nan), "settings: temperature"),
        (ssn(temperature="1"), "settings: temperature"),
        (ssn(class_scale=[1, 1]), "class_scale must hold 3 values"),
        (ssn(class_scale=[1, 1, 9]), r"class_scale must lie in \[-3.0, 3.0\]"),
        (ssn(rank_scale=[1, 1, 1, math.inf]), "settings: rank_scale"),
        (ssn(unknown=1), "settings: unknown"),
    ],
)
def test_settings_that_are_no_choice_are_named(settings, message) -> None:
    with pytest.raises(CaseError, match=message):
        make_editor(normal(), SEED, CLASSES).label_map(settings)


@pytest.mark.parametrize(
    ("distribution", "settings", "message"),
    [
        ("latent", {"axes": [0, 2], "values": [0, 0]}, "axes must be two of the 2 dimensions"),
        ("latent", {"axes": [0, 1], "values": [0, 4]}, "values must lie in"),
        ("experts", {"expert": 2}, "expert must be one of the 2"),
        ("experts", {"expert": 0, "seed": -1}, "settings: seed"),
        ("code", {"seeds": [0, 1], "position": 1.5}, "settings: position"),
        ("code", {"seeds": [0, -1], "position": 0.5}, "seeds must be at least 0"),
    ],
)
def test_choices_beyond_the_distribution_are_named(distribution, settings, message) -> None:
    zeros = torch.zeros(1, 2)
    made = {
        "latent": LatentDistribution(zeros, zeros, decode),
        "experts": ExpertMixtureDistribution(torch.full((1, 2), 0.5), torch.zeros(2, 2), torch.zeros(2), decode),
        "code": RefinedDistribution(zeros, zeros, decode, torch.zeros(1, 3, 101, 1)),
    }
    with pytest.raises(CaseError, match=message):
        make_editor(made[distribution], SEED, CLASSES).label_map(json.dumps(settings))


def test_a_distribution_without_choices_says_so() -> None:
    with pytest.raises(CaseError, match=r"no controls .* \(IndependentDistribution\)"):
        make_editor(IndependentDistribution(torch.zeros(1, 3, 4, 4)), SEED, CLASSES)
    windowed = WindowedDistribution(torch.zeros(1, 1, 4, 4), lambda window: normal(), lambda image, predict: image)
    with pytest.raises(CaseError, match="in windows"):
        make_editor(windowed, SEED, CLASSES)
