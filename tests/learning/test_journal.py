"""The journal of a run."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from pathlib import Path

import pytest

from skilldistill.learning import journal as module
from skilldistill.learning.journal import RECORDS_FILE, Journal, write_records
from skilldistill.training_state import TENSORBOARD_FOLDER


def test_records_become_lines_of_json(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write({"kind": "rollout", "steps": 4, "x": math.nan, "y": [1.0, math.inf]})
        journal.write({"kind": "guard", "steps": 8, "scores": {"both": 0.5}})
    lines = (tmp_path / RECORDS_FILE).read_text().splitlines()
    assert json.loads(lines[0]) == {"kind": "rollout", "steps": 4, "x": None, "y": [1.0, None]}
    assert json.loads(lines[1])["scores"] == {"both": 0.5}


def test_a_whole_journal_replaces_what_was_there(tmp_path: Path) -> None:
    write_records([{"old": 1}, {"old": 2}], tmp_path)
    write_records([{"a": 1, "b": math.nan}], tmp_path)
    assert (tmp_path / RECORDS_FILE).read_text() == '{"a": 1, "b": null}\n'
    assert [file.name for file in tmp_path.iterdir()] == [RECORDS_FILE]


def test_a_journal_that_cannot_be_written_leaves_no_board_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Path] = []
    stand_in = ExitStack()
    stand_in.callback(closed.append, tmp_path)
    monkeypatch.setattr(module, "board", lambda directory: stand_in)
    (tmp_path / RECORDS_FILE).mkdir()
    with pytest.raises(IsADirectoryError):
        Journal(tmp_path, tensorboard=True)
    assert closed == [tmp_path]


def test_tensorboard_gets_every_number(tmp_path: Path) -> None:
    with Journal(tmp_path, tensorboard=True) as journal:
        journal.write({"kind": "guard", "steps": 8, "scores": {"both": 0.5}, "action": "good"})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / TENSORBOARD_FOLDER))
    events.Reload()
    assert events.Tags()["scalars"] == ["guard/scores/both"]
    assert events.Scalars("guard/scores/both")[0].step == 8
