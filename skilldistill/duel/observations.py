"""What a fighter sees: the unified observation and the native ones of the single skills.

Every function writes float32 clipped to [−1, 1]; the layouts are those of DESIGN section 4.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from skilldistill.duel.compile import kernel
from skilldistill.duel.declare import DOMAIN
from skilldistill.duel.physics import face, wrap
from skilldistill.duel.rules import HEALTH, INVULNERABLE_TICKS, REACH
from skilldistill.duel.state import DuelState, Fighter, Fighters
from skilldistill.errors import ConfigurationError

NATIVE_NAMES = {skill.name: skill.native_observations for skill in DOMAIN.skills}
SMALL = 1e-6
"""Blocks, or blocks per tick; shorter vectors have no direction."""
MOVEMENT, AIMING, CLICKING = range(3)
_SKILLS = {"movement": MOVEMENT, "aiming": AIMING, "clicking": CLICKING}


def unified(state: DuelState, fighter: int = 0) -> NDArray[np.float32]:
    """(n, 20) unified observation of ``fighter`` in every arena.

    Raises:
        ConfigurationError: ``fighter`` is neither 0 nor 1.
    """
    _check_fighter(fighter)
    state = state.copy()  # looking leaves the state as it was
    face_all(state.fighters)
    return unified_now(state, fighter)


def unified_now(state: DuelState, fighter: int = 0) -> NDArray[np.float32]:
    """(n, 20) as :func:`unified`, of a state whose sines and cosines are up to date."""
    out = np.empty((state.num_arenas, DOMAIN.obs_dim), dtype=np.float32)
    unified_all(state.fighters, fighter, out)
    return out


def native(
    skill: str, state: DuelState, previous_look: NDArray[np.float64], fighter: int = 0
) -> NDArray[np.float32]:
    """(n, d) observation of a single-skill expert.

    Args:
        skill: movement (20), aiming (5), or clicking (9).
        state: n arenas.
        previous_look: (n, 3) unit vector, world axes: where the opponent of ``fighter`` looked
            one tick earlier.
        fighter: whose eyes, 0 or 1.

    Raises:
        ConfigurationError: no such skill or fighter, or ``previous_look`` of another shape.
    """
    _check_fighter(fighter)
    if skill not in _SKILLS:
        raise ConfigurationError(f"no skill {skill!r}", hint=f"choose from {', '.join(_SKILLS)}")
    n = state.num_arenas
    if np.shape(previous_look) != (n, 3):
        raise ConfigurationError(
            f"previous_look has shape {np.shape(previous_look)}, expected {(n, 3)}"
        )
    state = state.copy()  # looking leaves the state as it was
    for axis, name in enumerate(("seen_x", "seen_y", "seen_z")):
        state.fighters[name][:, 1 - fighter] = previous_look[:, axis]
    face_all(state.fighters)
    return native_now(skill, state, fighter)


def native_now(skill: str, state: DuelState, fighter: int = 0) -> NDArray[np.float32]:
    """(n, d) as :func:`native`, of a state that is up to date and holds the earlier looks."""
    out = np.empty((state.num_arenas, len(NATIVE_NAMES[skill])), dtype=np.float32)
    native_all(state.fighters, _SKILLS[skill], fighter, out)
    return out


def _check_fighter(fighter: int) -> None:
    """Refuse what is neither 0 nor 1; True and −1 would find a fighter, but by accident."""
    whole = isinstance(fighter, (int, np.integer)) and not isinstance(fighter, bool)
    if not whole or fighter not in (0, 1):
        raise ConfigurationError(
            f"no fighter {fighter!r}", hint="0 is the agent, 1 is its opponent"
        )


@kernel
def face_all(fighters: Fighters) -> None:
    """Bring every fighter's sines and cosines up to date."""
    for i in range(fighters.shape[0]):
        face(fighters[i, 0])
        face(fighters[i, 1])


@kernel
def clipped(value: float) -> float:
    """A number brought into [−1, 1]."""
    return min(max(value, -1.0), 1.0)


@kernel
def write_local(
    me: Fighter, x: float, y: float, z: float, out: NDArray[np.float32], at: int
) -> None:
    """Write a world vector's (right, up, forward) of a fighter to ``out[at:at+3]``."""
    along = x * me.sin_yaw + z * me.cos_yaw
    out[at] = clipped(x * me.cos_yaw - z * me.sin_yaw)
    out[at + 1] = clipped(y * me.cos_pitch - along * me.sin_pitch)
    out[at + 2] = clipped(y * me.sin_pitch + along * me.cos_pitch)


@kernel
def write_direction(
    me: Fighter, x: float, y: float, z: float, out: NDArray[np.float32], at: int
) -> float:
    """Write the local direction of a vector (zero if it is too short); returns its length."""
    length = math.sqrt(x * x + y * y + z * z)
    if length < SMALL:
        out[at] = 0.0
        out[at + 1] = 0.0
        out[at + 2] = 0.0
    else:
        write_local(me, x / length, y / length, z / length, out, at)
    return length


