from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from skilldistill import palette

SIGHT = {
    "all colours": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                 [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
"""What is seen of linear red, green and blue. Source: Machado, Oliveira and Fernandes (2009)."""
CONES = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
         [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip
OKLAB = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
         [0.0259040371, 0.7827717662, -0.8086757660]]  # fmt: skip
"""Distances in it are alike to the eye. Source: Ottosson, A perceptual color space (2020)."""


def seen(colour: str, sight: str) -> NDArray[np.float64]:
    """Lightness and two axes of colour, all about 0 to 1."""
    shares = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    light = np.clip(np.array(SIGHT[sight]) @ linear, 0, 1)
    return np.array(OKLAB) @ np.cbrt(np.array(CONES) @ light)


@pytest.mark.parametrize("sight", SIGHT)
def test_people_with_any_colour_vision_tell_twelve_policies_and_chance_apart(sight: str) -> None:
    colours = [palette.GREY, *(palette.colour(place) for place in range(12))]
    for one, other in combinations(colours, 2):
        distance = np.linalg.norm(seen(one, sight) - seen(other, sight))
        assert distance > 0.07, (one, other)


def test_intervals_show_on_every_colour_and_bars_on_paper() -> None:
    for colour in (palette.GREY, *palette.COLOURS):
        lightness = seen(colour, "all colours")[0]
        assert 0.45 < lightness < 0.9, colour


def test_colours_begin_anew_where_they_are_used_up() -> None:
    assert palette.colour(len(palette.COLOURS)) == palette.colour(0)
