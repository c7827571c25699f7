"""The duel as Gymnasium environments: many arenas at once, or one.

``gymnasium.make("skilldistill/Combined-v0")`` and ``gymnasium.make_vec`` with the vector entry
point build these. The single environment is a batch of one, so there is one copy of the rules.
"""

from __future__ import annotations

import difflib
import secrets
from importlib.util import find_spec
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from skilldistill.domain import Policy
from skilldistill.duel import render, rules
from skilldistill.duel.arenas import (
    ACTION_HIGH,
    ACTION_LOW,
    DuelArenas,
    check_numbers,
    exactly,
    is_whole,
)
from skilldistill.duel.declare import DOMAIN
from skilldistill.duel.drawing.canvas import Picture
from skilldistill.errors import ActionError, ConfigurationError

RENDER_MODES = ("rgb_array", "human")
OFFERED_MODES = [mode for mode in RENDER_MODES if mode != "human" or find_spec("pygame")]
"""What Gymnasium may ask for: its checker opens every mode on the list, and a window needs
pygame."""
COMBINED = DOMAIN.combined
_LAST_EPISODE = 2**62
"""Far from where counting on from an episode's index would overflow."""


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


def checked_seed(seed: Any) -> int | None:
    """A seed as Python's integer, or None.

    Raises:
        ConfigurationError: anything else, or a negative number.
    """
    if seed is None:
        return None
    if not is_whole(seed) or seed < 0:
        raise ConfigurationError(f"a seed is a whole number from 0 on or None, not {seed!r}")
    return int(seed)


def first_seed(seed: Any) -> int | None:
    """The first of a list of seeds, all of them checked; a single one passes as it is.

    Raises:
        ConfigurationError: an empty list, or what :func:`checked_seed` refuses.
    """
    if not isinstance(seed, (list, tuple)):
        return checked_seed(seed)
    if not seed:
        raise ConfigurationError("an empty list of seeds", hint="pass one seed, or None")
    checked = [checked_seed(one) for one in seed]
    return checked[0]


