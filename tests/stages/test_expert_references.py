from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from skilldistill import domain as domains
from skilldistill.config import CollectConfig, ExpertsLsConfig
from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError, CorruptFile, NotFound
from skilldistill.stages.collect import collect
from skilldistill.stages.expert_references import find_experts
from skilldistill.stages.experts_ls import experts_ls
from skilldistill.workspace.store import Workspace
from tests import tiny
from tests.tiny_workspace import add_expert, add_experts, ring, ship, steer


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return Workspace.create(tmp_path / "workspace")


@pytest.fixture
def shipping(tmp_path: Path) -> Iterator[Domain]:
    """The tiny domain with experts that ship with it."""
    domain = dataclasses.replace(tiny.DOMAIN, shipped_experts=ship(tmp_path / "shipped"))
    domains.register(domain)
    yield domain
    domains.register(tiny.DOMAIN)


def test_the_latest_complete_expert_of_a_skill_is_taken(workspace: Workspace) -> None:
    add_expert(workspace, steer(1.0), name="old")
    good = add_expert(workspace, steer(2.0), name="mine")
    add_expert(workspace, steer(0.5), name="mine", status="interrupted")
    bells = add_expert(workspace, ring())
    found = find_experts(workspace, tiny.DOMAIN)
    assert found["steer"].artefact == good.id
    assert found["steer"].ref == "expert:mine@1"
    assert found["ring"].artefact == bells.id
    assert not found["ring"].shipped


def test_shipped_experts_fill_the_gaps(workspace: Workspace, shipping: Domain) -> None:
    add_expert(workspace, steer())
    found = find_experts(workspace, shipping)
    assert not found["steer"].shipped
    assert found["ring"].shipped
    assert found["ring"].ref == "shipped:ring"
    assert found["ring"].artefact is None


def test_a_copy_of_the_shipped_expert_does_not_displace_ones_own(
    workspace: Workspace, shipping: Domain
) -> None:
    own = add_expert(workspace, steer(1.0))
    copied = CollectConfig(domain="tiny", skill="steer", expert="shipped:steer", episodes=1)
    collect(workspace, copied)
    assert workspace.resolve("expert:steer").metrics["source"] == "shipped:steer"
    assert find_experts(workspace, shipping)["steer"].artefact == own.id
    used = [e.ref for e in experts_ls(workspace, ExpertsLsConfig(domain="tiny")).experts if e.used]
    assert used == ["expert:steer@1", "shipped:ring"]


def test_an_override_goes_before_the_latest(workspace: Workspace, shipping: Domain) -> None:
    add_expert(workspace, steer(1.0), name="old")
    add_expert(workspace, steer())
    folder = shipping.shipped_experts
    assert folder is not None
    for override, ref in (
        ("old", "expert:old@1"),
        ("expert:old@1", "expert:old@1"),
        ("shipped:steer", "shipped:steer"),
        (str(folder / "steer"), str(folder / "steer")),
    ):
        found = find_experts(workspace, shipping, {"steer": override})
        assert found["steer"].ref == ref


def test_a_skill_without_expert_names_the_next_command(workspace: Workspace) -> None:
    add_expert(workspace, steer())
    with pytest.raises(NotFound, match="no expert for skill 'ring'") as caught:
        find_experts(workspace, tiny.DOMAIN)
    assert "`skilldistill train --skill ring`" in caught.value.hint
    assert set(find_experts(workspace, tiny.DOMAIN, skills=["steer"])) == {"steer"}


def test_an_override_of_another_skill_is_refused(workspace: Workspace) -> None:
    add_experts(workspace)
    with pytest.raises(ConfigurationError, match="is an expert for 'ring'"):
        find_experts(workspace, tiny.DOMAIN, {"steer": "ring"})


def test_an_override_that_is_not_there_is_not_replaced(workspace: Workspace) -> None:
    add_experts(workspace)
    with pytest.raises(NotFound, match="no expert 'mine'") as caught:
        find_experts(workspace, tiny.DOMAIN, {"steer": "mine"})
    assert "`skilldistill experts ls`" in caught.value.hint


def test_a_damaged_expert_that_is_not_used_is_nobodys_concern(
    workspace: Workspace, shipping: Domain
) -> None:
    old = add_expert(workspace, steer(0.5))
    new = add_expert(workspace, steer())
    other = add_expert(workspace, ring())
    for artefact in (old, other):
        (workspace.path(artefact) / "expert.safetensors").write_bytes(b"nothing")
    assert find_experts(workspace, shipping, skills=["steer"])["steer"].artefact == new.id
    overrides = {"ring": "shipped:ring"}
    assert find_experts(workspace, shipping, overrides)["steer"].artefact == new.id
    with pytest.raises(CorruptFile):
        find_experts(workspace, shipping)


def test_the_manifest_says_what_an_expert_is_for(workspace: Workspace, shipping: Domain) -> None:
    """Its metrics go before its configuration, in which a skill may be left to the name."""
    with workspace.draft("expert", "mine") as draft:
        steer().save(draft.path)
        mine = draft.commit(
            command="test",
            config={"skill": "", "domain": "tiny"},
            seed=0,
            metrics={"skill": "steer"},
        )
    with workspace.draft("expert", "foreign") as draft:
        steer().save(draft.path)
        draft.commit(command="test", config={"skill": "steer", "domain": "other"}, seed=0)
    with workspace.draft("expert", "silent") as draft:
        ring().save(draft.path)
        silent = draft.commit(command="test", config={}, seed=0)
    found = find_experts(workspace, shipping)
    assert (found["steer"].artefact, found["ring"].artefact) == (mine.id, silent.id)


def test_a_damaged_expert_is_not_passed_over(workspace: Workspace, shipping: Domain) -> None:
    artefact = add_expert(workspace, steer())
    (workspace.path(artefact) / "expert.safetensors").write_bytes(b"nothing")
    with pytest.raises(CorruptFile):
        find_experts(workspace, shipping)
