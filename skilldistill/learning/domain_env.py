"""A domain's vector environment, held to what ``domain.py`` asks of it on every tick.

:class:`~skilldistill.learning.vecenv.SB3VecEnv` takes any vector environment. Those that a domain
makes go through here first, so that what is wrong with one is told with the domain's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from skilldistill.contract import FLAGS, Contract
from skilldistill.domain import Domain, Policy

_PROTOCOL = "MakeVectorEnv"

if TYPE_CHECKING:
    _Wrapper = gymnasium.vector.VectorWrapper[Any, Any, Any, Any, Any]
else:
    _Wrapper = gymnasium.vector.VectorWrapper  # not generic before Gymnasium 1.4


class CheckedVectorEnv(_Wrapper):
    """``num_envs`` arenas of a task, as the domain's ``make_vector_env`` makes them.

    What else the domain's environment offers (``get_state``, ``set_state``) is offered, too.

    Raises:
        ConfigurationError: no such task, or whatever the domain refuses.
        DomainFailed: the domain raises anything else, or breaks what ``domain.py`` asks for;
            ``reset`` and ``step`` may raise it.
    """

    def __init__(
        self,
        domain: Domain,
        task: str,
        num_envs: int,
        *,
        seed: int,
        opponent: str | Policy | None = None,
    ) -> None:
        self.contract = Contract(domain, task)
        own = self.contract.call(
            "make_vector_env()",
            domain.make_vector_env,
            task,
            num_envs,
            seed=seed,
            opponent=opponent,
        )
        self._names = self.contract.native.get(task, domain.observation_names)
        self._check(own, num_envs)
        super().__init__(own)
        self._played, self._returns = False, np.zeros(num_envs)

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # asked by a copy that holds nothing yet
            raise AttributeError(name)
        return getattr(self.env, name)

    def _check(self, own: Any, num_envs: int) -> None:
        contract = self.contract
        if not isinstance(own, gymnasium.vector.VectorEnv):
            raise contract.broken(
                "make_vector_env() must give a gymnasium.vector.VectorEnv, gives a "
                f"{type(own).__name__}",
                _PROTOCOL,
            )
        mode = own.metadata.get("autoreset_mode")
        observed, acted = own.single_observation_space.shape, own.single_action_space.shape
        for what, found, expected in (
            ("num_envs", own.num_envs, num_envs),
            ("metadata['autoreset_mode']", mode, AutoresetMode.SAME_STEP),
            ("single_observation_space of shape", observed, (len(self._names),)),
            ("single_action_space of shape", acted, self._action_shape()),
        ):
            if found != expected:
                raise contract.broken(
                    f"make_vector_env() must give {what} {expected}, gives {found}", _PROTOCOL
                )

    def _action_shape(self) -> tuple[int, ...]:
        """Of one arena's native action: the skill's, or the unified one of other tasks."""
        domain, task = self.contract.domain, self.contract.task.name
        if task not in self.contract.native:
            return (domain.action_dim,)
        skill = domain.skill(task)
        return () if skill.native_action == "discrete" else (len(domain.columns(skill.head)),)

    def reset(
        self, *, seed: Any = None, options: Any = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin new episodes: (n, d) observations, and what else the domain tells."""
        found = self.contract.call("reset()", self.env.reset, seed=seed, options=options)
        observations, infos = found
        self._look("reset()", observations, self.num_envs)
        self._returns[:] = 0
        return observations, infos

    def step(
        self, actions: Any
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Play one tick: (n, d) observations, (n,) rewards, terminated, truncated, and infos."""
        contract, shape = self.contract, (self.num_envs,)
        observations, rewards, terminated, truncated, infos = contract.call(
            "step()", self.env.step, actions
        )
        self._look("step()'s observations", observations, self.num_envs)
        if not self._played:  # shapes stay what they are
            contract.array("step()'s rewards", rewards, shape, _PROTOCOL)
            contract.array("step()'s terminated", terminated, shape, _PROTOCOL, FLAGS)
            contract.array("step()'s truncated", truncated, shape, _PROTOCOL, FLAGS)
            self._played = True
        self._returns += rewards
        ended = terminated | truncated
        if ended.any():
            contract.numbers("the sum of step()'s rewards", self._returns, shape, _PROTOCOL)
            self._returns[ended] = 0
            self._look_at_the_last(infos, ended)
        return observations, rewards, terminated, truncated, infos

    def _look_at_the_last(self, infos: dict[str, Any], ended: NDArray[np.bool_]) -> None:
        final = infos.get("final_obs")
        if final is None or len(final) != self.num_envs:
            raise self.contract.broken(
                "step() must give infos['final_obs'], (n,) the last observation of each episode "
                f"that ended, beside the first of the next; its infos hold "
                f"{', '.join(map(repr, infos)) or 'nothing'}",
                _PROTOCOL,
            )
        what, dtype = "a row of step()'s infos['final_obs']", self.single_observation_space.dtype
        for last in final[ended]:  # Gymnasium leaves open whether its numbers are objects
            row = self.contract.call(what, np.asarray, last, dtype=dtype)
            self._look(what, row[None], 1)

    def _look(self, what: str, found: Any, rows: int) -> None:
        names = self._names
        self.contract.numbers(what, found, (rows, len(names)), _PROTOCOL, names=names)
