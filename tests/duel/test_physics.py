"""Locomotion: the public engine's numbers, and the steps a reader can check by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skilldistill.duel import physics
from skilldistill.duel.physics import Inputs
from skilldistill.duel.state import DuelState
from skilldistill.errors import ActionError
from tests.duel import comparing

JUMP = float(np.float32(0.42))
DRAG = float(np.float32(0.98))


def hold(n: int = 1, **keys: bool) -> Inputs:
    names = ("w", "a", "s", "d", "space", "sprint")
    return Inputs(**{name: np.full((n, 2), keys.get(name, False)) for name in names})


def test_locomotion_matches_the_public_engine_over_200_ticks() -> None:
    fixture = comparing.read(comparing.FIXTURE.read_text())
    assert (fixture["ticks"], len(fixture["scripts"])) == (200, 8)
    worst = comparing.errors(fixture["scripts"])
    assert all(value <= 1e-9 for value in worst.values()), worst


@pytest.mark.parametrize(("column", "name"), [("pos", "position"), ("vel", "velocity")])
@pytest.mark.parametrize("at", [0, 100])
def test_the_comparison_does_not_overlook_what_is_no_number(
    column: str, name: str, at: int
) -> None:
    scripts = comparing.read(comparing.FIXTURE.read_text())["scripts"]
    scripts[3][column][at][1] = math.nan
    worst = comparing.errors(scripts)
    assert [key for key, value in worst.items() if not value <= 1e-9] == [name]


def test_standing_still_stays_on_the_ground_with_gravity_pulling() -> None:
    state = DuelState.create(3)
    for _ in range(5):
        physics.step(state, hold(3))
    assert (state.position == 0).all()
    assert state.on_ground.all()
    assert state.velocity[..., 1] == pytest.approx(-0.08 * DRAG, abs=1e-15)


def test_first_step_of_a_walk() -> None:
    """0.98 of a key times the ground's acceleration, then 0.546 of the speed stays."""
    state = DuelState.create(1)
    physics.step(state, hold(w=True))
    gained = 0.98 * 0.1 * 0.1627714 / 0.546**3
    assert state.position[0, 0] == pytest.approx([0, 0, gained], abs=1e-15)
    assert state.velocity[0, 0, 2] == pytest.approx(gained * 0.546, abs=1e-15)


@pytest.mark.parametrize(
    ("keys", "sprints"),
    [
        ({"w": True, "sprint": True}, True),
        ({"w": True}, False),
        ({"sprint": True}, False),
        ({"w": True, "s": True, "sprint": True}, False),
        ({"w": True, "a": True, "sprint": True}, True),
    ],
)
def test_sprinting_needs_its_key_and_w_without_s(keys: dict[str, bool], sprints: bool) -> None:
    state = DuelState.create(1)
    physics.step(state, hold(**keys))
    assert (state.sprinting == sprints).all()


def test_sprinting_on_the_ground_accelerates_by_three_tenths_more() -> None:
    walker, sprinter = DuelState.create(1), DuelState.create(1)
    physics.step(walker, hold(w=True))
    physics.step(sprinter, hold(w=True, sprint=True))
    ratio = sprinter.position[0, 0, 2] / walker.position[0, 0, 2]
    assert ratio == pytest.approx(1.3, abs=1e-12)


def test_a_cancelled_sprint_is_a_walk_for_that_tick_only() -> None:
    state, walker = DuelState.create(1), DuelState.create(1)
    physics.step(state, hold(w=True, sprint=True), np.array([[True, False]]))
    physics.step(walker, hold(w=True))
    assert state.sprinting.tolist() == [[False, True]]
    assert state.position[0, 0].tolist() == walker.position[0, 0].tolist()
    physics.step(state, hold(w=True, sprint=True))
    assert state.sprinting.all()


def test_opposite_keys_cancel_and_diagonals_are_no_faster() -> None:
    both, diagonal, straight = (DuelState.create(1) for _ in range(3))
    physics.step(both, hold(a=True, d=True))
    physics.step(diagonal, hold(w=True, d=True))
    physics.step(straight, hold(w=True))
    assert (both.position == 0).all()
    speed = np.linalg.norm(diagonal.position[0, 0])
    # 0.98 of a key is below 1, so straight ahead is not normalised but a diagonal is
    assert speed == pytest.approx(straight.position[0, 0, 2] / 0.98, abs=1e-12)


