"""Play experts and write what they saw, did, and would have done.

Episodes are played many at once and written one after another, in the order of their index.
An episode depends on the seed and its index alone, so equal arguments give equal files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skilldistill.contract import CheckedArenas
from skilldistill.data.schema import ROW_COLUMNS, Batch, Episode
from skilldistill.data.writer import DatasetWriter
from skilldistill.domain import Arenas, Domain
from skilldistill.errors import Interrupted
from skilldistill.experts.composite import CompositePolicy
from skilldistill.progress import Progress, ProgressCallback, StopCheck, never, silent

MAX_ARENAS = 1024
"""Episodes played at once: enough to drown Python's cost per tick, under 200 MB in the duel."""


@dataclass(frozen=True)
class Collected:
    """What was played."""

    episodes: int
    rows: int
    mean_return: float
    metrics: Mapping[str, float | None]
    """Mean over the episodes of each of the task's metrics; None if no episode gave one."""
    seconds: float


def collect(
    domain: Domain,
    task: str,
    policy: CompositePolicy,
    writer: DatasetWriter,
    *,
    episodes: int,
    seed: int,
    max_arenas: int = MAX_ARENAS,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
) -> Collected:
    """Let experts play ``episodes`` episodes of one task, and append them to ``writer``.

    Args:
        domain: what the task belongs to.
        task: a skill's task, or the combined one. Observations of the experts themselves are
            recorded where the writer has a place for them.
        policy: the experts, who act and label.
        writer: a dataset whose ``skills`` contain ``task``.
        episodes: how many; their indices are 0 to ``episodes - 1``.
        seed: the run's seed.
        max_arenas: how many are played at once.
        progress: told the episodes done, unfinished ones counted by their ticks.
        stop: asked once per tick.

    Raises:
        Interrupted: asked to stop. What was appended before is of no use.
        DomainFailed: the domain raises, or breaks what ``domain.py`` asks of it.
    """
    began = time.perf_counter()
    returns: list[float] = []
    scores: dict[str, list[NDArray[np.float64]]] = {}
    position = writer.info.skills.index(task)
    rows_before = writer.num_rows
    for first in range(0, episodes, max_arenas):
        indices = np.arange(first, min(first + max_arenas, episodes), dtype=np.int64)

        def report(ticks: float, done: int = first, playing: int = len(indices)) -> None:
            if signum := stop():
                raise Interrupted(
                    f"stopped while collecting {task}; nothing was written", signum=signum
                )
            progress(Progress(f"collect {task}", done + playing * ticks, episodes, "episode"))

        arenas = CheckedArenas(domain, task, len(indices), seed=seed)
        arenas.start(indices)
        recording = _Recording(domain, task, len(indices), writer.native_dim)
        recording.play(arenas, policy, report)
        for arena, index in enumerate(indices.tolist()):
            episode = recording.episode(arena, position, index)
            writer.append(episode)
            returns.append(float(episode.rewards.sum(dtype=np.float64)))
        for name, values in arenas.metrics().items():
            scores.setdefault(name, []).append(values)
        report(1.0)
    return Collected(
        episodes=episodes,
        rows=writer.num_rows - rows_before,
        mean_return=float(np.mean(returns)),
        metrics={name: _mean(np.concatenate(values)) for name, values in scores.items()},
        seconds=time.perf_counter() - began,
    )


class _Recording:
    """Room for n episodes of one task, (n, horizon, …) per column, and how long each one is."""

    def __init__(self, domain: Domain, task: str, count: int, native_dim: int | None) -> None:
        self.task, self.horizon = task, domain.task(task).horizon
        widths = {"observation": domain.obs_dim, "action": domain.action_dim}
        if native_dim is not None:
            widths["native"] = native_dim
        self.length = np.zeros(count, dtype=np.int64)
        # Arena first, so that an episode is one contiguous piece when it is cut out.
        self.columns: Batch = {
            column.name: np.empty(
                (count, self.horizon, *([widths[column.width]] if column.width else [])),
                dtype=column.dtype,
            )
            for column in ROW_COLUMNS
            if column.name != "skill" and (not column.width or column.width in widths)
        }

    def play(
        self, arenas: Arenas, policy: CompositePolicy, report: Callable[[float], None]
    ) -> None:
        """Play every arena to its end; ``report`` gets the share of the horizon passed."""
        columns = self.columns
        tick = 0
        while (active := arenas.active.copy()).any():
            report(tick / self.horizon)
            view = arenas.view
            targets, std, mask = policy.label(view)
            actions = policy.choose(view, targets, std)
            columns["observations"][:, tick] = view.unified()
            if "native_observations" in columns:
                columns["native_observations"][:, tick] = view.native(self.task)
            columns["actions"][:, tick] = actions
            columns["targets"][:, tick] = targets
            columns["target_std"][:, tick] = std
            columns["action_mask"][:, tick] = mask
            outcome = arenas.step(actions)
            columns["rewards"][:, tick] = outcome.rewards
            columns["terminated"][:, tick] = outcome.terminated
            columns["truncated"][:, tick] = outcome.truncated
            self.length += active
            tick += 1

    def episode(self, arena: int, skill: int, seed: int) -> Episode:
        """One arena's episode, cut to its length; shares memory with the recording."""
        length = int(self.length[arena])
        cut = {name: column[arena, :length] for name, column in self.columns.items()}
        native = cut.pop("native_observations", None)
        return Episode(
            skill=np.full(length, skill, dtype=np.uint8),
            native_observations=native,
            seed=seed,
            **cut,
        )


def _mean(values: NDArray[np.float64]) -> float | None:
    """Mean without the episodes that had nothing to measure."""
    measured = values[~np.isnan(values)]
    return float(measured.mean()) if len(measured) else None
