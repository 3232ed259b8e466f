# SPDX-License-Identifier: Apache-2.0
"""Simulated abdominal CT with two kidneys, one of them with a tumour."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from .cases import make_cases, save_voxels
from .fields import Axes, RandomField, coverage, directions, distance_from, random_generator
from .scan import SimulatedScan, ellipsoid, paint, read_scan, scan_axes

SIMULATION = 1  # raise it when the same seed gives another patient
LEAST_EXTENT = (120, 180, 190)  # mm towards feet, back and left: both kidneys with their tumour
AIR, LUMEN_GAS, FAT, PELVIS_FAT, MUSCLE, BOWEL, LIVER, SPLEEN = -1000, -800, -105, -70, 55, 35, 100, 120
AORTA, CAVA, MARROW, CORTEX_OF_BONE, CANAL, RENAL_CORTEX, RENAL_MEDULLA = 260, 120, 170, 420, 25, 175, 120


def simulate_kidneys(
    spatial_size: Sequence[int], spacing: Sequence[float], seed: int = 0, num_raters: int = 1
) -> SimulatedScan:
    """
    Simulate an arterial CT with two kidneys and a tumour, and readers who draw their borders in a known way.

    The axes are those of the KiTS files: towards feet, back and left. The tumour grows from one kidney, is less
    enhanced than its cortex and blurred by the readers' spread, so that its border is more ambiguous when they
    spread more widely. The renal sinus belongs to no class.

    Args:
        spatial_size: size of the volume in voxels.
        spacing: of the voxels in mm.
        seed: seed of everything, the raters' readings included.
        num_raters: number of readings in ``label``.

    Returns:
        The patient, in HU, with the classes 0 background, 1 kidney, 2 tumour; equal for equal arguments.

    Raises:
        ValueError: when ``spatial_size`` or ``spacing`` has not 3 positive entries, the volume is too small to hold the
            kidneys, or there is no rater.
    """
    axes = scan_axes(spatial_size, spacing, LEAST_EXTENT)
    rng = random_generator("kidneys", seed)
    blur = float(np.hypot(0.8, 0.3 * np.mean(spacing)))
    sigmas = np.array([rng.uniform(0.6, 1.2), rng.uniform(1.0, 3.0)])
    edges = np.hypot(blur, sigmas)
    fine, coarse = RandomField(rng, 6, 20)(axes), RandomField(rng, 25, 70)(axes)
    image = _surroundings(rng, axes, blur, fine, coarse)

    shift, kidneys = rng.normal(0, 4, 3), {}
    for side in (-1, 1):  # right and left
        center = shift + [rng.normal(-6 * side, 5), rng.normal(38, 3), side * rng.uniform(60, 66)]
        radii = rng.uniform((46, 23, 25), (56, 27, 29))
        turn = side * rng.uniform(0.1, 0.3)  # the upper pole lies nearer to the spine
        fat = ellipsoid(axes, center, radii + rng.uniform(8, 16), turn)
        sinus = ellipsoid(axes, center - [0, 0.15, 0.75 * side] * radii, (0.42, 0.42, 0.62) * radii, turn) + 1.5 * fine
        kidney = np.maximum(ellipsoid(axes, center, radii, turn) + 1.5 * coarse, -sinus)
        medulla = coverage(kidney + 7, 1.5) * coverage(-4 * coarse - 6 * fine, 1.5)
        paint(image, fat, 2 * blur, FAT + 5 * fine)
        paint(image, sinus, blur, PELVIS_FAT + 60 * np.clip(fine, 0, 2))
        paint(image, kidney, edges[0], RENAL_CORTEX + medulla * (RENAL_MEDULLA - RENAL_CORTEX))
        kidneys[side] = (kidney, center, radii)

    side = int(rng.choice((-1, 1)))
    direction = directions(rng, 1)[0]
    direction[2] = side * np.abs(direction[2])  # away from the spine
    _, center, radii = kidneys[side]
    place, radius = center + rng.uniform(0.6, 0.95) * radii * direction, rng.uniform(11, 26)
    lumps = RandomField(rng, radius, 3 * radius)(axes)
    tumour = distance_from(place, axes) - radius + 0.1 * radius * lumps
    necrosis = np.clip(lumps - 0.3, 0, 1) * coverage(tumour + 0.35 * radius, 2)
    paint(image, tumour, edges[1], rng.uniform(65, 105) + 12 * fine - 45 * necrosis)

    noise = gaussian_filter(rng.standard_normal(image.shape), (0, 0.6, 0.6))
    image = np.maximum(image + rng.uniform(10, 18) * noise / noise.std(), -1024)
    both = np.minimum(kidneys[-1][0], kidneys[1][0])
    return read_scan(image, (both, tumour), sigmas, spacing, num_raters, seed)


def simulated_kidney_folder(
    folder: str | os.PathLike,
    num_patients: int,
    spatial_size: Sequence[int] = (40, 96, 96),
    spacing: Sequence[float] = (4.0, 2.5, 2.5),
    seed: int = 0,
) -> str:
    """
    Make a folder of simulated kidney patients as KiTS delivers them, unless it is there already.

    Patient ``simulated_000`` has ``imaging.nii.gz`` (int16, HU) and ``segmentation.nii.gz`` (uint8, of one reader),
    with the axes and the kind of affine of the KiTS files. :py:func:`monai_stochseg.data.kits_datalist` reads them.
    The folder appears whole or not at all, and ``truth.json`` holds what :py:func:`simulate_kidneys` needs to give the
    truth again.

    Args:
        folder: where to make it.
        num_patients: number of patients.
        spatial_size: size of the volumes in voxels.
        spacing: of the voxels in mm.
        seed: seed of the whole folder; a patient does not depend on ``num_patients``.

    Returns:
        The path of the folder.

    Raises:
        ValueError: when ``num_patients`` is less than 1, or another argument is refused by :py:func:`simulate_kidneys`.
        FileExistsError: when the folder was made with other parameters, or holds something else; it is left alone.
    """
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = [*(-float(step) for step in spacing), 1]  # feet, back and left

    def make_case(path: Path, case_seed: int) -> dict[str, Any]:
        scan = simulate_kidneys(spatial_size, spacing, case_seed)
        save_voxels(path / "imaging.nii.gz", scan.image[0].numpy().astype(np.int16), affine)
        save_voxels(path / "segmentation.nii.gz", scan.label[0].numpy(), affine)
        return {"sigmas": scan.sigmas.tolist()}

    parameters = {
        "simulation": f"kidneys {SIMULATION}",
        "num_patients": num_patients,
        "spatial_size": list(spatial_size),
        "spacing": list(spacing),
        "seed": seed,
    }
    return make_cases(folder, parameters, make_case)


def _surroundings(
    rng: np.random.Generator, axes: Axes, blur: float, fine: np.ndarray, coarse: np.ndarray
) -> np.ndarray:
    """HU of everything except the kidneys, ``[*S]``."""
    inf = np.inf
    image = np.full(fine.shape, float(AIR), dtype=np.float32)
    width, depth = rng.uniform(165, 190), rng.uniform(112, 124)
    body = ellipsoid(axes, (0, 0, 0), (inf, depth, width))
    paint(image, body, blur, FAT + 6 * fine)
    paint(image, body + rng.uniform(10, 18) + 2 * coarse, blur, MUSCLE + 6 * fine)
    cavity = ellipsoid(axes, (0, -10, 0), (inf, depth - 38, width - 40)) + 2 * coarse
    paint(image, cavity, blur, FAT + 6 * fine)

    bowel = np.maximum(cavity + 4, axes[1][:, None] + 8 * coarse - 10)
    paint(image, np.maximum(bowel, 2 - 12 * coarse - 3 * fine), blur, BOWEL + 12 * fine)
    paint(image, np.maximum(bowel + 4, 19 - 12 * coarse), blur, LUMEN_GAS)
    paint(image, ellipsoid(axes, (-75, -25, -85), (85, 80, 75)) + 2 * coarse, blur, LIVER + 6 * fine)
    paint(image, ellipsoid(axes, (-70, 20, 100), (50, 38, 24), 0.2) + 2 * coarse, blur, SPLEEN + 6 * fine)
    for side in (-1, 1):
        paint(image, ellipsoid(axes, (0, 86, side * 40), (inf, 21, 34)) + 2 * coarse, blur, MUSCLE + 8 * fine)
        paint(image, ellipsoid(axes, (0, 52, side * 33), (inf, 19, 13)) + coarse, blur, MUSCLE + 6 * fine)
    paint(image, ellipsoid(axes, (0, 16, 12), (inf, 10, 10)) + coarse, blur, AORTA)
    paint(image, ellipsoid(axes, (0, 18, -16), (inf, 9, 13)) + coarse, blur, CAVA)

    vertebra = ellipsoid(axes, (0, 50, 0), (inf, 17, 23))
    along = (axes[0][:, None, None] / 35 + rng.random()) % 1
    disc = 35 * (np.abs(along - 0.5) - 0.14)
    arch = np.maximum(ellipsoid(axes, (0, 80, 0), (inf, 22, 16)) + coarse, 5 * coarse - 6)
    for bone in (arch, np.maximum(vertebra, -disc)):
        paint(image, bone, blur, CORTEX_OF_BONE)
        paint(image, bone + 3, blur, MARROW + 35 * fine)
    paint(image, np.maximum(vertebra, disc), blur, 90)
    paint(image, ellipsoid(axes, (0, 75, 0), (inf, 8, 11)), blur, CANAL)
    return image
