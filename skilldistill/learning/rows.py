"""Labelled rows for the supervised loop: in memory where they fit, else streamed from the file.

A :class:`Group` is rows that share one place in every batch: those of one skill, or those the
student visited itself. Each group is an endless sequence, one random permutation of its rows
after another, and a batch takes the next few rows of every group. What an epoch sees is a
function of (seed, group, epoch) alone, so training can be taken up anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skilldistill.data.reader import DatasetReader
from skilldistill.data.schema import Batch
from skilldistill.learning.losses import Objective

FIELDS = ("observations", "targets", "target_std", "action_mask")
MEMORY_BYTES = 2**29
"""Datasets that need more than this as tensors are streamed."""
POOL_ROWS = 1 << 18
"""Rows of a streamed group held and shuffled at once."""

Table = tuple[Tensor, Tensor]
"""(n, obs_dim) observations and (n, columns) label table."""
Judged = tuple[Tensor, Tensor, Tensor]
"""A table to be judged by: also the (n, columns) label table of ``objective.plain``."""


class Rows(Protocol):
    """The rows of one group, to be drawn in random order again and again."""

    count: int

    def take(self, start: int, count: int) -> Table:
        """Rows ``start … start + count - 1`` of the endless shuffled sequence."""
        ...


@dataclass
class Group:
    """Rows with a place of their own in every batch."""

    rows: Rows
    share: float
    """Of each batch; the shares of all groups add up to 1."""


class MemoryRows:
    """Rows that are tensors already.

    Args:
        table: where they are.
        indices: which rows of it belong; None for all.
        key: what the order is derived from, e.g. (seed, group).
    """

    def __init__(self, table: Table, indices: Tensor | None, key: Sequence[int]) -> None:
        self._table, self._indices, self._key = table, indices, tuple(key)
        self.count = len(table[0]) if indices is None else len(indices)
        self._cached: tuple[int, Tensor] = (-1, torch.empty(0))

    def take(self, start: int, count: int) -> Table:
        """Rows ``start … start + count - 1`` of the endless shuffled sequence."""
        pieces = []
        while count > 0:
            cycle, offset = divmod(start, self.count)
            piece = self._order(cycle)[offset : offset + count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        index = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return self._table[0].index_select(0, index), self._table[1].index_select(0, index)

    def _order(self, cycle: int) -> Tensor:
        """(count,) row numbers in the order of this pass."""
        if self._cached[0] != cycle:
            generator = torch.Generator().manual_seed(_seed(*self._key, cycle))
            order = torch.randperm(self.count, generator=generator)
            order = order.to(self._table[0].device)
            if self._indices is not None:
                order = self._indices[order]
            self._cached = (cycle, order)
        return self._cached[1]


class FileRows:
    """Rows of some episodes of a file, read in shuffled blocks and never held all at once.

    Args:
        reader: the open file.
        episodes: which episodes belong.
        objective: turns what is read into a label table.
        key: what the order is derived from.
        device: where batches go.
    """

    def __init__(
        self,
        reader: DatasetReader,
        episodes: NDArray[np.int64],
        objective: Objective,
        key: Sequence[int],
        device: torch.device,
    ) -> None:
        self._reader, self._episodes, self._objective = reader, episodes, objective
        self._key, self._device = tuple(key), device
        self.count = int(reader.episode_length[episodes].sum())
        self._position = (-1, 0)
        """Cycle, and where in it the block at hand begins."""
        self._blocks: Iterator[Batch] = iter(())
        self._block: Table = (torch.empty(0), torch.empty(0))

    def take(self, start: int, count: int) -> Table:
        """Rows ``start … start + count - 1`` of the endless shuffled sequence."""
        pieces = []
        while count > 0:
            cycle, offset = divmod(start, self.count)
            block, begin = self._seek(cycle, offset)
            low = offset - begin
            piece = (block[0][low : low + count], block[1][low : low + count])
            pieces.append(piece)
            start, count = start + len(piece[0]), count - len(piece[0])
        if len(pieces) == 1:
            return pieces[0]
        observations, labels = zip(*pieces, strict=True)
        return torch.cat(observations), torch.cat(labels)

    def _seek(self, cycle: int, offset: int) -> tuple[Table, int]:
        """The block that holds row ``offset`` of a pass, and where it begins."""
        at, begin = self._position
        if at != cycle or offset < begin:
            rng = np.random.default_rng([_seed(*self._key), cycle])
            self._blocks = self._reader.shuffled_blocks(rng, POOL_ROWS, FIELDS, self._episodes)
            self._position, self._block = (cycle, 0), (torch.empty(0), torch.empty(0))
        while offset >= self._position[1] + len(self._block[0]):
            begin = self._position[1] + len(self._block[0])
            self._block = to_table(next(self._blocks), self._objective, self._device)
            self._position = (cycle, begin)
        return self._block, self._position[1]


class Batches:
    """Batches in which every group has its share.

    Args:
        groups: at least one.
        batch_size: rows per batch; every group gets at least one.
    """

    def __init__(self, groups: Sequence[Group], batch_size: int) -> None:
        self.groups = groups
        counts = [max(1, int(group.share * batch_size)) for group in groups]
        left = batch_size - sum(counts)
        for i in range(left):  # rows that rounding left over go to the first groups
            counts[i % len(counts)] += 1
        self.counts = counts

    @property
    def size(self) -> int:
        """Rows per batch."""
        return sum(self.counts)

    def read(self, first: int, steps: int) -> tuple[Tensor, Tensor]:
        """Batches ``first … first + steps - 1`` of the endless sequence.

        Returns:
            (steps, size, obs_dim) observations and (steps, size, columns) label table.
        """
        parts = []
        for group, count in zip(self.groups, self.counts, strict=True):
            observations, labels = group.rows.take(first * count, steps * count)
            parts.append(
                (
                    observations.view(steps, count, observations.shape[1]),
                    labels.view(steps, count, labels.shape[1]),
                )
            )
        if len(parts) == 1:
            return parts[0]
        return torch.cat([p[0] for p in parts], dim=1), torch.cat([p[1] for p in parts], dim=1)


@dataclass
class Source:
    """One dataset, divided into rows to learn from and rows to be judged by."""

    groups: list[tuple[str, Rows]]
    """Rows to learn from, by skill."""
    num_rows: int
    """Rows to learn from."""
    held_out: dict[str, Judged]
    """Held-out rows, by skill; about :data:`HELD_OUT_ROWS` altogether at most. Of a skill that has
    none, such as one with a single episode, rows to learn from stand in."""


HELD_OUT_ROWS = 200_000
"""Most rows, give or take an episode per skill, that a held-out score looks at: more would not
change its third digit."""


def open_source(
    reader: DatasetReader,
    objective: Objective,
    *,
    val_fraction: float,
    seed: int,
    device: torch.device,
    by_skill: bool = True,
    memory_bytes: int | None = None,
) -> Source:
    """Divide a dataset by episode and make its rows ready.

    Args:
        reader: the open file; it must stay open.
        objective: turns rows into label tables.
        val_fraction: share of the episodes held out.
        seed: decides which, and the order of the others.
        device: where batches are needed.
        by_skill: one group of rows per skill; otherwise one with all of them.
        memory_bytes: datasets that need more are streamed; None for :data:`MEMORY_BYTES`.
    """
    memory_bytes = MEMORY_BYTES if memory_bytes is None else memory_bytes
    train, held = reader.split(val_fraction, seed)
    skills = reader.info.skills
    train_skill = reader.episode_skill[train] if by_skill else np.zeros(len(train), np.uint8)
    width = objective.label_table(*_nothing(objective)).shape[1] + objective.domain.obs_dim
    rows = int(reader.episode_length[train].sum())
    groups: list[tuple[str, Rows]] = []
    in_memory = rows * width * 4 <= memory_bytes
    if in_memory:
        table = to_table(reader.read_all(FIELDS, train), objective, device)
        row_skill = np.repeat(train_skill, reader.episode_length[train])
    for number in np.unique(train_skill).tolist():
        name = skills[number] if by_skill else "all"
        key = (seed, reader.info.rounds, number)
        if in_memory:
            mine = torch.from_numpy(np.flatnonzero(row_skill == number)).to(device)
            groups.append((name, MemoryRows(table, mine, key)))
        else:
            episodes = train[train_skill == number]
            groups.append((name, FileRows(reader, episodes, objective, key, device)))

    judged = {}
    for number, name in enumerate(skills):
        own = [chosen[reader.episode_skill[chosen] == number] for chosen in (held, train)]
        episodes = _thinned(reader, own[0] if len(own[0]) else own[1], len(skills))
        if len(episodes):
            judged[name] = _to_judged(reader.read_all(FIELDS, episodes), objective, device)
    return Source(groups, rows, judged)


def to_table(batch: Batch, objective: Objective, device: torch.device) -> Table:
    """Rows of a dataset as observations and label table on ``device``."""
    observations, targets, std, mask = (torch.from_numpy(batch[name]) for name in FIELDS)
    return observations.to(device), objective.label_table(targets, std, mask).to(device)


def _to_judged(batch: Batch, objective: Objective, device: torch.device) -> Judged:
    observations, table = to_table(batch, objective, device)
    if objective.labels_plainly:
        return observations, table, table
    return observations, table, to_table(batch, objective.plain, device)[1]


def join(tables: Sequence[Judged]) -> Judged:
    """Tables one below the other."""
    observations, table, plain = zip(*tables, strict=True)
    joined = torch.cat(table)
    same = all(a is b for a, b in zip(table, plain, strict=True))
    return torch.cat(observations), joined, joined if same else torch.cat(plain)


def _thinned(reader: DatasetReader, episodes: NDArray[np.int64], skills: int) -> NDArray[np.int64]:
    """As many of the episodes as the skill's part of :data:`HELD_OUT_ROWS` allows, spread out."""
    rows = int(reader.episode_length[episodes].sum())
    step = -(-rows * skills // HELD_OUT_ROWS)
    return episodes[:: max(1, step)]


def _nothing(objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
    empty = torch.zeros(0, objective.domain.action_dim)
    return empty, empty, empty.bool()


def _seed(*key: int) -> int:
    """A 63-bit seed from a few integers."""
    words = np.random.SeedSequence([value % 2**64 for value in key]).generate_state(2, np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1
