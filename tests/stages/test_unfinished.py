"""Unfinished work is gone on with only when asked, and only that of the same settings."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from skilldistill.config import FinetuneConfig
from skilldistill.errors import Interrupted, NotFound, NotInstalled
from skilldistill.stages.unfinished import put_away_if_not_begun, unfinished
from skilldistill.training_state import STATE_FILE
from skilldistill.workspace.store import Workspace

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
    assert list(folder(workspace, CONFIG).iterdir()) == []
    for left in (STATE_FILE, "round-01.h5"):
        (place / left).write_text("half")
    assert list(folder(workspace, CONFIG).iterdir()) == []


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
