import json
from dataclasses import asdict
from pathlib import Path

import pytest

from skilldistill import stages
from skilldistill.config import ShowConfig
from skilldistill.errors import NotFound
from skilldistill.stages.show import ShowResult
from skilldistill.workspace.store import Workspace
from tests.data import samples
from tests.workspace.making import make


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "ws")


def show(workspace: Workspace, reference: str) -> ShowResult:
    return stages.show(workspace, ShowConfig(reference=reference))


def test_an_artefact_is_shown_with_its_files_and_settings(workspace: Workspace) -> None:
    artefact = make(workspace, "expert", metrics={"on_target": 0.98})
    shown = show(workspace, "aiming")
    assert shown.artefact.ref == "expert:aiming@1"
    assert shown.artefact.metrics == {"on_target": 0.98}
    assert shown.files == artefact.files
    assert shown.config == {"size": 7}
    assert shown.path == str(workspace.root / "experts/aiming/1")
    assert (shown.data, shown.damage, shown.notice) == (None, "", "")
    assert json.loads(json.dumps(asdict(shown)))["files"][0]["bytes"] == 7


def test_lineage_goes_back_to_the_beginning_and_names_children(workspace: Workspace) -> None:
    expert = make(workspace, "expert", "aiming")
    one, two = (make(workspace, name=name, parents=[expert.id]) for name in ("one", "two"))
    both = make(workspace, name="both", parents=[one.id, two.id])
    student = make(workspace, "checkpoint", "distilled", parents=[both.id])
    shown = show(workspace, "distilled")
    assert [(a.depth, a.ref, a.repeated) for a in shown.lineage] == [
        (1, "dataset:both@1", False),
        (2, "dataset:one@1", False),
        (3, "expert:aiming@1", False),
        (2, "dataset:two@1", False),
        (3, "expert:aiming@1", True),
    ]
    assert shown.lineage[0].command == "skilldistill make both"
    assert show(workspace, "both").children == (student.ref,)
    assert show(workspace, "aiming").children == (one.ref, two.ref)


def test_a_removed_ancestor_leaves_its_id(workspace: Workspace) -> None:
    expert = make(workspace, "expert")
    make(workspace, "checkpoint", "distilled", parents=[expert.id])
    workspace.remove([expert.id], force=True)
    (ancestor,) = show(workspace, "distilled").lineage
    assert (ancestor.id, ancestor.ref) == (expert.id, "")


def test_a_circle_of_parents_ends(workspace: Workspace) -> None:
    first = make(workspace, name="a", parents=["f" * 16])
    second = make(workspace, name="b", parents=[first.id])
    text = (workspace.root / "manifest.json").read_text().replace("f" * 16, second.id)
    manifest = json.loads(text)
    from skilldistill.workspace import manifest as manifests

    manifest.pop("checksum")
    manifest["checksum"] = manifests._digest(manifest)
    (workspace.root / "manifest.json").write_text(json.dumps(manifest))
    assert [a.ref for a in show(workspace, "b").lineage] == [first.ref, second.ref, first.ref]


def test_a_dataset_is_shown_with_what_is_in_it(workspace: Workspace) -> None:
    with workspace.draft("dataset", "steer") as draft:
        samples.write(draft.path)
        draft.commit(command="", config={}, seed=0)
    data = show(workspace, "steer").data
    assert data is not None
    assert (data["domain"], data["episodes"], data["rows"]) == ("tiny", 3, 14)
    json.dumps(data, allow_nan=False)


def test_a_damaged_or_missing_artefact_is_shown_with_its_damage(workspace: Workspace) -> None:
    make(workspace, content=b"this is no HDF5")
    assert "1.h5" in show(workspace, "aiming").damage
    artefact = make(workspace, "expert", "clicking")
    (workspace.path(artefact)).rename(workspace.root / "experts" / "clicking" / "gone")
    assert "is missing" in show(workspace, "clicking").damage
    assert show(workspace, "clicking").files == artefact.files


def test_what_is_not_there_is_not_found(workspace: Workspace) -> None:
    with pytest.raises(NotFound):
        show(workspace, "nothing")
