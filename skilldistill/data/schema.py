"""What a dataset file holds: names, dtypes, and shapes, checked when an episode is made.

A file has one row per step (T rows) and one entry per episode (E). :data:`ROW_COLUMNS` and
:data:`EPISODE_COLUMNS` are the only places where the columns are listed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError

FORMAT = "skilldistill.dataset"
FORMAT_VERSION = 1
CHUNK_ROWS = 4096
"""Rows per HDF5 chunk: large enough to read at memory speed (2.6 GB/s against 1.5 GB/s at 1,024
rows, checksums included), small enough that a shuffled block holds rows from many places."""

Batch = dict[str, NDArray[Any]]
"""Columns by name, all with the same number of rows."""


@dataclass(frozen=True)
class Column:
    """One HDF5 dataset of the file."""

    name: str
    dtype: np.dtype[Any]
    width: Literal["", "observation", "action", "native"] = ""
    """What the second axis runs over; empty for a plain vector."""


_F4, _I8, _U8, _BOOL = (np.dtype(code) for code in ("<f4", "<i8", "<u8", "?"))

ROW_COLUMNS = (
    Column("observations", _F4, "observation"),
    Column("actions", _F4, "action"),
    Column("targets", _F4, "action"),
    Column("target_std", _F4, "action"),
    Column("action_mask", _BOOL, "action"),
    Column("skill", np.dtype("u1")),
    Column("native_observations", _F4, "native"),
    Column("rewards", _F4),
    Column("terminated", _BOOL),
    Column("truncated", _BOOL),
)
"""One entry per step. ``native_observations`` is present in single-skill datasets only."""

EPISODE_COLUMNS = (
    Column("episode_start", _I8),
    Column("episode_length", _I8),
    Column("episode_return", _F4),
    Column("episode_seed", _U8),
)
"""One entry per episode; the rows of an episode are contiguous, episodes follow one another."""


@dataclass(frozen=True)
class ExpertRef:
    """Which expert acted or labelled."""

    ref: str
    """Artefact reference, ``expert:NAME@VERSION``."""
    sha256: str
    """Hash of the expert's weights, so that it is known even without its workspace."""


@dataclass(frozen=True)
class DatasetInfo:
    """What a dataset says of itself. Holds no time: equal inputs give equal files.

    Raises:
        ConfigurationError: a list of names is empty or repeats a name, or the configuration
            is not plain JSON.
    """

    domain: str
    skills: tuple[str, ...]
    """Tasks played; the column ``skill`` indexes this."""
    env_id: str
    """Gymnasium id of the task; ids joined by commas in a merged dataset."""
    experts: tuple[ExpertRef, ...]
    observation_names: tuple[str, ...]
    action_names: tuple[str, ...]
    seed: int
    config: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 0
    """Student-driven round these rows come from; 0 where the experts acted."""

    def __post_init__(self) -> None:
        for what in ("skills", "observation_names", "action_names"):
            names = getattr(self, what)
            if not names or len(set(names)) != len(names):
                raise ConfigurationError(f"{what} must be distinct names, got {names!r}")
        if len(self.skills) > 256:
            raise ConfigurationError(f"at most 256 skills fit a dataset, got {len(self.skills)}")
        canonical_json(self.config)

    def widths(self, native_dim: int | None) -> dict[str, int]:
        """Size of each kind of second axis; ``native`` only where there is one."""
        widths = {"observation": len(self.observation_names), "action": len(self.action_names)}
        return widths if native_dim is None else {**widths, "native": native_dim}

    def check_domain(self, domain: Domain, where: str) -> None:
        """Refuse data that ``domain`` cannot use.

        Args:
            domain: the domain whose names must be found here.
            where: the file, for the message.

        Raises:
            ConfigurationError: another domain, or other observation, action, or task names.
        """
        hint = "collect it again with `skilldistill collect`"
        if self.domain != domain.name:
            raise ConfigurationError(
                f"{where} belongs to domain {self.domain!r}, not {domain.name!r}",
                hint=f"pass `--domain {self.domain}`",
            )
        for what, found, expected in (
            ("observations", self.observation_names, domain.observation_names),
            ("actions", self.action_names, domain.action_names),
        ):
            if found != expected:
                raise ConfigurationError(
                    f"{where}: {what} are {', '.join(found)}; "
                    f"domain {domain.name!r} has {', '.join(expected)}",
                    hint=hint,
                )
        known = {task.name for task in domain.tasks}
        unknown = [skill for skill in self.skills if skill not in known]
        if unknown:
            raise ConfigurationError(
                f"{where}: domain {domain.name!r} has no task {', '.join(unknown)}", hint=hint
            )

    def digest(self) -> str:
        """SHA-256 over every field: the attributes lie outside HDF5's own checksums."""
        fields = {**asdict(self), "seed": self.seed % 2**64}
        return hashlib.sha256(canonical_json(fields).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no NaN: equal values give equal bytes.

    Raises:
        ConfigurationError: ``value`` holds something JSON has no word for.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"cannot be recorded as JSON: {error}") from error


