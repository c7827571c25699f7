"""Stream episodes into a dataset file, durably and reproducibly.

Rows are gathered into blocks of whole chunks, so that the bytes on disk depend on the episodes
alone and not on how they were handed over. No time of day enters the file.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import ArrayLike

from skilldistill import __version__
from skilldistill.data.reader import DatasetReader
from skilldistill.data.schema import (
    CHUNK_ROWS,
    EPISODE_COLUMNS,
    FORMAT,
    FORMAT_VERSION,
    ROW_COLUMNS,
    Batch,
    DatasetInfo,
    Episode,
    canonical_json,
)
from skilldistill.errors import ConfigurationError, DiskProblem

_LIBVER = ("v110", "v110")
"""One fixed layout of HDF5's own structures: the same bytes from every later HDF5, checksums on
the metadata, readable since HDF5 1.10 (2016)."""

_BLOCK_CHUNKS = 16
"""Chunks gathered before they are written: one call per column and 65,536 rows."""


class DatasetWriter:
    """Write one dataset file. Use as a context manager: an error inside removes the file.

    Args:
        path: the file to write; must not hold anything yet.
        info: what the dataset says of itself.
        native_dim: width of ``native_observations``, or None for none.
        chunk_rows: rows per chunk.

    Raises:
        ConfigurationError: ``path`` holds something, or an episode does not fit ``info``.
        DiskProblem: the disk is full, or writing failed.
    """

    def __init__(
        self,
        path: str | Path,
        info: DatasetInfo,
        native_dim: int | None = None,
        *,
        chunk_rows: int = CHUNK_ROWS,
    ) -> None:
        self.path, self.info, self.native_dim = Path(path), info, native_dim
        if self.path.exists() and self.path.stat().st_size:
            raise ConfigurationError(f"{self.path} exists already", hint="choose another path")
        self.num_rows = 0
        self._lengths: list[int] = []
        self._returns: list[float] = []
        self._seeds: list[int] = []
        self._written = self._pending = 0
        self._chunk_rows = chunk_rows
        widths = info.widths(native_dim)
        self._columns = [c for c in ROW_COLUMNS if not c.width or c.width in widths]
        shapes = {c.name: (widths[c.width],) if c.width else () for c in self._columns}
        self._buffers: Batch = {
            c.name: np.empty((_BLOCK_CHUNKS * chunk_rows, *shapes[c.name]), dtype=c.dtype)
            for c in self._columns
        }
        self._sink: _Sink | None = None
        self._file: h5py.File | None = None
        try:
            with self._writing():
                flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
                self._sink = _Sink(os.open(self.path, flags, 0o666))
                self._file = h5py.File(self._sink, "w", libver=_LIBVER)
                self._write_attributes()
                self._datasets = {
                    name: self._create(name, buffer.dtype, shapes[name])
                    for name, buffer in self._buffers.items()
                }
                self._file.flush()
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    @property
    def num_episodes(self) -> int:
        """Episodes taken so far."""
        return len(self._lengths)

    def append(self, episode: Episode) -> None:
        """Add one episode after those before it."""
        columns = episode.columns()
        if int(episode.skill[0]) >= len(self.info.skills):
            raise ConfigurationError(
                f"skill index {int(episode.skill[0])} is none of {', '.join(self.info.skills)}"
            )
        self.append_rows(columns)
        total = float(episode.rewards.sum(dtype=np.float64))
        self.append_episodes([len(episode)], [total], [episode.seed])

    def append_many(self, episodes: Iterable[Episode]) -> None:
        """Add episodes in their order."""
        for episode in episodes:
            self.append(episode)

    def append_rows(self, columns: Batch) -> None:
        """Add rows that are known to be sound; :meth:`append_episodes` says how to cut them.

        Raises:
            ConfigurationError: a column is missing, too many, or of another width or dtype.
        """
        if columns.keys() != self._buffers.keys():
            raise ConfigurationError(
                f"rows have columns {', '.join(columns)}; {self.path} has "
                f"{', '.join(self._buffers)}"
            )
        count = len(columns["rewards"])
        for name, buffer in self._buffers.items():
            array = columns[name]
            if array.shape != (count, *buffer.shape[1:]) or array.dtype != buffer.dtype:
                raise ConfigurationError(
                    f"{name} is {array.dtype} of shape {array.shape}, expected "
                    f"{buffer.dtype} of shape {(count, *buffer.shape[1:])}"
                )
        block = _BLOCK_CHUNKS * self._chunk_rows
        taken = 0
        while taken < count:
            part = min(count - taken, block - self._pending)
            for name, buffer in self._buffers.items():
                buffer[self._pending : self._pending + part] = columns[name][taken : taken + part]
            self._pending += part
            taken += part
            if self._pending == block:
                self._flush()
        self.num_rows += count

    def append_episodes(self, lengths: ArrayLike, returns: ArrayLike, seeds: ArrayLike) -> None:
        """Say where the next episodes end: (k,) steps, sums of rewards, and seeds of each."""
        self._lengths.extend(np.asarray(lengths, dtype=np.int64).tolist())
        self._returns.extend(np.asarray(returns, dtype=np.float64).tolist())
        self._seeds.extend(np.asarray(seeds, dtype=np.uint64).tolist())

    def close(self) -> None:
        """Finish the file: write what is pending, fsync, reopen, and check.

        Raises:
            ConfigurationError: nothing was written, or the episodes do not cover the rows.
            DiskProblem: the disk is full, or writing failed.
            CorruptFile: the file could not be read back.
        """
        if self._file is None:
            return
        try:
            if not self._lengths:
                raise ConfigurationError(f"no episode was written to {self.path}")
            if sum(self._lengths) != self.num_rows:
                raise ConfigurationError(
                    f"episodes cover {sum(self._lengths)} rows of {self.num_rows}"
                )
            self._flush()
            with self._writing():
                self._write_episodes()
                self._file.close()
                self._file = None
                assert self._sink is not None
                self._sink.sync()
            self._sink.close()
            with DatasetReader(self.path) as written:
                written.rows(slice(written.num_rows - 1, written.num_rows))
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up: close and remove the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._sink is not None:
            self._sink.close()
        self.path.unlink(missing_ok=True)

    def _create(self, name: str, dtype: np.dtype[Any], tail: tuple[int, ...]) -> h5py.Dataset:
        assert self._file is not None
        return self._file.create_dataset(
            name,
            shape=(0, *tail),
            maxshape=(None, *tail),
            chunks=(self._chunk_rows, *tail),
            dtype=dtype,
            fletcher32=True,
            track_times=False,
        )

    def _write_attributes(self) -> None:
        assert self._file is not None
        info, attributes, text = self.info, self._file.attrs, h5py.string_dtype()
        attributes["format"] = FORMAT
        attributes["format_version"] = FORMAT_VERSION
        attributes["skilldistill_version"] = __version__
        attributes["domain"] = info.domain
        attributes["env_id"] = info.env_id
        for name in ("skills", "observation_names", "action_names"):
            attributes[name] = np.array(getattr(info, name), dtype=text)
        attributes["experts"] = canonical_json(
            [{"ref": expert.ref, "sha256": expert.sha256} for expert in info.experts]
        )
        attributes["seed"] = np.uint64(info.seed % 2**64)
        attributes["config"] = canonical_json(info.config)
        attributes["rounds"] = np.int64(info.rounds)
        attributes["digest"] = info.digest()

    def _write_episodes(self) -> None:
        lengths = np.array(self._lengths, dtype=np.int64)
        values = (np.cumsum(lengths) - lengths, lengths, self._returns, self._seeds)
        for column, value in zip(EPISODE_COLUMNS, values, strict=True):
            dataset = self._create(column.name, column.dtype, ())
            dataset.resize((len(lengths),))
            dataset[:] = np.asarray(value, dtype=column.dtype)

    def _flush(self) -> None:
        if not self._pending:
            return
        end = self._written + self._pending
        with self._writing():
            for name, buffer in self._buffers.items():
                dataset = self._datasets[name]
                dataset.resize(end, axis=0)
                dataset[self._written : end] = buffer[: self._pending]
        self._written, self._pending = end, 0

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn the system's complaints into ours."""
        try:
            yield
            if self._sink is not None and self._sink.problem is not None:
                raise self._sink.problem
        except OSError as error:
            raise DiskProblem(
                f"cannot write {self.path}: {error.strerror or error}",
                hint="free some space there, or choose another place with `--workspace`",
            ) from error


