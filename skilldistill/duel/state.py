"""Everything that changes in a duel, as arrays over arenas and fighters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skilldistill.duel import rules
from skilldistill.errors import ConfigurationError

FIGHTER = np.dtype(
    [
        *[(name, np.float64) for name in ("x", "y", "z")],  # feet, blocks
        *[(name, np.float64) for name in ("vx", "vy", "vz")],  # blocks per tick
        *[(name, np.float64) for name in ("yaw", "pitch")],  # radians
        *[(name, np.float64) for name in ("sin_yaw", "cos_yaw", "sin_pitch", "cos_pitch")],
        *[(name, np.float64) for name in ("seen_x", "seen_y", "seen_z")],  # look one tick earlier
        ("health", np.float64),
        ("invulnerable_ticks", np.int64),
        ("jump_cooldown", np.int64),
        ("key", np.uint64),  # random key of the fighter in its episode
        *[(name, np.float64) for name in ("dyaw", "dpitch")],  # what it decided: radians
        *[(name, np.bool_) for name in ("w", "a", "s", "d", "space", "sprint", "click")],
        *[(name, np.bool_) for name in ("on_ground", "sprinting", "landed")],
    ],
    align=True,
)
"""One fighter as compiled code sees it: a record of numbers, side by side in memory."""

Fighter = Any
"""A scalar of :data:`FIGHTER` inside compiled code."""
Fighters = NDArray[Any]
"""(n, 2) of :data:`FIGHTER`."""

_VIEWS: dict[str, tuple[str, int]] = {
    "position": ("x", 3),
    "velocity": ("vx", 3),
    "yaw": ("yaw", 1),
    "pitch": ("pitch", 1),
    "on_ground": ("on_ground", 1),
    "sprinting": ("sprinting", 1),
    "health": ("health", 1),
    "invulnerable_ticks": ("invulnerable_ticks", 1),
    "jump_cooldown": ("jump_cooldown", 1),
}


class DuelState:
    """n arenas of two fighters each: 0 is the agent, 1 the opponent.

    The attributes are windows onto one array of records, so changing them in place or
    assigning to them changes the duel:

    * ``position`` (n, 2, 3) feet, blocks: x right, y up, z forward at yaw 0
    * ``velocity`` (n, 2, 3) blocks per tick
    * ``yaw``, ``pitch`` (n, 2) radians: positive towards +x, positive looks up
    * ``on_ground``, ``sprinting`` (n, 2) bool
    * ``health`` (n, 2) points
    * ``invulnerable_ticks`` (n, 2) ticks until the fighter can be hit again
    * ``jump_cooldown`` (n, 2) ticks until a held jump key jumps again
    * ``tick`` (n,) ticks since the episode began
    """

    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    yaw: NDArray[np.float64]
    pitch: NDArray[np.float64]
    on_ground: NDArray[np.bool_]
    sprinting: NDArray[np.bool_]
    health: NDArray[np.float64]
    invulnerable_ticks: NDArray[np.int64]
    jump_cooldown: NDArray[np.int64]
    tick: NDArray[np.int64]
    fighters: Fighters

    def __init__(self, fighters: Fighters, tick: NDArray[np.int64]) -> None:
        put = super().__setattr__
        put("fighters", fighters)
        put("tick", tick)
        for name, (first, width) in _VIEWS.items():
            put(name, _window(fighters, first, width))

    @classmethod
    def create(cls, n: int) -> DuelState:
        """n arenas at rest: both fighters at the origin, on the ground, in full health."""
        if n < 1:
            raise ConfigurationError(f"a duel needs at least one arena, got {n}")
        state = cls(np.zeros((n, 2), dtype=FIGHTER), np.zeros(n, dtype=np.int64))
        state.on_ground[...] = True
        state.health[...] = rules.HEALTH
        return state

    @property
    def num_arenas(self) -> int:
        """Number of arenas."""
        return len(self.tick)

    def __setattr__(self, name: str, value: ArrayLike) -> None:
        if name not in _VIEWS and name != "tick":
            raise AttributeError(f"DuelState has no attribute {name!r}")
        getattr(self, name)[...] = value

    def __reduce__(self) -> tuple[type[DuelState], tuple[Fighters, NDArray[np.int64]]]:
        # Pickled by themselves the windows would come back as arrays of their own.
        return DuelState, (self.fighters, self.tick)

    def copy(self) -> DuelState:
        """An independent copy."""
        return DuelState(self.fighters.copy(), self.tick.copy())

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of everything, to be saved; plain numbers, no records."""
        width = FIGHTER.itemsize
        return {
            "fighters": self.fighters.view(np.uint8).reshape(self.num_arenas, 2, width).copy(),
            "tick": self.tick.copy(),
        }

    def update(self, saved: Mapping[str, NDArray[Any]]) -> None:
        """Overwrite everything, in place, with what :meth:`to_dict` gave."""
        raw = np.ascontiguousarray(saved["fighters"], dtype=np.uint8)
        self.fighters[...] = raw.reshape(-1).view(FIGHTER).reshape(self.num_arenas, 2)
        self.tick[...] = saved["tick"]


def _window(fighters: Fighters, first: str, width: int) -> NDArray[Any]:
    """A writable view of ``width`` neighbouring fields of all records."""
    fields = FIGHTER.fields
    assert fields is not None
    dtype, offset = fields[first][:2]
    n = fighters.shape[0]
    shape = (n, 2, width) if width > 1 else (n, 2)
    strides = (*fighters.strides, dtype.itemsize) if width > 1 else fighters.strides
    return np.ndarray(shape, dtype, buffer=fighters.data, offset=offset, strides=strides)
