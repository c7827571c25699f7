"""A domain that is not the duel goes through the whole pipeline: nothing is hard-wired."""

from __future__ import annotations

from pathlib import Path

import pytest

from skilldistill import DistillationModel, stages
from skilldistill.config import CollectConfig, DistillConfig, EvaluateConfig, MergeConfig
from skilldistill.evaluation.report import EvaluationReport
from skilldistill.workspace.store import Workspace
from tests.tiny_workspace import add_experts


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Both skills distilled into one student, and the student scored."""
    workspace = Workspace.create(tmp_path_factory.mktemp("tiny") / "workspace")
    add_experts(workspace)
    stages.collect(workspace, CollectConfig(domain="tiny", episodes=60))
    stages.merge(workspace, MergeConfig(domain="tiny"))
    stages.distill(
        workspace, DistillConfig(domain="tiny", epochs=30, batch_size=64, lr=1e-2, hidden_dim=32)
    )
    stages.evaluate(workspace, EvaluateConfig(domain="tiny", episodes=100))
    return workspace


@pytest.fixture(scope="module")
def report(workspace: Workspace) -> EvaluationReport:
    folder = workspace.path(workspace.resolve("report:evaluation"))
    return EvaluationReport.from_json((folder / "report.json").read_bytes())


@pytest.mark.parametrize("skill", ["steer", "ring"])
def test_the_student_keeps_each_skill(report: EvaluationReport, skill: str) -> None:
    kept = next(
        score for score in report.retention if (score.policy, score.task) == ("distilled", skill)
    )
    assert kept.mean > 0.95


def test_the_student_does_both_at_once(report: EvaluationReport) -> None:
    student, chance = report.score("distilled", "both"), report.score("random", "both")
    assert student is not None
    assert chance is not None
    assert student.low > 0.8 > chance.high


def test_every_artefact_names_what_it_was_made_from(workspace: Workspace) -> None:
    by_ref = {artefact.ref: artefact for artefact in workspace.artefacts()}
    names = {artefact.id: ref for ref, artefact in by_ref.items()}
    parents = {ref: {names[p] for p in artefact.parents} for ref, artefact in by_ref.items()}
    assert parents == {
        "expert:steer@1": set(),
        "expert:ring@1": set(),
        "dataset:steer@1": {"expert:steer@1"},
        "dataset:ring@1": {"expert:ring@1"},
        "dataset:combined@1": {"dataset:steer@1", "dataset:ring@1"},
        "checkpoint:distilled@1": {"dataset:combined@1"},
        "report:evaluation@1": {"expert:steer@1", "expert:ring@1", "checkpoint:distilled@1"},
    }


def test_the_student_answers_from_python(workspace: Workspace) -> None:
    model = DistillationModel(workspace).load("distilled")
    bell, move = model.predict([0.9, 0.9, 1.0])
    assert bell == 0
    assert move < -0.3
    assert model.predict([0.0, 0.0, 1.0])[0] == 1


def test_the_student_is_kept_as_a_plain_folder(workspace: Workspace) -> None:
    folder = workspace.path(workspace.resolve("checkpoint:distilled"))
    model = DistillationModel().load(Path(folder))
    assert model.evaluate(5, task="both")["both"]["score"] > 0.7
