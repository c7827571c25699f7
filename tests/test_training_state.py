"""States on disk: whole, checked, nothing executed."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from skilldistill.errors import CorruptFile
from skilldistill.training_state import (
    STATE_FILE,
    copied,
    packed,
    read_state,
    strange_state,
)
from tests.flipped import flip_a_bit


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / STATE_FILE
    state = {"weights": {"a": torch.arange(3.0)}, "steps": 7, "scores": [1.5, None, "x"]}
    path.write_bytes(packed(state, version=3))
    loaded = read_state(path, version=3)
    assert torch.equal(loaded.pop("weights")["a"], torch.arange(3.0))
    assert loaded == {"steps": 7, "scores": [1.5, None, "x"]}


def test_a_single_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / STATE_FILE
    path.write_bytes(packed({"weights": torch.arange(10_000.0)}, version=1))
    flip_a_bit(path)
    with pytest.raises(CorruptFile, match="does not match its checksum") as caught:
        read_state(path, version=1)
    assert "without --resume" in caught.value.hint


def test_damage_other_versions_and_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / STATE_FILE
    path.write_bytes(packed({}, version=1)[:-40])
    with pytest.raises(CorruptFile, match="cannot be read"):
        read_state(path, version=1)
    path.write_bytes(packed({}, version=99))
    with pytest.raises(CorruptFile, match="version 99, this skilldistill reads 1"):
        read_state(path, version=1)

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "harm",))  # type: ignore[return-value]

    torch.save({"version": 1, "x": Harm()}, path, pickle_module=pickle)
    with pytest.raises(CorruptFile):
        read_state(path, version=1)
    assert not (tmp_path / "harm").exists()


def test_a_whole_state_of_something_else_is_named_as_such() -> None:
    error = strange_state(Path("folder") / STATE_FILE, KeyError("weights"))
    assert "is no state of this run: 'weights'" in error.message
    assert "without --resume" in error.hint


def test_copies_do_not_follow_the_original() -> None:
    state = {"a": [torch.zeros(2), 3], "b": {"c": torch.ones(1)}}
    copy = copied(state)
    state["a"][0].add_(1)
    assert copy["a"][0].tolist() == [0.0, 0.0]
    assert copy["a"][1] == 3
