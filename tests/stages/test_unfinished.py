"""Unfinished work is gone on with only when asked, and only that of the same settings."""

from __future__ import annotations

import importlib.util
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from skilldistill.config import FinetuneConfig
from skilldistill.errors import ConfigurationError, Interrupted, NotFound, NotInstalled
from skilldistill.stages.unfinished import put_away_if_not_begun, unfinished
from skilldistill.training_state import STATE_FILE
from skilldistill.workspace.drafts import BEGINNING, PARTIAL
from skilldistill.workspace.manifest import Artefact
from skilldistill.workspace.store import Workspace
from skilldistill.workspace.verify import plan_garbage

CONFIG = FinetuneConfig(domain="tiny")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "workspace")


def folder(workspace: Workspace, config: FinetuneConfig, further: str = "") -> Path:
    return unfinished(workspace, config, "checkpoint", "tuned", further=further)


def test_work_is_gone_on_with_when_asked(workspace: Workspace) -> None:
    place = folder(workspace, CONFIG)
    (place / STATE_FILE).write_text("half")
    again = folder(workspace, replace(CONFIG, resume=True, device="cpu", tensorboard=True))
    assert (again / STATE_FILE).read_text() == "half"
    for other, further in ((replace(CONFIG, seed=1), ""), (CONFIG, "other parents")):
        with pytest.raises(NotFound, match=r"checkpoint 'tuned'.*nothing to resume"):
            folder(workspace, replace(other, resume=True), further)


def test_without_being_asked_it_begins_in_an_empty_folder(workspace: Workspace) -> None:
    place = folder(workspace, CONFIG)
    (place / "tensorboard").mkdir()  # left by a run that was killed before it saved anything
    assert [left.name for left in folder(workspace, CONFIG).iterdir()] == [BEGINNING]
    for left in (STATE_FILE, "round-01.h5"):
        (place / left).write_text("half")
    assert [left.name for left in folder(workspace, CONFIG).iterdir()] == [BEGINNING]


def finish(workspace: Workspace, config: FinetuneConfig, **given: Any) -> Artefact:
    with workspace.draft("checkpoint", "tuned") as draft:
        (draft.path / "policy").write_text("learnt")
        return draft.commit(command="test", config=asdict(config), seed=0, **given)


def overtaken(workspace: Workspace) -> list[str]:
    """Why `gc` would remove unfinished work."""
    planned = plan_garbage(workspace)
    return [removal.reason for removal in planned if PARTIAL in removal.path]


@pytest.mark.parametrize("hours", [-48, 0, 48])
def test_work_is_overtaken_when_its_command_is_finished_whatever_the_clock_says(
    workspace: Workspace, hours: int
) -> None:
    finish(workspace, CONFIG)
    place = folder(workspace, CONFIG)
    (place / STATE_FILE).write_text("half")
    then = time.time() + hours * 3600
    for touched in (place / STATE_FILE, place / BEGINNING, place):
        os.utime(touched, (then, then))
    assert overtaken(workspace) == []
    finish(workspace, CONFIG, status="interrupted")
    assert overtaken(workspace) == []
    finish(workspace, replace(CONFIG, resume=True, device="cpu"))
    assert overtaken(workspace) == ["unfinished work, overtaken by checkpoint:tuned@3"]
    folder(workspace, replace(CONFIG, resume=True))  # somebody wants it nevertheless
    assert overtaken(workspace) == []


def test_other_settings_of_the_same_name_overtake_nothing(workspace: Workspace) -> None:
    place = folder(workspace, CONFIG)
    (place / STATE_FILE).write_text("half")
    finish(workspace, replace(CONFIG, timesteps=1))
    assert overtaken(workspace) == []
    assert folder(workspace, replace(CONFIG, resume=True)) == place


def test_work_whose_beginning_cannot_be_read_is_overtaken_by_nothing(workspace: Workspace) -> None:
    place = folder(workspace, CONFIG)
    finish(workspace, CONFIG)
    for damaged in (b"", b"[]", b"{}", b'{"version": 0, "settings": 1}', b"\xff"):
        (place / BEGINNING).write_bytes(damaged)
        assert overtaken(workspace) == []
    (place / BEGINNING).unlink()
    (place / BEGINNING).mkdir()
    assert overtaken(workspace) == []


def test_work_of_a_skilldistill_that_noted_no_beginning_goes_by_the_clock(
    workspace: Workspace,
) -> None:
    place = folder(workspace, CONFIG)
    (place / BEGINNING).unlink()
    finish(workspace, replace(CONFIG, timesteps=1))
    assert overtaken(workspace) == ["unfinished work, overtaken by checkpoint:tuned@1"]
    (place / STATE_FILE).write_text("touched since")
    assert overtaken(workspace) == []


@pytest.mark.parametrize("saved", [False, True])
def test_work_that_fails_leaves_its_folder_only_if_it_can_be_gone_on_with(
    workspace: Workspace, saved: bool
) -> None:
    place = folder(workspace, CONFIG)
    if saved:
        (place / STATE_FILE).write_text("half")
    with pytest.raises(Interrupted), put_away_if_not_begun(workspace, place):
        raise Interrupted("stopped")
    assert place.exists() == saved


def test_what_cannot_be_shown_leaves_no_folder(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotInstalled, match="TensorBoard") as caught:
        folder(workspace, replace(CONFIG, tensorboard=True))
    assert "skilldistill[plots]" in caught.value.hint
    assert not list((workspace.root / "checkpoints").glob("*/.partial*"))


def test_a_board_on_a_path_that_it_cannot_write_to_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    workspace = Workspace.create(tmp_path / os.fsdecode(b"odd\xff"))
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        folder(workspace, replace(CONFIG, tensorboard=True))
    assert not list(workspace.root.glob("checkpoints/*/.partial*"))
