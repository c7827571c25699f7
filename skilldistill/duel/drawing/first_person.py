"""A fight through the agent's eyes: sky, a gridded floor, and the opponent as a blocky figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skilldistill.duel.drawing import hud
from skilldistill.duel.drawing.canvas import Canvas, Colour, Picture, Point, mixed
from skilldistill.duel.drawing.hud import AGENT, DARK, HEIGHT, HIT, OPPONENT, WHITE, WIDTH
from skilldistill.duel.drawing.moment import Figure, Moment
from skilldistill.duel.rules import EYE_HEIGHT, HALF_WIDTH, HEALTH, HIT_BOX_GROWTH
from skilldistill.duel.rules import HEIGHT as TALL

Vector = NDArray[np.float64]

FIELD_OF_VIEW = math.radians(70)
"""From the top of the picture to its bottom."""
_FOCAL = 0.5 * HEIGHT / math.tan(0.5 * FIELD_OF_VIEW)
_NEAR = 0.05
"""Blocks; what is nearer to the eye is cut off."""
_HAZE = 26.0
"""Blocks in which the floor fades into the horizon."""

_ZENITH: Colour = (52, 92, 150)
_HORIZON: Colour = (172, 196, 222)
_TILE_A: Colour = (78, 98, 84)
_TILE_B: Colour = (88, 110, 94)
_LINE: Colour = (52, 66, 58)

_SKIN: Colour = (232, 190, 152)
_HAIR: Colour = (74, 50, 34)
_TROUSERS: Colour = (58, 66, 98)
_IN_REACH: Colour = (126, 240, 120)
_PIXEL = TALL / 32
"""Blocks; the figure is 32 of these tall."""


class _Camera:
    """The agent's eyes: turns places in the world into pixels."""

    def __init__(self, me: Figure) -> None:
        sin, cos = math.sin(me.yaw), math.cos(me.yaw)
        rise, flat = math.sin(me.pitch), math.cos(me.pitch)
        self.eye = np.array([me.x, me.y + EYE_HEIGHT, me.z])
        self.axes = np.array(
            [[cos, 0.0, -sin], [-rise * sin, flat, -rise * cos], [flat * sin, rise, flat * cos]]
        )
        """Right, up, forward, one a row."""

    def local(self, corners: Vector) -> Vector:
        """(k, 3) places in the world as (right, up, forward) of the eyes."""
        result: Vector = (corners - self.eye) @ self.axes.T
        return result


def _pixels(local: Vector) -> list[Point]:
    """Where (k, 3) places before the eyes appear; what is too near has been cut off before."""
    scale = _FOCAL / local[:, 2]
    x, y = 0.5 * WIDTH + local[:, 0] * scale, 0.5 * HEIGHT - local[:, 1] * scale
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _clipped(local: Vector) -> Vector:
    """The part of a polygon that lies beyond the near plane; (0, 3) if none does."""
    kept = []
    for here, there in zip(local, np.roll(local, -1, axis=0), strict=True):
        if here[2] >= _NEAR:
            kept.append(here)
        if (here[2] >= _NEAR) != (there[2] >= _NEAR):
            share = (_NEAR - here[2]) / (there[2] - here[2])
            kept.append(here + share * (there - here))
    return np.array(kept).reshape(-1, 3)


def draw(moment: Moment) -> Picture:
    """(480, 640, 3) picture of a moment."""
    canvas = Canvas(HEIGHT, WIDTH, _HORIZON)
    camera = _Camera(moment.agent)
    _sky_and_floor(canvas, camera)
    _shadow(canvas, camera, moment.opponent)
    _figure(canvas, camera, moment.opponent, moment.tick)
    _hit_box(canvas, camera, moment.opponent, bright=moment.agent.aims)
    _name_plate(canvas, camera, moment.opponent)
    _own_hand(canvas, moment.agent)
    if moment.agent.hurt > 0:
        _redden_edges(canvas, moment.agent.hurt)
    _crosshair(canvas, moment.agent)
    hud.write(canvas, moment)
    return canvas.picture()


# Surroundings -------------------------------------------------------------------------------


