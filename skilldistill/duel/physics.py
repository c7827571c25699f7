"""Turning, walking, jumping, friction, gravity: Minecraft 1.8 on flat stone.

The order of a tick is that of DESIGN section 3, and the numbers are those of the public engine
prismarine-physics, to which ``tests/duel/test_physics.py`` compares.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from skilldistill.duel.compile import kernel
from skilldistill.duel.rules import (
    AIR_ACCELERATION,
    AIR_INERTIA,
    GRAVITY,
    GROUND_ACCELERATION,
    GROUND_INERTIA,
    JUMP_COOLDOWN,
    JUMP_SPEED,
    KEY_SCALE,
    MAX_PITCH,
    MAX_TURN,
    NEGLIGIBLE_SPEED,
    SMALLEST_INPUT,
    SPRINT_AIR_ACCELERATION,
    SPRINT_FACTOR,
    SPRINT_JUMP_BOOST,
    VERTICAL_DRAG,
)
from skilldistill.duel.state import DuelState, Fighter, Fighters
from skilldistill.errors import ActionError


@dataclass(frozen=True)
class Inputs:
    """Which keys both fighters hold; each (n, 2) bool."""

    w: NDArray[np.bool_]
    a: NDArray[np.bool_]
    s: NDArray[np.bool_]
    d: NDArray[np.bool_]
    space: NDArray[np.bool_]
    sprint: NDArray[np.bool_]


def step(state: DuelState, inputs: Inputs, cancelled: NDArray[np.bool_] | None = None) -> None:
    """Walk, jump, and fall for one tick, in place; yaw and pitch have already been turned.

    Args:
        state: n arenas.
        inputs: the keys held, each (n, 2).
        cancelled: (n, 2) fighters whose sprint a landed attack cancels for this tick.

    Raises:
        ActionError: an input of another shape.
    """
    n = state.num_arenas
    for name, held in asdict(inputs).items():
        if np.shape(held) != (n, 2):
            raise ActionError(f"key {name} has shape {np.shape(held)}, expected {(n, 2)}")
        state.fighters[name] = held
    stopped = np.zeros((n, 2), dtype=np.bool_) if cancelled is None else cancelled
    _walk_all(state.fighters, np.ascontiguousarray(stopped, dtype=np.bool_))


@kernel
def wrap(angle: float) -> float:
    """An angle brought into [−π, π], radians."""
    if abs(angle) > 3 * math.pi:  # nothing turns that far in a tick; only states set by hand do
        angle = angle % (2 * math.pi)
    if angle > math.pi:
        return angle - 2 * math.pi
    if angle < -math.pi:
        return angle + 2 * math.pi
    return angle


@kernel
def face(me: Fighter) -> None:
    """Keep the sines and cosines of a fighter's yaw and pitch beside them."""
    me.sin_yaw = math.sin(me.yaw)
    me.cos_yaw = math.cos(me.yaw)
    me.sin_pitch = math.sin(me.pitch)
    me.cos_pitch = math.cos(me.pitch)


@kernel
def turn_one(me: Fighter) -> None:
    """Turn a fighter by what it decided, at most 36° per axis; pitch stays in ±90°."""
    me.yaw = wrap(me.yaw + min(max(me.dyaw, -MAX_TURN), MAX_TURN))
    pitch = me.pitch + min(max(me.dpitch, -MAX_TURN), MAX_TURN)
    me.pitch = min(max(pitch, -MAX_PITCH), MAX_PITCH)
    face(me)


@kernel
def walk_one(me: Fighter, cancelled: bool) -> None:
    """Steps 1 to 6 of DESIGN's locomotion for one fighter, with the keys it decided on."""
    vx, vy, vz = me.vx, me.vy, me.vz
    if abs(vx) < NEGLIGIBLE_SPEED:
        vx = 0.0
    if abs(vy) < NEGLIGIBLE_SPEED:
        vy = 0.0
    if abs(vz) < NEGLIGIBLE_SPEED:
        vz = 0.0

    sprinting = me.sprint and me.w and not me.s and not cancelled
    me.sprinting = sprinting

    grounded = me.on_ground
    if me.space:
        if me.jump_cooldown > 0:
            me.jump_cooldown -= 1
        if grounded and me.jump_cooldown == 0:
            vy = JUMP_SPEED
            if sprinting:
                vx += SPRINT_JUMP_BOOST * me.sin_yaw
                vz += SPRINT_JUMP_BOOST * me.cos_yaw
            me.jump_cooldown = JUMP_COOLDOWN
    else:
        me.jump_cooldown = 0

    strafe = KEY_SCALE * (int(me.d) - int(me.a))
    ahead = KEY_SCALE * (int(me.w) - int(me.s))
    if grounded:
        inertia = GROUND_INERTIA
        acceleration = GROUND_ACCELERATION * (SPRINT_FACTOR if sprinting else 1.0)
    else:
        inertia = AIR_INERTIA
        acceleration = AIR_ACCELERATION + (SPRINT_AIR_ACCELERATION if sprinting else 0.0)
    length = math.sqrt(strafe * strafe + ahead * ahead)
    if length >= SMALLEST_INPUT:
        k = acceleration / max(length, 1.0)
        vx += k * (ahead * me.sin_yaw + strafe * me.cos_yaw)
        vz += k * (ahead * me.cos_yaw - strafe * me.sin_yaw)

    me.x += vx
    me.z += vz
    me.y += vy
    me.on_ground = False
    if me.y < 0.0:
        me.y = 0.0
        me.on_ground = vy < 0.0
        vy = 0.0

    me.vx = vx * inertia
    me.vy = (vy - GRAVITY) * VERTICAL_DRAG
    me.vz = vz * inertia


@kernel
def _walk_all(fighters: Fighters, cancelled: NDArray[np.bool_]) -> None:
    for i in range(fighters.shape[0]):
        for f in range(2):
            face(fighters[i, f])
            walk_one(fighters[i, f], cancelled[i, f])
