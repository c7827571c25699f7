"""``experts ls`` tells which expert each skill uses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skilldistill import domain as domains
from skilldistill.config import ExpertsAddConfig, ExpertsLsConfig
from skilldistill.errors import CorruptFile
from skilldistill.experts.sb3_zip import read_zip
from skilldistill.stages.expert_references import find_experts
from skilldistill.stages.experts_add import experts_add
from skilldistill.stages.experts_ls import experts_ls
from skilldistill.workspace.store import Workspace
from tests.experts.bare_zoo import ZOO
from tests.experts.zoo import save_zip
from tests.tiny_workspace import add_experts


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    shipped = tmp_path / "shipped"
    for skill in ("aim", "move"):
        (shipped / skill).mkdir(parents=True)
        path = save_zip(tmp_path, skill, name=f"{skill}.zip")
        read_zip(path, ZOO.skill(skill), ZOO).save(shipped / skill)
    monkeypatch.setitem(domains._registered, "zoo", replace(ZOO, shipped_experts=shipped))
    return Workspace.create(tmp_path / "workspace")


def test_without_own_experts_the_shipped_ones_are_used(workspace: Workspace) -> None:
    for place in (workspace, None):
        listed = experts_ls(place, ExpertsLsConfig(domain="zoo")).experts
        assert [(entry.ref, entry.used) for entry in listed] == [
            ("shipped:move", True),
            ("shipped:aim", True),
        ]


def test_the_latest_own_expert_goes_before_the_shipped_one(
    workspace: Workspace, tmp_path: Path
) -> None:
    for name in ("aim", "sharp"):
        experts_add(
            workspace,
            ExpertsAddConfig(name=name, path=str(tmp_path / "aim.zip"), domain="zoo", skill="aim"),
        )
    listed = experts_ls(workspace, ExpertsLsConfig(domain="zoo")).experts
    assert [(entry.ref, entry.used) for entry in listed] == [
        ("shipped:move", True),
        ("expert:sharp@1", True),
        ("expert:aim@1", False),
        ("shipped:aim", False),
    ]
    assert listed[1].layers == (5, 64, 64, 2)


def test_an_interrupted_expert_is_listed_and_not_used(workspace: Workspace, tmp_path: Path) -> None:
    expert = read_zip(tmp_path / "aim.zip", ZOO.skill("aim"), ZOO)
    with workspace.draft("expert", "aim") as draft:
        expert.save(draft.path)
        draft.commit(command="test", config={}, seed=0, status="interrupted")
    interrupted, shipped = experts_ls(workspace, ExpertsLsConfig(domain="zoo")).experts[1:]
    assert (interrupted.ref, interrupted.status) == ("expert:aim@1", "interrupted")
    assert (interrupted.used, shipped.used) == (False, True)


def test_a_damaged_expert_is_listed_as_such(workspace: Workspace, tmp_path: Path) -> None:
    result = experts_add(
        workspace, ExpertsAddConfig(name="aim", path=str(tmp_path / "aim.zip"), domain="zoo")
    )
    (Path(result.path) / "expert.json").write_text("{}")
    damaged, shipped = experts_ls(workspace, ExpertsLsConfig(domain="zoo")).experts[1:]
    # It is what `collect` would take, and fail on: nothing takes its place in silence.
    assert (damaged.status, damaged.used) == ("damaged", True)
    assert (shipped.ref, shipped.used) == ("shipped:aim", False)
    with pytest.raises(CorruptFile):
        find_experts(workspace, domains.find("zoo"), skills=["aim"])
    assert "expert.json" in damaged.problem
    assert "`skilldistill rm --force expert:aim@1`" in damaged.problem


def test_a_damaged_expert_that_nobody_takes_is_not_marked(
    workspace: Workspace, tmp_path: Path
) -> None:
    for name in ("aim", "sharp"):
        config = ExpertsAddConfig(
            name=name, path=str(tmp_path / "aim.zip"), domain="zoo", skill="aim"
        )
        path = Path(experts_add(workspace, config).path)
        if name == "aim":
            (path / "expert.json").write_text("{}")
    sharp, aim = experts_ls(workspace, ExpertsLsConfig(domain="zoo")).experts[1:3]
    assert (sharp.ref, sharp.used) == ("expert:sharp@1", True)
    assert (aim.status, aim.used) == ("damaged", False)
    assert "rm --force" not in aim.problem


def test_experts_of_other_domains_are_counted(workspace: Workspace) -> None:
    add_experts(workspace)
    assert experts_ls(workspace, ExpertsLsConfig(domain="zoo")).elsewhere == {"tiny": 2}
    assert experts_ls(workspace, ExpertsLsConfig(domain="tiny")).elsewhere == {}
