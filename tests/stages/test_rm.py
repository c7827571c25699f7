from pathlib import Path

import pytest

from skilldistill import stages
from skilldistill.config import RmConfig
from skilldistill.errors import ConfigurationError, NotFound
from skilldistill.workspace.store import Workspace
from tests.workspace.making import make


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "ws")


def left(workspace: Workspace) -> list[str]:
    return [artefact.ref for artefact in workspace.artefacts()]


def test_a_name_removes_its_latest_version_and_its_files(workspace: Workspace) -> None:
    make(workspace), make(workspace)
    result = stages.rm(workspace, RmConfig(references=("aiming",)))
    assert [one.ref for one in result.removed] == ["dataset:aiming@2"]
    assert result.bytes == 7
    assert left(workspace) == ["dataset:aiming@1"]
    assert not (workspace.root / "datasets/aiming/2.h5").exists()


def test_a_version_that_is_named_goes_and_a_later_one_stays(workspace: Workspace) -> None:
    make(workspace), make(workspace)
    stages.rm(workspace, RmConfig(references=("aiming@1",)))
    assert left(workspace) == ["dataset:aiming@2"]


def test_all_versions_go_when_asked(workspace: Workspace) -> None:
    make(workspace), make(workspace), make(workspace, "expert")
    stages.rm(workspace, RmConfig(references=("dataset:aiming",), all_versions=True))
    assert left(workspace) == ["expert:aiming@1"]
    assert make(workspace).version == 3


def test_a_parent_stays_unless_forced_or_gone_with_its_children(workspace: Workspace) -> None:
    parent = make(workspace)
    make(workspace, "checkpoint", "distilled", parents=[parent.id])
    for dry_run in (True, False):
        with pytest.raises(ConfigurationError, match="parent of checkpoint:distilled@1"):
            stages.rm(workspace, RmConfig(references=("aiming",), dry_run=dry_run))
    stages.rm(workspace, RmConfig(references=("aiming", "distilled"), dry_run=True))
    assert len(left(workspace)) == 2
    stages.rm(workspace, RmConfig(references=("aiming",), force=True))
    assert left(workspace) == ["checkpoint:distilled@1"]


def test_nothing_goes_if_one_reference_is_wrong(workspace: Workspace) -> None:
    make(workspace)
    with pytest.raises(NotFound):
        stages.rm(workspace, RmConfig(references=("aiming", "nothing")))
    with pytest.raises(ConfigurationError, match="nothing to remove"):
        stages.rm(workspace, RmConfig())
    assert len(left(workspace)) == 1


def test_what_is_named_twice_goes_once(workspace: Workspace) -> None:
    make(workspace)
    result = stages.rm(workspace, RmConfig(references=("aiming", "dataset:aiming@1")))
    assert len(result.removed) == 1