class _Sink(io.RawIOBase):
    """The file that HDF5 writes to, which never fails while HDF5 looks on.

    HDF5 cannot give up a file that it failed to write: it tries again when closed and when the
    process ends, and crashes it. So after the first failure, kept in :attr:`problem`, writes
    go to memory; the writer looks after every block and gives up before they amount to much.

    Args:
        descriptor: of the file, open for reading and writing; closed with the sink.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.problem: OSError | None = None
        self._descriptor = descriptor
        self._position = self._size = 0
        self._lost: list[tuple[int, bytes]] = []

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        start = self._position
        end = min(start + len(view), self._size)
        count = max(0, end - start)
        found = os.pread(self._descriptor, count, start)
        view[: len(found)] = found
        view[len(found) : count] = bytes(count - len(found))
        for offset, data in self._lost:
            low, high = max(start, offset), min(end, offset + len(data))
            if low < high:
                view[low - start : high - start] = data[low - offset : high - offset]
        self._position += count
        return count

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            written = 0
            while written < len(view) and self.problem is None:
                offset = self._position + written
                written += os.pwrite(self._descriptor, view[written:], offset)
        except OSError as error:
            self.problem = error
        if self.problem is not None:
            self._lost.append((self._position, bytes(view)))
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError as error:
            self.problem = self.problem or error
        return self._size

    def sync(self) -> None:
        """Wait until the disk has it all."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            self.problem = self.problem or error

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
