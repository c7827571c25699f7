"""Observation layouts against formulas written independently from the design."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldistill.duel import observations
from skilldistill.duel.declare import DOMAIN
from skilldistill.duel.state import DuelState
from skilldistill.errors import ConfigurationError
from tests.duel import formulas
from tests.duel.making import facing

SIZES = {"movement": 20, "aiming": 5, "clicking": 9}


def random_state(seed: int, n: int = 40, spread: float = 6.0) -> tuple[DuelState, np.ndarray]:
    """Fighters anywhere, some of them beyond what the observation can show; and earlier looks."""
    rng = np.random.default_rng(seed)
    state = DuelState.create(n)
    state.position = rng.normal(size=(n, 2, 3)) * [spread, 1, spread]
    state.velocity = rng.normal(size=(n, 2, 3)) * rng.choice([0, 1e-8, 0.3, 3], size=(n, 2, 1))
    state.yaw = rng.uniform(-math.pi, math.pi, (n, 2))
    state.pitch = rng.uniform(-math.pi / 2, math.pi / 2, (n, 2))
    state.on_ground = rng.random((n, 2)) < 0.5
    state.health = rng.integers(0, 21, (n, 2))
    state.invulnerable_ticks = rng.integers(0, 11, (n, 2))
    earlier = rng.normal(size=(n, 3))
    return state, earlier / np.linalg.norm(earlier, axis=1, keepdims=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, 1]))
def test_unified_matches_the_formula(seed: int, fighter: int) -> None:
    state, _ = random_state(seed)
    seen = observations.unified(state, fighter)
    assert (seen.shape, seen.dtype) == ((40, 20), np.float32)
    np.testing.assert_allclose(seen, formulas.unified(state, fighter), atol=2e-7)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, 1]), st.sampled_from(list(SIZES)))
def test_native_matches_the_formula(seed: int, fighter: int, skill: str) -> None:
    state, earlier = random_state(seed)
    seen = observations.native(skill, state, earlier, fighter)
    assert (seen.shape, seen.dtype) == ((40, SIZES[skill]), np.float32)
    expected = getattr(formulas, skill)(state, earlier, fighter)
    np.testing.assert_allclose(seen, expected, atol=2e-7)


def test_values_a_reader_can_check() -> None:
    """The opponent stands 4 to the right and 3 up; the agent looks along +x and runs that way."""
    state = facing((4, 3, 0), yaw=math.pi / 2)
    state.velocity[0, 0] = [1, 0, 0]
    state.health[0] = 15, 5
    state.on_ground[0, 1] = False
    state.invulnerable_ticks[0, 1] = 7
    state.yaw[0, 1] = -math.pi / 2
    seen = observations.unified(state)[0]
    assert seen[:4] == pytest.approx([0, 0.6, 0.8, 0.5], abs=1e-7)  # right, up, forward
    assert seen[4:8] == pytest.approx([0, 0, 1, 0.5], abs=1e-7)
    assert seen[8:12] == pytest.approx([0, 0, 0, 0], abs=1e-7)
    assert seen[12:16] == pytest.approx([0.75, 0.25, 1, -1], abs=1e-7)
    assert seen[16:19] == pytest.approx([0, 0, -1], abs=1e-7)  # it looks back at the agent
    assert seen[19] == pytest.approx(0.7)


@pytest.mark.parametrize("skill", SIZES)
def test_far_and_fast_is_clipped(skill: str) -> None:
    state, earlier = random_state(5, spread=500)
    state.velocity *= 100
    for fighter in (0, 1):
        assert np.abs(observations.native(skill, state, earlier, fighter)).max() <= 1
        assert np.abs(observations.unified(state, fighter)).max() <= 1


def test_two_at_the_same_place_have_no_direction_and_no_error() -> None:
    state = facing((0, 0, 0))
    earlier = np.array([[0.0, 0.0, 1.0]])
    assert observations.unified(state)[0, :4].tolist() == [0, 0, 0, 0]
    assert observations.native("aiming", state, earlier)[0] == pytest.approx([0, 1, 0, 1, 0])
    assert np.isfinite(observations.native("clicking", state, earlier)).all()


def test_pitch_of_two_at_the_same_place_is_no_error_either() -> None:
    state = facing((0, 0, 0), pitch=0.4)
    earlier = np.array([[0.0, 0.0, 1.0]])
    assert observations.native("aiming", state, earlier)[0].tolist() == [0, 1, 0, 1, 0]
    assert observations.native("clicking", state, earlier)[0, :3].tolist() == [0, 0, 0]
    above = facing((0, 2, 0), pitch=0.4)  # right above there is a direction
    assert observations.native("aiming", above, earlier)[0, 2:4] == pytest.approx(
        [math.sin(math.pi / 2 - 0.4), math.cos(math.pi / 2 - 0.4)], abs=1e-7
    )


@pytest.mark.parametrize("skill", SIZES)
@pytest.mark.parametrize("turns", [1, -1, 2, -7])
def test_whole_turns_change_nothing_that_is_seen(skill: str, turns: int) -> None:
    state, earlier = random_state(3)
    turned = state.copy()
    turned.yaw += 2 * math.pi * turns
    np.testing.assert_allclose(
        observations.native(skill, turned, earlier),
        observations.native(skill, state, earlier),
        atol=1e-6,
    )


@pytest.mark.parametrize("fighter", [0, 1])
def test_looking_changes_nothing(fighter: int) -> None:
    state, earlier = random_state(4)
    before = state.fighters.tobytes()
    observations.unified(state, fighter)
    for skill in SIZES:
        observations.native(skill, state, earlier, fighter)
    assert state.fighters.tobytes() == before


@pytest.mark.parametrize("fighter", [2, -1, True, False, 0.0, "0", None])
def test_there_are_fighters_0_and_1_only(fighter: object) -> None:
    state = DuelState.create(3)
    with pytest.raises(ConfigurationError, match=f"no fighter {fighter!r}"):
        observations.unified(state, fighter)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=f"no fighter {fighter!r}"):
        observations.native("aiming", state, np.zeros((3, 3)), fighter)  # type: ignore[arg-type]
    numbers = (observations.unified(state, np.int64(1)), observations.unified(state, 1))
    assert (numbers[0] == numbers[1]).all()


def test_the_declared_names_fit() -> None:
    assert len(DOMAIN.observation_names) == len(set(DOMAIN.observation_names)) == 20
    for skill in DOMAIN.skills:
        names = skill.native_observations
        assert len(names) == len(set(names)) == SIZES[skill.name]


def test_wrong_skills_and_looks_are_refused() -> None:
    state = DuelState.create(3)
    with pytest.raises(ConfigurationError, match="no skill 'jumping'"):
        observations.native("jumping", state, np.zeros((3, 3)))
    with pytest.raises(ConfigurationError, match=r"shape \(3,\), expected \(3, 3\)"):
        observations.native("movement", state, np.zeros(3))
