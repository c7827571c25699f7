"""Colours for bars and lines that people with any colour vision can tell apart."""

from __future__ import annotations

GREY = "#6b7078"
"""What the others are measured by: chance, or the rows a student learns from."""

COLOURS = (
    "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
    "#9f70ff", "#bfdf9f", "#9f2000", "#ffcf30", "#60dfff", "#9fbf8f",
)  # fmt: skip
"""Okabe and Ito's, then the ones that lie furthest from these and from one another, to people
who see no red, green or blue as well; all light enough for a dark line across."""


def colour(place: int) -> str:
    """The colour of whatever comes at ``place``, from 0; after the last the first again."""
    return COLOURS[place % len(COLOURS)]
