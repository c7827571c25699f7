"""A Gymnasium VectorEnv as an SB3 VecEnv, without work per arena on ordinary ticks.

SB3 wants a list of dictionaries every tick and the last observation of an episode inside the
dictionary of its arena; Gymnasium's vector environments hand over arrays. Only ticks on which
an episode ends touch Python objects, and only for the arenas concerned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from skilldistill.errors import ActionError, ConfigurationError

Indices = None | int | Iterable[int]


@dataclass(frozen=True)
class Ended:
    """The k episodes that ended on a tick."""

    arenas: NDArray[np.int64]
    """(k,) where."""
    observations: NDArray[np.float32]
    """(k, obs_dim) the last observation of each, from before auto-reset."""
    out_of_time: NDArray[np.bool_]
    """(k,) truncated and not terminated: the value of the last observation still counts."""
    returns: NDArray[np.float64]
    """(k,) sum of rewards."""
    lengths: NDArray[np.int64]
    """(k,) ticks."""
    values: Mapping[str, NDArray[Any]]
    """(k,) per name of a number the environment gave under ``final_info``."""

    def info(self, row: int) -> dict[str, Any]:
        """What SB3 expects in the dictionary of the arena of ``row``."""
        return {
            **{name: column[row] for name, column in self.values.items()},
            "terminal_observation": self.observations[row].copy(),
            "TimeLimit.truncated": bool(self.out_of_time[row]),
            "episode": {
                "r": float(self.returns[row]),
                "l": int(self.lengths[row]),
                "t": 0.0,  # wall time is no function of the seed
            },
        }


@dataclass(frozen=True)
class Tick:
    """One tick of n arenas."""

    observations: NDArray[Any]
    """(n, obs_dim) after auto-reset."""
    rewards: NDArray[np.float32]
    """(n,)"""
    terminated: NDArray[np.bool_]
    """(n,)"""
    truncated: NDArray[np.bool_]
    """(n,)"""
    ended: Ended | None
    """None on ordinary ticks."""


class BatchCheck:
    """Checks a whole batch of actions before any of several environments plays its part.

    One environment checks its actions itself. Of several, the first would already have played
    when the last refuses, and the error would speak of a part that the caller never saw.

    Args:
        space: of one arena's action.
        num_envs: n, arenas of all environments together.

    Raises:
        ConfigurationError: a space that SB3 has no actions for.
    """

    def __init__(self, space: spaces.Space[Any], num_envs: int) -> None:
        if isinstance(space, spaces.Box):
            low, high = space.low, space.high
        elif isinstance(space, spaces.MultiBinary):
            low, high = np.zeros(space.shape), np.ones(space.shape)
        elif isinstance(space, spaces.Discrete):
            low, high = np.array(space.start), np.array(space.start + space.n - 1)
        elif isinstance(space, spaces.MultiDiscrete):
            low, high = space.start, space.start + space.nvec - 1
        else:
            raise ConfigurationError(f"SB3 has no actions of the kind {space}")
        self._low, self._high = low, high
        self._shape = (num_envs, *low.shape)
        self._dtype = np.dtype(space.dtype)
        self._whole = self._dtype.kind != "f"

    def __call__(self, actions: Any) -> NDArray[Any]:
        """The actions as an array (n, ...) of the space's type.

        Raises:
            ActionError: no numbers, wrong shape, a number that is not finite, out of range, or
                not whole where it must be; the message names the whole batch's shape and the
                first offending index.
        """
        array = self._numbers(actions)
        if array.shape != self._shape:
            raise ActionError(f"actions have shape {array.shape}, expected {self._shape}")
        good = (array >= self._low) & (array <= self._high) & np.isfinite(array)
        if self._whole and array.dtype.kind == "f":
            good &= array == np.rint(array)
        if not good.all():
            self._refuse(array, [int(k) for k in np.argwhere(~good)[0]])
        return array.astype(self._dtype, copy=False)

    def _numbers(self, actions: Any) -> NDArray[Any]:
        try:
            array = np.asarray(actions)
            if array.dtype.kind not in "biuf":
                raise TypeError(f"{array.dtype.name} is no type of real number")
            if self._whole:
                return array
            with np.errstate(over="ignore"):  # too large for the space's type is inf
                return array.astype(self._dtype, copy=False)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise ActionError(f"expected actions of shape {self._shape}: {error}") from error

    def _refuse(self, array: NDArray[Any], where: list[int]) -> None:
        value, column = array[tuple(where)], tuple(where[1:])
        low, high = _exactly(self._low[column]), _exactly(self._high[column])
        wrong = (
            f"no whole number from {low} to {high}" if self._whole else f"outside [{low}, {high}]"
        )
        raise ActionError(
            f"actions of shape {self._shape}: entry {where} is {_exactly(value)}, {wrong}"
        )


def _exactly(value: Any) -> str:
    """A number in as few digits as tell it apart from its neighbours, such as a bound."""
    return str(value).removesuffix(".0")


class SB3VecEnv(VecEnv):
    """One or several Gymnasium vector environments, side by side, for Stable-Baselines3.

    Args:
        envs: a vector environment with same-step auto-reset, or several with equal spaces
            (say, one per opponent). Their arenas follow one another in the given order.

    Ordinary ticks return the same list of empty dictionaries. When an episode ends, its arena's
    dictionary holds ``terminal_observation``, ``TimeLimit.truncated``, and, as
    ``stable_baselines3``'s ``Monitor`` would, ``episode`` with the return ``r`` and length ``l``;
    values the environment gives under ``final_info`` come along under their own names.

    Raises:
        ConfigurationError: no environment, unequal spaces, or another auto-reset mode.
    """

    def __init__(
        self,
        envs: gymnasium.vector.VectorEnv[Any, Any, Any]
        | Sequence[gymnasium.vector.VectorEnv[Any, Any, Any]],
    ) -> None:
        self.envs: list[gymnasium.vector.VectorEnv[Any, Any, Any]] = (
            [envs] if isinstance(envs, gymnasium.vector.VectorEnv) else list(envs)
        )
        self._check()
        sizes = [env.num_envs for env in self.envs]
        ends = np.cumsum(sizes).tolist()
        self._slices = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        first = self.envs[0]
        super().__init__(ends[-1], first.single_observation_space, first.single_action_space)
        self._no_infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        self._actions: NDArray[Any] = np.empty(0)
        self._checked = (
            BatchCheck(first.single_action_space, self.num_envs) if len(self.envs) > 1 else None
        )

    def _check(self) -> None:
        if not self.envs:
            raise ConfigurationError("SB3VecEnv needs at least one vector environment")
        first = self.envs[0]
        for env in self.envs:
            mode = env.metadata.get("autoreset_mode")
            if mode != AutoresetMode.SAME_STEP:
                raise ConfigurationError(
                    f"SB3VecEnv needs environments with same-step auto-reset, {env} has {mode}"
                )
            if (env.single_observation_space, env.single_action_space) != (
                first.single_observation_space,
                first.single_action_space,
            ):
                raise ConfigurationError(f"{env} and {first} have different spaces")

    def reset(self) -> NDArray[Any]:
        """Begin new episodes in all arenas; (n, obs_dim).

        Raises:
            ConfigurationError: arenas of one environment were given different options.
        """
        observations = []
        for env, where in zip(self.envs, self._slices, strict=True):
            first, *others = self._options[where]
            if any(options is not first and options != first for options in others):
                raise ConfigurationError(
                    f"{env} resets all of its arenas with the same options, and was given several",
                    hint="give set_options() one dictionary",
                )
            observations.append(env.reset(seed=self._seeds[where.start], options=first or None)[0])
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0.0
        self._lengths[:] = 0
        return np.concatenate(observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Remember (n, ...) actions until :meth:`step_wait`."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Play one tick: observations (n, obs_dim), rewards (n,), dones (n,), infos."""
        tick = self.step_arrays(self._actions)
        infos = self._no_infos
        if tick.ended is not None:
            infos = infos.copy()
            for row, index in enumerate(tick.ended.arenas.tolist()):
                infos[index] = tick.ended.info(row)
        return tick.observations, tick.rewards, tick.terminated | tick.truncated, infos

    def step_arrays(self, actions: NDArray[Any]) -> Tick:
        """Play one tick without SB3's list of dictionaries; the arrays are the caller's.

        Raises:
            ActionError: actions that are not in the action space; no arena has played.
        """
        if self._checked is None:
            observations, rewards, terminated, truncated, infos = self.envs[0].step(actions)
            # simulators overwrite their arrays on the next tick; what is handed out must last
            observations, terminated = observations.copy(), terminated.copy()
            truncated, parts = truncated.copy(), [infos]
        else:
            checked = self._checked(actions)
            steps = [
                env.step(checked[where]) for env, where in zip(self.envs, self._slices, strict=True)
            ]
            observations, rewards, terminated, truncated = (
                np.concatenate([step[part] for step in steps]) for part in range(4)
            )
            parts = [step[4] for step in steps]
        self._returns += rewards
        self._lengths += 1
        dones = terminated | truncated
        return Tick(
            observations=observations,
            rewards=np.array(rewards, dtype=np.float32),
            terminated=terminated,
            truncated=truncated,
            ended=self._end(dones, truncated & ~terminated, parts) if dones.any() else None,
        )

    def advance(self, number: int, actions: NDArray[Any]) -> NDArray[Any]:
        """Play one tick in one of the environments alone; (its arenas, obs_dim) observations.

        Its episodes go on: what they give and how long they last is counted as ever.
        """
        where = self._slices[number]
        observations, rewards, terminated, truncated, _ = self.envs[number].step(actions)
        running = ~(terminated | truncated)
        self._returns[where] = (self._returns[where] + rewards) * running
        self._lengths[where] = (self._lengths[where] + 1) * running
        return np.array(observations)

    def _end(
        self,
        dones: NDArray[np.bool_],
        out_of_time: NDArray[np.bool_],
        parts: Sequence[Mapping[str, Any]],
    ) -> Ended:
        arenas = np.flatnonzero(dones)
        width = self.observation_space.shape or ()
        observations = np.empty((len(arenas), *width), dtype=self.observation_space.dtype)
        values: dict[str, NDArray[Any]] = {}
        for infos, where in zip(parts, self._slices, strict=True):
            rows = np.flatnonzero((where.start <= arenas) & (arenas < where.stop))
            if not len(rows):
                continue
            local = arenas[rows] - where.start
            final = infos["final_obs"][local]
            # Gymnasium leaves open whether this is one float array or an array of objects
            observations[rows] = np.stack(list(final)) if final.dtype == object else final
            for key, column in infos.get("final_info", {}).items():
                if (
                    key.startswith("_")
                    or np.ndim(column) != 1
                    or np.asarray(column).dtype.kind not in "fiub"
                ):
                    continue
                if key not in values:
                    values[key] = np.full(len(arenas), np.nan, dtype=np.float64)
                values[key][rows] = column[local]
        ended = Ended(
            arenas=arenas,
            observations=observations,
            out_of_time=out_of_time[arenas],
            returns=self._returns[arenas],
            lengths=self._lengths[arenas],
            values=values,
        )
        self._returns[arenas] = 0.0
        self._lengths[arenas] = 0
        return ended

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Everything that changes in the arenas; they must offer ``get_state`` themselves."""
        state = {"returns": self._returns.copy(), "lengths": self._lengths.copy()}
        for number, env in enumerate(self.envs):
            for key, value in env.get_state().items():  # type: ignore[attr-defined]
                state[f"{number}/{key}"] = value
        return state

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a state :meth:`get_state` gave, on environments built the same way."""
        self._returns[:] = state["returns"]
        self._lengths[:] = state["lengths"]
        for number, env in enumerate(self.envs):
            prefix = f"{number}/"
            own = {
                key.removeprefix(prefix): value
                for key, value in state.items()
                if key.startswith(prefix)
            }
            env.set_state(own)  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()

    def get_images(self) -> list[Any]:
        """A frame per arena, of environments made with ``render_mode="rgb_array"``."""
        return [frame for env in self.envs for frame in env.render() or [None] * env.num_envs]

    def _owner(self, index: int) -> int:
        return next(
            number for number, where in enumerate(self._slices) if where.start <= index < where.stop
        )

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """The attribute of the vector environment each arena belongs to, once per arena."""
        if attr_name == "render_mode":  # asked by VecEnv.__init__; not every env declares it
            return [getattr(self.envs[0], "render_mode", None)] * len(self._list(indices))
        return [getattr(self.envs[self._owner(i)], attr_name) for i in self._list(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of the vector environments the arenas belong to."""
        for number in dict.fromkeys(self._owner(i) for i in self._list(indices)):
            setattr(self.envs[number], attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method once per vector environment concerned; its result once per arena."""
        owners = [self._owner(i) for i in self._list(indices)]
        results = {
            number: getattr(self.envs[number], method_name)(*method_args, **method_kwargs)
            for number in dict.fromkeys(owners)
        }
        return [results[number] for number in owners]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """True for ``Monitor``, whose episode records this class gives itself; else False."""
        return [issubclass(Monitor, wrapper_class)] * len(self._list(indices))

    def _list(self, indices: Indices) -> list[int]:
        return list(self._get_indices(indices))
