"""PNG and GIF files, written with the standard library and one compiled loop.

So a fight can be drawn wherever the package is installed. Sources: the PNG specification
(ISO/IEC 15948), and the GIF89a specification with its variable-length LZW code.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skilldistill.duel.compile import kernel
from skilldistill.duel.drawing.canvas import Picture

_COLOURS = 255
"""Of a GIF; the 256th index means that a pixel stays as it was."""
_KEEP = 255


def png(picture: Picture) -> bytes:
    """A PNG file of a (height, width, 3) picture."""
    height, width = picture.shape[:2]
    # Each row as its difference to the one above (filter 2), which suits flat drawings.
    above = np.vstack([np.zeros_like(picture[:1]), picture[:-1]])
    rows = np.full((height, 1 + 3 * width), 2, dtype=np.uint8)
    rows[:, 1:] = (picture - above).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", header),
            (b"IDAT", zlib.compress(rows.tobytes(), 9)),
            (b"IEND", b""),
        )
    )


def gif(frames: Sequence[Picture], seconds: Sequence[float]) -> bytes:
    """An animated GIF that plays for ever.

    Args:
        frames: (height, width, 3) each.
        seconds: how long each is shown, to a hundredth.
    """
    height, width = frames[0].shape[:2]
    palette, index_of = _palette(frames)
    parts = [
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + palette.tobytes(),
        b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00",
    ]
    before: NDArray[np.uint8] | None = None
    for frame, shown_for in zip(frames, seconds, strict=True):
        now = index_of[_coarse(frame)]
        shown = now if before is None else np.where(now == before, np.uint8(_KEEP), now)
        before = now
        codes = _compress(shown.ravel())
        # A control block (keep what is there, one index is transparent) and an image.
        control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 0x05, round(100 * shown_for), _KEEP, 0)
        image = struct.pack("<BHHHHBB", 0x2C, 0, 0, width, height, 0, 8)
        blocks = b"".join(
            bytes([len(codes[at : at + 255])]) + codes[at : at + 255]
            for at in range(0, len(codes), 255)
        )
        parts.append(control + image + blocks + b"\x00")
    return b"".join([*parts, b"\x3b"])


def write(path: Path, content: bytes) -> Path:
    """Write a file, making its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _coarse(picture: Picture) -> NDArray[np.uint16]:
    """Every pixel's colour with 5, 6, and 5 bits, as one number."""
    red, green, blue = (picture[..., channel].astype(np.uint16) for channel in range(3))
    return ((red >> 3 << 11) | (green >> 2 << 5) | (blue >> 3)).astype(np.uint16)


def _palette(frames: Sequence[Picture]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The colours (256, 3) that serve all frames best, and which of them each coarse colour gets.

    Chosen one after another, each time the colour that most pixels are farthest from.
    """
    counts = np.zeros(1 << 16, dtype=np.int64)
    for frame in frames[:: max(len(frames) // 24, 1)]:
        counts += np.bincount(_coarse(frame).ravel(), minlength=1 << 16)
    every = np.arange(1 << 16)
    colours = np.stack(
        [(every >> 11) * 255 / 31, (every >> 5 & 63) * 255 / 63, (every & 31) * 255 / 31], axis=1
    )
    seen = np.flatnonzero(counts)
    weight, found = np.sqrt(counts[seen]), colours[seen]
    distance = np.full(len(seen), 3 * 255.0**2)
    chosen = []
    for _ in range(min(_COLOURS, len(seen))):
        best = int(np.argmax(weight * distance))
        chosen.append(found[best])
        distance = np.minimum(distance, ((found - found[best]) ** 2).sum(axis=1))
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[: len(chosen)] = np.rint(chosen)
    squares = (palette[: len(chosen)].astype(np.float32) ** 2).sum(axis=1)
    products = colours.astype(np.float32) @ palette[: len(chosen)].T.astype(np.float32)
    return palette, np.argmin(squares - 2 * products, axis=1).astype(np.uint8)


def _compress(indices: NDArray[np.uint8]) -> bytes:
    room = np.empty(2 * len(indices) + 64, dtype=np.uint8)
    size = lzw(indices.astype(np.int32), room)
    return room[:size].tobytes()


@kernel
def lzw(indices: NDArray[np.int32], out: NDArray[np.uint8]) -> int:
    """GIF's LZW code of indices below 256, written to ``out``; returns how many bytes."""
    clear, end = 256, 257
    longer = np.full((4096, 256), -1, dtype=np.int32)  # code of a known string and one more
    free, width = 258, 9
    bits, filled, size = clear, 9, 0
    while filled >= 8:
        out[size] = bits & 255
        size, bits, filled = size + 1, bits >> 8, filled - 8
    known = indices[0]
    for at in range(1, len(indices)):
        following = indices[at]
        code = longer[known, following]
        if code >= 0:
            known = code
            continue
        bits, filled = bits | known << filled, filled + width
        if free < 4096:
            longer[known, following] = free
            if free == 1 << width:
                width += 1
            free += 1
        else:
            bits, filled = bits | clear << filled, filled + width
            longer[:] = -1
            free, width = 258, 9
        while filled >= 8:
            out[size] = bits & 255
            size, bits, filled = size + 1, bits >> 8, filled - 8
        known = following
    bits, filled = bits | known << filled, filled + width
    # A decoder has by now made one more entry, and may read the end with one more bit.
    if free < 4096 and free == 1 << width:
        width += 1
    bits, filled = bits | end << filled, filled + width
    while filled > 0:
        out[size] = bits & 255
        size, bits, filled = size + 1, bits >> 8, filled - 8
    return size
