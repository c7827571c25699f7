from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from skilldistill import domain as domains
from skilldistill.config import (
    CollectConfig,
    DistillConfig,
    EvaluateConfig,
    ExpertsAddConfig,
    FinetuneConfig,
    InitConfig,
    MergeConfig,
    RunConfig,
    TrainConfig,
)
from skilldistill.errors import ConfigurationError, CorruptFile, NotFound
from skilldistill.stages.collect import collect
from skilldistill.stages.distill import distill
from skilldistill.stages.merge import merge
from skilldistill.stages.plan import PlanEntry, PlanResult, plan, plan_init
from skilldistill.stages.presets import step_configs
from skilldistill.workspace.store import Workspace
from tests import tiny
from tests.tiny_workspace import add_checkpoint, add_expert, add_experts, ship, steer


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.create(tmp_path / "workspace")
    add_experts(workspace)
    return workspace


@pytest.fixture
def shipping(tmp_path: Path) -> Iterator[None]:
    """The tiny domain ships its experts."""
    domains.register(dataclasses.replace(tiny.DOMAIN, shipped_experts=ship(tmp_path / "shipped")))
    yield
    domains.register(tiny.DOMAIN)


def refs(result: PlanResult) -> tuple[list[str], list[str]]:
    return [entry.ref for entry in result.inputs], [entry.ref for entry in result.outputs]


def test_a_plan_is_what_the_command_then_does(workspace: Workspace) -> None:
    config = CollectConfig(domain="tiny", episodes=2)
    inputs, outputs = refs(plan("collect", config, workspace))
    done = collect(workspace, config)
    assert [data.ref for data in done.datasets] == outputs
    assert [expert.ref for data in done.datasets for expert in data.experts] == inputs
    joined = MergeConfig(domain="tiny")
    inputs, outputs = refs(plan("merge", joined, workspace))
    merged = merge(workspace, joined)
    assert ([source.ref for source in merged.sources], [merged.ref]) == (inputs, outputs)
    assert refs(plan("distill", DistillConfig(domain="tiny"), workspace)) == (
        ["dataset:combined@1"],
        ["checkpoint:distilled@1"],
    )


def test_the_next_version_counts_removed_ones(workspace: Workspace) -> None:
    first = add_checkpoint(workspace)
    workspace.remove([first.id])
    assert refs(plan("train", TrainConfig(domain="tiny", skill="ring"), workspace))[1] == [
        "expert:ring@2"
    ]
    add_checkpoint(workspace)
    result = plan("finetune", FinetuneConfig(domain="tiny", name="distilled"), workspace)
    assert refs(result)[1] == ["checkpoint:distilled@3"]


def test_a_run_names_every_artefact(workspace: Workspace) -> None:
    inputs, outputs = refs(plan("run", RunConfig(domain="tiny"), workspace))
    assert inputs == ["expert:steer@1", "expert:ring@1"]
    assert outputs == [
        *("dataset:steer@1", "dataset:ring@1", "dataset:combined@1"),
        *("checkpoint:distilled@1", "checkpoint:finetuned@1", "report:evaluation@1"),
    ]


def test_a_run_does_not_name_what_it_would_find_made(workspace: Workspace) -> None:
    config = RunConfig(domain="tiny")
    settings = step_configs(config, tiny.DOMAIN).collect
    collect(workspace, dataclasses.replace(settings, skill="ring", episodes=2))
    collect(workspace, dataclasses.replace(settings, skill="ring"))
    result = plan("run", config, workspace)
    assert result.inputs[-1] == PlanEntry("dataset:ring@2", "is there already")
    assert refs(result)[1] == [
        *("dataset:steer@1", "dataset:combined@1"),
        *("checkpoint:distilled@1", "checkpoint:finetuned@1", "report:evaluation@1"),
    ]
    collect(workspace, dataclasses.replace(settings, skill="steer"))
    joined = MergeConfig(domain="tiny", datasets=("dataset:steer@1", "dataset:ring@2"))
    merge(workspace, joined)
    assert refs(plan("run", config, workspace))[1] == [
        *("checkpoint:distilled@1", "checkpoint:finetuned@1", "report:evaluation@1")
    ]


def test_a_damaged_input_is_refused_as_the_command_refuses_it(workspace: Workspace) -> None:
    checkpoint = add_checkpoint(workspace)
    weights = workspace.path(checkpoint) / "policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CorruptFile, match="SHA-256 differs"):
        plan("finetune", FinetuneConfig(domain="tiny", opponent=""), workspace)
    collected = collect(workspace, CollectConfig(domain="tiny", skill="ring", episodes=2))
    data = Path(collected.datasets[0].path)
    data.write_bytes(data.read_bytes()[:-1000])
    with pytest.raises(CorruptFile, match="no sound HDF5 file"):
        plan("distill", DistillConfig(domain="tiny", dataset="dataset:ring"), workspace)


def test_a_home_is_a_home_in_a_plan_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = TrainConfig(domain="tiny", skill="ring")
    assert plan("train", config, None, "~/there").workspace == str(tmp_path / "there")


