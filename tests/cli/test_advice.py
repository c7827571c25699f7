"""Advised commands do what is meant when they are copied: same domain, same workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from skilldistill import config as configs
from skilldistill import domain as domains
from skilldistill.cli.advice import WITH_DOMAIN, completed, whole
from skilldistill.settings import Settings
from skilldistill.workspace.store import Workspace
from tests import tiny
from tests.cli.conftest import Invoke
from tests.tiny_workspace import add_expert, add_experts, ring, steer

TINY = ("--domain", "tiny")


def hint(invoke: Invoke, *command: str) -> str:
    ended = invoke(*command)
    assert ended.code != 0
    (line,) = (line for line in ended.err.splitlines() if line.startswith("hint:"))
    assert invoke(*command, "--json").document["hint"] == line.removeprefix("hint:").strip()
    return line


def test_every_command_with_a_domain_is_known() -> None:
    declared = {
        kind
        for name, kind in vars(configs).items()
        if name.endswith("Config") and name != "BaseConfig" and hasattr(kind, "domain")
    }
    assert set(WITH_DOMAIN.values()) == declared


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("skilldistill merge a b", "skilldistill merge a b --domain tiny -w ws"),
        ("skilldistill experts ls", "skilldistill experts ls --domain tiny -w ws"),
        ("skilldistill doctor", "skilldistill doctor --domain tiny -w ws"),
        ("skilldistill rm --force x", "skilldistill rm --force x -w ws"),
        ("skilldistill config show", "skilldistill config show -w ws"),
        ("skilldistill init there", "skilldistill init there"),
        ("skilldistill merge --domain duel", "skilldistill merge --domain duel -w ws"),
        ("skilldistill merge -w there", "skilldistill merge -w there --domain tiny"),
    ],
)
def test_a_command_gets_the_flags_it_takes_and_lacks(command: str, shown: str) -> None:
    place = str(Path.cwd() / "ws")
    assert whole(command, Settings(), domain="tiny", workspace=place) == shown
    assert whole(shown, Settings(), domain="tiny", workspace=place) == shown


@pytest.mark.usefixtures("here")
def test_commands_are_completed_where_they_stand_in_a_sentence() -> None:
    text = "add `--domain x`, run `skilldistill train`, or `skilldistill ls` shows them"
    assert completed(text, Settings(), domain="my tiny") == (
        "add `--domain x`, run `skilldistill train --domain 'my tiny'`, "
        "or `skilldistill ls` shows them"
    )
    assert completed(text, Settings()) == text


@pytest.mark.parametrize(
    ("command", "advised"),
    [
        (["merge"], "`skilldistill collect --skill all --domain tiny -w proj`"),
        (["distill"], "`skilldistill merge --domain tiny -w proj`"),
        (["finetune"], "`skilldistill distill --domain tiny -w proj`"),
        (
            ["evaluate", "distilled", "--no-baselines"],
            "`skilldistill distill --domain tiny -w proj`",
        ),
        (["collect", "--skill", "ring"], "`skilldistill train --skill ring --domain tiny -w proj`"),
        (
            ["collect", "--skill", "ring"],
            "`skilldistill experts add ring policy.zip --domain tiny -w proj`",
        ),
    ],
)
def test_an_errors_hint_stays_in_the_domain_and_the_workspace(
    command: list[str], advised: str, here: Path, invoke: Invoke
) -> None:
    Workspace.create(here / "proj")
    Workspace.create(here / "workspace")
    assert advised in hint(invoke, *command, *TINY, "-w", "proj")
    assert advised in hint(invoke, "-w", str(here / "proj"), *command, *TINY)


def test_a_hint_repeats_nothing_that_settings_say(here: Path, invoke: Invoke) -> None:
    Workspace.create(here / "proj")
    (here / ".skilldistill.toml").write_text('workspace = "proj"\ndomain = "tiny"\n')
    assert "`skilldistill merge`" in hint(invoke, "distill")
    assert "`skilldistill merge`" in hint(invoke, "distill", *TINY, "-w", "proj")
    assert "`skilldistill merge --domain duel`" in hint(invoke, "distill", "--domain", "duel")


def test_a_hint_on_settings_that_cannot_be_read_stands_as_it_is(here: Path, invoke: Invoke) -> None:
    (here / ".skilldistill.toml").write_text("domian = 'tiny'\n")
    assert "did you mean 'domain'?" in hint(invoke, "merge", "-w", "proj")


def test_what_doctor_and_experts_ls_advise_is_for_the_same_workspace(
    here: Path, invoke: Invoke
) -> None:
    made = Workspace.create(here / "proj")
    add_experts(made)
    damaged = made.path(add_expert(made, ring(10.0))) / "expert.json"
    damaged.write_text("{")
    place = ("-w", "proj")
    asked = invoke("doctor", *TINY, *place)
    assert "`skilldistill rm --force expert:ring@2 -w proj` goes back" in asked.out
    listed = invoke("experts", "ls", *TINY, *place)
    assert "`skilldistill rm --force expert:ring@2 -w proj` goes back" in listed.out


def test_a_domain_left_out_is_that_of_the_workspace(
    here: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domains, "_registered", {"tiny": tiny.DOMAIN})
    add_experts(Workspace.create(here / "workspace"))
    first = "add `--domain tiny`, the domain of this workspace; else "
    assert f"{first}run `skilldistill collect" in hint(invoke, "merge")
    assert f"{first}add --skill movement" in hint(invoke, "experts", "add", "mine", "mine.zip")
    assert first not in hint(invoke, "merge", *TINY)
    skill = hint(invoke, "collect", "--skill", "ring")
    assert skill.count("--domain") == 1
    assert "`--domain tiny`" in skill
    added = hint(invoke, "experts", "add", "ring", "ring.zip")
    assert added.startswith(
        "hint:  add `--domain tiny`, where there is one, or add --skill movement"
    )


def test_no_domain_is_guessed_where_a_workspace_holds_several(here: Path, invoke: Invoke) -> None:
    made = Workspace.create(here / "workspace")
    add_expert(made, steer())
    with made.draft("report", "scores") as draft:
        (draft.path / "report.json").write_text("{}")
        draft.commit(command="test", config={"domain": "duel"}, seed=0)
    first = "the domain of this workspace"
    assert first in hint(invoke, "merge")  # nothing is made of a report
    assert invoke("collect", "--skill", "aiming", "-n", "2").code == 0
    assert first not in hint(invoke, "merge")


def test_experts_of_another_domain_are_mentioned(here: Path, invoke: Invoke) -> None:
    add_experts(Workspace.create(here / "workspace"))
    listed = invoke("experts", "ls").out
    assert "experts of domain 'tiny' in this workspace: 2; `--domain tiny` lists them" in listed
    assert "note:" not in invoke("experts", "ls", *TINY).out
