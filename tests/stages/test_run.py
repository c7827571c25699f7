from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skilldistill import domain as domains
from skilldistill.config import CollectConfig, DistillConfig, RunConfig
from skilldistill.errors import ConfigurationError, DiskProblem, Interrupted, NotFound
from skilldistill.progress import Progress
from skilldistill.stages import presets
from skilldistill.stages import run as run_stage
from skilldistill.stages.collect import collect
from skilldistill.stages.plan import plan
from skilldistill.stages.presets import PRESETS, Preset
from skilldistill.stages.run import RunResult, already_made
from skilldistill.workspace.manifest import Artefact
from skilldistill.workspace.store import Workspace
from tests import tiny
from tests.tiny_workspace import add_expert, ship, steer

SMALL = Preset(
    episodes=6,
    distill={"epochs": 2, "hidden_dim": 16, "large_batch": True},
    finetune={"timesteps": 64, "n_steps": 16, "envs": 2, "batch_size": 32, "guard_every": 0},
    evaluation_episodes=8,
)
CONFIG = RunConfig(domain="tiny")
NAMES = ["collect", "collect", "merge", "distill", "finetune", "evaluate"]


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A preset of seconds, and a domain that ships its experts."""
    monkeypatch.setattr(presets, "PRESETS", {**PRESETS, "quick": SMALL})
    for drawn in ("skilldistill.evaluation.pictures.draw", "skilldistill.learning.pictures.draw"):
        monkeypatch.setattr(drawn, lambda *_: [])  # half of the time, and tested elsewhere
    domains.register(dataclasses.replace(tiny.DOMAIN, shipped_experts=ship(tmp_path / "shipped")))
    yield
    domains.register(tiny.DOMAIN)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "workspace")


def run(workspace: Workspace, config: RunConfig = CONFIG, **options: Any) -> RunResult:
    return run_stage(workspace, config, **options)


def reused(result: RunResult) -> dict[str, bool]:
    return {step.ref: step.reused for step in result.steps}


@pytest.mark.slow
def test_a_run_does_everything_once_and_ends_with_the_table(workspace: Workspace) -> None:
    seen: list[Progress] = []
    first = run(workspace, progress=seen.append, command="skilldistill run")
    assert [step.name for step in first.steps] == NAMES
    assert not any(step.reused for step in first.steps)
    table = first.table
    assert [label for label, _ in table] == ["random", "composite", "distilled", "finetuned"]
    assert all(score is not None for _, scores in table for score in scores)
    told = [report.values["step"] for report in seen if report.stage == "run"]
    assert told == [*NAMES, "done"]
    assert {artefact.command for artefact in workspace.artefacts()} == {"skilldistill run"}

    planned = plan("run", CONFIG, workspace)
    assert planned.outputs == ()
    made = [entry.ref for entry in planned.inputs if entry.note == "is there already"]
    assert made == [step.ref for step in first.steps]

    before = workspace.artefacts()
    again = run(workspace)
    assert all(step.reused for step in again.steps)
    assert workspace.artefacts() == before
    assert again.report == first.report

    document = first.as_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema"] == "skilldistill.run/1"
    assert [row["policy"] for row in document["table"]] == [label for label, _ in table]
    assert document["table"][1]["both"]["mean"] > 0.8


@pytest.mark.slow
def test_a_new_expert_is_felt_by_everything_made_from_it(workspace: Workspace) -> None:
    run(workspace, confirm=lambda question: False)
    add_expert(workspace, steer(1.5))
    again = run(workspace, confirm=lambda question: False)
    assert reused(again) == {
        "dataset:steer@2": False,
        "dataset:ring@1": True,
        "dataset:combined@2": False,
        "checkpoint:distilled@2": False,
        "report:evaluation@2": False,
    }


@pytest.mark.slow
def test_what_was_damaged_is_made_again_and_all_that_follows(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    run(workspace)
    weights = workspace.root / "checkpoints/distilled/1/policy.safetensors"
    weights.unlink()
    planned = plan("run", CONFIG, workspace)
    again = run(workspace)
    assert reused(again) == {
        "dataset:steer@1": True,
        "dataset:ring@1": True,
        "dataset:combined@1": True,
        "checkpoint:distilled@2": False,
        "checkpoint:finetuned@2": False,
        "report:evaluation@2": False,
    }
    made = [step.ref for step in again.steps if not step.reused]
    assert [entry.ref for entry in planned.outputs] == made
    said = "not reused: checkpoint:distilled@1: checkpoints/distilled/1/policy.safetensors is not"
    assert [record.getMessage()[: len(said)] for record in caplog.records] == [said, said]


def test_a_report_that_has_gone_is_made_again(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    run(workspace, confirm=lambda question: False)
    shutil.rmtree(workspace.root / "reports/evaluation/1")
    again = run(workspace, confirm=lambda question: False)
    assert reused(again)["checkpoint:distilled@1"]
    assert not reused(again)["report:evaluation@2"]
    assert (Path(again.path) / "report.html").is_file()
    assert "not reused: report:evaluation@1: reports/evaluation/1" in caplog.text


def test_fine_tuning_is_asked_for_and_may_be_declined(workspace: Workspace) -> None:
    questions: list[str] = []

    def no(question: str) -> bool:
        questions.append(question)
        return False

    result = run(workspace, confirm=no)
    assert questions == ["Fine-tune the distilled policy with 64 steps of PPO?"]
    assert [step.name for step in result.steps] == [n for n in NAMES if n != "finetune"]
    assert [label for label, _ in result.table] == ["random", "composite", "distilled"]


@pytest.mark.slow
def test_yes_is_not_asked(workspace: Workspace) -> None:
    def never_asked(question: str) -> bool:
        raise AssertionError(question)

    result = run(workspace, RunConfig(domain="tiny", yes=True), confirm=never_asked)
    assert [step.name for step in result.steps] == NAMES


@pytest.mark.slow
def test_another_seed_is_another_run(workspace: Workspace) -> None:
    run(workspace, confirm=lambda question: False)
    other = run(workspace, RunConfig(domain="tiny", seed=1), confirm=lambda question: False)
    assert not any(step.reused for step in other.steps)


def test_an_interrupted_run_goes_on_from_the_finished_steps(workspace: Workspace) -> None:
    steps: list[str] = []

    def watch(report: Progress) -> None:
        if report.stage == "run":
            steps.append(str(report.values["step"]))

    with pytest.raises(Interrupted) as caught:
        run(workspace, progress=watch, stop=lambda: 15 if "merge" in steps else 0)
    assert caught.value.exit_code == 143
    assert caught.value.hint == "the same command goes on from here"
    again = run(workspace, confirm=lambda question: False)
    assert [step.reused for step in again.steps] == [True, True, False, False, False]


@pytest.mark.slow
def test_an_interrupted_distillation_is_resumed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    module = importlib.import_module("skilldistill.stages.distill")
    whole = Workspace.create(workspace.root.parent / "whole")
    straight = run(whole, confirm=lambda question: False)

    told: list[Progress] = []
    with pytest.raises(Interrupted) as caught:
        run(
            workspace,
            progress=told.append,
            stop=lambda: 2 if any(r.stage == "distill" and r.done >= 1 for r in told) else 0,
        )
    assert caught.value.message.startswith("stopped after 1 epochs")
    assert caught.value.hint == "the same command goes on from here"  # `run` has no --resume
    asked: list[bool] = []
    original = module.distill

    def spy(space: Workspace, config: DistillConfig, **options: Any) -> Any:
        asked.append(config.resume)
        return original(space, config, **options)

    monkeypatch.setattr(module, "distill", spy)
    again = run(workspace, confirm=lambda question: False)
    assert asked == [True]
    weights = [
        next(f.sha256 for f in space.resolve(ref, "checkpoint").files if "safetensors" in f.path)
        for space, ref in ((workspace, again.steps[3].ref), (whole, straight.steps[3].ref))
    ]
    assert weights[0] == weights[1]


def test_a_damaged_state_of_the_distillation_does_not_stop_the_run_for_good(
    workspace: Workspace,
) -> None:
    told: list[Progress] = []
    with pytest.raises(Interrupted):
        run(
            workspace,
            progress=told.append,
            stop=lambda: 2 if any(r.stage == "distill" and r.done >= 1 for r in told) else 0,
        )
    (state,) = workspace.root.glob("checkpoints/distilled/.partial-*/training_state")
    state.write_bytes(state.read_bytes()[:100])
    again = run(workspace, confirm=lambda question: False)
    assert [step.reused for step in again.steps] == [True, True, True, False, False]
    assert workspace.resolve(again.steps[3].ref).status == "complete"
    assert not list(workspace.root.glob("checkpoints/distilled/.partial-*"))


def test_work_of_other_settings_is_not_taken_for_ours(workspace: Workspace) -> None:
    collect(workspace, CollectConfig(domain="tiny", skill="steer", episodes=5))
    dataset = workspace.resolve("dataset:steer")
    same = CollectConfig(domain="tiny", skill="steer", episodes=5)
    ignored = {"expert"}

    def find(config: CollectConfig, parents: tuple[str, ...] = dataset.parents) -> object:
        return already_made(workspace, "dataset", "steer", config, parents, ignored=ignored)

    assert find(same) == dataset
    assert find(dataclasses.replace(same, episodes=6)) is None
    assert find(dataclasses.replace(same, stochastic=True)) is None
    assert find(same, ("0123456789abcdef",)) is None
    assert already_made(workspace, "dataset", "other", same, ()) is None


def test_a_damaged_artefact_gives_way_to_an_older_one_of_the_same_settings(
    workspace: Workspace,
) -> None:
    config = CollectConfig(domain="tiny", skill="steer", episodes=5)
    made = [collect(workspace, config).datasets[0] for _ in range(2)]

    def found() -> Artefact | None:
        return already_made(workspace, "dataset", "steer", config, (), ignored={"expert"})

    for result in reversed(made):
        artefact = found()
        assert artefact is not None
        assert artefact.id == result.id
        with workspace.path(artefact).open("ab") as file:
            file.write(b"?")
    assert found() is None


def test_work_that_cannot_be_read_is_not_done_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> str:
        raise OSError(5, "Input/output error")

    config = CollectConfig(domain="tiny", skill="steer", episodes=5)
    collect(workspace, config)
    monkeypatch.setattr("skilldistill.workspace.verify.digest", fail)
    with pytest.raises(DiskProblem, match="Input/output error"):
        already_made(workspace, "dataset", "steer", config, (), ignored={"expert"})


def test_an_unknown_preset_names_the_known_ones(workspace: Workspace) -> None:
    with pytest.raises(ConfigurationError, match="one of quick, full, not 'slow'"):
        run(workspace, RunConfig(domain="tiny", preset="slow"))


def test_a_skill_without_expert_stops_the_run_with_the_next_command(workspace: Workspace) -> None:
    domains.register(tiny.DOMAIN)
    with pytest.raises(NotFound, match="no expert for skill 'steer'") as caught:
        run(workspace)
    assert "skilldistill train --skill steer" in caught.value.hint


def test_what_was_set_for_a_step_goes_before_the_preset(workspace: Workspace) -> None:
    given = {
        "collect": {"episodes": 4, "name": "mine"},
        "merge": {"name": "joined"},
        "distill": {"epochs": 1, "seed": 3},
        "evaluate": {"episodes": 2, "baselines": False, "name": "short"},
    }
    result = run(workspace, dataclasses.replace(CONFIG, steps=given), confirm=lambda _: False)
    assert [step.ref for step in result.steps] == [
        *("dataset:mine-steer@1", "dataset:mine-ring@1", "dataset:joined@1"),
        *("checkpoint:distilled@1", "report:short@1"),
    ]
    made = {artefact.ref: artefact for artefact in workspace.artefacts()}
    assert made["dataset:mine-steer@1"].metrics["episodes"] == 4
    distilled = made["checkpoint:distilled@1"].config
    assert (distilled["epochs"], distilled["hidden_dim"], distilled["seed"]) == (1, 16, 3)
    assert distilled["dataset"] == "dataset:joined@1"
    assert (result.report.episodes, len(result.report.policies)) == (2, 1)
    again = run(workspace, dataclasses.replace(CONFIG, steps=given), confirm=lambda _: False)
    assert all(step.reused for step in again.steps)


def test_the_question_names_the_timesteps_in_force(workspace: Workspace) -> None:
    questions: list[str] = []
    steps = {
        "collect": {"episodes": 2},
        "distill": {"epochs": 1},
        "finetune": {"timesteps": 1234},
        "evaluate": {"episodes": 2, "task": "steer"},
    }
    run(workspace, dataclasses.replace(CONFIG, steps=steps), confirm=questions.append)  # type: ignore[arg-type]
    assert questions == ["Fine-tune the distilled policy with 1,234 steps of PPO?"]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"train": {"seed": 1}}, "no step 'train'"),
        ({"distill": {"epoch": 1}}, "distill has no setting 'epoch'"),
        ({"merge": {"domain": "duel"}}, "merge is set to domain 'duel', but the run's is 'tiny'"),
    ],
)
def test_steps_that_cannot_be_set_so_are_refused_before_anything_is_done(
    steps: dict[str, dict[str, object]], message: str, workspace: Workspace
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        run(workspace, dataclasses.replace(CONFIG, steps=steps))
    assert caught.value.hint
    assert workspace.artefacts() == []
