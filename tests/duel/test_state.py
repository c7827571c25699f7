"""DuelState: named windows onto one array of records."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from skilldistill.duel.state import DuelState
from skilldistill.errors import ConfigurationError

SHAPES = {
    "position": ((5, 2, 3), np.float64),
    "velocity": ((5, 2, 3), np.float64),
    "yaw": ((5, 2), np.float64),
    "pitch": ((5, 2), np.float64),
    "on_ground": ((5, 2), np.bool_),
    "sprinting": ((5, 2), np.bool_),
    "health": ((5, 2), np.float64),
    "invulnerable_ticks": ((5, 2), np.int64),
    "jump_cooldown": ((5, 2), np.int64),
    "tick": ((5,), np.int64),
}


def test_a_new_state_is_at_rest() -> None:
    state = DuelState.create(5)
    assert state.num_arenas == 5
    for name, (shape, dtype) in SHAPES.items():
        array = getattr(state, name)
        assert (array.shape, array.dtype) == (shape, dtype), name
        expected = {"on_ground": 1, "health": 20}.get(name, 0)
        assert (array == expected).all(), name


@pytest.mark.parametrize("name", SHAPES)
def test_attributes_are_windows_that_do_not_overlap(name: str) -> None:
    state = DuelState.create(5)
    values = np.arange(np.prod(SHAPES[name][0])).reshape(SHAPES[name][0]) % 2 + 1
    setattr(state, name, values)
    assert (getattr(state, name) == values.astype(SHAPES[name][1])).all()
    fresh = DuelState.create(5)
    for other in set(SHAPES) - {name}:
        assert (getattr(state, other) == getattr(fresh, other)).all(), other
    getattr(state, name)[...] = 0
    assert (getattr(state, name) == 0).all()


def test_saving_and_restoring_keeps_every_byte() -> None:
    state = DuelState.create(5)
    state.position = np.random.default_rng(1).normal(size=(5, 2, 3))
    state.fighters["key"] = 2**64 - 1
    saved = state.to_dict()
    assert all(array.dtype.names is None for array in saved.values())
    other = DuelState.create(5)
    other.update(saved)
    assert other.fighters.tobytes() == state.fighters.tobytes()
    state.position[0] = 7
    assert (other.position[0] != 7).all()


def test_a_copy_is_independent() -> None:
    state = DuelState.create(2)
    other = state.copy()
    other.position[...] = 1
    other.tick[...] = 3
    assert (state.position == 0).all()
    assert (state.tick == 0).all()


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
@pytest.mark.parametrize("name", SHAPES)
def test_windows_of_a_copied_state_are_windows_onto_the_copy(name: str, way: str) -> None:
    state = DuelState.create(5)
    state.position = np.random.default_rng(1).normal(size=(5, 2, 3))
    other = copy.deepcopy(state) if way == "deepcopy" else pickle.loads(pickle.dumps(state))
    assert other.fighters.dtype.isalignedstruct  # or the compiled code is compiled once more
    assert (other.fighters == state.fighters).all()
    setattr(other, name, 1)
    saved = DuelState.create(5)
    saved.update(other.to_dict())
    assert (getattr(saved, name) == 1).all()
    assert not (getattr(state, name) == 1).all() or name == "on_ground"


def test_unknown_attributes_and_empty_states_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'positions'"):
        DuelState.create(1).positions = 0
    with pytest.raises(ConfigurationError, match="at least one arena"):
        DuelState.create(0)
