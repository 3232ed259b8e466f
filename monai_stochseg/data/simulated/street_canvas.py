# SPDX-License-Identifier: Apache-2.0
"""A picture and its label map, drawn together from the far to the near."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float, float]  # to the right, up and ahead of the camera's foot, in m
Colour = Sequence[float] | np.ndarray  # red, green and blue from 0 to 255

NEAR = 1.5  # m ahead, objects are cut off there
OVERSAMPLING = 2  # so that the picture's edges are smooth


class StreetCanvas:
    """
    A pinhole camera above a flat street, and what has been drawn in its view.

    Args:
        size: H and W in pixels.
        eye: height of the camera in m.
        middle: row and column of the vanishing point, as shares of H and W.
        haze: colour of what is far.
        sight: distance in m at which the haze takes 63 %.
    """

    def __init__(
        self, size: tuple[int, int], eye: float, middle: tuple[float, float], haze: Sequence[float], sight: float
    ) -> None:
        height, width = (OVERSAMPLING * n for n in size)
        self.eye = eye
        self.row, self.column = middle[0] * height, middle[1] * width
        self.focal = 1.1 * width  # as in Cityscapes' camera
        self.haze, self.sight = haze, sight
        self.colours = Image.new("RGB", (width, height))
        self.classes = Image.new("L", (width, height))
        self._pens = ImageDraw.Draw(self.colours, "RGBA"), ImageDraw.Draw(self.classes)

    def pixels(self, metres: float, ahead: float) -> float:
        """How many (oversampled) pixels a length has at a distance."""
        return self.focal * metres / ahead

    def polygon(
        self, label: int | None, colour: Colour, points: Sequence[Point], opacity: float = 1, nearest: bool = False
    ) -> None:
        """
        Draw a polygon in space.

        Args:
            label: its class; None keeps the class of what is behind, such as under a window or a shadow.
            colour: its colour without haze.
            points: its corners.
            opacity: share of its colour.
            nearest: haze of its nearest point, not of its middle.
        """
        depths = [ahead for _, _, ahead in points]
        if min(depths) < NEAR:
            points = _clip(points)
            depths = [ahead for _, _, ahead in points]
        if len(points) < 3:
            return
        corners = [self._project(*point) for point in points]
        columns, rows = zip(*corners, strict=True)
        if self._outside(min(columns), min(rows), max(columns), max(rows)):
            return
        fill = self._fill(colour, min(depths) if nearest else sum(depths) / len(depths), opacity)
        self._pens[0].polygon(corners, fill)
        if label is not None:
            self._pens[1].polygon(corners, label)

    def board(self, label: int | None, colour: Colour, foot: Point, points: Iterable[tuple[float, float]]) -> None:
        """Draw a polygon that faces the camera, its corners in m to the right of and above a foot."""
        right, up, ahead = foot
        self.polygon(label, colour, [(right + x, up + y, ahead) for x, y in points])

    def disc(
        self,
        label: int | None,
        colour: Colour,
        foot: Point,
        center: tuple[float, float],
        radii: tuple[float, float],
        ring: float = 0,
    ) -> None:
        """Draw an ellipse that faces the camera; with ``ring``, in m, only its border is coloured."""
        right, up, ahead = foot
        column, row = self._project(right + center[0], up + center[1], ahead)
        dx, dy = (self.pixels(radius, ahead) for radius in radii)
        box = (column - dx, row - dy, column + dx, row + dy)
        if self._outside(*box):
            return
        fill = self._fill(colour, ahead, 1)
        if ring:
            self._pens[0].ellipse(box, None, fill, max(1, round(self.pixels(ring, ahead))))
        else:
            self._pens[0].ellipse(box, fill)
        if label is not None:
            self._pens[1].ellipse(box, label)

    def ground(self) -> tuple[np.ndarray, np.ndarray]:
        """Where on the ground each pixel of the picture lies, to the right and ahead in m, ``[H, W]`` each."""
        width, height = (n // OVERSAMPLING for n in self.colours.size)
        below = np.maximum(OVERSAMPLING * (np.arange(height) + 0.5) - self.row, 1)[:, None]
        ahead = self.focal * self.eye / below
        right = (OVERSAMPLING * (np.arange(width) + 0.5) - self.column) * ahead / self.focal
        return right, np.broadcast_to(ahead, right.shape)

    def picture(self) -> np.ndarray:
        """The picture, ``[H, W, 3]`` float32 from 0 to 255."""
        return np.asarray(self.colours.reduce(OVERSAMPLING), dtype=np.float32)

    def label(self) -> np.ndarray:
        """The label map, ``[H, W]`` uint8."""
        half = OVERSAMPLING // 2
        return np.ascontiguousarray(np.asarray(self.classes)[half::OVERSAMPLING, half::OVERSAMPLING])

    def _project(self, right: float, up: float, ahead: float) -> tuple[float, float]:
        scale = self.focal / ahead
        return self.column + right * scale, self.row + (self.eye - up) * scale

    def _outside(self, left: float, top: float, right: float, bottom: float) -> bool:
        width, height = self.colours.size
        return right < 0 or left > width or bottom < 0 or top > height

    def _fill(self, colour: Colour, ahead: float, opacity: float) -> tuple[int, ...]:
        clear = math.exp(-ahead / self.sight)
        own = colour.tolist() if isinstance(colour, np.ndarray) else colour
        red, green, blue = (int(clear * a + (1 - clear) * b) for a, b in zip(own, self.haze, strict=True))
        return min(red, 255), min(green, 255), min(blue, 255), int(255 * opacity)


def _clip(points: Sequence[Point]) -> list[Point]:
    """The part of a polygon that lies ahead of the camera."""
    kept: list[Point] = []
    for one, other in zip(points, [*points[1:], points[0]], strict=True):
        if one[2] >= NEAR:
            kept.append(one)
        if (one[2] < NEAR) != (other[2] < NEAR):
            share = (NEAR - one[2]) / (other[2] - one[2])
            right, up = (a + share * (b - a) for a, b in zip(one[:2], other[:2], strict=True))
            kept.append((right, up, NEAR))
    return kept
