import json
from dataclasses import asdict
from pathlib import Path

import pytest

from skilldistill import stages
from skilldistill.config import VerifyConfig
from skilldistill.errors import CorruptFile, NotFound, VerificationFailed
from skilldistill.progress import Progress
from skilldistill.workspace.store import Workspace
from tests.workspace.making import make


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "ws")


def test_a_sound_workspace_is_ok(workspace: Workspace) -> None:
    make(workspace), make(workspace, "expert")
    told: list[Progress] = []
    result = stages.verify(workspace, progress=told.append, strict=True)
    assert (result.ok, result.findings, result.failure()) == (True, (), None)
    assert (result.artefacts, result.files, result.bytes) == (2, 3, 16)
    assert told[-1].done == told[-1].total == 16


def test_damage_is_returned_or_raised_when_asked(workspace: Workspace) -> None:
    workspace.path(make(workspace)).write_bytes(b"changed")
    workspace.path(make(workspace, "checkpoint")).joinpath("main.bin").unlink()
    result = stages.verify(workspace)
    assert not result.ok
    assert [finding.problem for finding in result.findings] == ["changed", "missing"]
    json.dumps(asdict(result))
    with pytest.raises(
        VerificationFailed, match=r"1\.h5 has another content.*and 1 more"
    ) as caught:
        stages.verify(workspace, strict=True)
    assert caught.value.exit_code == 3
    assert "skilldistill show dataset:aiming@1" in caught.value.hint


def test_leftovers_and_partial_work_are_told_but_are_no_failure(workspace: Workspace) -> None:
    (workspace.root / "experts" / "aiming" / "1").mkdir(parents=True)
    workspace.partial("checkpoint", "distilled", "0a1b")
    result = stages.verify(workspace, strict=True)
    assert result.ok
    assert [finding.problem for finding in result.findings] == ["leftover", "partial"]


def test_only_what_is_named_is_verified(workspace: Workspace) -> None:
    workspace.path(make(workspace)).write_bytes(b"changed")
    make(workspace, "expert")
    assert stages.verify(workspace, VerifyConfig(references=("expert:aiming",))).ok
    assert not stages.verify(workspace, VerifyConfig(references=("dataset:aiming",))).ok
    with pytest.raises(NotFound):
        stages.verify(workspace, VerifyConfig(references=("nothing",)))


@pytest.mark.parametrize("damage", ["manifest", "extra"])
def test_every_failure_says_what_to_do(workspace: Workspace, damage: str) -> None:
    make(workspace), make(workspace)
    if damage == "manifest":
        (workspace.root / "manifest.json").write_bytes(b"")
    else:
        (workspace.root / "datasets" / "stray").touch()
    failure = stages.verify(Workspace.open(workspace.root)).failure()
    assert failure is not None
    assert failure.message.count(str(workspace.root)) == 1
    assert failure.message.count("manifest.json is") <= 1
    assert ("init" if damage == "manifest" else "move") in failure.hint


def test_a_file_that_cannot_be_read_is_not_to_be_removed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> str:
        raise PermissionError(13, "Permission denied")

    make(workspace)
    monkeypatch.setattr("skilldistill.workspace.verify.digest", refuse)
    failure = stages.verify(workspace).failure()
    assert failure is not None
    assert "cannot be read: Permission denied" in failure.message
    assert "permissions" in failure.hint
    assert "rm" not in failure.hint.split()


def test_two_damaged_manifests_are_corrupt_and_not_missing(workspace: Workspace) -> None:
    make(workspace)
    (workspace.root / "manifest.json").write_text("{")
    (workspace.root / "manifest.json.previous").write_text("{bad")
    with pytest.raises(CorruptFile, match=r"manifest\.json\.previous") as caught:
        stages.verify(Workspace.open(workspace.root))
    assert caught.value.hint
