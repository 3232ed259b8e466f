# SPDX-License-Identifier: Apache-2.0
"""Simulated T2-weighted MRI of the prostate and its zones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from .cases import make_cases, save_voxels
from .fields import Axes, RandomField, coverage, distance_from, random_generator
from .scan import SimulatedScan, ellipsoid, paint, read_scan, scan_axes

SIMULATION = 1  # raise it when the same seed gives another patient
LEAST_EXTENT = (50, 64, 70)  # mm towards head, back and left: the gland
FAT, MUSCLE, BONE, BLADDER, VESICLES, WALL, STOOL, GAS = 295, 85, 210, 620, 360, 130, 170, 15
PERIPHERAL, TRANSITION, STROMA, CAPSULE, LESION, LUMEN, URETHRA_WALL = 430, 215, 75, 90, 150, 420, 170


def simulate_prostate(
    spatial_size: Sequence[int], spacing: Sequence[float], seed: int = 0, num_raters: int = 1
) -> SimulatedScan:
    """
    Simulate an axial T2 image of the prostate, and readers who draw its zones in a known way.

    The axes run towards head, back and left. The peripheral zone is bright, the transition zone nodular, the anterior
    stroma dark and the urethra a small ring towards the apex; borders are blurred by the readers' spread. A coil's
    bias field and Rician noise lie over it.

    Args:
        spatial_size: size of the volume in voxels.
        spacing: of the voxels in mm.
        seed: seed of everything, the raters' readings included.
        num_raters: number of readings in ``label``.

    Returns:
        The patient with the classes 0 background, 1 PZ, 2 TZ, 3 DPU, 4 AFS; equal for equal arguments.

    Raises:
        ValueError: when ``spatial_size`` or ``spacing`` has not 3 positive entries, the volume is too small to hold the
            gland, or there is no rater.
    """
    axes = scan_axes(spatial_size, spacing, LEAST_EXTENT)
    rng = random_generator("prostate", seed)
    blur = float(np.hypot(0.4, 0.25 * np.mean(spacing)))
    sigmas = np.array([rng.uniform(0.5, 1.2), rng.uniform(0.7, 2.0), rng.uniform(0.4, 0.8), rng.uniform(0.8, 2.0)])
    fine, coarse = RandomField(rng, 3, 9)(axes), RandomField(rng, 15, 50)(axes)

    up, back, left = axes[0][:, None, None], axes[1][:, None], axes[2]
    high, deep, wide = rng.uniform(19, 23), rng.uniform(15, 20), rng.uniform(23, 28)
    center = rng.normal(0, 1.5, 3)
    gland = ellipsoid(axes, center, (high, deep, wide)) + 0.8 * coarse
    hyperplasia = rng.uniform(0.7, 0.95)  # how much of the gland the transition zone fills
    tz_center = center + [0.2 * high, -0.2 * deep, 0]
    tz = ellipsoid(axes, tz_center, (0.9 * high, (0.25 + 0.6 * hyperplasia) * deep, hyperplasia * wide))
    urethra = np.hypot(back - center[1] - 0.12 * (up - center[0]), left - center[2]) - rng.uniform(3.2, 4.2)
    afs = ellipsoid(axes, center - [0, deep, 0], (0.75 * high, rng.uniform(8, 11), rng.uniform(13, 17)))
    zones = [
        gland,
        np.maximum(tz + 0.8 * coarse, gland),
        np.maximum(np.maximum(urethra, up - center[0] - 0.05 * high), gland),
        np.maximum(afs + 0.8 * coarse, gland),
    ]

    image = _surroundings(rng, axes, blur, center, (high, deep, wide), fine, coarse)
    edges = np.hypot(blur, sigmas)
    paint(image, gland - 1, blur, CAPSULE)
    paint(image, gland, edges[0], PERIPHERAL + 30 * fine + 40 * coarse)
    for _ in range(rng.integers(3)):  # lesions of the peripheral zone
        at = center + [rng.uniform(-0.5, 0.5) * high, 0.7 * deep, rng.uniform(-0.6, 0.6) * wide]
        lesion = distance_from(at, axes) - rng.uniform(3, 6) + fine
        paint(image, np.maximum(lesion, gland), 1.2, LESION)
    nodules = RandomField(rng, 9, 22)(axes)
    paint(image, zones[1], edges[1], TRANSITION + 70 * nodules + 25 * fine - 80 * np.exp(-np.square(nodules / 0.25)))
    paint(image, zones[2], edges[2], URETHRA_WALL + coverage(zones[2] + 2, 0.6) * (LUMEN - URETHRA_WALL))
    paint(image, zones[3], edges[3], STROMA + 15 * fine)

    image *= np.exp(rng.uniform(0.05, 0.2) * RandomField(rng, 100, 250)(axes) + rng.uniform(0.001, 0.005) * back)
    level = rng.uniform(12, 22)
    real, imaginary = (gaussian_filter(rng.standard_normal(image.shape), (0, 0.4, 0.4)) for _ in range(2))
    image = np.hypot(image + level * real, level * imaginary)  # Rician
    return read_scan(image, zones, sigmas, spacing, num_raters, seed)


def simulated_prostate_folder(
    folder: str | os.PathLike,
    num_patients: int,
    spatial_size: Sequence[int] = (24, 96, 96),
    spacing: Sequence[float] = (3.0, 1.0, 1.0),
    seed: int = 0,
) -> str:
    """
    Make a folder of simulated prostates as NIfTI, unless it is there already.

    Patient ``simulated_000`` has ``t2.nii.gz`` (int16) and ``zones.nii.gz`` (uint8, of one reader), with the axes of
    axial DICOM slices: left, back, head. :py:func:`monai_stochseg.data.prostatex_datalist` reads them. The folder
    appears whole or not at all, and ``truth.json`` holds what :py:func:`simulate_prostate` needs to give the truth
    again.

    Args:
        folder: where to make it.
        num_patients: number of patients.
        spatial_size: size of the volumes in voxels, towards head, back and left: the reverse of the files' axes.
        spacing: of the voxels in mm, in the same order.
        seed: seed of the whole folder; a patient does not depend on ``num_patients``.

    Returns:
        The path of the folder.

    Raises:
        ValueError: when ``num_patients`` is less than 1, or another argument is refused by
            :py:func:`simulate_prostate`.
        FileExistsError: when the folder was made with other parameters, or holds something else; it is left alone.
    """
    up, back, left = map(float, spacing)
    affine = np.diag([-left, -back, up, 1])

    def make_case(path: Path, case_seed: int) -> dict[str, Any]:
        scan = simulate_prostate(spatial_size, spacing, case_seed)
        save_voxels(path / "t2.nii.gz", scan.image[0].numpy().astype(np.int16).T, affine)
        save_voxels(path / "zones.nii.gz", scan.label[0].numpy().T, affine)
        return {"sigmas": scan.sigmas.tolist()}

    parameters = {
        "simulation": f"prostate {SIMULATION}",
        "num_patients": num_patients,
        "spatial_size": list(spatial_size),
        "spacing": list(spacing),
        "seed": seed,
    }
    return make_cases(folder, parameters, make_case)


def _surroundings(
    rng: np.random.Generator,
    axes: Axes,
    blur: float,
    center: np.ndarray,
    radii: tuple[float, float, float],
    fine: np.ndarray,
    coarse: np.ndarray,
) -> np.ndarray:
    """Intensity of everything except the gland, ``[*S]``."""
    inf = np.inf
    high, deep, wide = radii
    image = (FAT + 25 * fine + 20 * coarse).astype(np.float32)
    for side in (-1, 1):
        hip = center[2] + side * (wide + 24)
        paint(image, ellipsoid(axes, (0, -8, hip + side * 26), (inf, 40, 24)), blur, BONE + 25 * fine)
        paint(image, ellipsoid(axes, (0, 0, hip), (inf, 34, 9)) + coarse, blur, MUSCLE + 12 * fine)  # obturator
    levator = np.abs(ellipsoid(axes, (0, 8, 0), (inf, deep + 26, wide + 7)) + coarse) - 2
    paint(image, np.maximum(levator, -8 - axes[1][:, None]), blur, MUSCLE + 12 * fine)
    symphysis = center[1] - deep - 24
    paint(image, ellipsoid(axes, (-15, symphysis, 0), (30, 12, 22)) + coarse, blur, BONE - 60 + 20 * fine)

    rectum_radius = rng.uniform(11, 16)
    behind = center[1] + deep + rectum_radius + 2
    rectum = ellipsoid(axes, (0, behind, center[2]), (inf, rectum_radius, 1.25 * rectum_radius))
    filling = GAS if rng.random() < 0.4 else STOOL + 40 * coarse + 20 * fine
    paint(image, rectum + coarse, blur, WALL + 12 * fine)
    paint(image, rectum + coarse + 3, blur, filling)

    vesicles = ellipsoid(axes, (center[0] + 0.95 * high, center[1] + 0.55 * deep, 0), (9, 8, 26)) + 1.5 * coarse
    paint(image, vesicles, 1.0, VESICLES + 110 * fine)
    bladder = ellipsoid(axes, (center[0] + high + 22, center[1] - 0.5 * deep, center[2]), (26, 26, 36)) + coarse
    paint(image, bladder - 3, blur, WALL)
    paint(image, bladder, blur, BLADDER + 5 * fine)
    return image
