"""The four tasks: how an episode starts, who controls what, reward, end, and metrics.

One compiled function, :func:`tick_all`, plays a tick of every running arena; it reads as the
order of DESIGN section 3. Single-skill tasks are practice: whoever falls gets up again in full
health, so that an episode shows a whole fight's range of states.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skilldistill.duel.combat import apply_hits, attack, sight
from skilldistill.duel.compile import kernel
from skilldistill.duel.observations import distance_between
from skilldistill.duel.opponents import (
    EXTERNAL,
    LANE,
    draw,
    exchanges_blows,
    keep_to_lane,
    legs,
    look_straight,
    look_unsteadily,
    mix,
    play,
)
from skilldistill.duel.physics import face, turn_one, walk_one, wrap
from skilldistill.duel.rules import BAND, EYE_HEIGHT, HEALTH, HEIGHT
from skilldistill.duel.state import Fighter, Fighters
from skilldistill.errors import ConfigurationError

MOVEMENT, AIMING, CLICKING, COMBINED = range(4)
NAMES = {"movement": MOVEMENT, "aiming": AIMING, "clicking": CLICKING, "combined": COMBINED}
BAND_FROM = 40
"""Ticks until ``in_band`` and ``exposed`` begin to count."""
AIM_FROM = 20
"""Ticks until ``on_target`` begins to count."""
ACTION_DIM = 9

EPISODE = np.dtype(
    [
        ("opponent", np.int64),  # code of the script that plays fighter 1
        ("active", np.bool_),  # whether the episode goes on
        *[
            (name, np.float64)
            for name in (
                "counted",  # ticks that in_band and exposed look at
                "in_band",
                "exposed",
                "aim_counted",  # ticks that on_target looks at
                "on_target",
                "error",  # radians, summed
                "clicks",
                "dealt",
                "taken",
            )
        ],
    ],
    align=True,
)
"""What belongs to an episode besides its fighters: who plays, and counts for the metrics."""
Episode = Any
"""A scalar of :data:`EPISODE` inside compiled code."""
Episodes = NDArray[Any]
"""(n,) of :data:`EPISODE`."""

_EPISODE_STREAM = np.uint64(0x5EED)
# Positions in a unified action.
_W, _A, _S, _D, _SPACE, _SPRINT, _CLICK, _DYAW, _DPITCH = range(ACTION_DIM)


class Outcome(NamedTuple):
    """What a tick gave, per arena."""

    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


def task_code(task: str) -> int:
    """The code of a task's name."""
    if task not in NAMES:
        raise ConfigurationError(f"no task {task!r}", hint=f"choose from {', '.join(NAMES)}")
    return NAMES[task]


@kernel
def start_all(
    task: int,
    fighters: Fighters,
    ticks: NDArray[np.int64],
    records: Episodes,
    seed: np.uint64,
    numbers: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    codes: NDArray[np.int64],
) -> None:
    """Begin episode ``numbers[i]`` in every chosen arena.

    ``codes`` lists the scripts from which an episode's opponent is drawn, evenly.
    """
    for i in range(ticks.shape[0]):
        if not chosen[i]:
            continue
        key = mix(mix(seed, np.uint64(numbers[i])), _EPISODE_STREAM)
        e = records[i]
        e.opponent = codes[int(draw(key, 0, 0) * codes.shape[0])]
        e.active = True
        e.counted, e.in_band, e.exposed = 0.0, 0.0, 0.0
        e.aim_counted, e.on_target, e.error = 0.0, 0.0, 0.0
        e.clicks, e.dealt, e.taken = 0.0, 0.0, 0.0
        ticks[i] = 0
        nearest, farthest = (4.0, 8.0) if task == COMBINED else (1.5, 8.0)
        distance = nearest + (farthest - nearest) * draw(key, 0, 1)
        bearing = 2 * math.pi * draw(key, 0, 2) - math.pi
        if e.opponent == LANE:
            # Boxes follow the world's axes, which the unified observation does not show: off the
            # axes, when a click lands is beyond what a student could know.
            bearing = 0.5 * math.pi * math.floor(bearing / (0.5 * math.pi))
        x, z = 0.5 * distance * math.sin(bearing), 0.5 * distance * math.cos(bearing)
        place(fighters[i, 0], mix(key, np.uint64(1)), -x, -z, task)
        place(fighters[i, 1], mix(key, np.uint64(2)), x, z, task)


