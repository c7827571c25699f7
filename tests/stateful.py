"""Arenas of the tiny domain that give and take their state."""

from __future__ import annotations

import numpy as np

from tests.tiny import TinyArenas, TinyVectorEnv


class StatefulEnv(TinyVectorEnv):
    """The tiny environment, able to give and take its state."""

    def get_state(self) -> dict[str, np.ndarray]:
        arenas = self.arenas
        return {
            "seed": np.array(arenas.seed),
            **{name: getattr(arenas, name).copy() for name in ("episodes", "tick", "x", "good")},
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self.arenas = TinyArenas(self.task, self.num_envs, seed=int(state["seed"]))
        for name in ("episodes", "tick", "x", "good"):
            setattr(self.arenas, name, state[name].copy())