def _sky_and_floor(canvas: Canvas, camera: _Camera) -> None:
    """Every row of pixels looks up or down by the same slope, so it is all sky or all floor."""
    across = (np.arange(WIDTH) + 0.5 - 0.5 * WIDTH) / _FOCAL
    up = (0.5 * HEIGHT - np.arange(HEIGHT) - 0.5) / _FOCAL
    right, upward, forward = camera.axes
    slope = forward[1] + up * upward[1]  # vertical part of a row's rays

    sky = slope >= 0
    height = np.clip(slope[sky] / np.sqrt(1 + up[sky] ** 2), 0, 1) ** 0.6
    tones = np.array(_HORIZON) + height[:, None] * (np.array(_ZENITH) - np.array(_HORIZON))
    canvas.pixels[sky] = tones[:, None, :]

    first = int(sky.sum())  # the sky is above: its rows come first
    if first == HEIGHT:
        return
    floor = slice(first, HEIGHT)
    far = camera.eye[1] / np.maximum(-slope[floor], 1e-4)  # along a ray of forward part 1
    x, z = (
        camera.eye[axis]
        + far[:, None] * (forward[axis] + up[floor, None] * upward[axis])
        + (far * right[axis])[:, None] * across
        for axis in (0, 2)
    )
    lines, odd = _grid(x.astype(np.float32), z.astype(np.float32))
    clear = np.exp(-((far / _HAZE) ** 1.5)).astype(np.float32)[:, None]
    tile = clear * (1 - lines)
    shares = np.stack([tile * (1 - odd), tile * odd, clear * lines], axis=-1)
    tones = np.array([_TILE_A, _TILE_B, _LINE], dtype=np.float32)
    canvas.pixels[floor] = shares @ tones
    canvas.pixels[floor] += (1 - clear)[..., None] * np.array(_HORIZON, dtype=np.float32)


def _grid(
    x: NDArray[np.float32], z: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How much of a pixel is line, and how much is odd tile, both averaged over the pixel."""
    width = np.float32(0.05)
    lines = np.zeros_like(x)
    waves = []
    for at in (x, z):
        # The pixel's extent on the floor, from its neighbours.
        sideways = np.abs(at[:, 1:2] - at[:, :1])
        below = np.abs(np.diff(at, axis=0, append=2 * at[-1:] - at[-2:-1])) if len(at) > 1 else 0
        extent = np.maximum(np.maximum(sideways, below), np.float32(1e-3))
        off = np.abs(at - np.rint(at))
        near = np.clip((0.5 * width + 0.5 * extent - off) / extent, 0, 1)
        covered = np.minimum(near, np.minimum(width / extent, 1))
        lines = np.maximum(lines, np.where(extent < 1, covered, width))
        square = np.clip(np.abs((at % 2) - 1) - 0.5, -0.5 * extent, 0.5 * extent) / extent
        waves.append(2 * square * np.clip(1.5 - extent, 0, 1))
    odd = np.clip(0.5 + 0.5 * waves[0] * waves[1], 0, 1)
    return lines, odd


def _shadow(canvas: Canvas, camera: _Camera, foe: Figure) -> None:
    turn = np.linspace(0, 2 * math.pi, 20, endpoint=False)
    radius = 0.42 / (1 + 0.3 * foe.y)
    corners = np.stack(
        [foe.x + radius * np.sin(turn), np.full(20, 0.002), foe.z + radius * np.cos(turn)], axis=1
    )
    local = _clipped(camera.local(corners))
    if len(local) > 2:
        canvas.polygon(_pixels(local), DARK, 0.45 / (1 + 0.5 * foe.y))


# The opponent -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Block:
    """A box of the figure, in its own axes (right, up, forward), in figure pixels."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    colour: Colour
    swing: float = 0.0
    """Radians by which it is turned forward about the middle of its top, or of its bottom."""
    from_top: bool = True
    face: bool = False


def _blocks(foe: Figure, tick: int) -> list[_Block]:
    """Legs, body, arms, head."""
    speed = math.hypot(foe.vx, foe.vz)
    stride = math.sin(0.7 * tick) * min(3.5 * speed, 0.8)
    if foe.y > 0.05:
        stride = 0.5
    raised = 1.4 if "click" in foe.keys else -stride
    sleeve = mixed(OPPONENT, DARK, 0.12)
    return [
        _Block((-4, 0, -2), (0, 12, 2), _TROUSERS, stride),
        _Block((0, 0, -2), (4, 12, 2), _TROUSERS, -stride),
        _Block((-4, 12, -2), (4, 24, 2), OPPONENT),
        _Block((-8, 12, -2), (-4, 24, 2), sleeve, stride),
        _Block((4, 12, -2), (8, 24, 2), sleeve, raised),
        _Block((-4, 24, -4), (4, 32, 4), _SKIN, -foe.pitch, from_top=False, face=True),
    ]


# Corners of each side of a box, by whether they take the high value on each axis.
_SIDES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "left": ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)),
    "right": ((1, 0, 1), (1, 0, 0), (1, 1, 0), (1, 1, 1)),
    "bottom": ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)),
    "top": ((0, 1, 1), (1, 1, 1), (1, 1, 0), (0, 1, 0)),
    "back": ((1, 0, 0), (0, 0, 0), (0, 1, 0), (1, 1, 0)),
    "front": ((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)),
}
_SHADE = {"left": 0.18, "right": 0.18, "bottom": 0.5, "top": 0.0, "back": 0.3, "front": 0.06}

