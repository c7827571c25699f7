"""The journal of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path

from skilldistill.learning.journal import BOARD_FOLDER, RECORDS_FILE, Journal, line


def test_records_become_lines_of_json(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write({"kind": "rollout", "steps": 4, "x": math.nan, "y": [1.0, math.inf]})
        journal.write({"kind": "guard", "steps": 8, "scores": {"both": 0.5}})
    lines = (tmp_path / RECORDS_FILE).read_text().splitlines()
    assert json.loads(lines[0]) == {"kind": "rollout", "steps": 4, "x": None, "y": [1.0, None]}
    assert json.loads(lines[1])["scores"] == {"both": 0.5}
    assert line({"a": 1}) == '{"a": 1}\n'


def test_tensorboard_gets_every_number(tmp_path: Path) -> None:
    with Journal(tmp_path, tensorboard=True) as journal:
        journal.write({"kind": "guard", "steps": 8, "scores": {"both": 0.5}, "action": "good"})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / BOARD_FOLDER))
    events.Reload()
    assert events.Tags()["scalars"] == ["guard/scores/both"]
    assert events.Scalars("guard/scores/both")[0].step == 8
