# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from monai_stochseg.data.simulated import simulate_brain

READERS = 2000
BOTH = pytest.mark.parametrize("size", [(32, 32), (24, 32, 20)])


@BOTH
def test_shapes_and_types(size) -> None:
    brain = simulate_brain(size, seed=1, num_raters=3)
    assert brain.image.shape == (4, *size)
    assert brain.image.dtype == torch.float32
    assert brain.label.shape == (3, *size)
    assert brain.label.dtype == torch.uint8
    assert brain.mask.shape == (1, *size)
    assert torch.equal(brain.image != 0, (brain.mask > 0).expand_as(brain.image))
    assert not brain.label[:, brain.mask[0] == 0].any()
    assert (brain.levels.diff(dim=0).nan_to_num(0) >= 0).all()


@BOTH
def test_deterministic(size) -> None:
    one, again, other = simulate_brain(size, 1), simulate_brain(size, 1), simulate_brain(size, 2)
    assert torch.equal(one.image, again.image)
    assert torch.equal(one.label, again.label)
    assert not torch.equal(one.image, other.image)
    draws = [one.sample(5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def readings(size, seed):
    brain = simulate_brain(size, seed)
    return brain, brain.sample(READERS, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("size", "seed"), [((32, 32), 0), ((32, 32), 1), ((24, 24, 24), 2), ((24, 24, 24), 3)])
def test_voxel_frequencies_match_probabilities(size, seed) -> None:
    """Readers are drawn as wholes, so every voxel is compared with the error of READERS independent draws."""
    brain, drawn = readings(size, seed)
    probability = brain.probability
    assert torch.allclose(probability.sum(0), torch.ones(size), atol=1e-5)
    assert (probability >= -1e-6).all()
    for label_class in range(4):
        expected = probability[label_class].clamp(0, 1)
        frequency = (drawn == label_class).float().mean(0)
        error = (expected * (1 - expected) / READERS).sqrt()
        assert ((frequency - expected).abs() <= 5 * error + 1 / READERS).all()
        for low in torch.arange(0, 1, 0.1).tolist():
            inside = (expected >= low) & (expected < low + 0.1)
            if inside.any():  # voxels of a bin are dependent: the bin is no surer than its most uncertain voxel
                difference = (frequency[inside].mean() - expected[inside].mean()).abs()
                assert difference <= 4 * error[inside].max() + 1 / READERS


@pytest.mark.parametrize("seed", range(6))
def test_presence_frequencies_match(seed) -> None:
    brain, drawn = readings((32, 32), seed)
    flat = drawn.flatten(1)
    found = {"TC": ((flat == 1) | (flat == 3)).any(1), "ET": (flat == 3).any(1)}
    for region, probability in brain.presence.items():
        error = math.sqrt(probability * (1 - probability) / READERS)
        assert abs(found[region].float().mean().item() - probability) <= 4 * error


@pytest.mark.parametrize(("size", "seed"), [((96, 96), 0), ((96, 96), 4), ((40, 40, 40), 1)])
def test_border_quantiles_match_sigma(size, seed) -> None:
    """The radius of the ball of equal volume moves with the border; its quantiles are the offset's."""
    brain = simulate_brain(size, seed)
    drawn = brain.sample(500, torch.Generator().manual_seed(seed))
    volume = (drawn > 0).flatten(1).sum(1).double()
    radius = (volume / math.pi).sqrt() if len(size) == 2 else (volume * 3 / (4 * math.pi)) ** (1 / 3)
    quantiles = torch.quantile(radius, torch.tensor([0.16, 0.5, 0.84], dtype=torch.float64))
    for width in quantiles.diff().tolist():
        assert width == pytest.approx(brain.sigma, rel=0.2)


def test_image_shows_the_probabilities() -> None:
    """Within the certain core T2 is the brighter, and in the rim T1c, the likelier they are seen."""
    brains = [simulate_brain((48, 48), seed) for seed in range(40)]
    core = [brain.image[3][brain.levels[1] < -brain.sigma].mean().item() for brain in brains]
    rim = []
    for brain in brains:
        inside_rim = (brain.levels[1] < 0) & (brain.levels[2] > brain.sigma)
        rim.append(brain.image[2][inside_rim].mean().item())
    truth = torch.tensor([[brain.presence["TC"], brain.presence["ET"]] for brain in brains]).T
    assert torch.corrcoef(torch.stack([truth[0], torch.tensor(core)]))[0, 1] > 0.8
    assert torch.corrcoef(torch.stack([truth[1], torch.tensor(rim)]))[0, 1] > 0.8


@pytest.mark.parametrize(
    ("size", "raters", "message"),
    [
        ((32,), 4, r"2 or 3 axes of at least 16 voxels, got \(32,\)"),
        ((32, 32, 8), 4, r"got \(32, 32, 8\)"),
        ((32, 32), 0, "num_raters must be at least 1, got 0"),
    ],
)
def test_refuses(size, raters, message) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_brain(size, num_raters=raters)
