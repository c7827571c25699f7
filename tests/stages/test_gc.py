import json
from dataclasses import asdict
from pathlib import Path

import pytest

from skilldistill import stages
from skilldistill.config import GcConfig
from skilldistill.workspace.store import Workspace
from tests.workspace.making import make, tree


@pytest.fixture
def littered(tmp_path: Path) -> Workspace:
    """A workspace with a leftover, partial work, and an interrupted artefact overtaken."""
    workspace = Workspace.create(tmp_path / "ws")
    make(workspace, "checkpoint", "tuned", status="interrupted")
    make(workspace, "checkpoint", "tuned")
    (workspace.root / "datasets" / "aiming").mkdir(parents=True)
    (workspace.root / "datasets" / "aiming" / "4.h5").write_bytes(b"left over")
    (workspace.root / "checkpoints" / "other" / ".partial-0a1b").mkdir(parents=True)
    return workspace


def test_gc_removes_what_nobody_needs_and_says_so(littered: Workspace) -> None:
    result = stages.gc(littered)
    assert [removal.path for removal in result.removed] == [
        "datasets/aiming/4.h5",
        "checkpoints/tuned/1",
    ]
    assert (result.bytes, result.dry_run) == (18, False)
    assert [artefact.ref for artefact in littered.artefacts()] == ["checkpoint:tuned@2"]
    assert stages.gc(littered).removed == ()
    assert stages.verify(littered).ok
    json.dumps(asdict(result))


def test_a_dry_run_says_the_same_and_removes_nothing(littered: Workspace) -> None:
    before = tree(littered.root)
    told = stages.gc(littered, GcConfig(dry_run=True))
    assert told.dry_run
    assert tree(littered.root) == before
    assert stages.gc(littered).removed == told.removed


def test_partial_work_goes_by_its_age(littered: Workspace) -> None:
    assert "other" in str(tree(littered.root))
    removed = stages.gc(littered, GcConfig(days=0)).removed
    assert "checkpoints/other/.partial-0a1b" in [removal.path for removal in removed]
    assert "other" not in str(tree(littered.root))
