"""Anti-aliased shapes on an array of pixels.

Every shape is drawn from its signed distance: a pixel is covered by as much as half a pixel
more than the distance of its centre to the edge. Coordinates are pixels, x to the right and y
down; the centre of the first pixel is (0.5, 0.5). What lies outside the picture is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skilldistill.duel.drawing import font

Colour = tuple[int, int, int]
"""Red, green, blue in 0–255."""
Point = tuple[float, float]
Picture = NDArray[np.uint8]
"""(height, width, 3)."""


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """A colour between two, with a share in [0, 1] of the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


class Canvas:
    """A picture that shapes are drawn on. ``alpha`` is the opacity of a shape, in [0, 1].

    Args:
        height: pixels.
        width: pixels.
        colour: of the background.
    """

    def __init__(self, height: int, width: int, colour: Colour) -> None:
        self.height, self.width = height, width
        self.pixels = np.empty((height, width, 3), dtype=np.float32)
        self.pixels[...] = colour

    def picture(self) -> Picture:
        """(height, width, 3) uint8, a copy."""
        picture: Picture = np.rint(self.pixels.clip(0.0, 255.0)).astype(np.uint8)
        return picture

    def disc(self, at: Point, radius: float, colour: Colour, alpha: float = 1.0) -> None:
        """A filled circle."""
        window = self._window(*at, *at, radius)
        if window is not None:
            rows, columns, y, x = window
            distance = np.hypot(x - at[0], y - at[1]) - radius
            self._blend(rows, columns, distance, colour, alpha)

    def ring(
        self, at: Point, radius: float, width: float, colour: Colour, alpha: float = 1.0
    ) -> None:
        """The outline of a circle, ``width`` wide."""
        window = self._window(*at, *at, radius + width)
        if window is not None:
            rows, columns, y, x = window
            distance = np.abs(np.hypot(x - at[0], y - at[1]) - radius) - 0.5 * width
            self._blend(rows, columns, distance, colour, alpha)

    def line(
        self, start: Point, end: Point, width: float, colour: Colour, alpha: float = 1.0
    ) -> None:
        """A straight line with round ends."""
        window = self._window(*start, *end, width)
        if window is None:
            return
        rows, columns, y, x = window
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = max(dx * dx + dy * dy, 1e-12)
        along = ((x - start[0]) * dx + (y - start[1]) * dy) / length
        along = np.clip(along, 0.0, 1.0)
        distance = np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)
        self._blend(rows, columns, distance - 0.5 * width, colour, alpha)

    def polygon(
        self, corners: Sequence[Point], colour: Colour, alpha: float = 1.0, grow: float = 0.0
    ) -> None:
        """A filled convex polygon, its corners in either order.

        ``grow`` moves the edges outward by so many pixels: neighbours then meet without a seam.
        """
        xs, ys = [p[0] for p in corners], [p[1] for p in corners]
        window = self._window(min(xs), min(ys), max(xs), max(ys), 1.0 + grow)
        if window is None:
            return
        rows, columns, y, x = window
        following = [*corners[1:], corners[0]]
        area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, following, strict=True))
        side = 1.0 if area > 0 else -1.0
        distance = np.full(np.broadcast_shapes(x.shape, y.shape), -np.inf, dtype=np.float32)
        for (ax, ay), (bx, by) in zip(corners, following, strict=True):
            length = math.hypot(bx - ax, by - ay)
            if length > 1e-9:
                nx, ny = side * (by - ay) / length, -side * (bx - ax) / length
                np.maximum(distance, (x - ax) * nx + (y - ay) * ny, out=distance)
        self._blend(rows, columns, distance - grow, colour, alpha)

    def rectangle(self, corner: Point, opposite: Point, colour: Colour, alpha: float = 1.0) -> None:
        """A filled rectangle with sides along the picture's; pixels on its edge by their share."""
        left, right = sorted((corner[0], opposite[0]))
        top, bottom = sorted((corner[1], opposite[1]))
        x0, x1 = max(math.floor(left), 0), min(math.ceil(right), self.width)
        y0, y1 = max(math.floor(top), 0), min(math.ceil(bottom), self.height)
        if x0 < x1 and y0 < y1:
            across, along = _shares(left, right, x0, x1), _shares(top, bottom, y0, y1)
            region = self.pixels[y0:y1, x0:x1]
            covered = (along[:, None] * across[None, :] * np.float32(alpha))[..., None]
            region += covered * (np.array(colour, dtype=np.float32) - region)

    def text(
        self,
        at: Point,
        words: str,
        colour: Colour,
        *,
        scale: int = 2,
        align: float = 0.0,
    ) -> None:
        """A line of text.

        Args:
            at: the top of the line; ``align`` 0 begins it there, 0.5 centres it, 1 ends it there.
            words: what to write.
            colour: of the letters.
            scale: pixels per dot of the 5 × 7 font.
            align: where on the line ``at`` is.
        """
        bits = font.bitmap(words, scale)
        height, width = bits.shape
        # Multiples of the scale, so that a picture made smaller keeps its letters.
        left = round((at[0] - align * (width - scale)) / scale) * scale
        top = round(at[1] / scale) * scale
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + width, self.width), min(top + height, self.height)
        if x0 < x1 and y0 < y1:
            part = bits[y0 - top : y1 - top, x0 - left : x1 - left, None]
            region = self.pixels[y0:y1, x0:x1]
            region += part * (np.array(colour, dtype=np.float32) - region)

    def _window(
        self, x0: float, y0: float, x1: float, y1: float, margin: float
    ) -> tuple[slice, slice, NDArray[np.float32], NDArray[np.float32]] | None:
        """The pixels around a box: their slices and centres, y (k, 1) and x (1, m)."""
        if not all(map(math.isfinite, (x0, y0, x1, y1))):
            return None
        margin += 1.0
        left, right = max(min(x0, x1) - margin, 0), min(max(x0, x1) + margin, self.width)
        top, bottom = max(min(y0, y1) - margin, 0), min(max(y0, y1) + margin, self.height)
        if left >= right or top >= bottom:
            return None
        rows = slice(math.floor(top), math.ceil(bottom))
        columns = slice(math.floor(left), math.ceil(right))
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + np.float32(0.5)
        x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] + np.float32(0.5)
        return rows, columns, y, x

    def _blend(
        self,
        rows: slice,
        columns: slice,
        distance: NDArray[np.floating[Any]],
        colour: Colour,
        alpha: float,
    ) -> None:
        covered = np.clip(0.5 - distance, 0.0, 1.0) * np.float32(alpha)
        region = self.pixels[rows, columns]
        region += covered[..., None].astype(np.float32) * (
            np.array(colour, dtype=np.float32) - region
        )


def _shares(start: float, end: float, first: int, last: int) -> NDArray[np.float32]:
    """How much of each of the pixels ``first`` … ``last - 1`` of a line lies in start … end."""
    edges = np.arange(first, last + 1, dtype=np.float32).clip(start, end)
    return np.diff(edges)
