"""What the Tab key offers."""

from __future__ import annotations

from pathlib import Path

import pytest

from skilldistill.cli.completion import complete_artefact, complete_dataset, complete_policy
from skilldistill.workspace.store import Workspace
from tests.workspace.making import make


@pytest.fixture
def workspace(here: Path) -> Workspace:
    made = Workspace.create(here / "workspace")
    for kind, name in (("expert", "aim"), ("dataset", "aim"), ("checkpoint", "distilled")):
        make(made, kind, name=name)
    make(made, "dataset", name="aim")
    make(made, "dataset", name="both")
    return made


def test_names_are_offered_once_and_versions_when_asked_for(workspace: Workspace) -> None:
    assert complete_dataset("") == ["aim", "both"]
    assert complete_dataset("b") == ["both"]
    assert complete_dataset("aim@") == ["aim@1", "aim@2"]
    assert complete_dataset("aim@2") == ["aim@2"]
    assert complete_dataset("distilled") == []


def test_every_kind_is_offered_where_it_belongs(workspace: Workspace) -> None:
    assert complete_artefact("") == ["aim", "distilled", "both"]
    assert complete_policy("") == ["composite", "random", "aim", "distilled"]
    assert complete_policy("r") == ["random"]


def test_without_a_workspace_only_what_is_built_in_is_offered(here: Path) -> None:
    assert complete_artefact("") == []
    assert complete_policy("c") == ["composite"]
    (here / "workspace").mkdir()
    (here / "workspace" / "manifest.json").write_text("{")
    assert complete_dataset("") == []
