"""Looking, reaching, hitting: each rule from a case computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldistill.duel import combat, physics
from skilldistill.duel.physics import Inputs
from skilldistill.duel.state import DuelState
from tests.duel.making import facing

GROWN = 0.4  # half of 0.6, grown by 0.1
ME, FOE = 0, 1


def strike(state: DuelState, *, both: bool = False) -> list[bool]:
    """The agent clicks, or both do; whose attack landed."""
    return combat.resolve(state, np.array([[True, both]]))[0].tolist()


# Reach --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gap", "lands"),
    [(2.0, True), (3.0 - 1e-9, True), (3.0, True), (3.0 + 1e-9, False), (4.0, False)],
)
def test_reach_is_three_blocks_from_the_eyes_to_the_grown_box(gap: float, lands: bool) -> None:
    state = facing((0, 0, gap + GROWN))
    assert combat.sight_distance(state)[0, ME] == pytest.approx(gap, abs=1e-12)
    assert strike(state) == [lands, False]
    assert state.health[0].tolist() == [20, 19 if lands else 20]


def test_reach_is_measured_along_the_ray() -> None:
    """From 1.62 up to the box's upper edge at 1.9, three blocks along the ray: a 3-4-5-like
    triangle with height 0.28 has the ground distance sqrt(9 - 0.28²)."""
    pitch = math.asin(0.28 / 3.0)
    away = math.sqrt(9 - 0.28**2)
    state = facing((0, 0, away + GROWN), pitch=pitch - 1e-9)
    assert combat.sight_distance(state)[0, ME] == pytest.approx(3.0, abs=1e-7)
    above = facing((0, 0, away + GROWN), pitch=pitch + 1e-6)
    assert combat.sight_distance(above)[0, ME] == math.inf
    assert strike(facing((0, 0, away + GROWN - 0.01), pitch=pitch - 1e-3)) == [True, False]
    assert strike(facing((0, 0, away + GROWN + 0.01), pitch=pitch - 1e-3)) == [False, False]


@pytest.mark.parametrize(("sideways", "hits"), [(0.4, True), (-0.4, True), (0.4 + 1e-9, False)])
def test_a_ray_parallel_to_an_axis_hits_only_between_the_planes(
    sideways: float, hits: bool
) -> None:
    state = facing((sideways, 0, 2.0))
    distance = combat.sight_distance(state)[0, ME]
    assert distance == (pytest.approx(1.6, abs=1e-12) if hits else math.inf)


@pytest.mark.parametrize(("height", "hits"), [(1.72, True), (1.72 + 1e-9, False), (-0.28, True)])
def test_a_level_ray_passes_under_and_over_the_box(height: float, hits: bool) -> None:
    """Eyes at 1.62; the box reaches from 0.1 below the feet to 0.1 above the head."""
    state = facing((0, height, 2.0))
    assert np.isfinite(combat.sight_distance(state)[0, ME]) == hits


def test_a_ray_along_x_and_one_straight_up() -> None:
    assert combat.sight_distance(facing((3.0, 0, 0), yaw=math.pi / 2))[0, ME] == pytest.approx(2.6)
    up = facing((0.2, 2.0, 0.1), pitch=math.pi / 2)
    assert combat.sight_distance(up)[0, ME] == pytest.approx(2.0 - 0.1 - 1.62)
    assert strike(up) == [True, False]


@pytest.mark.parametrize("yaw", [0.0, 1.0, math.pi, -2.5])
@pytest.mark.parametrize("pitch", [0.0, 1.5, -math.pi / 2])
def test_from_inside_the_box_every_look_hits_at_distance_zero(yaw: float, pitch: float) -> None:
    state = facing((0.3, 0, -0.2), yaw=yaw, pitch=pitch)
    assert combat.sight_distance(state)[0, ME] == 0.0
    assert strike(state) == [True, False]


def test_what_is_behind_is_not_hit() -> None:
    assert strike(facing((0, 0, -1.5))) == [False, False]


def test_a_swing_that_does_not_land_changes_nothing() -> None:
    for state in (facing((0, 0, 5)), facing((0, 0, 2), yaw=1.0)):
        state.velocity = [[[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]]
        state.sprinting = True
        before = state.copy()
        assert strike(state) == [False, False]
        for name in ("position", "velocity", "health", "invulnerable_ticks", "sprinting"):
            assert (getattr(state, name) == getattr(before, name)).all(), name


coordinates = st.floats(-4, 4)


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(coordinates, st.floats(0, 3), coordinates),
    st.floats(-math.pi, math.pi),
    st.floats(-math.pi / 2, math.pi / 2),
)
def test_the_distance_is_where_the_ray_first_meets_the_box(
    foe: tuple[float, float, float], yaw: float, pitch: float
) -> None:
    state = facing(foe, yaw=yaw, pitch=pitch)
    distance = combat.sight_distance(state)[0, ME]
    look = np.array(
        [math.cos(pitch) * math.sin(yaw), math.sin(pitch), math.cos(pitch) * math.cos(yaw)]
    )
    x, y, z = foe
    low = np.array([x - GROWN, y - 0.1, z - GROWN])
    high = np.array([x + GROWN, y + 1.9, z + GROWN])
    along = np.concatenate([np.linspace(0, 12, 1201), [distance]])
    points = np.array([0, 1.62, 0]) + np.where(np.isfinite(along), along, 0)[:, None] * look
    slack = 1e-9
    inside = ((points > low + slack) & (points < high - slack)).all(axis=1)
    assert not inside[along < distance - slack].any()
    if np.isfinite(distance):
        assert ((points[-1] >= low - slack) & (points[-1] <= high + slack)).all()


# Hits ---------------------------------------------------------------------------------------


def test_a_hit_takes_one_point_and_makes_invulnerable_for_ten_ticks() -> None:
    state = facing((0, 0, 2))
    assert strike(state) == [True, False]
    assert state.health[0].tolist() == [20, 19]
    assert state.invulnerable_ticks[0].tolist() == [0, 10]


@pytest.mark.parametrize(("left", "lands"), [(10, False), (1, False), (0, True)])
def test_nothing_lands_until_invulnerability_is_over(left: int, lands: bool) -> None:
    state = facing((0, 0, 2))
    state.invulnerable_ticks[0, FOE] = left
    assert strike(state) == [lands, False]
    assert state.invulnerable_ticks[0, FOE] == (10 if lands else left)


def test_knockback_of_a_standing_fighter_by_a_standing_one() -> None:
    """0.4 away, along (0.6, 0.8), and 0.4 up."""
    state = facing((1.2, 0, 1.6), yaw=math.atan2(1.2, 1.6))
    strike(state)
    assert state.velocity[0, FOE] == pytest.approx([0.24, 0.4, 0.32], abs=1e-15)
    assert (state.velocity[0, ME] == 0).all()


def test_knockback_of_a_running_fighter_halves_what_it_had() -> None:
    state = facing((0, 0, 2))
    state.velocity[0, FOE] = [0.2, -0.0784, -0.3]
    strike(state)
    assert state.velocity[0, FOE] == pytest.approx([0.1, 0.4 - 0.0392, 0.4 - 0.15], abs=1e-15)


@pytest.mark.parametrize(("rising", "after"), [(0.42, 0.4), (0.0, 0.4), (-0.5, 0.15)])
def test_knockback_of_an_airborne_fighter_is_capped_upward(rising: float, after: float) -> None:
    state = facing((0, 0.5, 2))
    state.on_ground[0, FOE] = False
    state.velocity[0, FOE, 1] = rising
    strike(state)
    assert state.velocity[0, FOE, 1] == pytest.approx(after, abs=1e-15)


def test_knockback_by_a_sprinting_fighter() -> None:
    """On top 0.5 along the attacker's heading and 0.1 up, after the cap; it loses 0.4 itself."""
    yaw = math.atan2(3, 4)  # heading (0.6, 0.8); the opponent stands straight ahead in z
    state = facing((1.1, 0, 2), yaw=yaw)
    state.sprinting[0, ME] = True
    state.velocity[0, ME] = [0.1, 0.2, 0.3]
    away = np.array([1.1, 2.0]) / math.hypot(1.1, 2.0)
    assert strike(state) == [True, False]
    expected = [0.4 * away[0] + 0.5 * 0.6, 0.5, 0.4 * away[1] + 0.5 * 0.8]
    assert state.velocity[0, FOE] == pytest.approx(expected, abs=1e-15)
    assert state.velocity[0, ME] == pytest.approx([0.06, 0.2, 0.18], abs=1e-15)


