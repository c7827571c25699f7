"""Fights set up by hand, and players that do as they are told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from skilldistill.domain import View
from skilldistill.duel.arenas import DuelArenas
from skilldistill.duel.state import DuelState

NAMES = ("w", "a", "s", "d", "space", "sprint", "click", "dyaw", "dpitch")
TASKS = ("movement", "aiming", "clicking", "combined")
LIMIT = np.float32(0.6283185)


def facing(foe: Sequence[float], *, yaw: float = 0.0, pitch: float = 0.0) -> DuelState:
    """One arena: the agent at the origin with this look, its opponent's feet at ``foe``."""
    state = DuelState.create(1)
    state.position[0, 1] = foe
    state.yaw[0] = yaw, yaw + np.pi
    state.pitch[0, 0] = pitch
    return state


def action(**values: float) -> np.ndarray:
    """(9,) unified action; what is not named is 0."""
    assert set(values) <= set(NAMES)
    return np.array([values.get(name, 0.0) for name in NAMES], dtype=np.float32)


def random_actions(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 9) legal unified actions: coins for keys, any turn."""
    actions = (rng.random((n, 9)) < 0.5).astype(np.float32)
    actions[:, 7:] = rng.uniform(-LIMIT, LIMIT, (n, 2)).astype(np.float32).clip(-LIMIT, LIMIT)
    return actions


class Puppet:
    """A policy that gives whatever was put into ``actions``."""

    def __init__(self, actions: np.ndarray) -> None:
        self.actions = actions

    def act(self, view: View) -> np.ndarray:
        return self.actions


class Hash:
    """A policy whose choices depend on everything it sees and draws, and on nothing else."""

    def act(self, view: View) -> np.ndarray:
        seen = view.unified().astype(np.float64)
        drawn = view.uniform(3, 9)
        mixed = (np.abs(seen[:, :9] * 12.9898 + drawn * 78.233) * 43.7) % 1.0
        actions = (mixed < 0.5).astype(np.float32)
        actions[:, 7:] = ((2 * mixed[:, 7:] - 1) * 0.3).astype(np.float32)
        return actions


def play_through(
    arenas: DuelArenas, act: Callable[[DuelArenas], np.ndarray], ticks: int
) -> list[str]:
    """Play; per arena, a digest of everything that happened, tick by tick."""
    digests = [hashlib.sha256() for _ in range(arenas.num_arenas)]
    for _ in range(ticks):
        moved = arenas.step(act(arenas))
        flags = np.stack([moved.terminated, moved.truncated], axis=1)
        for i, digest in enumerate(digests):
            digest.update(arenas.state.fighters[i].tobytes())
            digest.update(arenas.episodes[i].tobytes())
            digest.update(moved.rewards[i].tobytes() + flags[i].tobytes())
    return [digest.hexdigest() for digest in digests]
