from __future__ import annotations

from pathlib import Path

import pytest

from skilldistill.config import (
    CollectConfig,
    DistillConfig,
    EvaluateConfig,
    ExpertsAddConfig,
    FinetuneConfig,
    MergeConfig,
    RunConfig,
    TrainConfig,
)
from skilldistill.errors import ConfigurationError, CorruptFile, NotFound
from skilldistill.stages.collect import collect
from skilldistill.stages.merge import merge
from skilldistill.stages.plan import PlanResult, plan
from skilldistill.workspace.store import Workspace
from tests.tiny_workspace import add_checkpoint, add_experts


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.create(tmp_path / "workspace")
    add_experts(workspace)
    return workspace


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
        ("train", TrainConfig(domain="tiny", skill="rung"), ConfigurationError),
        ("collect", CollectConfig(domain="tiny", name="a/b", skill="ring"), ConfigurationError),
        ("experts_add", ExpertsAddConfig(domain="tiny", name="ring", path="no.zip"), NotFound),
    ],
)
def test_what_would_fail_fails_in_the_plan(
    command: str, config: CollectConfig, error: type[Exception], workspace: Workspace
) -> None:
    with pytest.raises(error):
        plan(command, config, workspace)


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
