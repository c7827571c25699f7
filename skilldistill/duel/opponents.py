"""Scripted fighters, and the autopilots that play what a task does not let the player control.

A script is a function of the state, the fighter's random key, and the tick: it carries nothing
along, so either fighter can be played by any script and an episode can be replayed from its
(seed, index). Scripts write the keys they hold and the angles they turn by.
"""

from __future__ import annotations

import math

import numpy as np

from skilldistill import randomness
from skilldistill.duel.combat import sight
from skilldistill.duel.compile import kernel
from skilldistill.duel.observations import distance_between, pitch_error, yaw_error
from skilldistill.duel.physics import wrap
from skilldistill.duel.rules import MAX_TURN, REACH, TICKS_PER_SECOND
from skilldistill.duel.state import Fighter

STILL, WANDER, CHASER, STRAFER, BRAWLER, PARTNER, DRILL, EAGER, LANE, EXTERNAL = range(10)
"""Codes of who plays a seat; EXTERNAL is told what to do from outside."""
ROAMING, CLOSING, EXCHANGING = range(3)
"""What a movement partner may be doing."""
NAMES = {"chaser": CHASER, "strafer": STRAFER, "wander": WANDER, "still": STILL}
"""The scripts a user can name, the default first."""

CLICKS_PER_TICK = 6 / TICKS_PER_SECOND
"""Six clicks per second. [D]"""
SMOOTHNESS = 0.35
"""Share of the remaining angle a script turns by in one tick. [D]"""
STEADINESS = 0.6
"""The same share for the strafer, which aims better. [D]"""
SMOOTH_LIMIT = 0.3
"""Radians per tick a script turns by at most: 17°. [D]"""

# Random streams of one fighter; what each number is drawn for.
(
    _STRAFE,
    _HEADING,
    _PHASE,
    _MODE,
    _JUMP,
    _CIRCLE,
    _AIM_YAW,
    _AIM_PITCH,
    _STYLE,
    _RANGE,
    _HURRY,
) = range(11)

mix = kernel(randomness.mix)
unit = kernel(randomness.unit)


@kernel
def draw(key: np.uint64, when: int, stream: int) -> float:
    """A number in [0, 1) of a fighter's key, a tick or other count, and a stream."""
    drawn: float = unit(mix(mix(key, np.uint64(when)), np.uint64(stream)))
    return drawn


@kernel
def rest(me: Fighter) -> None:
    """Release every key and hold the head still."""
    me.w, me.a, me.s, me.d = False, False, False, False
    me.space, me.sprint, me.click = False, False, False
    me.dyaw, me.dpitch = 0.0, 0.0


@kernel
def bounded(value: float, limit: float) -> float:
    """A number brought into ±limit."""
    return min(max(value, -limit), limit)


@kernel
def turn_smoothly(me: Fighter, foe: Fighter) -> None:
    """Turn a share of the way towards the opponent."""
    me.dyaw = bounded(SMOOTHNESS * yaw_error(me, foe), SMOOTH_LIMIT)
    me.dpitch = bounded(SMOOTHNESS * pitch_error(me, foe), SMOOTH_LIMIT)


@kernel
def clicks_now(key: np.uint64, tick: int) -> bool:
    """Whether a fighter clicking six times a second clicks at this tick."""
    count = tick * CLICKS_PER_TICK + draw(key, 0, _PHASE)
    return math.floor(count + CLICKS_PER_TICK) > math.floor(count)


@kernel
def circle(me: Fighter, block: int, stream: int) -> None:
    """Strafe to one side, chosen anew in every block of ticks."""
    left = draw(me.key, block, stream) < 0.5
    me.a = left
    me.d = not left