@kernel
def place(me: Fighter, key: np.uint64, x: float, z: float, task: int) -> None:
    """Stand a fighter at (x, z), looking roughly at the origin, where its opponent is beyond."""
    # In a fight both begin with the other in view; aiming is practised from anywhere.
    spread = math.pi if task == AIMING else 1.0
    me.key = key
    me.x, me.y, me.z = x, 0.0, z
    me.vx, me.vy, me.vz = 0.0, 0.0, 0.0
    me.yaw = wrap(math.atan2(-x, -z) + spread * (2 * draw(key, 0, 20) - 1))
    me.pitch = 0.5 * (2 * draw(key, 0, 21) - 1)
    face(me)
    remember_look(me)
    me.on_ground, me.sprinting, me.landed = True, False, False
    me.invulnerable_ticks, me.jump_cooldown = 0, 0
    me.health = HEALTH if task == COMBINED else 1.0 + math.floor(HEALTH * draw(key, 0, 22))


@kernel
def remember_look(me: Fighter) -> None:
    """Note where a fighter looks, for observations one tick later."""
    me.seen_x = me.cos_pitch * me.sin_yaw
    me.seen_y = me.sin_pitch
    me.seen_z = me.cos_pitch * me.cos_yaw


@kernel
def obey(me: Fighter, action: NDArray[np.float32]) -> None:
    """Take keys and turns from a unified action (9,)."""
    me.w = action[_W] > 0.5
    me.a = action[_A] > 0.5
    me.s = action[_S] > 0.5
    me.d = action[_D] > 0.5
    me.space = action[_SPACE] > 0.5
    me.sprint = action[_SPRINT] > 0.5
    me.click = action[_CLICK] > 0.5
    me.dyaw = action[_DYAW]
    me.dpitch = action[_DPITCH]


@kernel
def script_all(
    code: int,
    fighters: Fighters,
    ticks: NDArray[np.int64],
    fighter: int,
    out: NDArray[np.float32],
) -> None:
    """What a script would do in a seat, as unified actions (n, 9)."""
    for i in range(ticks.shape[0]):
        me = fighters[i, fighter]
        play(code, me, fighters[i, 1 - fighter], ticks[i])
        out[i, _W], out[i, _A], out[i, _S], out[i, _D] = me.w, me.a, me.s, me.d
        out[i, _SPACE], out[i, _SPRINT], out[i, _CLICK] = me.space, me.sprint, me.click
        out[i, _DYAW], out[i, _DPITCH] = me.dyaw, me.dpitch


@kernel
def autopilot(task: int, lane: bool, me: Fighter, foe: Fighter, tick: int) -> None:
    """Decide what the task does not let the player control, except the click."""
    if task == MOVEMENT:
        look_straight(me, foe)
    elif task != COMBINED:
        legs(me, foe, tick)
        if task == CLICKING:
            look_unsteadily(me, foe, tick)
            if lane:
                keep_to_lane(me, foe)


@kernel
def centre_error(me: Fighter, foe: Fighter) -> float:
    """Angle between my look and the centre of my foe's box, radians."""
    dx, dz = foe.x - me.x, foe.z - me.z
    dy = foe.y + 0.5 * HEIGHT - me.y - EYE_HEIGHT
    length = max(math.sqrt(dx * dx + dy * dy + dz * dz), 1e-9)
    along = me.cos_pitch * (dx * me.sin_yaw + dz * me.cos_yaw) + dy * me.sin_pitch
    return math.acos(min(max(along / length, -1.0), 1.0))


