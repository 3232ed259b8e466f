# SPDX-License-Identifier: Apache-2.0
"""Figures of samples, distances, latents and calibration."""

from .ambiguity import plot_ambiguity
from .case_dice import plot_case_dice
from .energy_distance_curve import plot_energy_distance
from .latent_modes import plot_latent_modes
from .latent_plane import plot_latent_plane
from .mode_frequency import plot_flip_ratio, plot_mode_frequency
from .reliability import plot_reliability
from .samples import plot_samples
from .sampling_cost import plot_sampling_cost
from .scaled_samples import plot_scaled_samples

__all__ = [
    "plot_ambiguity",
    "plot_case_dice",
    "plot_energy_distance",
    "plot_flip_ratio",
    "plot_latent_modes",
    "plot_latent_plane",
    "plot_mode_frequency",
    "plot_reliability",
    "plot_samples",
    "plot_sampling_cost",
    "plot_scaled_samples",
]
