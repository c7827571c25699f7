"""A fight from above: right is +x, up is +z, and the camera follows the middle."""

from __future__ import annotations

import math

import numpy as np

from skilldistill.duel.drawing import hud
from skilldistill.duel.drawing.canvas import Canvas, Colour, Picture, Point, mixed
from skilldistill.duel.drawing.hud import AGENT, DARK, HEIGHT, HIT, OPPONENT, WHITE, WIDTH
from skilldistill.duel.drawing.moment import Figure, Moment
from skilldistill.duel.rules import HALF_WIDTH, HEALTH, HIT_BOX_GROWTH, REACH

_GROUND: Colour = (38, 46, 56)
_TILE: Colour = (42, 51, 62)
_LINE: Colour = (58, 69, 83)
_FAR_LINE: Colour = (84, 98, 116)
_LARGEST, _SMALLEST = 76.0, 2.75
"""Pixels per block; at the smallest, fighters 115 blocks apart are still both in the picture."""
_SMALLEST_BODY = 16.0
"""Pixels per block of a fighter: from farther away it is drawn larger than it is."""
_LINES = ((1.0, _LINE, 1.0), (5.0, _FAR_LINE, 1.6), (25.0, _FAR_LINE, 1.6))
"""Blocks from one line on the floor to the next, its colour, and its width in pixels."""
_CROWDED, _CLEAR = 5.0, 20.0
"""Pixels between lines: nearer than the former they are left out, then they fade in."""


class _Camera:
    """Turns blocks into pixels."""

    def __init__(self, moment: Moment) -> None:
        a, b = moment.agent, moment.opponent
        self.x, self.z = 0.5 * (a.x + b.x), 0.5 * (a.z + b.z)
        # Room for both fighters and their look rays.
        wide = (WIDTH - 60) / (abs(a.x - b.x) + 4.4)
        high = (HEIGHT - 150) / (abs(a.z - b.z) + 3.0)
        self.scale = min(max(min(wide, high), _SMALLEST), _LARGEST)
        self.body = max(self.scale, _SMALLEST_BODY)

    def __call__(self, x: float, z: float) -> Point:
        return (
            0.5 * WIDTH + (x - self.x) * self.scale,
            0.5 * HEIGHT - (z - self.z) * self.scale,
        )


def draw(moment: Moment) -> Picture:
    """(480, 640, 3) picture of a moment."""
    canvas = Canvas(HEIGHT, WIDTH, _GROUND)
    camera = _Camera(moment)
    _ground(canvas, camera)
    pairs = (
        (moment.opponent, moment.agent, OPPONENT),
        (moment.agent, moment.opponent, AGENT),
    )
    for me, _, _ in pairs:
        _shadow(canvas, camera, me)
    for me, _, colour in pairs:
        _ray(canvas, camera, me, colour)
    for me, _, colour in sorted(pairs, key=lambda pair: pair[0].y):
        _fighter(canvas, camera, me, colour)
    for me, foe, _ in pairs:
        if me.landed:
            _flash(canvas, camera, foe)
    for me, _, colour in pairs:
        _marks(canvas, camera, me, colour)
    hud.write(canvas, moment)
    return canvas.picture()


def _ground(canvas: Canvas, camera: _Camera) -> None:
    """A chequered floor of one-block tiles; every fifth line is brighter.

    From far away the tiles and the lines between them give way to the brighter lines.
    """
    x = camera.x + (np.arange(WIDTH, dtype=np.float32) + 0.5 - 0.5 * WIDTH) / camera.scale
    z = camera.z - (np.arange(HEIGHT, dtype=np.float32) + 0.5 - 0.5 * HEIGHT) / camera.scale
    tones = np.array([_GROUND, mixed(_GROUND, _TILE, _clarity(camera.scale))], dtype=np.float32)
    odd = np.floor(x).astype(np.int64) % 2
    odd_row = np.floor(z).astype(np.int64) % 2
    for parity in (0, 1):
        canvas.pixels[odd_row == parity] = tones[odd ^ parity]
    for spacing, colour, width in _LINES:
        clarity = _clarity(camera.scale * spacing)
        for at, lines in ((x, canvas.pixels.swapaxes(0, 1)), (z, canvas.pixels)):
            away = camera.scale * np.abs(at - spacing * np.rint(at / spacing))
            covered = np.clip(0.5 + 0.5 * width - away, 0.0, 1.0)
            near = covered > 0  # few rows, few columns
            share = (clarity * covered[near, None, None]).astype(np.float32)
            lines[near] += share * (np.array(colour, dtype=np.float32) - lines[near])


def _clarity(pixels: float) -> float:
    """How strongly lines so many pixels apart are drawn, from 0 to 1."""
    return min(max((pixels - _CROWDED) / (_CLEAR - _CROWDED), 0.0), 1.0)