def checked_options(options: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """Options of a reset as a dictionary of names that are known.

    Raises:
        ConfigurationError: an unknown name, or an ``episode`` that is no index.
    """
    if options is not None and not isinstance(options, dict):
        raise ConfigurationError(f"the options of a reset are a dictionary, not {options!r}")
    for name in options or {}:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
            raise ConfigurationError(f"reset has no option {name!r}", hint=hint)
    found: dict[str, Any] = dict(options or {})
    episode = found.get("episode")
    if episode is not None and (not is_whole(episode) or not 0 <= episode < _LAST_EPISODE):
        raise ConfigurationError(f"an episode is a whole number from 0 on, not {episode!r}")
    return found


class DuelVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """n arenas with same-step auto-reset.

    Arena i plays the episodes i, i + n, i + 2n, … of the seed, and an episode depends on its
    index, the seed, and the actions alone: arena 17 of 256 plays what it would play by itself.

    When an episode ends, ``infos["final_obs"]`` (n, d) holds its last observation in the rows of
    ``infos["_final_obs"]`` (n,), and ``infos["final_info"]`` its metrics, one (n,) array each.
    In single-skill tasks ``infos["unified"]`` (n, 20) is the unified observation, and the last
    one of an episode that ended is under ``final_info`` as well. Beside every array stands, as
    Gymnasium has it, the mask of the rows that count, its name with ``_`` before it.

    Args:
        num_envs: n.
        task: movement, aiming, clicking, or combined.
        seed: used until ``reset`` is given another; None draws one from the operating system.
        opponent: a script's name, ``mix``, or (combined only) a policy; None takes the task's.
        render_mode: ``rgb_array`` draws every arena when asked to, ``human`` shows arena 0 in a
            window after every reset and step.
        view: ``above`` or ``first_person``, through the agent's eyes.
        max_episode_steps: truncates episodes earlier than the task does.

    Raises:
        ConfigurationError: an argument that cannot be used.
    """

    _window: Any = None
    """Here already: Gymnasium before 1.4 also closes an environment that was refused."""

    def __init__(
        self,
        num_envs: int = 1,
        task: str = COMBINED,
        *,
        seed: int | None = None,
        opponent: str | Policy | None = None,
        render_mode: str | None = None,
        view: str = "above",
        max_episode_steps: int | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ConfigurationError(
                f"no render mode {render_mode!r}", hint=f"choose from {', '.join(RENDER_MODES)}"
            )
        render.check_view(view)
        if seed is None:
            seed = secrets.randbits(64)
        elif not is_whole(seed):
            raise ConfigurationError(f"a seed is a whole number or None, not {seed!r}")
        self.metadata = {
            "autoreset_mode": AutoresetMode.SAME_STEP,
            "render_modes": OFFERED_MODES,
            "render_fps": rules.TICKS_PER_SECOND,
        }
        self.render_mode = render_mode
        self.view = view
        self.num_envs = num_envs
        self.task = task
        self.arenas = DuelArenas(
            task, num_envs, seed=int(seed), opponent=opponent, max_ticks=max_episode_steps
        )
        self._note_seed(int(seed) % 2**64)
        self._begun = False
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

    def _note_seed(self, seed: int) -> None:
        """Let ``np_random_seed`` name the seed that is played, so that it can be played again."""
        self._np_random, self._np_random_seed = gymnasium.utils.seeding.np_random(seed)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin the episodes 0 … n − 1 of a seed, or each arena's next one if none is given.

        Args:
            seed: counts episodes anew. An episode is a function of one seed and its index, so
                of a list with a seed per arena, as some libraries pass, the first counts.
            options: ``{"episode": k}`` begins with the episodes k … k + n − 1.
                ``{"reset_mask": chosen}``, (n,) bool, leaves the other arenas as they are.

        Raises:
            ConfigurationError: a seed or an option that cannot be used; nothing has changed.
        """
        first = first_seed(seed)
        options = checked_options(options, ("episode", "reset_mask"))
        chosen = self._chosen(options)
        if first is not None and chosen is not None:
            raise ConfigurationError(
                "arenas that are not reset cannot take a new seed",
                hint="give reset a seed or a reset_mask, not both",
            )
        if first is not None:
            self.arenas.seed = first
            self._note_seed(first)
        self.arenas.start(self._next_episodes(options.get("episode"), first), chosen)
        self._begun = True
        self._show()
        return self._observe(), self._info()

    def _chosen(self, options: dict[str, Any]) -> NDArray[np.bool_] | None:
        """(n,) which arenas to reset; None if all."""
        if options.get("reset_mask") is None:
            return None
        mask = np.array(options["reset_mask"])  # a copy, because it may be a slice or read-only
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ConfigurationError(
                f"reset_mask is {mask.dtype} of shape {mask.shape}, "
                f"expected bool of shape {(self.num_envs,)}"
            )
        return mask

    def _next_episodes(self, episode: int | None, seed: int | None) -> NDArray[np.int64]:
        """(n,) what a reset plays: from ``episode`` on, or from 0, or what has not been played."""
        if episode is None and seed is None and self._begun:
            return self.arenas.numbers + self.num_envs
        return (episode or 0) + np.arange(self.num_envs, dtype=np.int64)

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
            self._show()
            return self._observe(), rewards, terminated, truncated, self._info()
        final, last = self._observe(), self._last_infos(ended)
        self.arenas.start(self.arenas.numbers + self.num_envs, ended)
        self._show()
        infos = self._info()
        infos["final_obs"], infos["_final_obs"] = final, ended
        infos["final_info"], infos["_final_info"] = last, ended.copy()
        return self._observe(), rewards, terminated, truncated, infos

    def _last_infos(self, ended: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """What belongs to the episodes that ended, from before auto-reset, with masks."""
        last: dict[str, NDArray[Any]] = dict(self.arenas.metrics(ended))
        if not self._combined:
            last["unified"] = self.arenas.view.unified()
        return last | {f"_{name}": ended.copy() for name in last}

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
                    f"actions of shape {shape}: entry {where} is {exactly(native[tuple(where)])}, "
                    "neither 0 nor 1"
                )
        self._unified[:, self._columns] = native.reshape(self.num_envs, len(self._columns))
        return self._unified

    def _observe(self) -> NDArray[np.float32]:
        view = self.arenas.view
        return view.unified() if self._combined else view.native(self.task)

    def _info(self) -> dict[str, Any]:
        if self._combined:
            return {}
        everywhere = np.ones(self.num_envs, dtype=np.bool_)
        return {"unified": self.arenas.view.unified(), "_unified": everywhere}

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Everything that changes, as copies; :meth:`set_state` goes on exactly from there."""
        return {
            **self.arenas.save(),
            "seed": np.array(self.arenas.seed % 2**64, dtype=np.uint64),
            "begun": np.array(self._begun),
        }

    def set_state(self, saved: dict[str, NDArray[Any]]) -> None:
        """Go back to what :meth:`get_state` gave."""
        self.arenas.seed = int(saved["seed"])
        self._note_seed(self.arenas.seed)
        self._begun = bool(saved["begun"])
        self.arenas.restore(saved)

    def render(self) -> tuple[Picture, ...] | None:
        """A (480, 640, 3) uint8 frame per arena for ``rgb_array``.

        In ``human`` mode None: the window shows every reset and step by itself, and is drawn
        once more.

        Raises:
            ConfigurationError: made without a render mode, or there is no window to be had.
        """
        if self.render_mode is None:
            raise ConfigurationError(
                "this environment was made without a render mode",
                hint='pass render_mode="rgb_array" or "human" to gymnasium.make',
            )
        if self.render_mode == "rgb_array":
            frames = (render.draw(self.arenas, i, self.view) for i in range(self.num_envs))
            return tuple(frames)
        self._show(wait=False)
        return None

    def _show(self, *, wait: bool = True) -> None:
        """Put arena 0 into the window of the human mode, which opens with the first frame."""
        if self.render_mode != "human":
            return
        frame = render.draw(self.arenas, 0, self.view)
        if self._window is None:
            self._window = render.Window(frame.shape)
        self._window.show(frame, wait=wait)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window, if one was opened."""
        if self._window is not None:
            self._window.close()
            self._window = None


class DuelEnv(gymnasium.Env[Any, Any]):
    """One arena: a batch of one, without auto-reset. Arguments as :class:`DuelVectorEnv`.

    ``info`` holds the unified observation in single-skill tasks, and the metrics under
    ``metrics`` when the episode is over. Gymnasium's ``max_episode_steps`` wraps it from outside.
    """

    metadata = {"render_modes": OFFERED_MODES, "render_fps": rules.TICKS_PER_SECOND}  # noqa: RUF012

    def __init__(
        self,
        task: str = COMBINED,
        *,
        seed: int | None = None,
        opponent: str | Policy | None = None,
        render_mode: str | None = None,
        view: str = "above",
    ) -> None:
        self._batch = DuelVectorEnv(
            1, task, seed=seed, opponent=opponent, render_mode=render_mode, view=view
        )
        self._np_random, self._np_random_seed = self._batch._np_random, self._batch._np_random_seed
        self.render_mode = render_mode
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space
        self._shape = self.action_space.shape or ()

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

        Raises:
            ConfigurationError: a seed or an option that cannot be used; nothing has changed.
        """
        seed = checked_seed(seed)
        options = checked_options(options, ("episode",))
        super().reset(seed=seed)
        observation, _ = self._batch.reset(seed=seed, options=options)
        return observation[0], self._info()

    def _info(self) -> dict[str, Any]:
        batch = self._batch
        return {} if batch._combined else {"unified": batch.arenas.view.unified()[0]}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Play one tick.

        Raises:
            ActionError: wrong shape, a number that is not finite, or out of range.
            ConfigurationError: no episode is going on.
        """
        batch = self._batch
        arenas = batch.arenas
        if not batch._begun or not arenas.episodes["active"][0]:
            raise ConfigurationError("no episode is going on", hint="call reset() first")
        moved = arenas.step(batch._to_unified(action, self._shape))
        over = bool(moved.terminated[0] or moved.truncated[0])
        info = self._info()
        batch._show()
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
        """As :meth:`DuelVectorEnv.render`, but one frame."""
        frames = self._batch.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Close the window, if one was opened."""
        self._batch.close()
