"""States on disk: whole, checked, nothing executed."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from skilldistill.errors import CorruptFile
from skilldistill.learning.training_state import copied, load_state, save_state


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "training_state"
    state = {"weights": {"a": torch.arange(3.0)}, "steps": 7, "records": [{"x": [1.5, None]}]}
    save_state(path, state)
    loaded = load_state(path)
    assert torch.equal(loaded["weights"]["a"], torch.arange(3.0))
    assert (loaded["steps"], loaded["records"]) == (7, [{"x": [1.5, None]}])
    assert [file.name for file in tmp_path.iterdir()] == ["training_state"]


def test_a_single_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "training_state"
    save_state(path, {"weights": torch.arange(10_000.0), "records": []})
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CorruptFile, match="does not match its checksum"):
        load_state(path)


def test_damage_other_versions_and_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "training_state"
    save_state(path, {"records": []})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorruptFile, match="cannot be read"):
        load_state(path)
    torch.save({"version": 99, "records": "[]"}, path)
    with pytest.raises(CorruptFile, match="version 99"):
        load_state(path)

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "harm",))  # type: ignore[return-value]

    torch.save({"version": 1, "records": "[]", "x": Harm()}, path, pickle_module=pickle)
    with pytest.raises(CorruptFile):
        load_state(path)
    assert not (tmp_path / "harm").exists()


def test_copies_do_not_follow_the_original() -> None:
    state = {"a": [torch.zeros(2), 3], "b": {"c": torch.ones(1)}}
    copy = copied(state)
    state["a"][0].add_(1)
    assert copy["a"][0].tolist() == [0.0, 0.0]
    assert copy["a"][1] == 3