@kernel
def tick_all(
    task: int,
    horizon: int,
    fighters: Fighters,
    ticks: NDArray[np.int64],
    records: Episodes,
    actions: NDArray[np.float32],
    rival_actions: NDArray[np.float32],
    perfect: bool,
    out: Outcome,
) -> None:
    """Play one tick in every active arena; the others give zero reward and no flags.

    ``perfect`` lets the autopilot click too, exactly when an attack would land.
    """
    for i in range(ticks.shape[0]):
        out.rewards[i] = 0.0
        out.terminated[i] = False
        out.truncated[i] = False
        e = records[i]
        if not e.active:
            continue
        me, foe = fighters[i, 0], fighters[i, 1]

        # Decide, on what both see.
        remember_look(me)
        remember_look(foe)
        obey(me, actions[i])
        autopilot(task, e.opponent == LANE, me, foe, ticks[i])
        if e.opponent == EXTERNAL:
            obey(foe, rival_actions[i])
        else:
            play(e.opponent, foe, me, ticks[i])

        # Turn.
        turn_one(me)
        turn_one(foe)

        # Attack: both judged on the same state, then applied.
        clicks_itself = perfect or task == AIMING
        if task == MOVEMENT:
            clicks_itself = exchanges_blows(e.opponent, foe.key, ticks[i])
            me.click = False
        if clicks_itself:
            me.click = True
        attack(me, foe)
        attack(foe, me)
        if clicks_itself:
            me.click = me.landed
        on_target = sight(me, foe) < math.inf
        exposed = sight(foe, me) < math.inf
        error = centre_error(me, foe) if task == AIMING else 0.0
        cancelled, foe_cancelled = me.landed and me.sprinting, foe.landed and foe.sprinting
        apply_hits(me, foe)

        # Move, and let time pass.
        walk_one(me, cancelled)
        walk_one(foe, foe_cancelled)
        me.invulnerable_ticks = max(me.invulnerable_ticks - 1, 0)
        foe.invulnerable_ticks = max(foe.invulnerable_ticks - 1, 0)
        ticks[i] += 1

        # Count.
        distance = distance_between(me, foe)
        in_band = BAND[0] <= distance <= BAND[1]
        e.clicks += me.click
        e.dealt += me.landed
        e.taken += foe.landed
        e.error += error
        if ticks[i] > BAND_FROM:
            e.counted += 1
            e.in_band += in_band
            e.exposed += exposed
        if ticks[i] > AIM_FROM:
            e.aim_counted += 1
            e.on_target += on_target

        # Reward.
        if task == MOVEMENT:
            outside = max(distance - BAND[1], BAND[0] - distance, 0.0)
            out.rewards[i] = 0.1 if in_band else -0.1 * min(outside, 3.0)
            out.rewards[i] += 0.5 * me.landed - 0.5 * foe.landed
        elif task == AIMING:
            out.rewards[i] = (1.0 if on_target else 0.0) - error
        elif task == CLICKING:
            out.rewards[i] = 1.0 if me.landed else (-2.0 if me.click else 0.0)
        else:
            out.rewards[i] = 1.0 * me.landed - 1.0 * foe.landed

        # End.
        if task == COMBINED:
            if me.health <= 0.0 or foe.health <= 0.0:
                out.terminated[i] = True
                out.rewards[i] += 10.0 * (int(foe.health <= 0.0) - int(me.health <= 0.0))
        else:
            get_up(me)
            get_up(foe)
        out.truncated[i] = ticks[i] >= horizon and not out.terminated[i]
        e.active = not (out.terminated[i] or out.truncated[i])


@kernel
def get_up(me: Fighter) -> None:
    """In practice whoever falls gets up in full health."""
    if me.health <= 0.0:
        me.health = HEALTH
