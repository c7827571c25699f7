"""A second domain in a few dozen lines: proof that the pipeline knows nothing of fighters.

A point on a line must go to the origin (skill ``steer``, one continuous dimension) and ring a
bell exactly when it is near it (skill ``ring``, one binary dimension). Task ``both`` needs the
two together. Registered as ``tiny`` when imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from skilldistill import domain as domains
from skilldistill.domain import ActionDim, Domain, Head, Policy, Skill, Task, Transition
from skilldistill.errors import ActionError
from skilldistill.randomness import uniform

HORIZON = 20


class TinyArenas:
    """n points on a line: x in [-1, 1], velocity as commanded, bell near the origin."""

    def __init__(
        self, task: str, num_arenas: int, *, seed: int, opponent: str | Policy | None = None
    ) -> None:
        self.task, self.num_arenas, self.seed = task, num_arenas, seed
        self.start(np.zeros(num_arenas, dtype=np.int64))

    @property
    def view(self) -> TinyArenas:
        return self

    @property
    def active(self) -> np.ndarray:
        return self.tick < HORIZON

    def start(self, episodes: np.ndarray) -> None:
        self.episodes = np.asarray(episodes, dtype=np.int64)
        self.tick = np.zeros(self.num_arenas, dtype=np.int64)
        self.x = 2 * uniform(self.seed, self.episodes, self.tick, 1, 1)[:, 0] - 1
        self.good = np.zeros(self.num_arenas)
        self.near = np.zeros(self.num_arenas)

    def unified(self) -> np.ndarray:
        return np.stack([self.x, np.abs(self.x), np.ones_like(self.x)], axis=1).astype(np.float32)

    def native(self, skill: str) -> np.ndarray:
        if skill == "steer":
            return self.x[:, None].astype(np.float32)
        return np.stack([self.x, np.sign(self.x)], axis=1).astype(np.float32)

    def uniform(self, stream: int, size: int) -> np.ndarray:
        return uniform(self.seed, self.episodes, self.tick, 1000 + stream, size)

    def step(self, actions: np.ndarray) -> Transition:
        if actions.shape != (self.num_arenas, 2) or not np.isfinite(actions).all():
            raise ActionError(f"expected finite actions of shape ({self.num_arenas}, 2)")
        active = self.active
        move = np.where(self.x > 0, -0.2, 0.2) if self.task == "ring" else actions[:, 1]
        near = np.abs(self.x) < 0.3
        rang = actions[:, 0] > 0.5
        good = {"steer": near, "ring": rang == near, "both": near & rang}[self.task]
        self.x = np.where(active, np.clip(self.x + 0.5 * move, -1, 1), self.x)
        self.tick = self.tick + active
        self.good += active & good
        return Transition(
            rewards=(active & good).astype(np.float32),
            terminated=np.zeros(self.num_arenas, dtype=bool),
            truncated=active & (self.tick >= HORIZON),
        )

    def metrics(self) -> Mapping[str, np.ndarray]:
        return {"score": self.good / np.maximum(self.tick, 1)}


class TinyVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """The arenas with native spaces for Gymnasium libraries, same-step auto-reset."""

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}

    def __init__(
        self, task: str, num_envs: int, *, seed: int, opponent: str | Policy | None = None
    ) -> None:
        self.num_envs, self.task = num_envs, task
        self.arenas = TinyArenas(task, num_envs, seed=seed)
        size = {"steer": 1, "ring": 2, "both": 3}[task]
        self.single_observation_space = gymnasium.spaces.Box(-1, 1, (size,), np.float32)
        actions: dict[str, gymnasium.Space[Any]] = {
            "steer": gymnasium.spaces.Box(-0.5, 0.5, (1,), np.float32),
            "ring": gymnasium.spaces.Discrete(2),
            "both": gymnasium.spaces.Box(
                np.array([0, -0.5], np.float32), np.array([1, 0.5], np.float32)
            ),
        }
        self.single_action_space = actions[task]
        self.observation_space = gymnasium.vector.utils.batch_space(
            self.single_observation_space, num_envs
        )
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)

    def _observe(self) -> np.ndarray:
        return self.arenas.unified() if self.task == "both" else self.arenas.native(self.task)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        if isinstance(seed, int):
            self.arenas.seed = seed
        self.arenas.start(np.arange(self.num_envs))
        return self._observe(), {}

    def step(self, actions: np.ndarray) -> Any:
        unified = np.zeros((self.num_envs, 2), dtype=np.float32)
        if self.task == "both":
            unified[:] = actions
        else:
            unified[:, 0 if self.task == "ring" else 1] = np.reshape(actions, self.num_envs)
        step = self.arenas.step(unified)
        infos: dict[str, Any] = {}
        if step.truncated.any():  # all arenas have the same length
            infos = {
                "final_obs": np.array(list(self._observe()), dtype=object),
                "_final_obs": step.truncated.copy(),
            }
            self.arenas.start(self.arenas.episodes + self.num_envs)
        return self._observe(), step.rewards, step.terminated, step.truncated, infos

    def get_state(self) -> dict[str, np.ndarray]:
        names = ("episodes", "tick", "x", "good", "near")
        return {name: getattr(self.arenas, name).copy() for name in names}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        for name, value in state.items():
            setattr(self.arenas, name, value.copy())


DOMAIN = Domain(
    name="tiny",
    observation_names=("x", "abs_x", "one"),
    actions=(
        ActionDim(name="bell", kind="binary"),
        ActionDim(name="move", kind="continuous", low=-0.5, high=0.5),
    ),
    heads=(
        Head(name="ring", dims=("bell",), hidden=8),
        Head(name="steer", dims=("move",), hidden=8),
    ),
    skills=(
        Skill(
            name="steer",
            head="steer",
            native_observations=("x",),
            native_action="box",
            training={
                "timesteps": 6000,
                "envs": 16,
                "hidden": (16, 16),
                "n_steps": 64,
                "batch_size": 256,
                "gamma": 0.8,
                "learning_rate": 3e-3,
            },
        ),
        Skill(
            name="ring",
            head="ring",
            native_observations=("x", "sign_x"),
            native_action="discrete",
            training={
                "timesteps": 6000,
                "envs": 16,
                "hidden": (16, 16),
                "n_steps": 64,
                "batch_size": 256,
                "gamma": 0.5,
                "learning_rate": 3e-3,
            },
        ),
    ),
    tasks=tuple(
        Task(
            name=name,
            env_id=f"tiny/{name}-v0",
            heads=heads,
            metrics=("score",),
            main_metric="score",
            horizon=HORIZON,
        )
        for name, heads in (("steer", ("steer",)), ("ring", ("ring",)), ("both", ("ring", "steer")))
    ),
    combined="both",
    make_arenas=TinyArenas,
    make_vector_env=TinyVectorEnv,
)
domains.register(DOMAIN)
