"""The duel as Gymnasium environments: many arenas at once, or one.

``gymnasium.make("skilldistill/Combined-v0")`` and ``gymnasium.make_vec`` with the vector entry
point build these. The single environment is a batch of one, so there is one copy of the rules.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from skilldistill.domain import Policy
from skilldistill.duel.arenas import ACTION_HIGH, ACTION_LOW, DuelArenas, check_numbers
from skilldistill.duel.declare import DOMAIN
from skilldistill.errors import ActionError, ConfigurationError

RENDER_MODES = ("rgb_array", "human")
OFFERED_MODES = [mode for mode in RENDER_MODES if mode != "human" or find_spec("pygame")]
"""What Gymnasium may ask for: its checker opens every mode on the list, and a window needs
pygame."""
COMBINED = DOMAIN.combined


def observation_space(task: str) -> spaces.Box:
    """What the player of a task sees: unified in combined, else its skill's native layout."""
    combined = task == COMBINED
    size = DOMAIN.obs_dim if combined else len(DOMAIN.skill(task).native_observations)
    return spaces.Box(-1.0, 1.0, (size,), np.float32)


def action_space(task: str) -> spaces.Space[Any]:
    """What the player of a task does: unified in combined, else its skill's native actions."""
    if task == COMBINED:
        return spaces.Box(ACTION_LOW, ACTION_HIGH, dtype=np.float32)
    skill = DOMAIN.skill(task)
    columns = list(DOMAIN.columns(skill.head))
    if skill.native_action == "multi_binary":
        return spaces.MultiBinary(len(columns))
    if skill.native_action == "discrete":
        return spaces.Discrete(2)
    return spaces.Box(ACTION_LOW[columns], ACTION_HIGH[columns], dtype=np.float32)


class DuelVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """n arenas with same-step auto-reset.

    Arena i plays the episodes i, i + n, i + 2n, … of the seed, and an episode depends on its
    index, the seed, and the actions alone: arena 17 of 256 plays what it would play by itself.

    When an episode ends, ``infos["final_obs"]`` (n, d) holds its last observation in the rows of
    ``infos["_final_obs"]`` (n,), and ``infos["final_info"]`` its metrics, one (n,) array each.
    In single-skill tasks ``infos["unified"]`` (n, 20) is the unified observation.

    Args:
        num_envs: n.
        task: movement, aiming, clicking, or combined.
        seed: used until ``reset`` is given another.
        opponent: a script's name, ``mix``, or (combined only) a policy; None takes the task's.
        render_mode: ``rgb_array`` draws arena 0 from above, ``human`` shows it in a window.
    """

    def __init__(
        self,
        num_envs: int = 1,
        task: str = COMBINED,
        *,
        seed: int = 0,
        opponent: str | Policy | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ConfigurationError(
                f"no render mode {render_mode!r}", hint=f"choose from {', '.join(RENDER_MODES)}"
            )
        self.metadata = {
            "autoreset_mode": AutoresetMode.SAME_STEP,
            "render_modes": OFFERED_MODES,
            "render_fps": 20,
        }
        self.render_mode = render_mode
        self.num_envs = num_envs
        self.task = task
        self.arenas = DuelArenas(task, num_envs, seed=seed, opponent=opponent)
        self.single_observation_space = observation_space(task)
        self.single_action_space = action_space(task)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._combined = task == COMBINED
        self._low, self._high = ACTION_LOW, ACTION_HIGH
        if not self._combined:
            self._columns = list(DOMAIN.columns(DOMAIN.skill(task).head))
            self._low, self._high = ACTION_LOW[self._columns], ACTION_HIGH[self._columns]
            self._unified = np.zeros((num_envs, DOMAIN.action_dim), dtype=np.float32)
        self._shape = self.action_space.shape or (num_envs,)
        self._window: Any = None

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin anew with the episodes 0 … n − 1 of the seed.

        Args:
            seed: an integer; a list, as some libraries pass, counts by its first entry.
            options: ``{"episode": k}`` begins with the episodes k … k + n − 1.
        """
        first = seed[0] if isinstance(seed, (list, tuple)) and len(seed) else seed
        if isinstance(first, (int, np.integer)):
            self.arenas.seed = int(first)
            self._np_random, self._np_random_seed = gymnasium.utils.seeding.np_random(int(first))
        episode = int((options or {}).get("episode", 0))
        self.arenas.start(episode + np.arange(self.num_envs, dtype=np.int64))
        return self._observe(), self._info()

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Play one tick; ended episodes give way to the next ones within it.

        Raises:
            ActionError: wrong shape, a number that is not finite, or out of range.
        """
        moved = self.arenas.step(self._to_unified(actions, self._shape))
        rewards = moved.rewards.astype(np.float64)
        terminated, truncated = moved.terminated.copy(), moved.truncated.copy()
        ended = terminated | truncated
        if not ended.any():
            return self._observe(), rewards, terminated, truncated, self._info()
        final = self._observe()
        metrics = self.arenas.metrics(ended)
        self.arenas.start(self.arenas.numbers + self.num_envs, ended)
        infos = self._info()
        infos["final_obs"], infos["_final_obs"] = final, ended
        infos["final_info"], infos["_final_info"] = dict(metrics), ended
        return self._observe(), rewards, terminated, truncated, infos

    def _to_unified(self, actions: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """(n, 9) unified actions of native ones in ``shape``, which is checked."""
        native = check_numbers(actions, shape, self._low, self._high)
        if self._combined:
            return native.reshape(self.num_envs, len(self._low))
        if not isinstance(self.single_action_space, spaces.Box):
            between = (native != 0) & (native != 1)
            if between.any():
                where = [int(k) for k in np.argwhere(between)[0]]
                raise ActionError(
                    f"actions of shape {shape}: entry {where} is {native[tuple(where)]:.7g}, "
                    "neither 0 nor 1"
                )
        self._unified[:, self._columns] = native.reshape(self.num_envs, len(self._columns))
        return self._unified

    def _observe(self) -> NDArray[np.float32]:
        view = self.arenas.view
        return view.unified() if self._combined else view.native(self.task)

    def _info(self) -> dict[str, Any]:
        return {} if self._combined else {"unified": self.arenas.view.unified()}

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Everything that changes, as copies; :meth:`set_state` goes on exactly from there."""
        return {**self.arenas.save(), "seed": np.array(self.arenas.seed % 2**64, dtype=np.uint64)}

    def set_state(self, saved: dict[str, NDArray[Any]]) -> None:
        """Go back to what :meth:`get_state` gave."""
        self.arenas.seed = int(saved["seed"])
        self.arenas.restore(saved)

    def render(self) -> Any:
        """Arena 0 from above: (480, 640, 3) uint8 for ``rgb_array``, None for ``human``."""
        from skilldistill.duel import render

        if self.render_mode is None:
            raise ConfigurationError(
                "this environment was made without a render mode",
                hint='pass render_mode="rgb_array" or "human" to gymnasium.make',
            )
        frame = render.draw(self.arenas, 0)
        if self.render_mode == "rgb_array":
            return frame
        if self._window is None:
            self._window = render.Window(frame.shape)
        self._window.show(frame)
        return None

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window, if one was opened."""
        if self._window is not None:
            self._window.close()
            self._window = None


class DuelEnv(gymnasium.Env[Any, Any]):
    """One arena: a batch of one, without auto-reset. Arguments as :class:`DuelVectorEnv`.

    ``info`` holds the unified observation in single-skill tasks, and the metrics under
    ``metrics`` when the episode is over.
    """

    metadata = {"render_modes": OFFERED_MODES, "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        task: str = COMBINED,
        *,
        seed: int = 0,
        opponent: str | Policy | None = None,
        render_mode: str | None = None,
    ) -> None:
        self._batch = DuelVectorEnv(1, task, seed=seed, opponent=opponent, render_mode=render_mode)
        self.render_mode = render_mode
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space
        self._shape = self.action_space.shape or ()
        self._next = 0
        self._begun = False

    @property
    def arenas(self) -> DuelArenas:
        """The batch of one that this environment plays."""
        return self._batch.arenas

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin the next episode of the seed; episode 0 when a seed is given.

        Args:
            seed: starts counting episodes anew.
            options: ``{"episode": k}`` begins with episode k.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._next = 0
        self._next = int((options or {}).get("episode", self._next))
        observation, info = self._batch.reset(seed=seed, options={"episode": self._next})
        self._next += 1
        self._begun = True
        return observation[0], {name: value[0] for name, value in info.items()}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Play one tick.

        Raises:
            ActionError: wrong shape, a number that is not finite, or out of range.
            ConfigurationError: no episode is going on.
        """
        batch = self._batch
        arenas = batch.arenas
        if not self._begun or not arenas.episodes["active"][0]:
            raise ConfigurationError("no episode is going on", hint="call reset() first")
        moved = arenas.step(batch._to_unified(action, self._shape))
        over = bool(moved.terminated[0] or moved.truncated[0])
        info: dict[str, Any] = {name: value[0] for name, value in batch._info().items()}
        if over:
            info["metrics"] = {k: float(v[0]) for k, v in arenas.metrics().items()}
        return (
            batch._observe()[0],
            float(moved.rewards[0]),
            bool(moved.terminated[0]),
            bool(moved.truncated[0]),
            info,
        )

    def render(self) -> Any:
        """As :meth:`DuelVectorEnv.render`."""
        return self._batch.render()

    def close(self) -> None:
        """Close the window, if one was opened."""
        self._batch.close()
