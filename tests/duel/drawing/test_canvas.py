"""Shapes, their edges, and text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skilldistill.duel.drawing import font
from skilldistill.duel.drawing.canvas import Canvas, mixed

BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)


def area(canvas: Canvas) -> float:
    """Pixels covered, partly covered ones by their share."""
    return float(canvas.pixels[..., 0].sum() / 255)


def test_a_new_canvas_has_its_colour() -> None:
    picture = Canvas(4, 6, (10, 20, 30)).picture()
    assert (picture.shape, picture.dtype) == ((4, 6, 3), np.uint8)
    assert (picture == [10, 20, 30]).all()


@given(st.floats(20, 60), st.floats(20, 60), st.floats(3, 15))
def test_a_disc_covers_its_area_wherever_it_is(x: float, y: float, radius: float) -> None:
    canvas = Canvas(80, 80, BLACK)
    canvas.disc((x, y), radius, WHITE)
    assert area(canvas) == pytest.approx(np.pi * radius**2, rel=0.03)


@given(st.floats(2, 30), st.floats(2, 30), st.floats(0.3, 40), st.floats(0.3, 40))
def test_a_rectangle_covers_its_area_exactly(x: float, y: float, w: float, h: float) -> None:
    canvas = Canvas(80, 80, BLACK)
    canvas.rectangle((x + w, y), (x, y + h), WHITE)  # any two opposite corners
    assert area(canvas) == pytest.approx(w * h, rel=1e-3, abs=1e-3)


def test_polygons_cover_their_area_in_either_order_of_corners() -> None:
    corners = [(10.0, 10.0), (50.0, 14.0), (40.0, 45.0), (12.0, 40.0)]
    x, y = np.array(corners).T
    expected = 0.5 * abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
    for order in (corners, corners[::-1]):
        canvas = Canvas(60, 60, BLACK)
        canvas.polygon(order, WHITE)
        assert area(canvas) == pytest.approx(expected, rel=0.01)


def test_a_line_is_as_long_and_wide_as_asked() -> None:
    canvas = Canvas(60, 60, BLACK)
    canvas.line((10, 12), (50, 42), 4.0, WHITE)
    assert area(canvas) == pytest.approx(50 * 4 + np.pi * 4, rel=0.02)
    assert canvas.pixels[27, 30, 0] == 255  # its middle
    assert canvas.pixels[12, 50, 0] == 0


def test_a_ring_is_empty_inside() -> None:
    canvas = Canvas(60, 60, BLACK)
    canvas.ring((30, 30), 20, 3, WHITE)
    assert canvas.pixels[30, 30, 0] == 0
    assert area(canvas) == pytest.approx(2 * np.pi * 20 * 3, rel=0.02)


def test_opacity_mixes_with_what_is_there() -> None:
    canvas = Canvas(20, 20, (0, 0, 200))
    canvas.rectangle((0, 0), (20, 20), RED, 0.25)
    assert canvas.picture()[10, 10].tolist() == [64, 0, 150]
    assert mixed((0, 100, 200), (100, 0, 200), 0.25) == (25, 75, 200)


def test_what_lies_outside_is_cut_off_and_what_is_nowhere_is_left_out() -> None:
    canvas = Canvas(30, 30, BLACK)
    canvas.disc((0, 15), 10, WHITE)
    assert area(canvas) == pytest.approx(0.5 * np.pi * 100, rel=0.03)
    before = canvas.picture()
    canvas.disc((-50, -50), 10, WHITE)
    canvas.rectangle((40, 40), (60, 60), WHITE)
    canvas.line((float("nan"), 0), (5, 5), 2, WHITE)
    canvas.polygon([(float("inf"), 0), (5, 5), (0, 9)], WHITE)
    canvas.text((100, 100), "away", WHITE)
    assert (canvas.picture() == before).all()


def test_text_begins_ends_and_centres_where_it_is_put() -> None:
    def columns(align: float) -> tuple[int, int]:
        canvas = Canvas(40, 200, BLACK)
        canvas.text((100, 10), "HHH", WHITE, align=align)
        lit = np.flatnonzero(canvas.pixels[..., 0].any(axis=0))
        return int(lit[0]), int(lit[-1])

    assert columns(0.0) == (100, 133)  # three letters of 2 × 5 dots, two gaps of 2
    assert columns(1.0)[1] in (98, 99)
    left, right = columns(0.5)
    assert abs((left + right) / 2 - 100) <= 2


def test_letters_differ_and_small_ones_are_capitals() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-+/%()=_ ?"
    shapes = {font.bitmap(letter, 1).tobytes() for letter in letters}
    assert len(shapes) == len(letters)
    assert (font.bitmap("abz", 1) == font.bitmap("ABZ", 1)).all()
    assert (font.bitmap("é", 1) == font.bitmap("?", 1)).all()
    assert font.bitmap("AB", 3).shape == (7 * 3, 2 * 6 * 3)
    one = font.bitmap("1", 1)
    assert ["".join(" #"[int(dot)] for dot in row) for row in one] == [
        "  #   ", " ##   ", "  #   ", "  #   ", "  #   ", "  #   ", " ###  ",
    ]  # fmt: skip
