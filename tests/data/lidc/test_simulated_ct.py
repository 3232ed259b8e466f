# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from monai_stochseg.data.lidc import LIDC_ATTRIBUTES, LIDCNodule, lidc_nodules
from monai_stochseg.data.lidc.crops import CropGrid, crop_grids, crop_label
from monai_stochseg.data.lidc.simulated_ct import SimulatedCT, simulate_ct
from monai_stochseg.data.lidc.simulated_nodule import SimulatedNodule
from monai_stochseg.data.simulated.fields import RandomField, tubes

SCORES = {"subtlety": 4, "internalStructure": 1, "calcification": 6, "margin": 4, "spiculation": 1, "texture": 5}
SPACING = (0.7, 0.7, 2.0)


def ball(radius: float, readers: int = 4, name: str = "LIDC-IDRI-0001_0001_00", **scores: int) -> LIDCNodule:
    """A round nodule in the right lung that the readers drew alike."""
    size = 2 * np.ceil(radius / np.array(SPACING)).astype(int) + 1
    axes = np.meshgrid(*(mm * (np.arange(n) - n // 2) for n, mm in zip(size, SPACING, strict=True)), indexing="ij")
    mask = np.square(axes).sum(0) <= radius**2
    drawn = np.arange(4) < readers
    attributes = [(SCORES | scores).get(attribute, 3) for attribute in LIDC_ATTRIBUTES]
    return LIDCNodule(
        name=name,
        patient_id=name[:14],
        scan_id=1,
        origin=np.array([250, 120, 60]),
        spacing=SPACING,
        slice_thickness=2.0,
        label=mask & drawn[:, None, None, None],
        drawn=drawn,
        attributes=np.array(attributes) * drawn[:, None],
    )


def middle_slice(nodule: LIDCNodule, spatial_size: int = 48, spacing: float = 0.75) -> CropGrid:
    ((_, grid),) = crop_grids(nodule, 2, spatial_size, spacing, slices_per_nodule=1)
    return grid


def inside(make: Callable[[str], LIDCNodule], draws: int = 12) -> float:
    """Mean HU within the masks, over a few nodules that differ in name alone."""
    values = []
    for draw in range(draws):
        nodule = make(f"LIDC-IDRI-{draw:04d}_0001_00")
        grid = middle_slice(nodule)
        values.append(SimulatedCT(nodule).render(grid, noise=False)[crop_label(nodule, grid)[0]].mean())
    return float(np.mean(values))


def test_deterministic() -> None:
    grid = middle_slice(ball(5))
    image = simulate_ct(ball(5), grid)
    assert image.dtype == np.float32
    assert image.shape == (48, 48, 1)
    np.testing.assert_array_equal(simulate_ct(ball(5), grid), image)
    assert not np.array_equal(simulate_ct(ball(5), grid, seed=1), image)
    assert not np.array_equal(simulate_ct(ball(5, name="LIDC-IDRI-0002_0001_00"), grid), image)


@pytest.mark.parametrize("scores", [{}, {"spiculation": 5, "calcification": 4, "texture": 3}])
def test_slice_agrees_with_volume(scores) -> None:
    nodule = ball(6, **scores)
    simulated = SimulatedCT(nodule)
    plane = middle_slice(nodule)
    volume = CropGrid(plane.center, plane.step, (*plane.spatial_size[:2], 5))
    np.testing.assert_allclose(
        simulated.render(volume, noise=False)[..., 2:3], simulated.render(plane, noise=False), atol=0.5
    )


def test_coarse_agrees_with_fine() -> None:
    nodule = ball(6)
    coarse, fine = middle_slice(nodule, 17, 1.5), middle_slice(nodule, 33, 0.75)
    simulated = SimulatedCT(nodule)
    np.testing.assert_allclose(
        simulated.render(fine, noise=False)[::2, ::2], simulated.render(coarse, noise=False), atol=0.5
    )


def test_noise_differs_between_slices() -> None:
    nodule = ball(6)
    simulated = SimulatedCT(nodule)
    (_, first), (_, second) = crop_grids(nodule, 2, 32, 0.75, slices_per_nodule=2)
    noises = [simulated.render(grid) - simulated.render(grid, noise=False) for grid in (first, second)]
    assert np.std(noises[0]) == pytest.approx(simulated.noise_level, rel=0.05)
    assert abs(np.corrcoef(noises[0].ravel(), noises[1].ravel())[0, 1]) < 0.2


def test_contrast_grows_with_scores() -> None:
    subtlety = [inside(lambda name, score=score: ball(5, name=name, subtlety=score)) for score in (1, 3, 5)]
    texture = [inside(lambda name, score=score: ball(5, name=name, texture=score)) for score in (1, 3, 5)]
    readers = [inside(lambda name, n=n: ball(5, readers=n, name=name)) for n in (1, 4)]
    for values in (subtlety, texture, readers):
        assert values == sorted(values)
        assert values[-1] - values[0] > 50
    assert -250 < texture[-1] < 50


def test_small_ground_glass_is_faintly_visible() -> None:
    value = inside(lambda name: ball(2.5, readers=1, name=name, texture=1, subtlety=1, margin=1))
    assert -830 < value < -600


@pytest.mark.parametrize("pattern", [1, 2, 3, 4, 5])
def test_calcification(pattern) -> None:
    nodule = ball(6, calcification=pattern)
    calcified = SimulatedCT(nodule).render(CropGrid((258.0, 128.0, 63.0), (1.0, 1.0, 0.35), (21, 21, 21)), noise=False)
    assert calcified.max() > 200
    if pattern != 3:
        assert np.median(calcified[5:16, 5:16, 5:16]) < 300


def test_air_cavity() -> None:
    nodule = ball(8, internalStructure=4)
    image = SimulatedCT(nodule).render(middle_slice(nodule, 49), noise=False)[..., 0]
    assert image[24, 24] < -700
    assert image[24, 24 + 9] > -500


def test_spicules() -> None:
    make = [SimulatedCT(ball(6, spiculation=score)).nodule.spicules for score in (1, 5)]
    assert len(make[0]) == 0
    assert len(make[1]) > 2
    assert (np.linalg.norm(make[1][:, 3:6], axis=1) > 6).all()


def test_edge_lies_between_the_readers() -> None:
    """The draw mixes the readers, so that the image does not tell whose edge is right."""
    small, large = ball(4), ball(9)
    label = large.label.copy()
    pad = [(n - m) // 2 for n, m in zip(large.label.shape[1:], small.label.shape[1:], strict=True)]
    label[0] = np.pad(small.label[0], [(side, side) for side in pad])
    radii = []
    for draw in range(20):
        nodule = ball(9, readers=2, name=f"LIDC-IDRI-{draw:04d}_0001_00")
        nodule = LIDCNodule(**{**vars(nodule), "label": label & nodule.drawn[:, None, None, None]})
        rng = np.random.default_rng(draw)
        body = SimulatedNodule(nodule, np.zeros(3), rng, rng)
        volume = (body.distance < 0).sum() * np.prod(SPACING)
        radii.append((volume * 3 / 4 / np.pi) ** (1 / 3))
    assert min(radii) > 3.5
    assert max(radii) < 9.5
    assert np.std(radii) > 0.7


def test_readers_who_drew_different_places() -> None:
    label = np.zeros((4, 20, 4, 1), dtype=bool)
    label[0, :4], label[1, -4:] = True, True
    nodule = LIDCNodule(**{**vars(ball(3, readers=2)), "label": label})
    body = SimulatedCT(nodule).nodule
    assert body.depth > 0
    assert np.isfinite(simulate_ct(nodule, middle_slice(nodule))).all()


def test_wall_is_near_in_a_third_and_outside_the_masks() -> None:
    near = 0
    for draw in range(60):
        nodule = ball(5, name=f"LIDC-IDRI-{draw:04d}_0001_00")
        grid = middle_slice(nodule, 32, 1.5)
        simulated = SimulatedCT(nodule)
        _, _, wall = simulated.lung.draw(simulated.axes(grid), 0.5)
        assert (wall[crop_label(nodule, grid)[0]] <= 0.5).all()
        near += bool((wall > 0.5).any())
    assert 10 <= near <= 30


def test_real_nodules_stand_out(scans) -> None:
    for nodule in lidc_nodules(scans, min_raters=3):
        solid = nodule.attributes[nodule.drawn][:, LIDC_ATTRIBUTES.index("texture")].min() == 5
        (_, grid), *_ = crop_grids(nodule, 3, 32, 1.0)
        image, votes = simulate_ct(nodule, grid), crop_label(nodule, grid).sum(0)
        contrast = np.median(image[votes >= 2]) - np.median(image[votes == 0])
        assert contrast > (200 if solid else 50), nodule.name


def test_random_field() -> None:
    axis = np.linspace(0, 100, 60)
    field = RandomField(np.random.default_rng(0), 3, 12)((axis, axis, axis[:8]))
    assert field.shape == (60, 60, 8)
    assert field.mean() == pytest.approx(0, abs=0.1)
    assert field.std() == pytest.approx(1, abs=0.15)


def test_tubes() -> None:
    """A tube along the rows, from radius 3.2 to radius 1.2, with round ends."""
    axis = np.arange(-10.0, 31.0)
    covered = tubes(np.array([[0, 0, 0, 20, 0, 0, 3.2, 1.2]]), (axis, axis[:21], axis[10:11]), blur=0.1)
    assert covered.shape == (41, 21, 1)
    # rows -3, 0, 10, 20 and 21, across and along the tube
    assert [(covered[10 + row, :, 0] > 0.5).sum() for row in (-4, -3, 0, 10, 20, 21, 22)] == [0, 3, 7, 5, 3, 1, 0]