def _shadow(canvas: Canvas, camera: _Camera, me: Figure) -> None:
    """On the ground below a fighter; the higher it is, the farther from it and the paler."""
    drop = 0.45 * me.y
    at = camera(me.x + 0.06 + drop, me.z - 0.06 - drop)
    canvas.disc(at, 0.42 * camera.body, DARK, 0.55 / (1.0 + me.y))


def _ray(canvas: Canvas, camera: _Camera, me: Figure, colour: Colour) -> None:
    """Where a fighter looks, as far as it reaches; bright when an attack would land."""
    flat = REACH * math.cos(me.pitch)
    tip = camera(me.x + flat * math.sin(me.yaw), me.z + flat * math.cos(me.yaw))
    start = camera(me.x, me.z)
    if me.aims:
        canvas.line(start, tip, 3.0, mixed(colour, WHITE, 0.6), 0.95)
    else:
        canvas.line(start, tip, 2.0, colour, 0.55)
    canvas.disc(tip, 3.5, colour, 0.95 if me.aims else 0.6)


def _fighter(canvas: Canvas, camera: _Camera, me: Figure, colour: Colour) -> None:
    """Hit box, shoulders, head with a nose; streaks behind whoever sprints."""
    scale = camera.body * (1.0 + 0.15 * me.y)
    x, y = camera(me.x, me.z)
    sin, cos = math.sin(me.yaw), math.cos(me.yaw)

    def place(right: float, ahead: float) -> Point:
        return (
            x + scale * (right * cos + ahead * sin),
            y - scale * (ahead * cos - right * sin),
        )

    if me.sprinting:
        for right in (-0.24, 0.0, 0.24):
            long = 0.95 if right == 0.0 else 0.75
            canvas.line(
                place(right, -0.42), place(right, -long), 2.5, mixed(colour, WHITE, 0.3), 0.8
            )

    tone = mixed(colour, HIT, 0.6 * me.hurt)
    grown = (HALF_WIDTH + HIT_BOX_GROWTH) * scale
    _outline(canvas, x, y, grown, mixed(colour, WHITE, 0.2), 0.45)
    box = HALF_WIDTH * scale
    canvas.rectangle((x - box, y - box), (x + box, y + box), tone, 0.3)
    _outline(canvas, x, y, box, colour, 0.9)

    shoulders = [place(-0.38, -0.13), place(-0.38, 0.13), place(0.38, 0.13), place(0.38, -0.13)]
    canvas.polygon(shoulders, DARK, grow=1.5)
    canvas.polygon(shoulders, tone)
    canvas.polygon([place(-0.11, 0.2), place(0.11, 0.2), place(0.0, 0.42)], DARK, grow=1.5)
    canvas.polygon([place(-0.11, 0.2), place(0.11, 0.2), place(0.0, 0.42)], WHITE)
    canvas.disc((x, y), 0.235 * scale + 1.5, DARK)
    canvas.disc((x, y), 0.235 * scale, mixed(tone, WHITE, 0.45))

    if me.hurt > 0:
        canvas.ring((x, y), (0.55 + 0.5 * (1 - me.hurt)) * scale, 3.0, HIT, me.hurt)


def _marks(canvas: Canvas, camera: _Camera, me: Figure, colour: Colour) -> None:
    """Health over a fighter, and beside it how high above the ground it is."""
    x, y = camera(me.x, me.z)
    hud.segments(canvas, x - 24, y - 0.78 * camera.body - 6, 48, 6, me.health / HEALTH, colour)
    if me.y > 0.01:
        up = mixed(colour, WHITE, 0.6)
        left = x + 0.72 * camera.body + 8
        canvas.polygon([(left - 6, y + 4), (left + 6, y + 4), (left, y - 6)], up)
        canvas.text((left + 11, y - 7), f"{me.y:.1f}", up)


def _outline(canvas: Canvas, x: float, y: float, half: float, colour: Colour, alpha: float) -> None:
    corners = [
        (x - half, y - half),
        (x + half, y - half),
        (x + half, y + half),
        (x - half, y + half),
    ]
    for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
        canvas.line(start, end, 1.5, colour, alpha)


def _flash(canvas: Canvas, camera: _Camera, foe: Figure) -> None:
    """A burst around whoever was hit in this tick."""
    x, y = camera(foe.x, foe.z)
    canvas.ring((x, y), 0.62 * camera.body, 4.0, WHITE, 0.9)
    for spoke in range(8):
        angle = math.pi * (spoke + 0.5) / 4
        sin, cos = math.sin(angle), math.cos(angle)
        inner, outer = 0.72 * camera.body, (1.15 if spoke % 2 else 0.98) * camera.body
        start, end = (x + inner * sin, y - inner * cos), (x + outer * sin, y - outer * cos)
        canvas.line(start, end, 4.0, HIT)
        canvas.line(start, end, 1.5, WHITE)
