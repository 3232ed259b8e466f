# SPDX-License-Identifier: Apache-2.0
"""A brain with a tumour that readers see differently, in a known way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from ..layouts import BRATS_CLASSES

SIMULATION = 1  # raise it when the same seed gives another patient


@dataclass(frozen=True)
class SimulatedBrain:
    r"""
    A simulated patient, and the distribution its readers are drawn from.

    A reader draws a border offset :math:`\delta \sim N(0, \sigma^2)`, in voxels, and tosses two coins: whether the
    core is seen, and whether its enhancing rim is seen. With :math:`\phi` and :math:`\phi_c` the signed distances to
    the mean borders of tumour and core, negative inside, and :math:`w` the width of the rim, the reader's label is
    tumour where :math:`\phi < \delta`, inside it core where :math:`\phi_c < \delta / 2` if the core is seen and oedema
    otherwise, and in the core enhancing where :math:`\phi_c \ge \delta / 2 - w` if the rim is seen and NET otherwise.
    So each voxel passes, as :math:`\delta` grows, three levels, and all probabilities have a closed form.

    Args:
        image: ``[4, *S]`` float32, FLAIR, T1, T1c and T2; zero outside the brain and never inside.
        label: ``[R, *S]`` uint8, the readings of R raters; 0 background, 1 NET, 2 OD, 3 ET.
        mask: ``[1, *S]`` uint8, the brain.
        levels: ``[3, *S]``, the offsets above which a voxel is tumour, is core, is core inside the rim; they do not
            fall along the first axis, and are infinite outside the brain.
        sigma: standard deviation of the border offset, in voxels (of 1 mm).
        core_probability: probability that a reader sees the core.
        rim_probability: probability that a reader who sees the core sees its enhancing rim.
    """

    image: torch.Tensor
    label: torch.Tensor
    mask: torch.Tensor
    levels: torch.Tensor
    sigma: float
    core_probability: float
    rim_probability: float

    @property
    def presence(self) -> dict[str, float]:
        """Probability that a reading contains a core (NET or ET), and that it contains ET."""
        return {"TC": self.core_probability, "ET": self.core_probability * self.rim_probability}

    @property
    def probability(self) -> torch.Tensor:
        """Probability of each class in each voxel, ``[4, *S]``, float32."""
        tumour, core, inner = torch.special.ndtr(-self.levels.double() / self.sigma)
        net = self.core_probability * ((1 - self.rim_probability) * core + self.rim_probability * inner)
        et = self.core_probability * self.rim_probability * (core - inner)
        return torch.stack([1 - tumour, net, tumour - self.core_probability * core, et]).float()

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """
        Draw readings.

        Args:
            n: number of readers.
            generator: source of the draws.

        Returns:
            ``[n, *S]`` uint8.
        """
        offsets = self.sigma * torch.randn(n, generator=generator)
        core_seen = torch.rand(n, generator=generator) < self.core_probability
        rim_seen = torch.rand(n, generator=generator) < self.rim_probability
        readings = torch.empty((n, *self.levels.shape[1:]), dtype=torch.uint8)
        for reading, offset, core, rim in zip(readings, offsets, core_seen, rim_seen, strict=True):
            passed = (self.levels < offset).sum(0)  # 0 background, 1 oedema, 2 rim of the core, 3 within the rim
            classes = [
                BRATS_CLASSES["background"],
                BRATS_CLASSES["OD"],
                (BRATS_CLASSES["ET"] if rim else BRATS_CLASSES["NET"]) if core else BRATS_CLASSES["OD"],
                BRATS_CLASSES["NET"] if core else BRATS_CLASSES["OD"],
            ]
            reading.copy_(torch.tensor(classes, dtype=torch.uint8)[passed])
        return readings


def simulate_brain(spatial_size: Sequence[int], seed: int = 0, num_raters: int = 4) -> SimulatedBrain:
    """
    Simulate a patient with a tumour whose border, core and enhancing rim are ambiguous in a known way.

    The image shows the ambiguity, so a network can learn it: borders are blurred by the readers' spread, the core is
    darker in T1 and brighter in T2 when it is more likely to be seen, and the rim is then brighter in T1c.

    Args:
        spatial_size: size of the volume in voxels, 2 or 3 axes of at least 16 each.
        seed: seed of everything, the raters' readings included.
        num_raters: number of readings in ``label``.

    Returns:
        The patient with its truth; equal for equal arguments.

    Raises:
        ValueError: when ``spatial_size`` has not 2 or 3 axes of at least 16 voxels, or there is no rater.
    """
    size = tuple(spatial_size)
    if len(size) not in (2, 3) or min(size) < 16:
        raise ValueError(f"spatial_size must be 2 or 3 axes of at least 16 voxels, got {size}.")
    if num_raters < 1:
        raise ValueError(f"num_raters must be at least 1, got {num_raters}.")
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, shape: int | tuple[()] = ()) -> np.ndarray:
        return (low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)).numpy()

    def noise(width: float) -> np.ndarray:
        """Zero mean, unit variance, correlated over ``width`` voxels."""
        white = torch.randn(size, generator=generator).numpy()
        smooth = gaussian_filter(white, width, mode="wrap", truncate=3) if width else white
        return (smooth - smooth.mean()) / smooth.std()

    def seen() -> float:
        """The probability that readers see a part: often doubtful, sometimes very low."""
        kind, ambiguous = uniform(0, 1), uniform(0.3, 0.9)
        return 0.02 if kind < 0.1 else 0.98 if kind < 0.45 else float(ambiguous)

    axes = len(size)
    grid = np.stack(np.meshgrid(*(np.arange(length, dtype=np.float32) for length in size), indexing="ij"))
    extent = np.array(size, dtype=np.float32)

    def along_axes(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32).reshape(-1, *[1] * axes)

    centre = (extent - 1) / 2
    brain = np.square((grid - along_axes(centre)) / along_axes(extent * uniform(0.42, 0.48, axes))).sum(0) < 1

    radius = float(uniform(0.13, 0.23)) * min(size)
    direction = torch.randn(axes, generator=generator).numpy()
    place = centre + direction / np.linalg.norm(direction) * uniform(0.2, 0.6) * (0.42 * extent - radius)
    ball = np.linalg.norm(grid - along_axes(place), axis=0)
    tumour = _signed_distance(ball - radius + 0.15 * radius * noise(radius / 2))
    core = _signed_distance(ball - 0.6 * radius + 0.1 * radius * noise(radius / 2))
    rim_width = max(1.5, 0.25 * radius)
    sigma = float(uniform(0.08, 0.18)) * radius

    outer = np.where(brain, tumour, np.inf)
    middle = np.maximum(outer, 2 * core)
    inner = np.maximum(middle, 2 * (core + rim_width))
    levels = torch.from_numpy(np.stack([outer, middle, inner])).float()
    core_probability, rim_probability = seen(), seen()

    # What is seen of each part: its blurred extent, times how clearly it shows.
    tumour_seen, core_seen, inner_seen = torch.special.ndtr(-levels / sigma).numpy()
    core_shown = core_probability * core_seen
    rim_shown = core_probability * rim_probability * (core_seen - inner_seen)
    flair = 1.0 + 0.9 * tumour_seen - 0.3 * core_shown
    t1 = 1.0 - 0.15 * tumour_seen - 0.5 * core_shown
    t1c = 1.0 - 0.15 * tumour_seen - 0.4 * core_shown + 1.6 * rim_shown
    t2 = 1.0 + 0.4 * tumour_seen + 0.7 * core_shown

    tissue, bias = noise(2), noise(min(size) / 4)
    gains = (0.08, -0.10, -0.10, 0.12)  # white matter is bright in T1 and dark in FLAIR and T2
    channels = [
        (clean + gain * tissue) * np.exp(0.05 * bias) + 0.06 * noise(0)
        for clean, gain in zip((flair, t1, t1c, t2), gains, strict=True)
    ]
    image = torch.from_numpy(np.where(brain, np.maximum(np.stack(channels), 0.01), 0)).float()
    patient = SimulatedBrain(
        image=image,
        label=torch.empty(0, dtype=torch.uint8),
        mask=torch.from_numpy(brain)[None].to(torch.uint8),
        levels=levels,
        sigma=sigma,
        core_probability=core_probability,
        rim_probability=rim_probability,
    )
    return replace(patient, label=patient.sample(num_raters, generator))


def _signed_distance(field: np.ndarray) -> np.ndarray:
    """Distance to the zero level of a field in voxels, to first order; negative inside."""
    slope = np.sqrt(sum(np.square(derivative) for derivative in np.gradient(field)))
    return field / np.maximum(slope, 0.5)
