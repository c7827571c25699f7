"""Single Gymnasium environments side by side as the arenas of a domain.

For a simulator that exists as a :class:`gymnasium.Env` only: it need not be written a second time
for many arenas at once. What it costs is some Python calls per arena and tick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from skilldistill.domain import ActionDim, Policy, Transition
from skilldistill.errors import ActionError, ConfigurationError
from skilldistill.randomness import uniform

_SEEDS, _VIEW = 0x5EED, 0x51E1
"""Stream of the environments' seeds, and the first of :meth:`SingleArenas.uniform`."""


@dataclass(frozen=True, kw_only=True)
class SingleEnvs:
    """A domain's ``make_arenas`` from its single environments. Opponents are theirs to play.

    An episode is what ``reset(seed=...)`` begins, with a seed of (seed, episode index), so an
    environment must draw from ``self.np_random`` only.
    """

    make_env: Callable[[str], gymnasium.Env[Any, Any]]
    """The environment of a task, which ends its episodes within the task's horizon."""
    actions: Sequence[ActionDim]
    """The domain's unified action."""
    unified: Callable[[gymnasium.Env[Any, Any]], ArrayLike]
    """(obs_dim,) unified observation of what an environment shows now."""
    native: Callable[[gymnasium.Env[Any, Any], str], ArrayLike]
    """(d,) what an expert of a skill would see there."""
    apply: Callable[[gymnasium.Env[Any, Any], NDArray[np.float32]], Any]
    """The environment's own action for a unified one (action_dim,)."""
    metrics: Callable[[gymnasium.Env[Any, Any]], Mapping[str, float]]
    """The task's metrics of the episode so far."""

    def __call__(
        self, task: str, num_arenas: int, *, seed: int, opponent: str | Policy | None = None
    ) -> SingleArenas:
        """Build ``num_arenas`` arenas of ``task``.

        Raises:
            ConfigurationError: an opponent was asked for.
        """
        if opponent is not None:
            raise ConfigurationError("single environments take no opponent")
        envs = [self.make_env(task) for _ in range(num_arenas)]
        return SingleArenas(self, envs, seed=seed)


class SingleArenas:
    """See :class:`skilldistill.domain.Arenas`; its own view, since there is one player."""

    def __init__(
        self, how: SingleEnvs, envs: Sequence[gymnasium.Env[Any, Any]], *, seed: int
    ) -> None:
        self.num_arenas, self.seed = len(envs), seed
        self._how, self._envs = how, envs
        self._low = np.array([dim.low for dim in how.actions], dtype=np.float32)
        self._high = np.array([dim.high for dim in how.actions], dtype=np.float32)
        self.start(np.arange(len(envs), dtype=np.int64))

    @property
    def view(self) -> SingleArenas:
        """What the policy under test sees now."""
        return self

    def start(self, episodes: NDArray[np.int64]) -> None:
        """Begin episode ``episodes[i]`` of the seed in arena i, for all arenas."""
        self._episodes = np.array(episodes, dtype=np.int64)
        self._ticks = np.zeros(self.num_arenas, dtype=np.int64)
        self.active = np.ones(self.num_arenas, dtype=np.bool_)
        draws = uniform(self.seed, self._episodes, self._ticks, _SEEDS, 1)[:, 0]
        for env, draw in zip(self._envs, draws.tolist(), strict=True):
            env.reset(seed=int(draw * 2**31))

    def unified(self) -> NDArray[np.float32]:
        """(n, obs_dim) unified observation."""
        return np.array([self._how.unified(env) for env in self._envs], dtype=np.float32)

    def native(self, skill: str) -> NDArray[np.float32]:
        """(n, d) what an expert of ``skill`` would see here."""
        return np.array([self._how.native(env, skill) for env in self._envs], dtype=np.float32)

    def uniform(self, stream: int, size: int) -> NDArray[np.float64]:
        """(n, size) numbers in [0, 1)."""
        return uniform(self.seed, self._episodes, self._ticks, _VIEW + stream, size)

    def step(self, actions: NDArray[np.float32]) -> Transition:
        """Play one tick in the arenas whose episode goes on.

        Raises:
            ActionError: wrong shape, a number that is not finite, or out of range.
        """
        shape = (self.num_arenas, len(self._low))
        if np.shape(actions) != shape:
            raise ActionError(f"actions have shape {np.shape(actions)}, expected {shape}")
        if not ((actions >= self._low) & (actions <= self._high)).all():
            raise ActionError("actions hold a number that is not finite or out of range")
        rewards = np.zeros(self.num_arenas, dtype=np.float32)
        terminated = np.zeros(self.num_arenas, dtype=np.bool_)
        truncated = np.zeros(self.num_arenas, dtype=np.bool_)
        for i in np.flatnonzero(self.active).tolist():
            own = self._how.apply(self._envs[i], actions[i])
            _, rewards[i], terminated[i], truncated[i], _ = self._envs[i].step(own)
        self._ticks += self.active
        self.active = self.active & ~(terminated | truncated)
        return Transition(rewards=rewards, terminated=terminated, truncated=truncated)

    def metrics(self) -> Mapping[str, NDArray[np.float64]]:
        """(n,) per metric of the task, of each arena's episode so far."""
        found = [self._how.metrics(env) for env in self._envs]
        return {
            name: np.array([each[name] for each in found], dtype=np.float64) for name in found[0]
        }