def test_a_landed_attack_cancels_the_sprint_for_the_tick() -> None:
    state = facing((0, 0, 2))
    state.sprinting = True
    landed = combat.resolve(state, np.array([[True, False]]))
    held = {name: np.full((1, 2), name in ("w", "sprint")) for name in Inputs.__annotations__}
    physics.step(state, Inputs(**held), landed & state.sprinting)
    assert state.sprinting.tolist() == [[False, True]]


def test_one_inside_the_other_is_thrown_where_the_attacker_looks() -> None:
    state = facing((0, 0, 0), yaw=math.pi / 2)
    strike(state)
    assert state.velocity[0, FOE] == pytest.approx([0.4, 0.4, 0], abs=1e-15)


def test_both_landing_on_the_same_tick_hit_each_other_alike() -> None:
    """Judged on the same state: neither's knockback saves it, nor weakens its own attack."""
    state = facing((0, 0, 2))
    state.sprinting = True
    state.velocity[0, :, 2] = 0.2, -0.2
    assert strike(state, both=True) == [True, True]
    assert state.health[0].tolist() == [19, 19]
    assert state.invulnerable_ticks[0].tolist() == [10, 10]
    # each: 0.2 × 0.6 (own sprint attack) × 0.5 (hit), then 0.9 away from the other
    assert state.velocity[0, FOE, 2] == pytest.approx(-0.06 + 0.9, abs=1e-15)
    assert state.velocity[0, ME, 2] == pytest.approx(0.06 - 0.9, abs=1e-15)
    assert state.velocity[0, :, 1] == pytest.approx([0.5, 0.5], abs=1e-15)


def test_the_last_point_can_be_taken_on_both_sides_at_once() -> None:
    state = facing((0, 0, 2))
    state.health = 1.0
    assert strike(state, both=True) == [True, True]
    assert state.health[0].tolist() == [0, 0]