@kernel
def write_look(me: Fighter, foe: Fighter, out: NDArray[np.float32], at: int) -> None:
    """Write where my foe looks, in my axes."""
    x, z = foe.cos_pitch * foe.sin_yaw, foe.cos_pitch * foe.cos_yaw
    write_local(me, x, foe.sin_pitch, z, out, at)


@kernel
def write_geometry(me: Fighter, foe: Fighter, out: NDArray[np.float32]) -> None:
    """Dimensions 0–11, which the unified and the movement observation share."""
    distance = write_direction(me, foe.x - me.x, foe.y - me.y, foe.z - me.z, out, 0)
    out[3] = clipped(distance / 10.0)
    out[7] = clipped(write_direction(me, me.vx, me.vy, me.vz, out, 4) / 2.0)
    out[11] = clipped(write_direction(me, foe.vx, foe.vy, foe.vz, out, 8) / 2.0)


@kernel
def write_unified(me: Fighter, foe: Fighter, out: NDArray[np.float32]) -> None:
    """The unified observation into ``out`` (20,)."""
    write_geometry(me, foe, out)
    out[12] = clipped(me.health / HEALTH)
    out[13] = clipped(foe.health / HEALTH)
    out[14] = 1.0 if me.on_ground else -1.0
    out[15] = 1.0 if foe.on_ground else -1.0
    write_look(me, foe, out, 16)
    out[19] = clipped(foe.invulnerable_ticks / INVULNERABLE_TICKS)


@kernel
def write_movement(me: Fighter, foe: Fighter, out: NDArray[np.float32]) -> None:
    """The movement expert's observation into ``out`` (20,)."""
    write_geometry(me, foe, out)
    out[12] = 1.0 if me.on_ground else -1.0
    out[13] = 1.0 if foe.on_ground else -1.0
    write_look(me, foe, out, 14)
    write_local(me, foe.seen_x, foe.seen_y, foe.seen_z, out, 17)


@kernel
def yaw_error(me: Fighter, foe: Fighter) -> float:
    """Angle from my heading to my foe's position, radians in [−π, π]; 0 where there is none."""
    dx, dz = foe.x - me.x, foe.z - me.z
    if dx * dx + dz * dz < SMALL * SMALL:
        return 0.0
    return wrap(math.atan2(dx, dz) - me.yaw)


@kernel
def pitch_error(me: Fighter, foe: Fighter) -> float:
    """Angle from my pitch to the direction from position to position; 0 where there is none."""
    dx, dy, dz = foe.x - me.x, foe.y - me.y, foe.z - me.z
    if dx * dx + dy * dy + dz * dz < SMALL * SMALL:
        return 0.0
    error: float = math.atan2(dy, math.sqrt(dx * dx + dz * dz)) - me.pitch
    return error


@kernel
def distance_between(me: Fighter, foe: Fighter) -> float:
    """Blocks from feet to feet."""
    dx, dy, dz = foe.x - me.x, foe.y - me.y, foe.z - me.z
    return math.sqrt(dx * dx + dy * dy + dz * dz)


@kernel
def write_aiming(me: Fighter, foe: Fighter, out: NDArray[np.float32]) -> None:
    """The aiming expert's observation into ``out`` (5,)."""
    yaw, pitch = yaw_error(me, foe), pitch_error(me, foe)
    out[0] = math.sin(yaw)
    out[1] = math.cos(yaw)
    out[2] = math.sin(pitch)
    out[3] = math.cos(pitch)
    out[4] = clipped(distance_between(me, foe) / 15.0)


@kernel
def write_clicking(me: Fighter, foe: Fighter, out: NDArray[np.float32]) -> None:
    """The clicking expert's observation into ``out`` (9,)."""
    distance = distance_between(me, foe)
    out[0] = clipped(yaw_error(me, foe) / math.pi)
    out[1] = clipped(pitch_error(me, foe) / (math.pi / 2))
    out[2] = clipped(distance / 10.0)
    out[3] = 1.0 if distance <= REACH else -1.0
    out[4] = clipped(foe.invulnerable_ticks / INVULNERABLE_TICKS)
    out[5] = clipped((foe.x - me.x) / 10.0)
    out[6] = clipped((foe.z - me.z) / 10.0)
    out[7] = clipped(wrap(me.yaw) / math.pi)
    out[8] = clipped(me.pitch / (math.pi / 2))


@kernel
def unified_all(fighters: Fighters, fighter: int, out: NDArray[np.float32]) -> None:
    """The unified observation of every arena into ``out`` (n, 20)."""
    for i in range(fighters.shape[0]):
        me, foe = fighters[i, fighter], fighters[i, 1 - fighter]
        write_unified(me, foe, out[i])


@kernel
def native_all(fighters: Fighters, skill: int, fighter: int, out: NDArray[np.float32]) -> None:
    """The native observation of every arena into ``out`` (n, d)."""
    for i in range(fighters.shape[0]):
        me, foe = fighters[i, fighter], fighters[i, 1 - fighter]
        if skill == MOVEMENT:
            write_movement(me, foe, out[i])
        elif skill == AIMING:
            write_aiming(me, foe, out[i])
        else:
            write_clicking(me, foe, out[i])
