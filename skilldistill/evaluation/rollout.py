"""Play seeded episodes with a policy and return what each of them measured.

An episode is a function of (seed, episode index) and the policies that play it. How many are
played side by side changes nothing, so two policies given the same seed and indices meet the
same episodes: their results are pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skilldistill.contract import CheckedArenas
from skilldistill.domain import Domain, Policy, View
from skilldistill.errors import ConfigurationError, Interrupted
from skilldistill.progress import StopCheck, never

MAX_ARENAS = 1024
"""Arenas played at once: beyond this the arrays fall out of the processor's cache."""

_RANDOM_STREAM = 900


class RandomPolicy:
    """Every binary dimension is a coin toss, every continuous one uniform in its bounds.

    The numbers come from the view, hence from (seed, episode, tick): the policy holds no state.
    """

    def __init__(self, domain: Domain) -> None:
        self._binary = np.array([dim.kind == "binary" for dim in domain.actions])
        self._low = np.array([dim.low for dim in domain.actions], dtype=np.float32)
        self._high = np.array([dim.high for dim in domain.actions], dtype=np.float32)

    def act(self, view: View) -> NDArray[np.float32]:
        """(n, action_dim) actions in environment units."""
        draws = view.uniform(_RANDOM_STREAM, len(self._binary))
        spread = np.clip(self._low + draws * (self._high - self._low), self._low, self._high)
        return np.where(self._binary, draws < 0.5, spread).astype(np.float32)


@dataclass(frozen=True)
class Rollout:
    """What episodes ``first_episode … first_episode + episodes - 1`` of ``seed`` gave.

    Arrays hold one entry per episode, in the order of the episodes.
    """

    task: str
    seed: int
    first_episode: int
    metrics: Mapping[str, NDArray[np.float64]]
    """(episodes,) per metric; NaN where an episode gave nothing to measure."""
    returns: NDArray[np.float64]
    """(episodes,) sum of rewards."""
    lengths: NDArray[np.int64]
    """(episodes,) ticks played."""
    terminated: NDArray[np.bool_]
    """(episodes,) ended by the task itself, not by its time limit."""

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(self.lengths)


def play(
    domain: Domain,
    task: str,
    policy: Policy,
    *,
    episodes: int,
    seed: int,
    opponent: str | Policy | None = None,
    max_arenas: int = MAX_ARENAS,
    first_episode: int = 0,
    on_episodes: Callable[[int], None] | None = None,
    stop: StopCheck = never,
) -> Rollout:
    """Play episodes of a task to their end.

    Args:
        domain: where the task belongs.
        task: its name.
        policy: who plays. Its actions in dimensions the task keeps are ignored.
        episodes: how many, at least 1.
        seed: seed of the episodes.
        opponent: a name of the domain's or a policy; None takes the domain's default.
        max_arenas: most episodes played side by side. Changes memory and speed only.
        first_episode: index of the first episode; ``seed`` and index make the episode.
        on_episodes: told after each batch how many episodes are finished.
        stop: asked at every tick.

    Raises:
        ConfigurationError: no such task, or no episodes asked for.
        ActionError: the policy gave an action the domain refuses.
        Interrupted: ``stop`` answered with a signal.
        DomainFailed: the domain raises, or breaks what ``domain.py`` asks of it.
    """
    if episodes < 1 or max_arenas < 1:
        raise ConfigurationError(
            f"cannot play {episodes} episodes in batches of {max_arenas}: both must be at least 1"
        )
    metrics = {name: np.empty(episodes) for name in domain.task(task).metrics}
    returns = np.zeros(episodes)
    lengths = np.zeros(episodes, dtype=np.int64)
    ended = np.zeros(episodes, dtype=bool)
    for begin in range(0, episodes, max_arenas):
        rows = slice(begin, min(begin + max_arenas, episodes))
        count = rows.stop - rows.start
        arenas = CheckedArenas(domain, task, count, seed=seed, opponent=opponent)
        arenas.start(np.arange(count, dtype=np.int64) + (first_episode + begin))
        while (active := arenas.active).any():
            if signum := stop():
                raise Interrupted(
                    f"stopped after {begin} of {episodes} episodes of {task}", signum=signum
                )
            lengths[rows] += active
            step = arenas.step(policy.act(arenas.view))
            returns[rows] += step.rewards
            ended[rows] |= step.terminated
        measured = arenas.metrics()
        for name, column in metrics.items():
            column[rows] = measured[name]
        if on_episodes is not None:
            on_episodes(rows.stop)
    return Rollout(
        task=task,
        seed=seed,
        first_episode=first_episode,
        metrics=metrics,
        returns=returns,
        lengths=lengths,
        terminated=ended,
    )
