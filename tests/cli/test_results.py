"""What a person reads: tables that keep their names, notes that help, commands that go on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from skilldistill.cli import results
from skilldistill.config import CollectConfig, FinetuneConfig, LsConfig, MergeConfig, ShowConfig
from skilldistill.stages.collect import collect
from skilldistill.stages.experts_add import ExpertsAddResult
from skilldistill.stages.finetune import FinetuneResult
from skilldistill.stages.ls import ls
from skilldistill.stages.merge import merge
from skilldistill.stages.show import show
from skilldistill.workspace.store import Workspace
from tests.cli.conftest import Invoke, terminal, text
from tests.tiny_workspace import add_checkpoint, add_expert, add_experts, ring, steer


@pytest.fixture
def workspace(here: Path) -> Workspace:
    made = Workspace.create(here / "workspace")
    add_experts(made)
    return made


def test_an_ordinary_terminal_shows_names_whole(workspace: Workspace) -> None:
    collect(workspace, CollectConfig(domain="tiny", episodes=2, name="a-rather-long-name"))
    merge(
        workspace,
        MergeConfig(
            domain="tiny", datasets=("a-rather-long-name-steer", "a-rather-long-name-ring")
        ),
    )
    console = terminal(80)
    results.ls(console, ls(workspace))
    shown = text(console)
    assert "…" not in shown
    for artefact in workspace.artefacts():
        assert artefact.ref in shown
        assert artefact.created[:10] in shown


def test_ls_tells_an_empty_workspace_from_a_search_without_result(workspace: Workspace) -> None:
    console = terminal(200)
    results.ls(console, ls(workspace, LsConfig(name="nothing")))
    assert "holds nothing of that kind or name" in text(console)
    empty = Workspace.create(workspace.root.parent / "empty")
    console = terminal(200)
    results.ls(console, ls(empty))
    assert text(console).strip() == f"{empty.root} is empty"


def test_unfinished_work_is_marked_wherever_it_is_listed(workspace: Workspace) -> None:
    add_checkpoint(workspace, "half", status="interrupted")
    console = terminal(120)
    results.ls(console, ls(workspace))
    rows = {line.split()[0]: line for line in text(console).splitlines()}
    assert "checkpoint:half@1 (interrupted)" in rows["checkpoint:half@1"]
    assert "(" not in rows["expert:steer@1"]
    for reference, state in (("half@1", " (interrupted)"), ("expert:steer", "")):
        console = terminal(120)
        results.show(console, show(workspace, ShowConfig(reference=reference)))
        first = text(console).splitlines()[0]
        assert first == f"{workspace.resolve(reference).ref}{state}"


def test_show_indents_what_lies_inside_and_names_what_was_removed(workspace: Workspace) -> None:
    ring = workspace.resolve("expert:ring")
    add_checkpoint(
        workspace,
        parents=[ring.id, "0" * 16],
        metrics={"wins": 0.25, "heads": {"deep": {"kl": 1.0}, "kept": True}, "note": ""},
    )
    console = terminal(120)
    results.show(console, show(workspace, ShowConfig(reference="distilled")))
    shown = text(console)
    metrics = ("wins: 0.25", "heads", "  deep", "    kl: 1", "  kept: yes", "note: –")
    assert "  metrics\n" + "".join(f"    {line}\n" for line in metrics) in shown
    assert shown.endswith(f"  made from\n    expert:ring@1\n    {'0' * 16} (removed)\n")


def test_collecting_names_the_expert_that_played(workspace: Workspace) -> None:
    console = terminal(120)
    results.collect(console, collect(workspace, CollectConfig(domain="tiny", episodes=2)))
    played = [line for line in text(console).splitlines() if "played by" in line]
    assert played == ["  played by expert:steer@1", "  played by expert:ring@1"]


def test_fine_tuning_shows_every_task_before_and_after() -> None:
    console = terminal(120)
    scores = {"before": {"walk": 0.5}, "after": {"walk": 0.75, "fight": 1}, "steps": 4096}
    found = FinetuneResult(
        workspace="ws", domain="duel", id="f", ref="checkpoint:finetuned@1", path="p",
        start="checkpoint:distilled@1", opponent="chaser", metrics=scores,
    )  # fmt: skip
    results.finetune(console, found)
    lines = text(console).splitlines()
    assert "from checkpoint:distilled@1, against chaser" in lines[0]
    assert lines[2:4] == ["  walk: 0.500 → 0.750", "  fight: – → 1.000"]
    assert "steps 4,096" in lines[4]


def test_settings_are_shown_by_the_word_that_a_flag_has(
    workspace: Workspace, invoke: Invoke
) -> None:
    start = FinetuneConfig(domain="tiny").start
    add_checkpoint(workspace, start)
    add_checkpoint(workspace, "tuned", config=asdict(FinetuneConfig(domain="tiny")))
    for command in (("finetune", "--domain", "tiny", "--dry-run"), ("show", "tuned")):
        ended = invoke(*command)
        assert ended.code == 0, ended.err
        lines = (ended.out + ended.err).splitlines()
        assert f"    from: {start}" in lines
        assert not any(line.startswith("    start:") for line in lines)


def test_a_fine_tuning_without_gain_is_said_to_be_its_start() -> None:
    def shown(**metrics: Any) -> str:
        console = terminal(120)
        made = FinetuneResult(
            workspace="ws", domain="duel", id="f", ref="checkpoint:finetuned@1", path="p",
            start="checkpoint:distilled@1", opponent="", metrics={"steps": 4096, **metrics},
        )  # fmt: skip
        results.finetune(console, made)
        return text(console)

    note = (
        "note: nothing better than checkpoint:distilled@1 was found: the policy is still that one"
    )
    assert note in shown(unchanged=True)
    assert "note:" not in shown(unchanged=False)
    assert "unchanged" not in shown(unchanged=True) + shown(unchanged=False)


def following(invoke: Invoke, *command: str) -> str:
    ended = invoke(*command)
    assert ended.code == 0, ended.err
    (line,) = (line for line in ended.err.splitlines() if line.startswith("next: "))
    return line.removeprefix("next: ")


def test_skills_that_the_data_did_not_teach_are_named(workspace: Workspace, invoke: Invoke) -> None:
    def noted(*further: str) -> list[str]:
        learn = ("distill", "--epochs", "1", "--hidden-dim", "16", "--domain", "tiny")
        ended = invoke(*learn, *further)
        assert ended.code == 0, ended.err
        return [line for line in ended.err.splitlines() if line.startswith("note: ")]

    collect(workspace, CollectConfig(domain="tiny", episodes=8))
    collect(workspace, CollectConfig(domain="tiny", episodes=8, skill="both"))
    merge(workspace, MergeConfig(domain="tiny"))
    assert noted("--dataset", "steer") == [
        "note: nothing in dataset:steer@1 teaches ring: "
        "merge the datasets of all skills, or distill with `--rounds 5`"
    ]
    assert noted() == noted("--dataset", "composite") == []
    rounds = ("--rounds", "1", "--round-episodes", "4", "--round-epochs", "1")
    assert noted("--dataset", "steer", *rounds) == []


@pytest.fixture
def at_home(here: Path) -> None:
    """A directory whose settings name the domain."""
    (here / ".skilldistill.toml").write_text('domain = "tiny"\n')


@pytest.mark.usefixtures("at_home")
def test_the_next_command_takes_what_was_just_made(workspace: Workspace, invoke: Invoke) -> None:
    assert following(invoke, "collect", "-n", "8") == "skilldistill merge"
    assert following(invoke, "merge") == "skilldistill distill"
    assert following(invoke, "merge", "-o", "other") == "skilldistill distill --dataset other"
    learn: Any = ("distill", "--epochs", "1", "--hidden-dim", "16")
    assert following(invoke, *learn) == "skilldistill finetune"
    assert following(invoke, *learn, "--name", "mine") == "skilldistill finetune --from mine"
    whole = following(invoke, "collect", "--skill", "both", "-n", "2")
    assert whole == "skilldistill distill --dataset composite"


@pytest.mark.usefixtures("at_home")
def test_after_a_skill_is_collected_comes_one_that_lacks_data(here: Path, invoke: Invoke) -> None:
    made = Workspace.create(here / "workspace")
    add_expert(made, steer())
    steering = ("collect", "--skill", "steer", "-n", "2")
    assert following(invoke, *steering) == "skilldistill train --skill ring"
    add_expert(made, ring())
    assert following(invoke, *steering) == "skilldistill collect --skill ring"
    assert following(invoke, "collect", "--skill", "ring", "-n", "2") == "skilldistill merge"


@pytest.mark.usefixtures("at_home")
def test_the_next_command_works_in_the_same_workspace(here: Path, invoke: Invoke) -> None:
    ended = invoke("init", "proj")
    assert "next: skilldistill collect --skill all -w proj" in ended.err
    made = Workspace.open(here / "proj")
    add_experts(made)
    assert following(invoke, "-w", "proj", "collect", "-n", "2") == "skilldistill merge -w proj"
    Workspace.create(here / "workspace")
    add_checkpoint(made)
    tuned = ("finetune", "--timesteps", "64", "--n-steps", "16", "--guard-every", "0")
    line = following(invoke, *tuned, "-w", str(here / "proj"))
    assert line == ("skilldistill evaluate checkpoint:distilled@1 checkpoint:finetuned@1 -w proj")


def test_the_next_command_is_for_the_same_domain(
    workspace: Workspace, invoke: Invoke, here: Path
) -> None:
    tiny = ("--domain", "tiny")
    assert following(invoke, "collect", "-n", "8", *tiny) == "skilldistill merge --domain tiny"
    learn = "skilldistill distill --dataset other --domain tiny"
    assert following(invoke, "merge", "-o", "other", *tiny) == learn
    (here / ".skilldistill.toml").write_text('[merge]\ndomain = "tiny"\n')
    assert following(invoke, "collect", "-n", "8", *tiny) == "skilldistill merge"
    assert following(invoke, "merge") == "skilldistill distill --domain tiny"


def test_an_experts_next_command_is_for_its_domain(workspace: Workspace, invoke: Invoke) -> None:
    own = workspace.path(workspace.resolve("expert:ring"))
    collecting = "skilldistill collect --skill ring --domain tiny"
    tiny = ("--domain", "tiny")
    added = following(invoke, "experts", "add", "bell", str(own), "--skill", "ring", *tiny)
    assert added == collecting
    short = ("--timesteps", "1024", "--evaluations", "1", "--eval-episodes", "4")
    assert following(invoke, "train", "--skill", "ring", *short, *tiny) == collecting
    add_checkpoint(workspace)
    tuned = ("finetune", "--timesteps", "64", "--n-steps", "16", "--guard-every", "0", *tiny)
    assert following(invoke, *tuned).endswith("checkpoint:finetuned@1 --domain tiny")


@pytest.mark.usefixtures("at_home")
def test_a_workspace_that_settings_name_is_not_named_again(here: Path, invoke: Invoke) -> None:
    add_experts(Workspace.create(here / "proj"))
    with (here / ".skilldistill.toml").open("a") as file:
        file.write('workspace = "proj"\n')
    assert following(invoke, "collect", "-n", "2") == "skilldistill merge"


@pytest.mark.parametrize("lacks", [False, True])
def test_an_agent_without_its_statistics_is_noted(lacks: bool) -> None:
    result = ExpertsAddResult(
        workspace="workspace",
        domain="duel",
        id="",
        ref="expert:aim@1",
        path="workspace/experts/aim/1",
        sha256="",
        skill="aiming",
        layers=(5, 64, 2),
        head="gaussian",
        normalised=False,
        trusted=False,
        lacks_statistics=lacks,
    )
    console = terminal(120)
    results.experts_add(console, result)
    shown = " ".join(text(console).split())
    assert ("note: the agent was trained behind VecNormalize" in shown) == lacks
    assert ("--normaliser" in shown) == lacks
