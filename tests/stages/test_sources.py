"""A dataset is found by reference, and by path inside and outside the workspace."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from skilldistill.errors import NotFound
from skilldistill.stages.sources import Source, find_dataset
from tests.learning.tiny_data import prepared


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