# What is painted on the head: side, two corners in shares of the side, colour.
_PAINT: tuple[tuple[str, tuple[float, float], tuple[float, float], Colour], ...] = (
    ("front", (0.0, 0.75), (1.0, 1.0), _HAIR),
    ("left", (0.0, 0.55), (1.0, 1.0), _HAIR),
    ("right", (0.0, 0.55), (1.0, 1.0), _HAIR),
    ("back", (0.0, 0.3), (1.0, 1.0), _HAIR),
    ("top", (0.0, 0.0), (1.0, 1.0), _HAIR),
    ("front", (0.125, 0.4), (0.375, 0.53), (250, 250, 250)),
    ("front", (0.25, 0.4), (0.375, 0.53), (60, 70, 150)),
    ("front", (0.625, 0.4), (0.875, 0.53), (250, 250, 250)),
    ("front", (0.625, 0.4), (0.75, 0.53), (60, 70, 150)),
    ("front", (0.38, 0.27), (0.62, 0.4), mixed(_SKIN, _HAIR, 0.35)),
    ("front", (0.3, 0.12), (0.7, 0.21), (150, 80, 70)),
)


def _figure(canvas: Canvas, camera: _Camera, foe: Figure, tick: int) -> None:
    """Paint the boxes from the farthest to the nearest; of each, the sides turned to the eye."""
    placed = [(block, _sides(block, foe)) for block in _blocks(foe, tick)]

    def distance(entry: tuple[_Block, dict[str, Vector]]) -> float:
        centre = np.mean(list(entry[1].values()), axis=(0, 1))
        return float(np.linalg.norm(centre - camera.eye))

    for block, sides in sorted(placed, key=distance, reverse=True):
        for name, corners in sides.items():
            normal = np.cross(corners[1] - corners[0], corners[2] - corners[1])
            if normal @ (camera.eye - corners[0]) <= 0:
                continue
            tone = _lit(block.colour, name, foe.hurt)
            _fill(canvas, camera, corners, tone, grow=0.4)
            if block.face:
                for side, first, second, paint in _PAINT:
                    if side == name:
                        patch = _patch(corners, first, second)
                        _fill(canvas, camera, patch, _lit(paint, name, foe.hurt))


def _lit(colour: Colour, side: str, hurt: float) -> Colour:
    return mixed(mixed(colour, DARK, _SHADE[side]), HIT, 0.6 * hurt)


def _sides(block: _Block, foe: Figure) -> dict[str, Vector]:
    """The corners (4, 3) of each side of a box, in the world."""
    low, high = np.array(block.low), np.array(block.high)
    pivot = 0.5 * (low + high)
    pivot[1] = high[1] if block.from_top else low[1]
    sin, cos = math.sin(block.swing), math.cos(block.swing)
    swing = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    if block.from_top:  # limbs hang: forward means the free end, below, goes ahead
        swing = swing.T
    sin, cos = math.sin(foe.yaw), math.cos(foe.yaw)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    feet = np.array([foe.x, foe.y, foe.z])
    sides = {}
    for name, which in _SIDES.items():
        corners = np.where(np.array(which) == 1, high, low) - pivot
        corners = corners @ swing.T + pivot
        sides[name] = _PIXEL * corners @ turn.T + feet
    return sides


def _patch(side: Vector, first: tuple[float, float], second: tuple[float, float]) -> Vector:
    """A rectangle on a side, from two corners in shares of its width and height."""
    origin, across, up = side[0], side[1] - side[0], side[3] - side[0]
    (u0, v0), (u1, v1) = first, second
    return np.array(
        [origin + u * across + v * up for u, v in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))]
    )


