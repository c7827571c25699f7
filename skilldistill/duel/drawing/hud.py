"""What both views write over the fight: health, keys, time, distance. And the colours."""

from __future__ import annotations

from skilldistill.duel.drawing.canvas import Canvas, Colour, mixed
from skilldistill.duel.drawing.moment import Figure, Moment
from skilldistill.duel.rules import HEALTH, TICKS_PER_SECOND

HEIGHT, WIDTH = 480, 640
"""Pixels of a picture."""

AGENT: Colour = (77, 163, 255)
OPPONENT: Colour = (255, 149, 56)
HIT: Colour = (255, 71, 71)
WHITE: Colour = (245, 247, 250)
DARK: Colour = (16, 20, 26)
FAINT: Colour = (150, 161, 175)

_BAR = 220
_KEY = 22
_GAP = 4


def write(canvas: Canvas, moment: Moment) -> None:
    """Both health bars, both sets of keys, and the line between them."""
    right = WIDTH - 16
    _health(canvas, 16, moment.agent, AGENT, "agent", 1)
    _health(canvas, right, moment.opponent, OPPONENT, "opponent", -1)
    seconds = f"{moment.tick / TICKS_PER_SECOND:.1f} s"
    canvas.text((WIDTH / 2, 14), seconds, WHITE, align=0.5)
    canvas.text((WIDTH / 2, 34), f"tick {moment.tick}", FAINT, align=0.5, scale=1)
    canvas.text((WIDTH / 2, 458), f"{moment.distance:.2f} blocks", WHITE, align=0.5)
    label = f"{moment.task}  episode {moment.episode}"
    canvas.text((WIDTH / 2, 444), label, FAINT, align=0.5, scale=1)
    _keys(canvas, 16, moment.agent, AGENT)
    _keys(canvas, right - 4 * (_KEY + _GAP) - 3 * _KEY + _GAP, moment.opponent, OPPONENT)


def segments(
    canvas: Canvas,
    left: float,
    top: float,
    width: float,
    height: float,
    share: float,
    colour: Colour,
    *,
    from_right: bool = False,
) -> None:
    """A bar filled to a share of its width."""
    share = min(max(share, 0.0), 1.0)
    canvas.rectangle((left - 2, top - 2), (left + width + 2, top + height + 2), DARK, 0.75)
    canvas.rectangle((left, top), (left + width, top + height), mixed(DARK, colour, 0.25))
    if share > 0:
        start = left + (1 - share) * width if from_right else left
        canvas.rectangle((start, top), (start + share * width, top + height), colour)


def _health(
    canvas: Canvas, edge: float, figure: Figure, colour: Colour, name: str, way: int
) -> None:
    left = edge if way > 0 else edge - _BAR
    filled = mixed(colour, WHITE, 0.5 * figure.hurt)
    share = figure.health / HEALTH
    segments(canvas, left, 16, _BAR, 14, share, filled, from_right=way < 0)
    for point in range(1, int(HEALTH)):
        x = left + _BAR * point / HEALTH
        canvas.rectangle((x - 0.5, 16), (x + 0.5, 30), DARK, 0.6)
    align = 0.0 if way > 0 else 1.0
    canvas.text((edge, 36), name, colour, align=align)
    inner = edge + way * _BAR
    canvas.text((inner, 36), f"{figure.health:.0f}", WHITE, align=1.0 - align)


def _keys(canvas: Canvas, left: float, figure: Figure, colour: Colour) -> None:
    """W over A S D, the wide keys beside them; those held are lit."""
    step = _KEY + _GAP
    top, low = HEIGHT - 16 - 2 * step + _GAP, HEIGHT - 16 - _KEY
    wide = left + 3 * step
    places = {
        "w": (left + step, top, _KEY, "W"),
        "a": (left, low, _KEY, "A"),
        "s": (left + step, low, _KEY, "S"),
        "d": (left + 2 * step, low, _KEY, "D"),
        "space": (wide, low, 4 * _KEY, "jump"),
        "sprint": (wide, top, 2 * _KEY - 2, "run"),
        "click": (wide + 2 * _KEY + 2, top, 2 * _KEY - 2, "hit"),
    }
    for key, (x, y, width, name) in places.items():
        held = key in figure.keys
        fill = colour if held else DARK
        canvas.rectangle((x, y), (x + width, y + _KEY), fill, 0.9 if held else 0.6)
        ink = DARK if held else FAINT
        canvas.text((x + width / 2, y + 7), name, ink, align=0.5, scale=1)
