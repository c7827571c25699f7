"""Arenas of the tiny domain that cannot say where they are: giving a state is optional."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.tiny import TinyArenas, TinyVectorEnv


class ForgetfulVectorEnv(TinyVectorEnv):
    """Has no ``get_state``; keeps (seed, episode) of what it began since it was last reset."""

    def __init__(self, *arguments: Any, begun: list[list[tuple[int, int]]], **others: Any) -> None:
        super().__init__(*arguments, **others)
        own: list[tuple[int, int]] = []
        begun.append(own)

        class Telling(TinyArenas):
            def start(self, episodes: np.ndarray) -> None:
                own.extend((self.seed, int(episode)) for episode in episodes)
                super().start(episodes)

        self.arenas = Telling(self.task, self.num_envs, seed=self.arenas.seed)
        self._own = own

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self._own.clear()
        return super().reset(seed=seed, options=options)

    def __getattribute__(self, name: str) -> Any:
        if name == "get_state":
            raise AttributeError(name)
        return super().__getattribute__(name)
