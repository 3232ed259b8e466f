# SPDX-License-Identifier: Apache-2.0
"""What stands, walks and drives in a simulated street."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from ..cityscapes import CITYSCAPES_CLASSES as ID
from ..cityscapes import CITYSCAPES_VOID
from .street_canvas import Colour, Point, StreetCanvas

PAINTS = ((25, 25, 30), (60, 62, 68), (130, 133, 138), (205, 207, 210), (140, 25, 25), (30, 50, 100), (40, 70, 55))
CLOTHES = ((30, 32, 40), (60, 60, 65), (45, 60, 95), (120, 40, 45), (170, 165, 155), (70, 85, 60), (190, 150, 60))
SKINS = ((226, 180, 150), (190, 140, 105), (110, 75, 55))
LEAVES = ((62, 88, 38), (80, 100, 45), (48, 76, 40), (100, 98, 45))
METAL, RUBBER, GLASS = (95, 98, 100), (18, 18, 18), (45, 55, 65)

# Side views from the rear bumper on: metres ahead and up; and the windows in them.
CAR = ((0, 0.35), (0, 0.85), (0.15, 0.98), (0.75, 1.45), (2.4, 1.48), (3.2, 1.0), (4.2, 0.82), (4.35, 0.35))
CAR_WINDOWS = (((0.45, 1.0), (0.9, 1.38), (1.6, 1.4), (1.6, 1.0)), ((1.7, 1.0), (1.7, 1.4), (2.3, 1.4), (2.95, 1.0)))
VAN = ((0, 0.4), (0, 1.0), (0.05, 1.15), (0.2, 1.9), (3.4, 1.95), (4.1, 1.2), (4.8, 1.0), (4.9, 0.4))
VAN_WINDOWS = (((0.4, 1.2), (0.5, 1.8), (1.8, 1.8), (1.8, 1.2)), ((2.0, 1.2), (2.0, 1.8), (3.3, 1.8), (3.8, 1.2)))
TRUCK = ((0, 0.6), (0, 1.1), (0, 3.5), (6.2, 3.5), (6.3, 2.9), (7.9, 2.8), (8.0, 1.6), (8.1, 0.6))
TRUCK_WINDOWS = (((6.7, 1.7), (6.7, 2.5), (7.7, 2.5), (7.9, 1.7)),)
BUS = ((0, 0.4), (0, 1.5), (0, 2.6), (0, 3.1), (11.4, 3.1), (11.5, 2.8), (11.6, 1.2), (11.7, 0.4))
BUS_WINDOWS = tuple(((z, 1.3), (z, 2.6), (z + 1.6, 2.6), (z + 1.6, 1.3)) for z in (0.4, 2.2, 4.0, 5.8, 7.6, 9.4))
TRAIN = ((0, 0.35), (0.1, 1.5), (0.4, 2.9), (0.5, 3.4), (24, 3.4), (24.1, 2.9), (24.4, 1.5), (24.5, 0.35))
TRAIN_WINDOWS = tuple(((z, 1.4), (z, 2.7), (z + 2.3, 2.7), (z + 2.3, 1.4)) for z in np.arange(1, 23, 2.6).tolist())

# Width, side view, its edges that are of glass, windows, and where the wheels are with their radius.
VEHICLES = MappingProxyType(
    {
        "car": (1.8, CAR, (2, 4), CAR_WINDOWS, (0.75, 3.4), 0.32),
        "van": (1.9, VAN, (2, 4), VAN_WINDOWS, (0.85, 3.9), 0.34),
        "truck": (2.5, TRUCK, (5,), TRUCK_WINDOWS, (1.2, 2.3, 6.9), 0.5),
        "bus": (2.5, BUS, (1, 5), BUS_WINDOWS, (2.6, 8.9), 0.5),
        "train": (2.6, TRAIN, (1, 5), TRAIN_WINDOWS, (), 0.0),
    }
)


def vehicle(canvas: StreetCanvas, rng: np.random.Generator, kind: str, right: float, ahead: float, away: bool) -> None:
    """Draw one of the vehicles along the street, its nearest end at ``ahead``; ``away``: the camera sees its rear."""
    width, profile, panes, windows, wheels, radius = VEHICLES[kind]
    label = ID["car" if kind == "van" else kind]
    paint = np.asarray(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.8, 1.2)
    if kind in ("bus", "train"):
        paint = np.asarray(((215, 195, 60), (190, 45, 40), (215, 215, 210))[rng.integers(3)]) * rng.uniform(0.8, 1.1)
    length = profile[-1][0]

    def at(along: float) -> float:
        return ahead + (along if away else length - along)

    one, other = right - width / 2, right + width / 2
    flank = other if right < 0 else one  # the visible one
    canvas.polygon(None, (0, 0, 0), _floor(one - 0.15, other + 0.15, at(-0.2), at(length + 0.2)), 0.55)
    # across: from the far end to the near one, the roof before what hides it
    edges = list(enumerate(pairwise(profile)))
    for edge, ((z0, y0), (z1, y1)) in reversed(edges) if away else edges:
        light = 0.75 if abs(y1 - y0) > abs(z1 - z0) else 1.15
        corners = [(one, y0, at(z0)), (other, y0, at(z0)), (other, y1, at(z1)), (one, y1, at(z1))]
        canvas.polygon(label, paint * light, corners)
        if edge in panes:
            canvas.polygon(None, GLASS, [(x + 0.12 * (right - x), y, z) for x, y, z in corners])
    canvas.polygon(label, paint * 0.9, [(flank, y, at(z)) for z, y in profile])
    for window in windows:
        canvas.polygon(None, GLASS, [(flank, y, at(z)) for z, y in window])
    for wheel in wheels:
        for shade, r in ((RUBBER, radius), (METAL, 0.55 * radius)):
            angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
            rim = [(flank, radius + r * np.sin(t), at(wheel + r * np.cos(t))) for t in angles.tolist()]
            canvas.polygon(label if r == radius else None, shade, rim)
    _end(canvas, (right, 0, ahead), width, away)


def _end(canvas: StreetCanvas, foot: Point, width: float, away: bool) -> None:
    """Bumper, wheels, lights and plate of the end that faces the camera."""
    half = width / 2
    lamp = (200, 30, 25) if away else (245, 245, 225)
    canvas.board(None, (30, 30, 30), foot, _rectangle(-half, half, 0.3, 0.45))
    canvas.board(None, (225, 225, 215), foot, _rectangle(-0.26, 0.26, 0.52, 0.64))
    for sign in (-1, 1):
        canvas.board(None, RUBBER, foot, _rectangle(sign * half * 0.95, sign * half * 0.72, 0, 0.36))
        canvas.board(None, lamp, foot, _rectangle(sign * half * 0.97, sign * half * 0.7, 0.68, 0.84))


def person(canvas: StreetCanvas, rng: np.random.Generator, foot: Point) -> None:
    """Draw someone who stands or walks."""
    size = rng.uniform(0.86, 1.08) * (0.65 if rng.random() < 0.08 else 1)  # some are children
    _human(canvas, rng, ID["person"], foot, size, stride=rng.uniform(0.02, 0.32), lift=0)


def cyclist(canvas: StreetCanvas, rng: np.random.Generator, foot: Point, machine: str, ridden: bool) -> None:
    """Draw a bicycle or a motorcycle, seen obliquely, ridden or parked."""
    label, turn, frame = ID[machine], rng.uniform(0.45, 1) * rng.choice([-1, 1]), PAINTS[rng.integers(len(PAINTS))]
    heavy = machine == "motorcycle"
    radius, half = (0.32, 0.7) if heavy else (0.34, 0.52)
    wide = abs(turn)
    for sign in (-1, 1):
        center = (sign * half * turn, radius)
        canvas.disc(label, RUBBER, foot, center, (radius * wide, radius), ring=0.12 if heavy else 0.05)
    a, b, top = -half * turn, half * turn, 0.8 if heavy else 0.9
    body = [(a, radius), (0.35 * a, top), (0.7 * b, top + 0.1), (b, radius), (0.1 * b, 0.28)]
    if heavy:
        canvas.board(label, frame, foot, body)
    else:
        for one, other in zip(body, body[1:] + body[:1], strict=True):
            _bar(canvas, label, frame, foot, one, other, 0.05)
        _bar(canvas, label, frame, foot, body[1], body[4], 0.05)
    canvas.board(label, (25, 25, 25), foot, _rectangle(0.35 * a - 0.12, 0.35 * a + 0.12, top, top + 0.07))
    _bar(canvas, label, METAL, foot, (0.7 * b - 0.2, top + 0.15), (0.7 * b + 0.2, top + 0.15), 0.06)
    if ridden:
        _human(canvas, rng, ID["rider"], foot, rng.uniform(0.9, 1.0), stride=0.14, lift=0.28, helmet=rng.random() < 0.6)


def _human(
    canvas: StreetCanvas,
    rng: np.random.Generator,
    label: int,
    foot: Point,
    size: float,
    stride: float,
    lift: float,
    helmet: bool = False,
) -> None:
    coat, trousers, shoes = (np.asarray(CLOTHES[i]) * rng.uniform(0.7, 1.3) for i in rng.integers(len(CLOTHES), size=3))
    skin, hair = SKINS[rng.integers(len(SKINS))], ((40, 30, 25), (110, 80, 50), (150, 145, 140))[rng.integers(3)]
    build, swing = rng.uniform(0.85, 1.2), rng.uniform(0.02, 0.16)

    def place(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * size * build, lift + y * size) for x, y in points]

    for sign in (-1, 1):
        toe = sign * (0.08 + stride)
        leg = ((sign * 0.02, 0.9), (sign * 0.17, 0.9), (toe + 0.06, 0.05), (toe - 0.06, 0.05))
        canvas.board(label, trousers * (1 if sign > 0 else 0.8), foot, place(leg))
        canvas.board(label, shoes * 0.5, foot, place(_rectangle(toe - 0.09, toe + 0.09, 0, 0.07)))
        arm = ((sign * 0.17, 1.46), (sign * 0.26, 1.42), (sign * (0.27 + swing), 0.85), (sign * (0.19 + swing), 0.85))
        canvas.board(label, coat * 0.85, foot, place(arm))
        hand = (sign * (0.23 + swing) * size * build, lift + 0.82 * size)
        canvas.disc(label, skin, foot, hand, (0.05 * size, 0.06 * size))
    torso = ((-0.1, 1.5), (-0.21, 1.44), (-0.18, 0.82), (0.18, 0.82), (0.21, 1.44), (0.1, 1.5))
    canvas.board(label, coat, foot, place(torso))
    canvas.board(label, skin, foot, place(_rectangle(-0.05, 0.05, 1.45, 1.58)))
    canvas.disc(label, CLOTHES[rng.integers(len(CLOTHES))] if helmet else hair, foot, *_head(lift, size, 1.69, 0.115))
    canvas.disc(label, skin, foot, *_head(lift, size, 1.65, 0.09))


def _head(lift: float, size: float, up: float, radius: float) -> tuple[tuple[float, float], tuple[float, float]]:
    return (0, lift + up * size), (radius * size, 1.2 * radius * size)


def tree(canvas: StreetCanvas, rng: np.random.Generator, foot: Point, height: float) -> None:
    """Draw a tree: its trunk is vegetation too, as in Cityscapes."""
    bark = np.asarray((85, 70, 58)) * rng.uniform(0.7, 1.2)
    girth = 0.035 * height * rng.uniform(0.8, 1.3)
    trunk = [(-girth, 0), (-0.5 * girth, height / 2), (0.5 * girth, height / 2), (girth, 0)]
    canvas.board(ID["vegetation"], bark, foot, trunk)
    foliage(canvas, rng, foot, (0, 0.68 * height), (rng.uniform(0.24, 0.36) * height, 0.32 * height))


def foliage(
    canvas: StreetCanvas,
    rng: np.random.Generator,
    foot: Point,
    center: tuple[float, float],
    radii: tuple[float, float],
) -> None:
    """Draw leaves as overlapping tufts, darker below, in m."""
    green = np.asarray(LEAVES[rng.integers(len(LEAVES))]) * rng.uniform(0.8, 1.2)
    tufts = int(np.clip(canvas.pixels(radii[1], foot[2]) / 2, 6, 26))
    angle, radius = rng.uniform(0, 2 * np.pi, tufts), np.sqrt(rng.uniform(0, 1, tufts))
    across, up = radius * np.cos(angle), radius * np.sin(angle)
    share, tone = rng.uniform(0.2, 0.42, tufts), 1 + 0.3 * up + 0.12 * rng.standard_normal(tufts)
    discs = np.stack([center[0] + radii[0] * across, center[1] + radii[1] * up, share * radii[0], share * radii[1]], 1)
    order = np.argsort(up)
    for (x, y, dx, dy), shade in zip(discs[order].tolist(), (green * tone[order, None]).tolist(), strict=True):
        canvas.disc(ID["vegetation"], shade, foot, (x, y), (dx, dy))


def lamp(canvas: StreetCanvas, foot: Point) -> None:
    """Draw a street lamp whose arm reaches over the road."""
    inward = -1 if foot[0] > 0 else 1
    _bar(canvas, ID["pole"], METAL, foot, (0, 0), (0, 6.5), 0.16)
    _bar(canvas, ID["pole"], METAL, foot, (0, 6.5), (1.3 * inward, 6.7), 0.14)
    canvas.board(ID["pole"], (190, 190, 185), foot, _rectangle(1.0 * inward, 1.7 * inward, 6.6, 6.8))


def traffic_sign(canvas: StreetCanvas, rng: np.random.Generator, foot: Point) -> None:
    """Draw a pole with one or two traffic signs."""
    height = rng.uniform(2.1, 2.8)
    _bar(canvas, ID["pole"], METAL, foot, (0, 0), (0, height + 0.3), 0.09)
    label = ID["traffic sign"]
    for _ in range(rng.integers(1, 3)):
        size, shape = rng.uniform(0.32, 0.42), rng.integers(4)
        if shape == 0:  # a prohibition
            canvas.disc(label, (190, 30, 35), foot, (0, height), (size, size))
            canvas.disc(None, (235, 235, 230), foot, (0, height), (0.7 * size, 0.7 * size))
        elif shape == 1:  # a warning
            for one, colour, r in ((label, (190, 30, 35), size), (None, (235, 235, 230), 0.55 * size)):
                low = height - 0.4 * size - 0.6 * r
                canvas.board(one, colour, foot, [(-r, low), (0, low + 2 * r), (r, low)])
        elif shape == 2:  # an order
            canvas.disc(label, (30, 75, 160), foot, (0, height), (size, size))
            _bar(canvas, None, (235, 235, 230), foot, (0, height - 0.5 * size), (0, height + 0.5 * size), 0.1)
        else:  # a direction or parking
            canvas.board(label, (30, 75, 160), foot, _rectangle(-size, size, height - size, height + size))
            canvas.board(None, (235, 235, 230), foot, _rectangle(-0.2, 0.15, height - 0.15, height + 0.2))
        height -= 0.85


def traffic_light(canvas: StreetCanvas, rng: np.random.Generator, foot: Point) -> None:
    """Draw a pole with a traffic light."""
    _bar(canvas, ID["pole"], METAL, foot, (0, 0), (0, 3.4), 0.12)
    canvas.board(ID["traffic light"], (22, 24, 24), foot, _rectangle(-0.2, 0.2, 2.45, 3.5))
    lit = rng.integers(3)
    for i, colour in enumerate(((235, 50, 40), (240, 180, 50), (60, 220, 140))):
        shade = colour if i == lit else (55, 55, 52)
        canvas.disc(None, shade, foot, (0, 3.3 - 0.32 * i), (0.13, 0.13))


def dustbin(canvas: StreetCanvas, rng: np.random.Generator, foot: Point) -> None:
    """Draw a dustbin, which belongs to no class."""
    colour = np.asarray(((60, 70, 60), (40, 45, 50), (150, 110, 40))[rng.integers(3)])
    canvas.board(CITYSCAPES_VOID, colour, foot, _rectangle(-0.3, 0.3, 0, 1.0))
    canvas.board(None, colour * 0.6, foot, _rectangle(-0.33, 0.33, 0.95, 1.08))


def _bar(
    canvas: StreetCanvas,
    label: int | None,
    colour: Colour,
    foot: Point,
    start: tuple[float, float],
    end: tuple[float, float],
    width: float,
) -> None:
    """Draw a straight bar, never thinner than a pixel of the label map."""
    width = max(width, 2.2 / canvas.pixels(1, foot[2]))
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max(float(np.hypot(dx, dy)), 1e-6)
    x, y = -dy / length * width / 2, dx / length * width / 2
    (ax, ay), (bx, by) = start, end
    canvas.board(label, colour, foot, [(ax + x, ay + y), (ax - x, ay - y), (bx - x, by - y), (bx + x, by + y)])


def _rectangle(left: float, right: float, low: float, high: float) -> list[tuple[float, float]]:
    return [(left, low), (right, low), (right, high), (left, high)]


def _floor(left: float, right: float, near: float, far: float) -> list[Point]:
    return [(left, 0, near), (right, 0, near), (right, 0, far), (left, 0, far)]