def test_evaluation_takes_the_checkpoints_that_are_there(workspace: Workspace) -> None:
    add_checkpoint(workspace, "finetuned")
    config = EvaluateConfig(domain="tiny", baselines=False)
    assert refs(plan("evaluate", config, workspace))[0] == ["checkpoint:finetuned@1"]


@pytest.mark.parametrize(
    ("command", "config", "error"),
    [
        ("merge", MergeConfig(domain="tiny"), NotFound),
        ("distill", DistillConfig(domain="tiny"), NotFound),
        ("finetune", FinetuneConfig(domain="tiny"), NotFound),
        ("evaluate", EvaluateConfig(domain="tiny"), NotFound),
        ("evaluate", EvaluateConfig(domain="tiny", policies=("nobody",)), NotFound),
        ("evaluate", EvaluateConfig(domain="tiny", task="nothing"), ConfigurationError),
        ("distill", DistillConfig(domain="tiny", head_weights="x"), ConfigurationError),
        ("train", TrainConfig(domain="tiny", skill="rung"), ConfigurationError),
        ("train", TrainConfig(domain="tiny", skill="ring", name="random"), ConfigurationError),
        ("distill", DistillConfig(domain="tiny", name="composite"), ConfigurationError),
        ("finetune", FinetuneConfig(domain="tiny", name="mix"), ConfigurationError),
        ("finetune", FinetuneConfig(domain="tiny", device="abacus"), ConfigurationError),
        ("collect", CollectConfig(domain="tiny", name="a/b", skill="ring"), ConfigurationError),
        ("experts_add", ExpertsAddConfig(domain="tiny", name="ring", path="no.zip"), NotFound),
    ],
)
def test_what_would_fail_fails_in_the_plan(
    command: str, config: CollectConfig, error: type[Exception], workspace: Workspace
) -> None:
    with pytest.raises(error):
        plan(command, config, workspace)


def test_a_dataset_cannot_be_merged_with_itself(workspace: Workspace) -> None:
    collect(workspace, CollectConfig(domain="tiny", skill="steer", episodes=2))
    with pytest.raises(ConfigurationError, match="twice"):
        plan("merge", MergeConfig(domain="tiny", datasets=("steer", "steer")), workspace)


def test_an_opponent_must_be_there(workspace: Workspace) -> None:
    add_checkpoint(workspace)
    against = EvaluateConfig(domain="tiny", policies=("random",), opponent="nobody")
    practice = FinetuneConfig(domain="tiny", opponent="nobody")
    for command, config in (("evaluate", against), ("finetune", practice)):
        with pytest.raises(ConfigurationError, match="domain 'tiny' has no opponents"):
            plan(command, config, workspace)
    domains.register(dataclasses.replace(tiny.DOMAIN, opponents=("lazy",)))
    try:
        for command, config in (("evaluate", against), ("finetune", practice)):
            with pytest.raises(NotFound, match="nobody"):
                plan(command, config, workspace)
    finally:
        domains.register(tiny.DOMAIN)


def test_without_a_workspace_only_what_reads_from_it_fails(tmp_path: Path) -> None:
    result = plan("train", TrainConfig(domain="tiny", skill="ring"), None, tmp_path / "new")
    assert (result.workspace, result.creates_workspace) == (str(tmp_path / "new"), True)
    with pytest.raises(NotFound, match="no workspace yet"):
        plan("merge", MergeConfig(domain="tiny"), None)