@kernel
def wander(me: Fighter, tick: int) -> None:
    """Walk about: a new heading every second and a half, sometimes a jump, no attack."""
    shifted = tick + int(30 * draw(me.key, 0, _PHASE))
    leg = shifted // 30
    heading = 2 * math.pi * draw(me.key, leg, _HEADING) - math.pi
    me.dyaw = bounded(SMOOTHNESS * wrap(heading - me.yaw), SMOOTH_LIMIT)
    me.dpitch = -SMOOTHNESS * me.pitch
    style = draw(me.key, leg, _STYLE)
    me.w = style < 0.85
    me.sprint = style < 0.4
    me.a = 0.6 < style < 0.75
    me.d = 0.75 < style < 0.9
    me.space = draw(me.key, shifted // 10, _JUMP) < 0.15


@kernel
def chaser(me: Fighter, foe: Fighter, tick: int) -> None:
    """Sprint at the opponent, turn smoothly, strafe in reach, click six times a second."""
    turn_smoothly(me, foe)
    distance = distance_between(me, foe)
    me.w = distance > 1.5
    me.sprint = True
    if distance <= REACH:
        circle(me, tick // 15, _STRAFE)
    me.click = clicks_now(me.key, tick)


@kernel
def strafer(me: Fighter, foe: Fighter, tick: int) -> None:
    """Keep a fighting distance, circle, click when aimed."""
    me.dyaw = bounded(STEADINESS * yaw_error(me, foe), SMOOTH_LIMIT)
    me.dpitch = bounded(STEADINESS * pitch_error(me, foe), SMOOTH_LIMIT)
    distance = distance_between(me, foe)
    me.w = distance > 3.0
    me.s = distance < 2.6
    me.sprint = distance > 3.6
    circle(me, tick // 25, _CIRCLE)
    me.click = foe.invulnerable_ticks == 0 and sight(me, foe) <= REACH


@kernel
def brawler(me: Fighter, foe: Fighter, tick: int) -> None:
    """Practice for aiming and clicking: wanders, and most of the time fights like a chaser."""
    mode = draw(me.key, (tick + int(60 * draw(me.key, 1, _PHASE))) // 60, _MODE)
    if mode < 0.3:
        wander(me, tick)
    else:
        chaser(me, foe, tick)


@kernel
def eager(me: Fighter, foe: Fighter, tick: int) -> None:
    """Practice for clicking: sprints in and hits at the first chance, so a late click loses."""
    chaser(me, foe, tick)
    look_straight(me, foe)
    me.click = True


@kernel
def partner_mode(code: int, key: np.uint64, tick: int) -> int:
    """What a movement partner does in this block of two seconds."""
    mode = draw(key, (tick + int(40 * draw(key, 1, _PHASE))) // 40, _MODE)
    exchanges = 0.08 if code == PARTNER else 0.7
    if mode < exchanges:
        return EXCHANGING
    return ROAMING if mode < exchanges + 0.4 * (1.0 - exchanges) else CLOSING


@kernel
def partner(code: int, me: Fighter, foe: Fighter, tick: int) -> None:
    """Practice for movement: wanders, closes in and stays in reach, now and then exchanges blows.

    As PARTNER mostly the former two, as DRILL mostly the last.
    """
    mode = partner_mode(code, me.key, tick)
    if mode == ROAMING:
        wander(me, tick)
    elif mode == EXCHANGING:
        chaser(me, foe, tick)
    else:
        turn_smoothly(me, foe)
        distance = distance_between(me, foe)
        me.w = distance > 2.7
        me.sprint = distance > 3.5
        if distance <= REACH:
            circle(me, tick // 15, _STRAFE)


@kernel
def exchanges_blows(code: int, key: np.uint64, tick: int) -> bool:
    """Whether both click in the movement task now: only while its partner does."""
    if code in (PARTNER, DRILL):
        return partner_mode(code, key, tick) == EXCHANGING
    return True


@kernel
def play(code: int, me: Fighter, foe: Fighter, tick: int) -> None:
    """Let the script ``code`` decide."""
    rest(me)
    if code == WANDER:
        wander(me, tick)
    elif code == CHASER:
        chaser(me, foe, tick)
    elif code == STRAFER:
        strafer(me, foe, tick)
    elif code == BRAWLER:
        brawler(me, foe, tick)
    elif code in (EAGER, LANE):
        eager(me, foe, tick)
        if code == LANE:
            keep_to_lane(me, foe)
    elif code in (PARTNER, DRILL):
        partner(code, me, foe, tick)


# Autopilots of the agent in the single-skill tasks ------------------------------------------


@kernel
def legs(me: Fighter, foe: Fighter, tick: int) -> None:
    """Move as fighters do: close in, keep a range that changes, circle, jump, sometimes retreat."""
    block = (tick + int(40 * draw(me.key, 2, _PHASE))) // 40
    wanted = 1.6 + 2.4 * draw(me.key, block, _RANGE)
    distance = distance_between(me, foe)
    me.w = distance > wanted
    me.s = distance < wanted - 0.6
    me.sprint = distance > wanted + 1.0 or draw(me.key, block, _HURRY) < 0.4
    side = draw(me.key, tick // 12, _CIRCLE)
    me.a = side < 0.35
    me.d = side > 0.65
    me.space = draw(me.key, tick // 8, _JUMP) < 0.15


@kernel
def keep_to_lane(me: Fighter, foe: Fighter) -> None:
    """Do not strafe; stand still while looking aside, where walking would leave the lane."""
    me.a, me.d = False, False
    if abs(yaw_error(me, foe)) > 0.1:
        me.w, me.s = False, False


@kernel
def look_straight(me: Fighter, foe: Fighter) -> None:
    """Turn all the way towards the opponent, as far as one tick allows."""
    me.dyaw = bounded(yaw_error(me, foe), MAX_TURN)
    me.dpitch = bounded(pitch_error(me, foe), MAX_TURN)


@kernel
def look_unsteadily(me: Fighter, foe: Fighter, tick: int) -> None:
    """Look at the opponent most of the time, and clearly beside it now and then."""
    block = (tick + int(30 * draw(me.key, 3, _PHASE))) // 30
    aside = 0.0
    if draw(me.key, block, _STYLE) < 0.25:
        aside = 0.7 + 0.8 * draw(me.key, block, _AIM_YAW)
        if draw(me.key, block, _AIM_PITCH) < 0.5:
            aside = -aside
    me.dyaw = bounded(yaw_error(me, foe) + aside, MAX_TURN)
    me.dpitch = bounded(pitch_error(me, foe), MAX_TURN)
