"""Neither side and neither seat has an advantage: mirrored and swapped fights, bit for bit."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldistill.duel.arenas import DuelArenas
from skilldistill.duel.state import DuelState
from tests.duel.making import NAMES, Puppet, random_actions

N, TICKS = 32, 30
A, D, DYAW = NAMES.index("a"), NAMES.index("d"), NAMES.index("dyaw")


def brawl(seed: int) -> tuple[DuelState, np.ndarray]:
    """Fighters close together who mostly look at each other, and their actions (t, n, 2, 9)."""
    rng = np.random.default_rng(seed)
    state = DuelState.create(N)
    state.position = rng.uniform(-1.2, 1.2, (N, 2, 3)) * [1, 0, 1]
    state.position[:, :, 1] = rng.choice([0, 0.7], (N, 2))
    state.velocity = rng.uniform(-0.4, 0.4, (N, 2, 3))
    d = state.position[:, 1] - state.position[:, 0]
    towards = np.arctan2(d[:, 0], d[:, 2])
    state.yaw = np.stack([towards, towards + math.pi], axis=1) + rng.normal(0, 0.3, (N, 2))
    state.yaw = np.arctan2(np.sin(state.yaw), np.cos(state.yaw))
    state.pitch = rng.uniform(-0.6, 0.3, (N, 2))
    state.on_ground = state.position[:, :, 1] == 0
    state.sprinting = rng.random((N, 2)) < 0.5
    state.invulnerable_ticks = rng.choice([0, 0, 3], (N, 2))
    state.health = rng.choice([1, 2, 20], (N, 2))
    actions = np.stack([random_actions(rng, 2 * N).reshape(N, 2, 9) for _ in range(TICKS)])
    actions[..., 7:] *= 0.3
    return state, actions


def fight(state: DuelState, actions: np.ndarray) -> tuple[DuelArenas, list[np.ndarray]]:
    """Play it in the combined task; rewards and flags per tick as well."""
    puppet = Puppet(actions[0, :, 1])
    arenas = DuelArenas("combined", N, seed=0, opponent=puppet)
    arenas.state.fighters[...] = state.fighters
    outcomes = []
    for now in actions:
        puppet.actions = np.ascontiguousarray(now[:, 1])
        moved = arenas.step(now[:, 0])
        outcomes.append(np.stack([moved.rewards, moved.terminated, moved.truncated]))
    return arenas, outcomes


PLAIN = ("health", "invulnerable_ticks", "jump_cooldown", "on_ground", "sprinting", "pitch")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_a_mirrored_arena_gives_the_mirrored_result(seed: int) -> None:
    state, actions = brawl(seed)
    flipped, flipped_actions = state.copy(), actions.copy()
    flipped.position[..., 0] *= -1
    flipped.velocity[..., 0] *= -1
    flipped.yaw *= -1
    flipped_actions[..., [A, D]] = actions[..., [D, A]]
    flipped_actions[..., DYAW] *= -1

    arenas, outcomes = fight(state, actions)
    mirrored, mirrored_outcomes = fight(flipped, flipped_actions)

    assert (np.array(outcomes) == np.array(mirrored_outcomes)).all()
    for name in PLAIN:
        assert (getattr(arenas.state, name) == getattr(mirrored.state, name)).all(), name
    for name in ("position", "velocity"):
        ours, theirs = getattr(arenas.state, name), getattr(mirrored.state, name)
        assert (ours * [-1, 1, 1] == theirs).all(), name
    assert (arenas.state.yaw == -mirrored.state.yaw).all()
    assert arenas.metrics()["dealt"].sum() > 0  # otherwise nothing was compared


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_swapping_the_seats_swaps_the_result(seed: int) -> None:
    state, actions = brawl(seed)
    swapped = state.copy()
    swapped.fighters[...] = state.fighters[:, ::-1]

    arenas, outcomes = fight(state, actions)
    other, other_outcomes = fight(swapped, actions[:, :, ::-1])

    for name in (*PLAIN, "position", "velocity", "yaw"):
        assert (getattr(arenas.state, name) == getattr(other.state, name)[:, ::-1]).all(), name
    ours, theirs = arenas.metrics(), other.metrics()
    for one, another in (("dealt", "taken"), ("win", "loss"), ("draw", "draw")):
        assert (ours[one] == theirs[another]).all()
        assert (ours[another] == theirs[one]).all()
    flags, other_flags = np.array(outcomes)[:, 1:], np.array(other_outcomes)[:, 1:]
    assert (flags == other_flags).all()
    assert ours["dealt"].sum() > 0  # otherwise nothing was compared
