# SPDX-License-Identifier: Apache-2.0
"""Choices that a user makes of an open case's distribution, each a label map: figure 6 of Monteiro et al. 2020."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from monai_stochseg.data import CaseError
from monai_stochseg.distributions import (
    ExpertMixtureDistribution,
    LatentDistribution,
    LowRankNormal,
    MaskedDistribution,
    PredictiveDistribution,
    WindowedDistribution,
)
from monai_stochseg.distributions.base import plain
from monai_stochseg.distributions.label_maps import most_probable_class
from monai_stochseg.distributions.noise import draw_latent, draw_seeds
from monai_stochseg.distributions.refined import RefinedDistribution

__all__ = ["Editor", "make_editor"]

RANGE = (-3.0, 3.0)  # that of the paper's figure
_MOST_SEEDS = 2**31


class Settings(BaseModel):
    """A user's choice, as JSON says it; what is unknown or not finite is refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class Editor(ABC):
    """
    What can be chosen of a distribution.

    Args:
        distribution: of one image.
        seed: with which the case's samples were drawn.
        class_names: names of the classes.
    """

    settings: ClassVar[type[Settings]]

    def __init__(self, distribution: Any, seed: int, class_names: list[str]) -> None:
        self.distribution = distribution
        self.seed = seed
        self.class_names = class_names

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What the page needs to offer the choice."""

    @abstractmethod
    def choose(self, settings: Any) -> torch.Tensor:
        """The label map of a choice, uint8 ``[1, *S]``."""

    def label_map(self, text: str) -> torch.Tensor:
        """
        The label map of a choice.

        Args:
            text: the settings in JSON.

        Returns:
            uint8 ``[1, *S]``.

        Raises:
            CaseError: when the settings are no choice.
        """
        try:
            settings = self.settings.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise CaseError(f"settings{': ' if place else ''}{place}: {first['msg']}.") from None
        with torch.no_grad():
            return self.choose(settings)


class SSNSettings(Settings):
    """A sample again, its deviation from the mean scaled: as a whole, class by class, and rank by rank."""

    sample: int = Field(ge=0, lt=2**16)
    temperature: float = Field(default=1.0, ge=RANGE[0], le=RANGE[1])
    class_scale: list[float]
    rank_scale: list[float]


class SSNEditor(Editor):
    """Of a Stochastic Segmentation Network."""

    distribution: LowRankNormal
    settings = SSNSettings

    def description(self) -> dict[str, Any]:
        """Its classes and ranks."""
        return {"kind": "ssn", "classes": self.class_names, "rank": self.distribution.rank, "range": list(RANGE)}

    def choose(self, settings: SSNSettings) -> torch.Tensor:
        """All scales at 1 give the sample itself, the temperature 0 gives the single answer."""
        for name, values in (("class_scale", settings.class_scale), ("rank_scale", settings.rank_scale)):
            if not all(RANGE[0] <= value <= RANGE[1] for value in values):
                raise CaseError(f"settings: {name} must lie in {list(RANGE)}, got {values}.")
        try:
            scaled = self.distribution.scaled(settings.temperature, settings.class_scale, settings.rank_scale)
        except ValueError as error:
            raise CaseError(f"settings: {error}") from None
        generator = torch.Generator(self.distribution.mean.device).manual_seed(self.seed)
        if settings.sample:
            draw_seeds(settings.sample, generator)  # those of the samples before it
        return scaled.label_maps(1, generator).labels[:, 0]


class LatentSettings(Settings):
    """A place in the plane of two latent dimensions, in standard deviations of the prior from its mean."""

    axes: tuple[int, int] = Field(strict=False)
    values: tuple[float, float] = Field(strict=False)


class LatentEditor(Editor):
    """Of a network with a latent vector; the other dimensions stay at the prior's mean."""

    distribution: LatentDistribution
    settings = LatentSettings

    def description(self) -> dict[str, Any]:
        """Its number of dimensions."""
        return {"kind": "latent", "dims": self.distribution.mean.shape[1], "range": list(RANGE)}

    def choose(self, settings: LatentSettings) -> torch.Tensor:
        """Decode the place."""
        mean, deviation = self.distribution.mean, self.distribution.log_std.exp()
        dims = mean.shape[1]
        if not all(0 <= axis < dims for axis in settings.axes):
            raise CaseError(f"settings: axes must be two of the {dims} dimensions, got {list(settings.axes)}.")
        if not all(RANGE[0] <= value <= RANGE[1] for value in settings.values):
            raise CaseError(f"settings: values must lie in {list(RANGE)}, got {list(settings.values)}.")
        latent = mean.clone()
        for axis, value in zip(settings.axes, settings.values, strict=True):
            latent[:, axis] = mean[:, axis] + value * deviation[:, axis]
        return most_probable_class(plain(self.distribution.decode(latent[:, None]))[:, 0])