@dataclass(frozen=True, eq=False)
class Episode:
    """One played episode of T steps, as one row per step.

    Raises:
        ConfigurationError: a column has another dtype or shape than it should, holds a number
            that is not finite, or the end flags are not on the last step alone.
    """

    observations: NDArray[np.float32]
    """(T, o) unified observation before the step."""
    actions: NDArray[np.float32]
    """(T, a) the action taken, in environment units."""
    targets: NDArray[np.float32]
    """(T, a) the expert's probability (binary) or mean (continuous)."""
    target_std: NDArray[np.float32]
    """(T, a) the expert's standard deviation; 0 for binary dimensions."""
    action_mask: NDArray[np.bool_]
    """(T, a) which dimensions an expert labelled."""
    skill: NDArray[np.uint8]
    """(T,) index of the task, the same in every row."""
    native_observations: NDArray[np.float32] | None
    """(T, d) what the expert saw, in single-skill data."""
    rewards: NDArray[np.float32]
    """(T,)"""
    terminated: NDArray[np.bool_]
    """(T,) True on the last step if the episode came to its end."""
    truncated: NDArray[np.bool_]
    """(T,) True on the last step if the time was up."""
    seed: int
    """Index of the episode within the run's seed; at least 0."""

    def __post_init__(self) -> None:
        columns = self.columns()
        length = len(self.rewards)
        if length == 0:
            raise ConfigurationError("an episode needs at least one step")
        action_shape = (length, *self.actions.shape[1:2])
        for column in ROW_COLUMNS:
            if column.name not in columns:
                continue
            array = columns[column.name]
            if array.dtype != column.dtype:
                raise ConfigurationError(f"{column.name} is {array.dtype}, expected {column.dtype}")
            if array.ndim != (2 if column.width else 1) or len(array) != length:
                raise ConfigurationError(
                    f"{column.name} has shape {array.shape}, expected ({length}"
                    f"{', width)' if column.width else ',)'}"
                )
            if column.width == "action" and array.shape != action_shape:
                raise ConfigurationError(
                    f"{column.name} has shape {array.shape}, actions have {action_shape}"
                )
        check_finite(columns)
        ended = self.terminated | self.truncated
        if not ended[-1] or ended[:-1].any():
            raise ConfigurationError("an episode must be ended on its last step, and only there")
        if (self.skill != self.skill[0]).any():
            raise ConfigurationError("an episode must be of one skill throughout")
        if not 0 <= self.seed < 2**64:
            raise ConfigurationError(f"an episode's seed must fit 64 bits, got {self.seed}")

    def __len__(self) -> int:
        return len(self.rewards)

    def columns(self) -> Batch:
        """The row columns by name, ``native_observations`` only where there are some."""
        columns = {column.name: getattr(self, column.name) for column in ROW_COLUMNS}
        if self.native_observations is None:
            del columns["native_observations"]
        return columns


def check_finite(columns: Mapping[str, NDArray[Any]]) -> None:
    """Refuse NaN and infinity in any floating column.

    Raises:
        ConfigurationError: names the column and its first offending row.
    """
    for name, array in columns.items():
        # Two reductions find NaN and infinity without a temporary as large as the data.
        if array.dtype.kind != "f" or not array.size:
            continue
        if not (np.isfinite(array.max()) and np.isfinite(array.min())):
            row = np.argwhere(~np.isfinite(array))[0, 0]
            raise ConfigurationError(f"{name} holds a number that is not finite at row {row}")


def union(lists: Sequence[Sequence[str]], order: Sequence[str]) -> tuple[str, ...]:
    """Names found in any list, in the order of ``order``; names it lacks come last, sorted."""
    found = {name for names in lists for name in names}
    rank = {name: position for position, name in enumerate(order)}
    return tuple(sorted(found, key=lambda name: (rank.get(name, len(rank)), name)))
