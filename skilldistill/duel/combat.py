"""Looking, reaching, hitting, and being thrown back: Minecraft 1.8 melee.

Both attacks of a tick are judged on the same state and then applied, so neither seat has an
advantage: a mirrored arena gives the mirrored result.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from skilldistill.duel.compile import kernel
from skilldistill.duel.physics import face
from skilldistill.duel.rules import (
    ATTACK_SLOWDOWN,
    EYE_HEIGHT,
    HALF_WIDTH,
    HEIGHT,
    HIT_BOX_GROWTH,
    INVULNERABLE_TICKS,
    KNOCKBACK,
    KNOCKBACK_KEPT,
    REACH,
    SPRINT_KNOCKBACK,
    SPRINT_KNOCKBACK_UP,
)
from skilldistill.duel.state import DuelState, Fighter, Fighters


def resolve(state: DuelState, clicks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Judge both fighters' clicks on the state as it is, then apply what landed, in place.

    Args:
        state: n arenas.
        clicks: (n, 2) who attacks.

    Returns:
        (n, 2) whose attack landed. A sprinting fighter whose attack landed has its sprint
        cancelled for the tick; pass this to :func:`physics.step` masked with ``sprinting``.
    """
    state.fighters["click"] = clicks
    _resolve_all(state.fighters)
    landed: NDArray[np.bool_] = state.fighters["landed"].copy()
    return landed


def sight_distance(state: DuelState) -> NDArray[np.float64]:
    """(n, 2) blocks along each fighter's look ray to the opponent's grown box; inf if it misses.

    0 where the eyes are inside the box.
    """
    result = np.zeros((state.num_arenas, 2))
    _sight_all(state.fighters, result)
    return result


@kernel
def ray_to_box(
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    x: float,
    y: float,
    z: float,
) -> float:
    """Distance along the unit ray (o, d) to the grown box of a fighter with feet at (x, y, z).

    The slab method; 0 from inside, inf for a miss. A ray parallel to a slab meets it only if
    it starts between its planes.
    """
    near, far = 0.0, math.inf
    half = HALF_WIDTH + HIT_BOX_GROWTH
    for axis in range(3):
        if axis == 0:
            o, d, low, high = ox, dx, x - half, x + half
        elif axis == 1:
            o, d, low, high = oy, dy, y - HIT_BOX_GROWTH, y + HEIGHT + HIT_BOX_GROWTH
        else:
            o, d, low, high = oz, dz, z - half, z + half
        if d == 0.0:
            if o < low or o > high:
                return math.inf
        else:
            first, second = (low - o) / d, (high - o) / d
            near = max(near, min(first, second))
            far = min(far, max(first, second))
    return near if near <= far else math.inf


@kernel
def sight(me: Fighter, foe: Fighter) -> float:
    """Blocks along my look to my foe's grown box; inf for a miss."""
    return ray_to_box(
        me.x,
        me.y + EYE_HEIGHT,
        me.z,
        me.cos_pitch * me.sin_yaw,
        me.sin_pitch,
        me.cos_pitch * me.cos_yaw,
        foe.x,
        foe.y,
        foe.z,
    )


@kernel
def attack(me: Fighter, foe: Fighter) -> None:
    """Judge my click on the state as it is, and note whether it lands."""
    me.landed = me.click and foe.invulnerable_ticks == 0 and sight(me, foe) <= REACH


@kernel
def apply_hits(first: Fighter, second: Fighter) -> None:
    """Apply the attacks that landed.

    Per fighter: its own sprint attack slows it down before it is thrown back by the other's, in
    both seats alike, so the order in which the seats are handled does not matter.
    """
    slow_down(first)
    slow_down(second)
    throw_back(first, second)
    throw_back(second, first)


@kernel
def slow_down(me: Fighter) -> None:
    """A sprinting attacker loses speed when its attack lands."""
    if me.landed and me.sprinting:
        me.vx *= ATTACK_SLOWDOWN
        me.vz *= ATTACK_SLOWDOWN


@kernel
def throw_back(me: Fighter, foe: Fighter) -> None:
    """If my attack landed, my foe loses a point and is thrown away from me and up."""
    if not me.landed:
        return
    foe.health -= 1.0
    foe.invulnerable_ticks = INVULNERABLE_TICKS
    dx, dz = foe.x - me.x, foe.z - me.z
    distance = math.sqrt(dx * dx + dz * dz)
    if distance > 1e-9:
        away_x, away_z = dx / distance, dz / distance
    else:  # one inside the other: away is where the attacker looks
        away_x, away_z = me.sin_yaw, me.cos_yaw
    foe.vx = foe.vx * KNOCKBACK_KEPT + KNOCKBACK * away_x
    foe.vy = min(foe.vy * KNOCKBACK_KEPT + KNOCKBACK, KNOCKBACK)
    foe.vz = foe.vz * KNOCKBACK_KEPT + KNOCKBACK * away_z
    if me.sprinting:
        foe.vx += SPRINT_KNOCKBACK * me.sin_yaw
        foe.vy += SPRINT_KNOCKBACK_UP
        foe.vz += SPRINT_KNOCKBACK * me.cos_yaw


@kernel
def _resolve_all(fighters: Fighters) -> None:
    for i in range(fighters.shape[0]):
        first, second = fighters[i, 0], fighters[i, 1]
        face(first)
        face(second)
        attack(first, second)
        attack(second, first)
        apply_hits(first, second)


@kernel
def _sight_all(fighters: Fighters, result: NDArray[np.float64]) -> None:
    for i in range(fighters.shape[0]):
        for f in range(2):
            face(fighters[i, f])
            result[i, f] = sight(fighters[i, f], fighters[i, 1 - f])
