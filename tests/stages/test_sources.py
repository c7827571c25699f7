"""A dataset is found by reference, and by path inside and outside the workspace."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from skilldistill.errors import NotFound
from skilldistill.stages.sources import Source, find_checkpoint, find_dataset
from skilldistill.workspace.store import Workspace
from tests.learning.tiny_data import prepared
from tests.tiny_workspace import add_checkpoint


def test_a_dataset_is_found_by_reference_and_by_path(tmp_path: Path) -> None:
    workspace = prepared(tmp_path / "ws")
    artefact = workspace.resolve("combined", "dataset")
    path = workspace.path(artefact)
    inside = Source(path, "dataset:combined@1", artefact)
    assert find_dataset(workspace, "combined") == inside
    assert find_dataset(workspace, str(path)) == inside
    outside = tmp_path / "mine.h5"
    shutil.copyfile(path, outside)
    assert find_dataset(workspace, str(outside)) == Source(outside, str(outside), None)
    with pytest.raises(NotFound):
        find_dataset(workspace, "nothing")


def test_a_checkpoints_name_goes_before_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.create(tmp_path / "ws")
    artefact = add_checkpoint(workspace, "pupil")
    for name in ("pupil", "other"):
        shutil.copytree(workspace.path(artefact), tmp_path / name)
    inside = Source(workspace.path(artefact), "checkpoint:pupil@1", artefact)
    assert find_checkpoint(workspace, "pupil") == inside
    assert find_checkpoint(workspace, str(inside.path)) == inside
    assert find_checkpoint(workspace, "other") == Source(Path("other"), "other", None)
    with pytest.raises(NotFound):
        find_checkpoint(workspace, "nobody")