def test_a_plan_trusts_no_file(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "policy.zip"
    path.write_bytes(b"not a zip")
    config = ExpertsAddConfig(domain="tiny", name="ring", path=str(path))
    with pytest.raises(CorruptFile):
        plan("experts_add", config, workspace)
    trusting = ExpertsAddConfig(domain="tiny", name="ring", path=str(path), trust_pickle=True)
    assert refs(plan("experts_add", trusting, workspace))[1] == ["expert:ring@2"]


@pytest.mark.usefixtures("shipping")
def test_experts_that_will_be_copied_are_among_the_outputs(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "new")
    config = CollectConfig(domain="tiny", episodes=2)
    for place in (None, workspace):
        assert refs(plan("collect", config, place))[1] == [
            *("expert:steer@1", "expert:ring@1", "dataset:steer@1", "dataset:ring@1")
        ]
        assert refs(plan("run", RunConfig(domain="tiny"), place))[1][:2] == [
            *("expert:steer@1", "expert:ring@1")
        ]
    planned = refs(plan("collect", config, workspace))[1]
    collect(workspace, config)
    assert [artefact.ref for artefact in workspace.artefacts()] == planned
    again = plan("collect", config, workspace)
    assert refs(again)[1] == ["dataset:steer@2", "dataset:ring@2"]
    shipped = CollectConfig(domain="tiny", skill="steer", expert="shipped:steer")
    assert refs(plan("collect", shipped, workspace))[1] == ["dataset:steer@2"]


def test_an_expert_by_path_will_be_copied_under_its_name(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    steer(0.7, name="mine").save(tmp_path / "mine")
    config = CollectConfig(domain="tiny", skill="steer", expert=str(tmp_path / "mine"), episodes=2)
    planned = refs(plan("collect", config, workspace))[1]
    assert planned == ["expert:mine@1", "dataset:steer@1"]
    collect(workspace, config)
    assert {"expert:mine@1", "dataset:steer@1"} <= {a.ref for a in workspace.artefacts()}


def test_the_rounds_of_a_distillation_are_among_its_outputs(workspace: Workspace) -> None:
    collect(workspace, CollectConfig(domain="tiny", episodes=6))
    merge(workspace, MergeConfig(domain="tiny"))
    config = DistillConfig(
        domain="tiny", epochs=1, hidden_dim=16, rounds=2, round_episodes=2, round_epochs=1
    )
    planned = refs(plan("distill", config, workspace))[1]
    assert planned == [
        *("dataset:distilled-rounds@1", "dataset:distilled-rounds@2", "checkpoint:distilled@1")
    ]
    before = len(workspace.artefacts())
    distill(workspace, config)
    assert [artefact.ref for artefact in workspace.artefacts()[before:]] == planned
    assert refs(plan("distill", config, workspace))[1][0] == "dataset:distilled-rounds@3"


def test_the_rounds_of_a_distillation_are_labelled_by_the_datas_own_experts(
    workspace: Workspace,
) -> None:
    collect(workspace, CollectConfig(domain="tiny", episodes=6))
    merge(workspace, MergeConfig(domain="tiny"))
    add_expert(workspace, steer(0.7))
    config = DistillConfig(domain="tiny", rounds=1)
    planned = refs(plan("distill", config, workspace))[0]
    assert planned == ["dataset:combined@1", "expert:steer@1", "expert:ring@1"]


def test_a_dataset_inside_the_workspace_has_its_reference_however_it_is_named(
    workspace: Workspace,
) -> None:
    collect(workspace, CollectConfig(domain="tiny", episodes=6))
    merge(workspace, MergeConfig(domain="tiny"))
    path = workspace.path(workspace.resolve("combined", "dataset"))
    config = DistillConfig(domain="tiny", dataset=str(path))
    assert refs(plan("distill", config, workspace))[0] == ["dataset:combined@1"]


def test_a_run_shows_the_settings_of_each_step(workspace: Workspace) -> None:
    given = {
        "collect": {"name": "mine", "skill": "steer"},
        "merge": {"name": "joined"},
        "distill": {"rounds": 1, "epochs": 3, "name": "pupil"},
    }
    result = plan("run", RunConfig(domain="tiny", preset="full", seed=5, steps=given), workspace)
    steps = result.config["steps"]
    assert steps["collect"] == {
        "seed": 5,
        "domain": "tiny",
        "episodes": 400,
        "stochastic": False,
        "name": "mine",
    }
    assert (steps["distill"]["epochs"], steps["distill"]["large_batch"]) == (3, True)
    assert steps["finetune"]["timesteps"] == 1_000_000
    assert steps["evaluate"]["episodes"] == 512
    assert refs(result)[1] == [
        *("dataset:mine-steer@1", "dataset:mine-ring@1", "dataset:joined@1"),
        *("dataset:pupil-rounds@1", "checkpoint:pupil@1", "checkpoint:finetuned@1"),
        "report:evaluation@1",
    ]


def test_init_says_what_it_would_do(tmp_path: Path) -> None:
    new = plan_init(None, InitConfig(path=str(tmp_path / "new")))
    assert (new.command, new.workspace) == ("init", str(tmp_path / "new"))
    assert (new.creates_workspace, refs(new)[1]) == (True, ["manifest.json"])
    assert not (tmp_path / "new").exists()
    there = Workspace.create(tmp_path / "there")
    add_experts(there)
    old = plan_init(there.root)
    assert (old.creates_workspace, refs(old)[1]) == (False, [])
    (there.root / "manifest.json").write_text("{")
    (repair,) = plan_init(there.root).outputs
    assert repair.ref == "manifest.json"
    assert repair.note.startswith("repaired: ")
    assert (there.root / "manifest.json").read_text() == "{"


def test_what_init_would_refuse_is_refused_in_the_plan(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="is a file"):
        plan_init(tmp_path / "file")
    (tmp_path / "manifest.json").write_text('{"name": "another program"}')
    with pytest.raises(CorruptFile):
        plan_init(tmp_path)


def test_an_evaluation_is_planned_with_the_experts_that_its_tasks_need(tmp_path: Path) -> None:
    bare = Workspace.create(tmp_path / "bare")
    add_expert(bare, steer())
    one = EvaluateConfig(domain="tiny", policies=("expert:steer",), task="steer")
    assert refs(plan("evaluate", one, bare))[0] == ["random", "composite", "expert:steer@1"]
    with pytest.raises(NotFound, match="no expert for skill 'ring'"):
        plan("evaluate", dataclasses.replace(one, task="all"), bare)
