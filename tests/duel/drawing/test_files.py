"""PNG and GIF files, read back by another program."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldistill.duel.drawing import files

image = pytest.importorskip("PIL.Image", reason="Pillow reads the files back")


def noise(seed: int, shape: tuple[int, int], colours: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    palette = rng.integers(0, 256, (colours, 3))
    return palette[rng.integers(0, colours, shape)].astype(np.uint8)


@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 40))
def test_a_png_holds_every_pixel(seed: int, height: int, width: int) -> None:
    picture = noise(seed, (height, width), 500)
    read = image.open(io.BytesIO(files.png(picture)))
    assert (np.asarray(read.convert("RGB")) == picture).all()


def frames_of(data: bytes) -> tuple[list[np.ndarray], list[int]]:
    read = image.open(io.BytesIO(data))
    frames, durations = [], []
    for at in range(getattr(read, "n_frames", 1)):
        read.seek(at)
        frames.append(np.asarray(read.convert("RGB")))
        durations.append(int(read.info["duration"]))
    return frames, durations


def test_a_gif_plays_its_frames_in_order_and_in_time() -> None:
    film = [np.full((30, 50, 3), level, dtype=np.uint8) for level in (0, 255, 132)]
    film[1][5:10, 5:10] = (255, 0, 0)
    read, durations = frames_of(files.gif(film, [0.1, 0.05, 1.5]))
    assert durations == [100, 50, 1500]
    for frame, found in zip(film, read, strict=True):
        assert np.abs(frame.astype(int) - found).max() <= 4  # five bits of red and blue
    assert b"NETSCAPE2.0\x03\x01\x00\x00" in files.gif(film, [0.1] * 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.sampled_from([1, 2, 200]), st.integers(1, 200))
def test_a_gif_of_any_size_and_variety_can_be_read(seed: int, colours: int, width: int) -> None:
    """Noise fills the code table again and again, flat pictures make the longest codes."""
    film = [noise(seed, (150, width), colours), noise(seed, (150, width), colours)[::-1]]
    read, _ = frames_of(files.gif(film, [0.1, 0.1]))
    for frame, found in zip(film, read, strict=True):
        assert np.abs(frame.astype(int) - found).max() <= 8


def test_more_colours_than_a_gif_has_come_out_near() -> None:
    ramp = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1)
    picture = np.concatenate([ramp, np.full((256, 256, 1), 90)], axis=-1).astype(np.uint8)
    (read,), _ = frames_of(files.gif([picture], [0.1]))
    assert np.abs(picture.astype(int) - read).mean() < 10


def test_writing_makes_the_folder(tmp_path: Path) -> None:
    path = files.write(tmp_path / "a" / "b.png", b"data")
    assert path.read_bytes() == b"data"