def test_d_goes_right_and_yaw_turns_towards_positive_x() -> None:
    state = DuelState.create(1)
    state.yaw = [[0.0, math.pi / 2]]
    physics.step(state, hold(d=True))
    assert state.position[0, 0, 0] > 0.05
    assert state.position[0, 1, 2] < -0.05  # right of +x is −z


def test_small_velocity_components_become_zero_each_on_its_own() -> None:
    state = DuelState.create(1)
    state.velocity = [[[0.0029, 0.0, 0.0031], [-0.0029, 0.0, -0.003]]]
    physics.step(state, hold())
    assert state.position[0, 0].tolist() == [0.0, 0.0, 0.0031]
    assert state.position[0, 1].tolist() == [0.0, 0.0, -0.003]


def test_jump_speed_height_and_sprint_boost() -> None:
    state = DuelState.create(1)
    state.yaw = [[0.5, 0.5]]
    inputs = hold(space=True, w=True, sprint=True)
    inputs.sprint[0, 1] = False
    physics.step(state, inputs)
    assert state.position[0, :, 1] == pytest.approx([JUMP, JUMP], abs=1e-15)
    assert not state.on_ground.any()
    ground = 0.98 * 0.1 * 0.1627714 / 0.546**3
    along = state.position[0, :, 0] * math.sin(0.5) + state.position[0, :, 2] * math.cos(0.5)
    assert along == pytest.approx([0.2 + 1.3 * ground, ground], abs=1e-12)
    heights = [JUMP]
    while not state.on_ground.all():
        physics.step(state, hold())
        heights.append(float(state.position[0, 0, 1]))
    assert max(heights) == pytest.approx(1.2522, abs=1e-4)  # known of the game: about 1.25 blocks
    assert len(heights) == 12


def test_a_held_jump_key_waits_ten_ticks_and_a_released_one_does_not() -> None:
    """A jump lasts twelve ticks, so a low ceiling is imitated by putting the fighter down."""

    def jumps(released: bool) -> list[int]:
        state = DuelState.create(1)
        found = []
        for tick in range(25):
            physics.step(state, hold(space=not (released and tick % 2)))
            if state.position[0, 0, 1] > 0:
                found.append(tick)
            state.position, state.velocity, state.on_ground = 0.0, 0.0, True
        return found

    assert jumps(released=False) == [0, 10, 20]
    assert jumps(released=True) == list(range(0, 25, 2))


def test_landing_stops_the_fall_and_touching_from_below_is_no_ground() -> None:
    state = DuelState.create(1)
    state.position = [[[0, 0.05, 0], [0, 0.05, 0]]]
    state.velocity = [[[0, -0.3, 0], [0, 0.1, 0]]]
    state.on_ground = False
    physics.step(state, hold())
    assert state.position[0, :, 1].tolist() == [0.0, 0.05 + 0.1]
    assert state.on_ground.tolist() == [[True, False]]
    assert state.velocity[0, 0, 1] == pytest.approx(-0.08 * DRAG, abs=1e-15)


@pytest.mark.parametrize("name", ["w", "sprint"])
def test_keys_of_another_shape_are_refused(name: str) -> None:
    inputs = hold(3)
    wrong = {key: getattr(inputs, key) for key in ("w", "a", "s", "d", "space", "sprint")}
    wrong[name] = np.zeros(3, dtype=bool)
    with pytest.raises(ActionError, match=rf"key {name} has shape \(3,\), expected \(3, 2\)"):
        physics.step(DuelState.create(3), Inputs(**wrong))


@given(st.floats(-1e18, 1e18))
def test_the_compiled_wrap_brings_any_angle_home(angle: float) -> None:
    result = physics.wrap(angle)
    assert abs(result) <= math.pi
    assert result == pytest.approx(math.remainder(angle, 2 * math.pi), abs=1e-9) or (
        abs(result) == pytest.approx(math.pi, abs=1e-9)  # π and −π are the same angle
    )


@given(st.floats(-3 * math.pi, 3 * math.pi))
def test_within_one_turn_the_compiled_wrap_adds_at_most_that_turn(angle: float) -> None:
    turn = -2 * math.pi if angle > math.pi else 2 * math.pi if angle < -math.pi else 0.0
    assert physics.wrap(angle) == angle + turn
    assert abs(physics.wrap(angle)) <= math.pi
