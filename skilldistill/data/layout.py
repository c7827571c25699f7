"""Open a dataset file and check its structure: nothing in it is believed.

The file may be truncated, damaged, of a later version, or made by another program. Whatever
h5py complains of leaves here as :class:`CorruptFile` with the path and what to do next.
"""

from __future__ import annotations

import contextlib
import json
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from skilldistill.data.schema import (
    EPISODE_COLUMNS,
    FORMAT,
    FORMAT_VERSION,
    ROW_COLUMNS,
    Batch,
    Column,
    DatasetInfo,
    ExpertRef,
)
from skilldistill.errors import CorruptFile, DiskProblem
from skilldistill.regular import open_regular

HINT = "run `skilldistill verify` to list damaged files, then collect or merge this one again"
_HEAP = b"GCOL\x01\0\0\0"
"""What a global heap begins with."""
_WINDOW = 1 << 26
"""Bytes looked through at once, a multiple of any page's size."""


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever h5py raises on a damaged file into :class:`CorruptFile`."""
    try:
        yield
    except CorruptFile:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        raise CorruptFile(f"{path}: {what} cannot be read: {error}", hint=HINT) from error


def open_file(path: Path) -> h5py.File:
    """Open for reading, without a lock: published files never change.

    Raises:
        NotFound: no such file.
        DiskProblem: it may not be read.
        CorruptFile: it is no HDF5 file, or a damaged one.
    """
    try:
        with (
            open_regular(path, hint="run `skilldistill ls` to see what there is") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            _check_heaps(content, path)
        return h5py.File(path, "r", locking=False)
    except PermissionError as error:
        raise DiskProblem(f"{path} may not be read", hint="change its permissions") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise CorruptFile(f"{path} is no sound HDF5 file: {error}", hint=HINT) from error


def _check_heaps(content: mmap.mmap, path: Path) -> None:
    """Walk the global heaps, where HDF5 keeps text, before HDF5 does.

    They are the only part without a checksum, and a free space of size 0 sends HDF5 round in
    circles. Layout: "HDF5 File Format Specification", III.E, Disk Format: Level 1E.
    """
    end = 0
    for low in range(0, len(content), _WINDOW):
        high = low + _WINDOW + len(_HEAP) - 1  # one may begin in this window and reach beyond it
        start = content.find(_HEAP, max(low, end), high)
        while start >= 0:
            end = _end_of_heap(content, start)
            if not end:
                raise CorruptFile(f"{path} is no sound HDF5 file: its texts are damaged", hint=HINT)
            start = content.find(_HEAP, end, high)
        if hasattr(mmap, "MADV_DONTNEED"):  # else a large file would be resident as a whole
            content.madvise(mmap.MADV_DONTNEED, low, _WINDOW)


def _end_of_heap(content: mmap.mmap, start: int) -> int:
    """Where the heap at ``start`` ends; 0 if the objects in it do not add up."""
    end = start + int.from_bytes(content[start + 8 : start + 16], "little")
    place = start + 16
    while place + 16 <= min(end, len(content)):
        index = int.from_bytes(content[place : place + 2], "little")
        size = int.from_bytes(content[place + 8 : place + 16], "little")
        if index == 0:
            return end if place + size == end else 0
        place += 16 + (size + 7) // 8 * 8
    return end if place <= end else 0


def read_info(file: h5py.File, path: Path) -> DatasetInfo:
    """The attributes, checked against their own digest.

    Raises:
        CorruptFile: no dataset of ours, damaged, or of a later format version.
    """
    with reading(path, "its attributes"):
        attributes = file.attrs
        if "format" not in attributes or _text(attributes["format"]) != FORMAT:
            raise CorruptFile(
                f"{path} is an HDF5 file, but no skilldistill dataset",
                hint="make one with `skilldistill collect`",
            )
        version = int(attributes["format_version"])
        if version > FORMAT_VERSION:
            raise CorruptFile(
                f"{path} has format version {version}; "
                f"this skilldistill reads up to {FORMAT_VERSION}",
                hint="update skilldistill with `pip install --upgrade skilldistill`",
            )
        experts = json.loads(_text(attributes["experts"]))
        info = DatasetInfo(
            domain=_text(attributes["domain"]),
            skills=_texts(attributes["skills"]),
            env_id=_text(attributes["env_id"]),
            experts=tuple(ExpertRef(str(e["ref"]), str(e["sha256"])) for e in experts),
            observation_names=_texts(attributes["observation_names"]),
            action_names=_texts(attributes["action_names"]),
            seed=int(attributes["seed"]),
            config=dict(json.loads(_text(attributes["config"]))),
            rounds=int(attributes["rounds"]),
        )
        if version < 1 or _text(attributes["digest"]) != info.digest():
            raise CorruptFile(f"{path}: the attributes do not match their digest", hint=HINT)
        return info


def program_version(file: h5py.File, path: Path) -> str:
    """Version of skilldistill that wrote the file."""
    with reading(path, "its attributes"):
        return _text(file.attrs["skilldistill_version"])


def check_columns(
    file: h5py.File, info: DatasetInfo, path: Path
) -> tuple[dict[str, h5py.Dataset], int | None]:
    """Every column by name, and the width of ``native_observations`` if there are any.

    Raises:
        CorruptFile: a column is missing, unknown, of another dtype or shape, or incomplete.
    """
    with reading(path, "its columns"):
        names = {column.name for column in (*ROW_COLUMNS, *EPISODE_COLUMNS)}
        native = "native_observations" in file
        expected = names if native else names - {"native_observations"}
        if set(file) != expected:
            odd = ", ".join(sorted(set(file) ^ expected))
            raise CorruptFile(f"{path}: columns missing or unknown: {odd}", hint=HINT)
        # A link could lead out of the file.
        links = {name: file.get(name, getlink=True) for name in sorted(expected)}
        for name, link in links.items():
            if not isinstance(link, h5py.HardLink):
                raise CorruptFile(f"{path}: {name} is a link", hint=HINT)
            if not isinstance(file[name], h5py.Dataset):
                raise CorruptFile(f"{path}: {name} is no column", hint=HINT)
        datasets = {c.name: file[c.name] for c in ROW_COLUMNS if c.name in expected}
        datasets |= {c.name: file[c.name] for c in EPISODE_COLUMNS}
        shape: tuple[int, ...] = getattr(datasets.get("native_observations"), "shape", ())
        native_dim = int(shape[1]) if len(shape) == 2 else None
        widths = info.widths(native_dim)
        rows, episodes = (len(datasets[name]) for name in ("rewards", "episode_start"))
        for count, columns in ((rows, ROW_COLUMNS), (episodes, EPISODE_COLUMNS)):
            for column in columns:
                if column.name in datasets:
                    _check_column(path, datasets[column.name], column, count, widths)
        return datasets, native_dim


def _check_column(
    path: Path, dataset: Any, column: Column, count: int, widths: dict[str, int]
) -> None:
    tail = (widths.get(column.width, -1),) if column.width else ()
    problem = ""
    if dataset.dtype != column.dtype:
        problem = f"is {dataset.dtype}, expected {column.dtype}"
    elif dataset.shape != (count, *tail):
        problem = f"has shape {dataset.shape}, expected {(count, *tail)}"
    elif not dataset.chunks or dataset.chunks[1:] != tail or not dataset.fletcher32:
        problem = "is not stored in whole rows with checksums"
    elif dataset.id.get_create_plist().get_nfilters() != 1:
        # A small file could unpack to more than the memory holds.
        problem = "is stored compressed"
    elif dataset.id.get_num_chunks() != -(-count // dataset.chunks[0]):
        # HDF5 reads a chunk that was never written as zeros.
        problem = "lacks some of its rows"
    if problem:
        raise CorruptFile(f"{path}: {column.name} {problem}", hint=HINT)


def read_episodes(datasets: dict[str, h5py.Dataset], rows: int, path: Path) -> Batch:
    """The episode columns, checked to cover the rows one episode after another.

    Raises:
        CorruptFile: they do not, or there are none.
    """
    with reading(path, "its episodes"):
        episodes = {column.name: datasets[column.name][:] for column in EPISODE_COLUMNS}
    start, length = episodes["episode_start"], episodes["episode_length"]
    if len(start) == 0:
        raise CorruptFile(
            f"{path} holds no episodes",
            hint="collect it again with `skilldistill collect`",
        )
    sound = length.min() >= 1 and length.max() <= rows
    if not (sound and np.array_equal(start, np.cumsum(length) - length) and length.sum() == rows):
        raise CorruptFile(f"{path}: episodes do not cover the rows in order", hint=HINT)
    if not np.isfinite(episodes["episode_return"]).all():
        raise CorruptFile(f"{path}: episode_return is not finite", hint=HINT)
    return episodes


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_text(value) for value in values)