def _fill(
    canvas: Canvas, camera: _Camera, corners: Vector, colour: Colour, grow: float = 0.0
) -> None:
    local = _clipped(camera.local(corners))
    if len(local) > 2:
        canvas.polygon(_pixels(local), colour, grow=grow)


def _hit_box(canvas: Canvas, camera: _Camera, foe: Figure, *, bright: bool) -> None:
    """The edges of the box that attacks must meet; bright when the agent's would."""
    half = HALF_WIDTH + HIT_BOX_GROWTH
    low = np.array([foe.x - half, foe.y - HIT_BOX_GROWTH, foe.z - half])
    high = np.array([foe.x + half, foe.y + TALL + HIT_BOX_GROWTH, foe.z + half])
    for start, end in _edges():
        ends = camera.local(np.stack([np.where(start, high, low), np.where(end, high, low)]))
        if ends[0, 2] < _NEAR and ends[1, 2] < _NEAR:
            continue
        near = ends[:, 2] < _NEAR
        if near.any():
            out, kept = ends[near.argmax()], ends[1 - near.argmax()]
            share = (_NEAR - kept[2]) / (out[2] - kept[2])
            ends = np.stack([kept, kept + share * (out - kept)])
        first, second = _pixels(ends)
        canvas.line(first, second, 1.5, WHITE, 0.75 if bright else 0.25)


def _edges() -> Iterator[tuple[Sequence[bool], Sequence[bool]]]:
    for axis in range(3):
        for b in (False, True):
            for c in (False, True):
                start = [b, c]
                yield [*start[:axis], False, *start[axis:]], [*start[:axis], True, *start[axis:]]


def _name_plate(canvas: Canvas, camera: _Camera, foe: Figure) -> None:
    """Health over the opponent's head."""
    local = camera.local(np.array([[foe.x, foe.y + TALL + 0.3, foe.z]]))
    if local[0, 2] > _NEAR:
        ((x, y),) = _pixels(local)
        width = min(max(0.7 * _FOCAL / local[0, 2], 24.0), 140.0)
        y = max(y, 62.0)
        hud.segments(canvas, x - width / 2, y - 8, width, 6, foe.health / HEALTH, OPPONENT)


# The agent's own ----------------------------------------------------------------------------


def _own_hand(canvas: Canvas, me: Figure) -> None:
    """The right arm; it reaches forward while the agent attacks."""
    lift = 70.0 if "click" in me.keys else 0.0
    x, y = 505.0 - 1.1 * lift, 400.0 - lift
    arm = [(x + 20, y + 8), (x + 78, y - 8), (x + 210, HEIGHT + 60.0), (x + 60, HEIGHT + 60.0)]
    canvas.polygon(arm, mixed(AGENT, DARK, 0.2))
    canvas.polygon([arm[0], arm[1], (x + 104, y + 50), (x + 36, y + 66)], _SKIN)
    canvas.polygon(
        [arm[0], (x + 36, y + 66), (x + 24, y + 60), (x + 6, y + 12)], mixed(_SKIN, DARK, 0.25)
    )


def _redden_edges(canvas: Canvas, hurt: float) -> None:
    y = np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None] ** 4
    x = np.linspace(-1, 1, WIDTH, dtype=np.float32)[None, :] ** 4
    edge = np.minimum(x + y, 1)[..., None] * np.float32(0.5 * hurt)
    canvas.pixels += edge * (np.array(HIT, dtype=np.float32) - canvas.pixels)


def _crosshair(canvas: Canvas, me: Figure) -> None:
    """A cross, green when an attack would reach; a hit adds four strokes."""
    x, y = WIDTH / 2, HEIGHT / 2
    colour = _IN_REACH if me.aims else WHITE
    for dx, dy in ((1, 0), (0, 1)):
        start, end = (x - 10 * dx, y - 10 * dy), (x + 10 * dx, y + 10 * dy)
        canvas.line(start, end, 4.5, DARK, 0.6)
        canvas.line(start, end, 2.0, colour)
    if me.landed:
        for dx, dy in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            start, end = (x + 9 * dx, y + 9 * dy), (x + 20 * dx, y + 20 * dy)
            canvas.line(start, end, 5.5, DARK, 0.6)
            canvas.line(start, end, 3.0, WHITE)
