"""A small bitmap font: 5 × 7 dots, the classic capitals of character displays."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

HEIGHT = 7
"""Dots from the top of a letter to its bottom."""

# Five columns per letter, left to right, two hexadecimal digits each; the lowest bit is on top.
_COLUMNS = {
    " ": "0000000000", ".": "0060600000", ":": "0036360000", "-": "0808080808",
    "+": "08083E0808", "/": "2010080402", "%": "2313086462", "(": "001C224100",
    ")": "0041221C00", "?": "0201510906", "_": "4040404040", "=": "1414141414",
    "0": "3E5149453E", "1": "00427F4000", "2": "4261514946", "3": "2141454B31",
    "4": "1814127F10", "5": "2745454539", "6": "3C4A494930", "7": "0171090503",
    "8": "3649494936", "9": "064949291E",
    "A": "7E1111117E", "B": "7F49494936", "C": "3E41414122", "D": "7F4141221C",
    "E": "7F49494941", "F": "7F09090901", "G": "3E4149497A", "H": "7F0808087F",
    "I": "00417F4100", "J": "2040413F01", "K": "7F08142241", "L": "7F40404040",
    "M": "7F020C027F", "N": "7F0408107F", "O": "3E4141413E", "P": "7F09090906",
    "Q": "3E4151215E", "R": "7F09192946", "S": "4649494931", "T": "01017F0101",
    "U": "3F4040403F", "V": "1F2040201F", "W": "3F4038403F", "X": "6314081463",
    "Y": "0708700807", "Z": "6151494543",
}  # fmt: skip


@lru_cache(maxsize=256)  # labels that count ticks are new in every frame
def bitmap(text: str, scale: int) -> NDArray[np.float32]:
    """(7 × scale, 6 × letters × scale) coverage, 0 or 1, of a line of text.

    Small letters come out as capitals, letters the font does not have as question marks.
    """
    columns = [
        column
        for letter in text.upper()
        for column in (*bytes.fromhex(_COLUMNS.get(letter, _COLUMNS["?"])), 0)
    ]
    bits = np.array(columns, dtype=np.uint8)[None, :] >> np.arange(HEIGHT, dtype=np.uint8)[:, None]
    return np.kron(bits & 1, np.ones((scale, scale))).astype(np.float32)
