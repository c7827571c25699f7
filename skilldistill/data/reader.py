"""Read rows of a dataset file of any size, sample them, and split them by episode.

The structure is checked when the file is opened (:mod:`skilldistill.data.layout`), the numbers
as they are read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skilldistill.data import layout
from skilldistill.data.schema import FORMAT, FORMAT_VERSION, ROW_COLUMNS, Batch, check_finite
from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError, CorruptFile

_SCAN_ROWS = 1 << 18
"""Rows read at once where a whole column is looked through."""


class DatasetReader:
    """One dataset file, open for reading. Use as a context manager.

    Args:
        path: the file.
        domain: if given, the data must carry this domain's names and dimensions.

    Raises:
        NotFound: no such file.
        CorruptFile: not a dataset, damaged, or of a later format version.
        ConfigurationError: sound, but not of ``domain``.
        DiskProblem: the file may not be read.
    """

    def __init__(self, path: str | Path, *, domain: Domain | None = None) -> None:
        self.path = Path(path)
        self._file = layout.open_file(self.path)
        try:
            self.info = layout.read_info(self._file, self.path)
            self._datasets, self.native_dim = layout.check_columns(self._file, self.info, self.path)
            self.num_rows: int = len(self._datasets["observations"])
            self.chunk_rows: int = self._datasets["observations"].chunks[0]
            episodes = layout.read_episodes(self._datasets, self.num_rows, self.path)
            self.episode_start: NDArray[np.int64] = episodes["episode_start"]
            self.episode_length: NDArray[np.int64] = episodes["episode_length"]
            self.episode_return: NDArray[np.float32] = episodes["episode_return"]
            self.episode_seed: NDArray[np.uint64] = episodes["episode_seed"]
            if domain is not None:
                self.info.check_domain(domain, str(self.path))
                self._check_native(domain)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError, RuntimeError):
            self._file.close()

    @property
    def num_episodes(self) -> int:
        """Number of episodes."""
        return len(self.episode_start)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the row columns the file has, in order."""
        return tuple(column.name for column in ROW_COLUMNS if column.name in self._datasets)

    @cached_property
    def episode_skill(self) -> NDArray[np.uint8]:
        """(E,) index into ``info.skills`` of every episode."""
        skill = np.empty(self.num_episodes, dtype=np.uint8)
        for low in range(0, self.num_rows, _SCAN_ROWS):
            high = min(low + _SCAN_ROWS, self.num_rows)
            first, last = np.searchsorted(self.episode_start, (low, high))
            column = self._read("skill", low, high)
            skill[first:last] = column[self.episode_start[first:last] - low]
        return skill

    def episodes_of(self, skill: str) -> NDArray[np.int64]:
        """Indices of the episodes of one skill."""
        if skill not in self.info.skills:
            raise ConfigurationError(
                f"{self.path} has no skill {skill!r}",
                hint=f"choose from {', '.join(self.info.skills)}",
            )
        return np.flatnonzero(self.episode_skill == self.info.skills.index(skill))

    def rows(
        self, index: slice | NDArray[np.integer[Any]], fields: Sequence[str] | None = None
    ) -> Batch:
        """Some rows of some columns.

        Args:
            index: a slice of step 1, or (k,) row numbers in any order, repeats allowed.
            fields: columns wanted; None for all.

        Raises:
            ConfigurationError: a row or column that is not there.
            CorruptFile: what is read is damaged.
        """
        names = self._names(fields)
        if isinstance(index, slice):
            low, high, step = index.indices(self.num_rows)
            if step != 1:
                raise ConfigurationError(f"rows are read in steps of 1, not {step}")
            return {name: self._read(name, low, max(low, high)) for name in names}
        wanted = np.asarray(index, dtype=np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < self.num_rows):
            raise ConfigurationError(f"{self.path} has rows 0 to {self.num_rows - 1}")
        return self._gather(wanted, names)

    def read_all(
        self, fields: Sequence[str] | None = None, episodes: NDArray[np.integer[Any]] | None = None
    ) -> Batch:
        """Every row, or the rows of some episodes, in the file's order. For data that fits memory.

        Args:
            fields: columns wanted; None for all.
            episodes: episode indices; None for all.
        """
        names = self._names(fields)
        if episodes is None:
            return {name: self._read(name, 0, self.num_rows) for name in names}
        chosen = self._chosen(episodes)
        total = int(self.episode_length[chosen].sum())
        batch = {name: _empty(self._datasets[name], total) for name in names}
        filled = 0
        for low in range(0, self.num_rows, _SCAN_ROWS):
            high = min(low + _SCAN_ROWS, self.num_rows)
            inside = self._rows_inside(low, high, chosen)
            count = int(inside.sum())
            if count:
                for name in names:
                    batch[name][filled : filled + count] = self._read(name, low, high)[inside]
            filled += count
        return batch

    def shuffled_blocks(
        self,
        rng: np.random.Generator,
        block_rows: int,
        fields: Sequence[str] | None = None,
        episodes: NDArray[np.integer[Any]] | None = None,
    ) -> Iterator[Batch]:
        """Every row once, in random order, without holding more than about two blocks.

        Chunks are drawn in random order and gathered into blocks, and the rows of a block are
        shuffled: any two blocks hold rows from all over the file. For a balance of skills, run
        one iterator per skill with ``episodes_of(skill)``; chunks without wanted rows are skipped.

        Args:
            rng: where the order comes from; the same state gives the same order.
            block_rows: rows per block, rounded up to whole chunks; the last block is smaller.
            fields: columns wanted; None for all.
            episodes: episode indices; None for all.
        """
        names = self._names(fields)
        chosen = np.ones(self.num_episodes, dtype=bool)
        if episodes is not None:
            chosen = self._chosen(episodes)
        chunks = self._chunks_of(chosen)
        rng.shuffle(chunks)
        # Chunks hold fewer wanted rows than they could; count those so that blocks come out even.
        counts = np.array(
            [int(self._rows_inside(*self._span(chunk), chosen).sum()) for chunk in chunks],
            dtype=np.int64,
        )
        first = 0
        while first < len(chunks):
            filled = np.cumsum(counts[first:])
            last = first + int(np.searchsorted(filled, max(1, block_rows))) + 1
            yield self._mixed(rng, np.sort(chunks[first:last]), names, chosen)
            first = last

    def split(self, val_fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cut the episodes into training and held-out ones, each skill in the same proportion.

        Every skill with two episodes or more gets at least one of each, unless ``val_fraction``
        is 0. Both lists are sorted.

        Args:
            val_fraction: share of the episodes held out, in [0, 1).
            seed: which ones.

        Raises:
            ConfigurationError: ``val_fraction`` lies outside [0, 1).
        """
        if not 0 <= val_fraction < 1:
            raise ConfigurationError(f"val_fraction must lie in [0, 1), got {val_fraction}")
        held = np.zeros(self.num_episodes, dtype=bool)
        for skill in range(len(self.info.skills)):
            mine = np.flatnonzero(self.episode_skill == skill)
            if len(mine) < 2 or val_fraction == 0:
                continue
            count = min(max(1, round(val_fraction * len(mine))), len(mine) - 1)
            rng = np.random.default_rng([seed % 2**64, skill])
            held[rng.choice(mine, count, replace=False)] = True
        return np.flatnonzero(~held), np.flatnonzero(held)

    def check(self) -> None:
        """Read everything, so that every checksum is compared.

        Raises:
            CorruptFile: something is damaged.
        """
        for low in range(0, self.num_rows, _SCAN_ROWS):
            self.rows(slice(low, low + _SCAN_ROWS))

    def summary(self) -> dict[str, Any]:
        """What ``show`` prints: plain values, ready for JSON."""
        info, lengths, returns = self.info, self.episode_length, self.episode_return
        skills = {}
        for position, name in enumerate(info.skills):
            mine = self.episode_skill == position
            if mine.any():
                skills[name] = {
                    "episodes": int(mine.sum()),
                    "rows": int(lengths[mine].sum()),
                    "mean_return": float(returns[mine].mean(dtype=np.float64)),
                    "mean_length": float(lengths[mine].mean()),
                }
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "skilldistill_version": layout.program_version(self._file, self.path),
            "domain": info.domain,
            "env_id": info.env_id,
            "seed": info.seed,
            "rounds": info.rounds,
            "episodes": self.num_episodes,
            "rows": self.num_rows,
            "skills": skills,
            "experts": [{"ref": e.ref, "sha256": e.sha256} for e in info.experts],
            "observation_names": list(info.observation_names),
            "action_names": list(info.action_names),
            "config": dict(info.config),
            "columns": {
                name: {"dtype": str(dataset.dtype), "shape": list(dataset.shape)}
                for name, dataset in self._datasets.items()
            },
            "bytes": self.path.stat().st_size,
        }

    def _check_native(self, domain: Domain) -> None:
        if self.native_dim is None:
            return
        names = self.info.skills
        expected = None
        if len(names) == 1 and names[0] in domain.skill_names:
            expected = len(domain.skill(names[0]).native_observations)
        if self.native_dim != expected:
            raise ConfigurationError(
                f"{self.path}: native_observations has {self.native_dim} columns, "
                f"domain {domain.name!r} expects {expected} for {', '.join(names)}",
                hint="collect it again with `skilldistill collect`",
            )

    # Reading rows

    def _names(self, fields: Sequence[str] | None) -> Sequence[str]:
        if fields is None:
            return self.fields
        unknown = [name for name in fields if name not in self.fields]
        if unknown:
            raise ConfigurationError(
                f"{self.path} has no column {', '.join(unknown)}",
                hint=f"choose from {', '.join(self.fields)}",
            )
        return fields

    def _read(self, name: str, low: int, high: int) -> NDArray[Any]:
        dataset = self._datasets[name]
        array = _empty(dataset, high - low)
        if high > low:
            with layout.reading(self.path, f"column {name}, rows {low} to {high - 1},"):
                dataset.read_direct(array, np.s_[low:high])
            self._check_values(name, array)
        return array

    def _check_values(self, name: str, array: NDArray[Any]) -> None:
        try:
            check_finite({name: array})
        except ConfigurationError as error:
            raise CorruptFile(f"{self.path}: {error.message}", hint=layout.HINT) from error
        # A byte that is neither 0 nor 1 makes a bool of which NumPy's operators disagree.
        limit = {"u": len(self.info.skills) - 1, "b": 1}.get(array.dtype.kind)
        if limit is not None and int(array.view(np.uint8).max()) > limit:
            raise CorruptFile(f"{self.path}: {name} holds a value above {limit}", hint=layout.HINT)

    def _gather(self, wanted: NDArray[np.int64], names: Iterable[str]) -> Batch:
        """Rows in any order, touching every chunk once."""
        order = np.argsort(wanted, kind="stable")
        chunk_of = wanted[order] // self.chunk_rows
        cuts = np.flatnonzero(np.diff(chunk_of)) + 1
        batch = {}
        for name in names:
            array = batch[name] = _empty(self._datasets[name], len(wanted))
            for places in np.split(order, cuts) if len(wanted) else []:
                rows = wanted[places]
                low, high = int(rows[0]), int(rows[-1]) + 1
                array[places] = self._read(name, low, high)[rows - low]
        return batch

    def _mixed(
        self,
        rng: np.random.Generator,
        chunks: NDArray[np.int64],
        names: Iterable[str],
        chosen: NDArray[np.bool_],
    ) -> Batch:
        """The wanted rows of some chunks (sorted), shuffled."""
        inside = [self._rows_inside(*self._span(chunk), chosen) for chunk in chunks]
        # Row i of the block as read goes to place[i], so that no second copy is needed.
        place = rng.permutation(sum(int(part.sum()) for part in inside))
        batch = {}
        for name in names:
            array = batch[name] = _empty(self._datasets[name], len(place))
            filled = 0
            for chunk, part in zip(chunks, inside, strict=True):
                rows = self._read(name, *self._span(chunk))
                rows = rows if part.all() else rows[part]
                array[place[filled : filled + len(rows)]] = rows
                filled += len(rows)
        return batch

    def _span(self, chunk: int) -> tuple[int, int]:
        low = int(chunk) * self.chunk_rows
        return low, min(low + self.chunk_rows, self.num_rows)

    def _chosen(self, episodes: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """(E,) bool of a list of episode indices."""
        listed = np.asarray(episodes, dtype=np.int64)
        if len(listed) and not (listed.min() >= 0 and listed.max() < self.num_episodes):
            raise ConfigurationError(f"{self.path} has episodes 0 to {self.num_episodes - 1}")
        chosen = np.zeros(self.num_episodes, dtype=bool)
        chosen[listed] = True
        return chosen

    def _chunks_of(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Chunks that hold a row of a chosen episode, ascending."""
        start = self.episode_start[chosen]
        end = start + self.episode_length[chosen]
        # +1 where an episode's chunks begin, -1 behind them: the running sum counts episodes.
        edges = np.zeros(-(-self.num_rows // self.chunk_rows) + 1, dtype=np.int64)
        np.add.at(edges, start // self.chunk_rows, 1)
        np.add.at(edges, (end - 1) // self.chunk_rows + 1, -1)
        return np.flatnonzero(np.cumsum(edges[:-1]) > 0)

    def _rows_inside(self, low: int, high: int, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(high - low,) which rows belong to a chosen episode."""
        first = int(np.searchsorted(self.episode_start, low, side="right")) - 1
        last = int(np.searchsorted(self.episode_start, high))
        start = np.maximum(self.episode_start[first:last], low)
        end = np.minimum(self.episode_start[first:last] + self.episode_length[first:last], high)
        return np.repeat(chosen[first:last], end - start)


def _empty(dataset: Any, count: int) -> NDArray[Any]:
    return np.empty((count, *dataset.shape[1:]), dtype=dataset.dtype)
