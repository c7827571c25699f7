"""What the views draw: one arena at one tick, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skilldistill.duel import combat
from skilldistill.duel.rules import INVULNERABLE_TICKS, REACH
from skilldistill.duel.state import DuelState

if TYPE_CHECKING:
    from skilldistill.duel.arenas import DuelArenas


@dataclass(frozen=True)
class Figure:
    """A fighter. Lengths in blocks, angles in radians, speeds in blocks per tick."""

    x: float
    y: float
    z: float
    vx: float
    vz: float
    yaw: float
    pitch: float
    health: float
    invulnerable_ticks: int
    sprinting: bool
    landed: bool
    """Whether its attack landed in the tick just played."""
    keys: frozenset[str]
    """Keys it held in the tick just played; ``click`` is one of them."""
    sight: float
    """Blocks along its look to the other's grown box; inf if it misses."""

    @property
    def hurt(self) -> float:
        """1 right after it was hit, falling to 0 while it cannot be hit again."""
        return min(self.invulnerable_ticks / INVULNERABLE_TICKS, 1.0)

    @property
    def aims(self) -> bool:
        """Whether an attack would reach the other."""
        return self.sight <= REACH


@dataclass(frozen=True)
class Moment:
    """Both fighters at a tick of an episode."""

    agent: Figure
    opponent: Figure
    tick: int
    task: str
    episode: int

    @property
    def distance(self) -> float:
        """Blocks from feet to feet."""
        a, b = self.agent, self.opponent
        return float(((a.x - b.x) ** 2 + (a.y - b.y) ** 2 + (a.z - b.z) ** 2) ** 0.5)


def moment_of(arenas: DuelArenas, index: int) -> Moment:
    """Arena ``index`` as it is now."""
    state = arenas.state
    # A copy, because looking brings the sines and cosines of a state up to date.
    one = DuelState(state.fighters[index : index + 1].copy(), state.tick[index : index + 1].copy())
    sight = combat.sight_distance(one)[0]
    first, second = one.fighters[0]
    return Moment(
        agent=_figure(first, float(sight[0])),
        opponent=_figure(second, float(sight[1])),
        tick=int(one.tick[0]),
        task=arenas.task,
        episode=int(arenas.numbers[index]),
    )


def _figure(record: Any, sight: float) -> Figure:
    keys = ("w", "a", "s", "d", "space", "sprint", "click")
    return Figure(
        **{name: float(record[name]) for name in ("x", "y", "z", "vx", "vz", "yaw", "pitch")},
        health=float(record["health"]),
        invulnerable_ticks=int(record["invulnerable_ticks"]),
        sprinting=bool(record["sprinting"]),
        landed=bool(record["landed"]),
        keys=frozenset(key for key in keys if record[key]),
        sight=sight,
    )
