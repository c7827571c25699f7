import json
from dataclasses import asdict
from pathlib import Path

import pytest

from skilldistill import stages
from skilldistill.config import LsConfig
from skilldistill.errors import ConfigurationError, CorruptFile
from skilldistill.workspace.store import Workspace
from tests.workspace.making import make


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "ws")


def refs(workspace: Workspace, **config: object) -> list[str]:
    return [one.ref for one in stages.ls(workspace, LsConfig(**config)).artefacts]


def test_an_empty_workspace_lists_nothing(workspace: Workspace) -> None:
    result = stages.ls(workspace)
    assert (result.artefacts, result.notice) == ((), "")


def test_artefacts_are_listed_in_order_of_creation_with_their_parents(
    workspace: Workspace,
) -> None:
    expert = make(workspace, "expert")
    dataset = make(workspace, parents=[expert.id, "0" * 16], metrics={"episodes": 100})
    first, second = stages.ls(workspace).artefacts
    assert (first.ref, first.files, first.bytes) == ("expert:aiming@1", 2, 9)
    assert second.parents == (expert.id, "0" * 16)
    assert second.parent_refs == ("expert:aiming@1", "0" * 16)
    assert second.metrics == {"episodes": 100}
    assert (second.path, second.id) == ("datasets/aiming/1.h5", dataset.id)


def test_the_list_can_be_narrowed(workspace: Workspace) -> None:
    make(workspace), make(workspace, "expert"), make(workspace), make(workspace, name="combined")
    make(workspace, status="interrupted")
    assert refs(workspace, kind="expert") == ["expert:aiming@1"]
    assert refs(workspace, name="combined") == ["dataset:combined@1"]
    assert refs(workspace, latest=True) == [
        "dataset:aiming@3",
        "expert:aiming@1",
        "dataset:combined@1",
    ]
    assert refs(workspace, kind="report") == []
    with pytest.raises(ConfigurationError, match="no kind"):
        refs(workspace, kind="model")


def test_the_result_is_json_and_tells_of_damage(workspace: Workspace) -> None:
    make(workspace), make(workspace)
    (workspace.root / "manifest.json").write_bytes(b"")
    result = stages.ls(workspace)
    assert "using manifest.json.previous" in result.notice
    document = json.loads(json.dumps(asdict(result)))
    assert document["artefacts"][0]["ref"] == "dataset:aiming@1"
    assert result.schema == "skilldistill.ls/1"


def test_damage_is_told_once_and_names_the_file_once(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    make(workspace), make(workspace)
    (workspace.root / "manifest.json").write_bytes(b"{")
    notice = stages.ls(Workspace.open(workspace.root)).notice
    assert notice.startswith("manifest.json is no JSON")
    assert notice.count(str(workspace.root)) == 1  # in the command that repairs it
    assert f"`skilldistill init {workspace.root}`" in notice
    assert caplog.records == []  # the result tells it


def test_two_damaged_manifests_are_corrupt_and_not_missing(workspace: Workspace) -> None:
    make(workspace)
    (workspace.root / "manifest.json").write_text("{")
    (workspace.root / "manifest.json.previous").write_text("{bad")
    with pytest.raises(CorruptFile) as caught:
        stages.ls(Workspace.open(workspace.root))
    assert caught.value.exit_code == 3