class ExpertSettings(Settings):
    """An expert at its mean, or one of its draws."""

    expert: int
    seed: int | None = Field(default=None, ge=0, lt=_MOST_SEEDS)


class ExpertEditor(Editor):
    """Of a mixture of experts."""

    distribution: ExpertMixtureDistribution
    settings = ExpertSettings

    def description(self) -> dict[str, Any]:
        """The experts' probabilities."""
        return {"kind": "experts", "probabilities": [float(each) for each in self.distribution.gate[0]]}

    def choose(self, settings: ExpertSettings) -> torch.Tensor:
        """Decode the expert's latent."""
        mean, log_std = self.distribution.mean, self.distribution.log_std
        if not 0 <= settings.expert < len(mean):
            raise CaseError(f"settings: expert must be one of the {len(mean)}, got {settings.expert}.")
        latent = mean[settings.expert][None]
        if settings.seed is not None:
            generator = torch.Generator(mean.device).manual_seed(settings.seed)
            latent = draw_latent(latent, log_std[settings.expert][None, None].expand_as(latent), generator)
        return most_probable_class(plain(self.distribution.decode(latent[:, None]))[:, 0])


class CodeSettings(Settings):
    """A place between two codes that two seeds draw."""

    seeds: tuple[int, int] = Field(strict=False)
    position: float = Field(ge=0, le=1)


class CodeEditor(Editor):
    """Of calibrated adversarial refinement."""

    distribution: RefinedDistribution
    settings = CodeSettings

    def description(self) -> dict[str, Any]:
        """The length of the code."""
        return {"kind": "code", "dims": self.distribution.mean.shape[1]}

    def choose(self, settings: CodeSettings) -> torch.Tensor:
        """Decode the code between the two, on the arc that keeps its length typical of the prior."""
        if not all(0 <= seed < _MOST_SEEDS for seed in settings.seeds):
            raise CaseError(f"settings: seeds must be at least 0, got {list(settings.seeds)}.")
        mean, deviation = self.distribution.mean, self.distribution.log_std.exp()
        generators = (torch.Generator(mean.device).manual_seed(seed) for seed in settings.seeds)
        first, second = ((self.distribution.sample_latents(1, each)[:, 0] - mean) / deviation for each in generators)
        angle = settings.position * math.pi / 2
        # of two independent normal codes; where both are one code, its length is kept as well
        mixed = math.cos(angle) * first + math.sin(angle) * second
        if settings.seeds[0] == settings.seeds[1]:
            mixed = first
        return most_probable_class(plain(self.distribution.decode((mean + deviation * mixed)[:, None]))[:, 0])


class MaskedEditor(Editor):
    """An editor whose label maps are background outside a region."""

    def __init__(self, editor: Editor, mask: torch.Tensor) -> None:
        self.editor = editor
        self.mask = mask
        self.settings = editor.settings  # type: ignore[misc]

    def description(self) -> dict[str, Any]:
        """That of the editor given."""
        return self.editor.description()

    def choose(self, settings: Any) -> torch.Tensor:
        """That of the editor given, within the region."""
        labels = self.editor.choose(settings)
        return labels * (self.mask.to(labels.device)[:, 0] > 0)


_EDITORS: tuple[tuple[type[PredictiveDistribution], type[Editor]], ...] = (
    (LowRankNormal, SSNEditor),
    (RefinedDistribution, CodeEditor),
    (LatentDistribution, LatentEditor),
    (ExpertMixtureDistribution, ExpertEditor),
)


def make_editor(distribution: PredictiveDistribution, seed: int, class_names: list[str]) -> Editor:
    """
    The editor of a distribution.

    Args:
        distribution: of one image.
        seed: with which the case's samples were drawn.
        class_names: names of the classes.

    Raises:
        CaseError: when there is none for it; the message says so to the user.
    """
    if isinstance(distribution, MaskedDistribution):
        return MaskedEditor(make_editor(distribution.distribution, seed, class_names), distribution.mask)
    for kind, editor in _EDITORS:
        if isinstance(distribution, kind):
            return editor(distribution, seed, class_names)
    if isinstance(distribution, WindowedDistribution):
        raise CaseError(
            "There are no controls: this network sees the image in windows, and its latent is not one of the image."
        )
    raise CaseError(f"There are no controls for the samples of this network ({type(distribution).__name__}).")
