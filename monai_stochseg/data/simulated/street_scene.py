# SPDX-License-Identifier: Apache-2.0
"""The composition of a simulated street: sky, houses, ground, and what is on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

from ..cityscapes import CITYSCAPES_CLASSES as ID
from ..cityscapes import CITYSCAPES_VOID
from .street_canvas import NEAR, OVERSAMPLING, Colour, Point, StreetCanvas
from .street_objects import (
    PAINTS,
    cyclist,
    dustbin,
    foliage,
    lamp,
    person,
    traffic_light,
    traffic_sign,
    tree,
    vehicle,
)

CURB = 0.12  # m
STOREY = 3.1  # m
FAR = 400.0  # m
WALLS = (
    (196, 178, 150),
    (170, 110, 85),
    (205, 200, 190),
    (150, 140, 130),
    (215, 190, 135),
    (125, 95, 80),
    (165, 170, 175),
)
ROOFS = ((120, 65, 50), (75, 70, 72), (95, 60, 50))
STONES = ((150, 140, 130), (140, 95, 80), (180, 178, 172))
FENCES = ((95, 75, 55), (60, 75, 65), (165, 168, 168))
PAVINGS = ((160, 155, 150), (150, 135, 125), (140, 142, 145))
LAWN = np.array((92, 106, 60))
WHITE = (225, 225, 220)

Sides = dict[int, list[float]]

# Standard deviation of the texture's fine and coarse part, as shares of the brightness.
_TEXTURE = np.full((2, 256), 0.03, dtype=np.float32)
for _name, _shares in {
    "road": (0.03, 0.05),
    "sidewalk": (0.05, 0.06),
    "building": (0.05, 0.06),
    "wall": (0.08, 0.1),
    "vegetation": (0.24, 0.12),
    "terrain": (0.13, 0.12),
    "sky": (0.004, 0.0),
}.items():
    _TEXTURE[:, ID[_name]] = _shares


def street_scene(size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """
    Compose a scene.

    Args:
        size: H and W in pixels.
        rng: source of the draws.

    Returns:
        the picture, ``[H, W, 3]`` uint8, and the train ids, ``[H, W]`` uint8.
    """
    blue = rng.uniform(0, 1)  # clear sky, or overcast
    horizon = (1 - blue) * np.array([222, 222, 222]) + blue * np.array([205, 220, 235])
    canvas = StreetCanvas(
        size,
        eye=rng.uniform(1.2, 1.7),
        middle=(rng.uniform(0.4, 0.48), rng.uniform(0.42, 0.58)),
        haze=horizon.tolist(),
        sight=rng.uniform(120, 350),
    )
    # left and right: how far aside the road, the sidewalk, and what is between it and the houses end
    sides: Sides = {}
    for side, (least, most) in {-1: (5.9, 8), 1: (2.9, 5.2)}.items():
        widths = rng.uniform(least, most), rng.uniform(2.5, 6), max(0, rng.uniform(-3, 4))
        sides[side] = np.cumsum(widths).tolist()
    _sky(canvas, rng, horizon, blue)
    end = rng.uniform(70, 170)
    _backdrop(canvas, rng, end)
    _floor(canvas, ID["terrain"], LAWN, -60, 60, 0)
    sunny = rng.choice((-1, 1))
    for side, (*_, edge) in sides.items():
        _row(canvas, rng, side, edge, end, rng.uniform(0.9, 1.15) if side == sunny else rng.uniform(0.7, 0.9))
    _ground(canvas, rng, sides)
    for _, draw in sorted(_things(canvas, rng, sides), key=lambda thing: -thing[0]):
        draw()
    _bonnet(canvas, rng)
    label = canvas.label()
    return _photograph(canvas, rng, label), label


def _sky(canvas: StreetCanvas, rng: np.random.Generator, horizon: np.ndarray, blue: float) -> None:
    width, height = (n // OVERSAMPLING for n in canvas.colours.size)
    zenith = (1 - blue) * np.array([178, 182, 188]) + blue * np.array([90, 145, 205])
    share = np.linspace(1, 0, height)[:, None, None] ** 1.5
    cloud = sum(_field(rng, (height, width), n) / n**0.6 for n in (4, 9, 20))
    cover = np.clip((cloud + rng.uniform(-0.6, 0.5)) * 0.9, 0, 1)[..., None] * 0.8
    colours = share * zenith + (1 - share) * horizon
    colours = colours + cover * (np.array([240, 240, 240]) * rng.uniform(0.9, 1.02) - colours)
    sky = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
    canvas.colours.paste(sky.resize(canvas.colours.size, Image.Resampling.BILINEAR))
    canvas.classes.paste(ID["sky"], (0, 0, *canvas.classes.size))


def _backdrop(canvas: StreetCanvas, rng: np.random.Generator, end: float) -> None:
    """What stands across the far end of the street: houses or trees."""
    left = -45.0
    while left < 45:
        width = rng.uniform(8, 20)
        height = rng.uniform(5, 17)
        if rng.random() < 0.55:
            wall = np.asarray(WALLS[rng.integers(len(WALLS))]) * 0.9
            canvas.board(ID["building"], wall, (left, 0, end), [(0, 0), (0, height), (width, height), (width, 0)])
        else:
            foliage(canvas, rng, (left + width / 2, 0, end), (0, height / 2), (0.7 * width, 0.6 * height))
        left += width * rng.uniform(0.8, 1.1)


def _row(canvas: StreetCanvas, rng: np.random.Generator, side: int, edge: float, end: float, light: float) -> None:
    """Houses, walls and fences along one side of the street, from the far to the near."""
    ahead = end
    while ahead > NEAR:
        length = rng.uniform(9, 22)
        near = max(ahead - length, NEAR)
        kind = rng.choice(4, p=(0.76, 0.08, 0.1, 0.06))
        if kind == 0:
            _house(canvas, rng, side, edge, near, ahead, light)
        elif kind < 3:
            for z in np.linspace(ahead, near, 4)[1:].tolist():
                size = rng.uniform(2.5, 5)
                foliage(canvas, rng, (side * (edge + 3.5), 0, max(z, 3)), (0, size), (2.8, size))
            (_wall if kind == 1 else _fence)(canvas, rng, side * edge, near, ahead, light)
        ahead = near


def _house(
    canvas: StreetCanvas, rng: np.random.Generator, side: int, edge: float, near: float, far: float, light: float
) -> None:
    storeys = int(rng.integers(2, 7))
    height = STOREY * storeys + 0.8
    colour = np.asarray(WALLS[rng.integers(len(WALLS))]) * rng.uniform(0.75, 1.1)
    x, label = side * edge, ID["building"]
    roof = np.asarray(ROOFS[rng.integers(len(ROOFS))]) * light
    eaves, ridge, back = (x, height), (x + 5 * side, height + 4), x + 14 * side
    canvas.polygon(label, roof, [(*eaves, near), (*eaves, far), (*ridge, far), (*ridge, near)])
    canvas.polygon(label, colour * 0.8, [(x, 0, near), (*eaves, near), (back, height, near), (back, 0, near)])
    canvas.polygon(label, colour * light, _panel(x, 0, height, near, far), nearest=True)
    canvas.polygon(None, colour * light * 0.75, _panel(x, 0, 0.7, near, far), nearest=True)
    canvas.polygon(None, colour * light * 1.15, _panel(x, STOREY + 0.15, STOREY + 0.4, near, far))
    canvas.polygon(None, colour * light * 0.8, _panel(x, height - 0.35, height, near, far))
    step, tall, wide = rng.uniform(2, 3.2), rng.uniform(1.3, 1.9), rng.uniform(0.9, 1.3)
    shop = rng.random() < 0.5
    pane = np.asarray((55, 65, 78)) * rng.uniform(0.7, 1.5)
    frame = (225, 222, 215) if rng.random() < 0.6 else colour * light * 0.6
    for z in np.arange(near + 0.7, far - wide - 0.3, step).tolist():
        if canvas.pixels(wide, z) * edge / z < 1:  # too oblique to be seen
            break
        for storey in range(storeys):
            low = STOREY * storey + 1.0
            if storey == 0 and shop:
                canvas.polygon(None, pane * rng.uniform(0.6, 1.6), _panel(x, 0.5, 2.7, z, z + step - 0.3))
                continue
            if storey == 0 and rng.random() < 0.2:
                canvas.polygon(None, (85, 60, 45), _panel(x, 0, 2.3, z, z + 1.1))
                continue
            if canvas.eye + canvas.row * z / canvas.focal < low:  # above the picture
                break
            if canvas.pixels(0.1, z) > 0.6:
                canvas.polygon(None, frame, _panel(x, low - 0.12, low + tall + 0.12, z - 0.12, z + wide + 0.12))
            canvas.polygon(None, pane * rng.uniform(0.6, 1.5), _panel(x, low, low + tall, z, z + wide))


def _wall(canvas: StreetCanvas, rng: np.random.Generator, x: float, near: float, far: float, light: float) -> None:
    height = rng.uniform(1.4, 2.8)
    colour = np.asarray(STONES[rng.integers(len(STONES))]) * light
    canvas.polygon(ID["wall"], colour, _panel(x, 0, height, near, far))
    canvas.polygon(None, colour * 1.2, _panel(x, height - 0.15, height, near, far))


def _fence(canvas: StreetCanvas, rng: np.random.Generator, x: float, near: float, far: float, light: float) -> None:
    height, colour = rng.uniform(1.1, 1.9), np.asarray(FENCES[rng.integers(len(FENCES))]) * light
    canvas.polygon(ID["fence"], colour * 0.75, _panel(x, 0, height, near, far), opacity=0.8)
    for z in np.arange(near, far, 0.5).tolist():
        if canvas.pixels(0.15, z) * abs(x) / z < 0.5:
            break
        canvas.polygon(None, colour * 1.15, _panel(x, 0, height, z, z + 0.2))


def _ground(canvas: StreetCanvas, rng: np.random.Generator, sides: Sides) -> None:
    """Road with its marks, curbs, sidewalks and what is between them and the houses."""
    asphalt = np.asarray((105, 105, 108)) * rng.uniform(0.7, 1.2)
    paving = np.asarray(PAVINGS[rng.integers(len(PAVINGS))]) * rng.uniform(0.85, 1.15)
    left, right = -sides[-1][0], sides[1][0]
    _floor(canvas, ID["road"], asphalt, left - 0.2, right + 0.2, 0)  # its edge lies behind the curbs
    for _ in range(rng.integers(0, 5)):  # mended places
        x, z = rng.uniform(-4, 3), rng.uniform(4, 40)
        _slab(canvas, asphalt * rng.uniform(0.75, 1.1), x, x + rng.uniform(0.6, 2), z, z + rng.uniform(1, 8), 0.6)
    for z in np.arange(rng.uniform(0, 6), 120, 6).tolist():
        _slab(canvas, WHITE, -1.83, -1.68, z, z + 3)
    if rng.random() < 0.4:
        _slab(canvas, WHITE, right - 0.4, right - 0.28, 0, 150)
    if rng.random() < 0.25:  # a crossing
        z = rng.uniform(7, 20)
        for x in np.arange(left + 0.4, right - 0.5, 1).tolist():
            _slab(canvas, WHITE, x, x + 0.5, z, z + 3)
    for side, edges in sides.items():
        curb, inner, wall = (side * edge for edge in edges)
        if wall != inner:
            label, colour = (ID["terrain"], LAWN) if rng.random() < 0.5 else (ID["sidewalk"], paving * 0.92)
            _floor(canvas, label, colour, inner, wall, CURB)
        _floor(canvas, ID["sidewalk"], paving, curb, inner, CURB)
        canvas.polygon(ID["sidewalk"], paving * 0.65, _panel(curb, 0, CURB, NEAR, FAR), nearest=True)
        _floor(canvas, ID["sidewalk"], paving * 1.15, curb, curb + 0.18 * side, CURB)


def _things(canvas: StreetCanvas, rng: np.random.Generator, sides: Sides) -> list[tuple[float, Callable[[], None]]]:
    """All that stands on the ground: how far ahead it is, and what draws it."""
    things: list[tuple[float, Callable[[], None]]] = []

    def add(ahead: float, draw: Callable, *args: object) -> None:
        things.append((ahead, lambda: draw(canvas, *args)))

    def walk(side: int, margin: float = 0.35) -> float:
        """A place across the sidewalk."""
        return side * rng.uniform(sides[side][0] + margin, sides[side][2] - margin)

    def drive(kind: str, right: float, ahead: float, away: bool) -> None:
        add(ahead, vehicle, rng, kind, right, ahead, away)

    for side, (road, inner, _) in sides.items():
        curb, back = side * (road + 0.4), side * (inner - 0.3)
        for z in np.arange(rng.uniform(6, 25), 110, rng.uniform(18, 32)).tolist():
            add(z, lamp, (curb, CURB, z))
        if rng.random() < 0.45:  # an avenue
            step, height = rng.uniform(7, 14), rng.uniform(5, 10)
            for z in np.arange(rng.uniform(7, 16), 90, step).tolist():
                add(z, tree, rng, (curb if rng.random() < 0.8 else back, CURB, z), height * rng.uniform(0.85, 1.15))
        if rng.random() < 0.5:  # parked cars
            z = rng.uniform(5, 14)
            while z < 75:
                if rng.random() < 0.75:
                    kind = "van" if rng.random() < 0.15 else "car"
                    drive(kind, side * (road - 1.1), z, rng.random() < (0.9 if side > 0 else 0.15))
                z += rng.uniform(5.3, 9)
        for _ in range(rng.integers(0, 3)):
            z = rng.uniform(7, 40)
            add(z, traffic_sign, rng, (curb, CURB, z))
        for _ in range(rng.poisson(2.5)):
            z = rng.uniform(5, 35)
            add(z, person, rng, (walk(side), CURB, z))
        if rng.random() < 0.35:
            z = rng.uniform(5, 25)
            add(z, cyclist, rng, (walk(side), CURB, z), "bicycle" if rng.random() < 0.7 else "motorcycle", False)
        if rng.random() < 0.2:
            z = rng.uniform(5, 20)
            add(z, dustbin, rng, (walk(side), CURB, z))
    # one of each switched class near by
    side = int(rng.choice([-1, 1]))
    x = walk(side)
    z = abs(x) * rng.uniform(2.4, 3.6)
    add(z, person, rng, (x, CURB, z))
    x = -side * (sides[-side][0] + 0.5)
    z = abs(x) * rng.uniform(2.2, 4)
    add(z, tree, rng, (x, CURB, z), rng.uniform(5, 8))
    kinds, shares = ("car", "van", "bus", "truck", "train"), (0.68, 0.1, 0.07, 0.07, 0.08)
    drive(str(rng.choice(kinds[:4], p=(0.76, *shares[1:4]))), rng.uniform(-0.4, 0.5), rng.uniform(7, 28), True)
    drive(str(rng.choice(kinds, p=shares)), rng.uniform(-3.4, -2.9), rng.uniform(9, 30), False)
    if rng.random() < 0.5:
        drive("car", -3.2, rng.uniform(56, 80), False)
    if rng.random() < 0.35:
        z = rng.uniform(9, 25)
        for right in (-sides[-1][0] - 0.5, sides[1][0] + 0.5):
            add(z, traffic_light, rng, (right, CURB, z))
    if rng.random() < 0.25:  # someone crosses
        z = rng.uniform(9, 25)
        add(z, person, rng, (rng.uniform(-3, 3), 0, z))
    if rng.random() < 0.45:
        z = rng.uniform(6, 20)
        machine = "bicycle" if rng.random() < 0.75 else "motorcycle"
        add(z, cyclist, rng, (rng.uniform(1.6, sides[1][0] - 0.3), 0, z), machine, True)
    return things


def _bonnet(canvas: StreetCanvas, rng: np.random.Generator) -> None:
    """The own car, void as in Cityscapes."""
    paint = np.asarray(PAINTS[rng.integers(len(PAINTS))]) * 0.8
    canvas.disc(CITYSCAPES_VOID, paint, (0, 0, NEAR), (0, canvas.eye - 0.49), (0.62, 0.16))


def _photograph(canvas: StreetCanvas, rng: np.random.Generator, label: np.ndarray) -> np.ndarray:
    """Texture, exposure and noise, ``[H, W, 3]`` uint8."""
    height, width = label.shape
    right, ahead = canvas.ground()
    grain = rng.standard_normal((128, 128), dtype=np.float32)  # of the ground, finer where it is near
    cell = np.maximum(6 * ahead / canvas.focal, 0.04)  # m of a speck
    on_ground = grain[(right / cell).astype(int) % 128, (60 * np.log(ahead)).astype(int) % 128]
    fine = 0.7 * rng.standard_normal((height, width), dtype=np.float32) + 0.7 * _field(rng, label.shape, height // 3)
    fine = np.where(np.isin(label, [ID["road"], ID["sidewalk"], ID["terrain"]]), on_ground, fine)
    texture = 1 + _TEXTURE[0][label] * fine + _TEXTURE[1][label] * _field(rng, label.shape, 14)
    texture *= 1 + 0.08 * _field(rng, label.shape, 3)  # light and shade
    tint = rng.normal(1, 0.03, 3).astype(np.float32)
    light = canvas.picture() * texture[..., None] * tint / 255
    picture = 255 * rng.uniform(0.85, 1.15) * light.clip(0) ** np.float32(rng.uniform(0.75, 1.2))
    picture += np.float32(rng.uniform(1.5, 6)) * rng.standard_normal(picture.shape, dtype=np.float32)
    return picture.clip(0, 255).astype(np.uint8)


def _field(rng: np.random.Generator, size: tuple[int, ...], cells: int) -> np.ndarray:
    """A smooth random field of about unit variance, ``[H, W]``, with this many cells from top to bottom."""
    height, width = size
    grid = rng.standard_normal((cells, max(1, round(cells * width / height))), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def _floor(canvas: StreetCanvas, label: int, colour: Colour, left: float, right: float, up: float) -> None:
    """A strip of the ground up to the horizon, hazier with the distance."""
    depths = (NEAR, 6, 12, 25, 50, 100, FAR)
    for near, far in pairwise(depths):
        corners: Sequence[Point] = [(left, up, near), (right, up, near), (right, up, far), (left, up, far)]
        canvas.polygon(label, colour, corners, nearest=True)


def _slab(
    canvas: StreetCanvas, colour: Colour, left: float, right: float, near: float, far: float, opacity: float = 0.85
) -> None:
    """A mark on the road."""
    canvas.polygon(None, colour, [(left, 0, near), (right, 0, near), (right, 0, far), (left, 0, far)], opacity)


def _panel(x: float, low: float, high: float, near: float, far: float) -> list[Point]:
    """A rectangle along the street."""
    return [(x, low, near), (x, high, near), (x, high, far), (x, low, far)]
