from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skilldistill import DistillationModel
from skilldistill import domain as domains
from skilldistill.config import EvaluateConfig
from skilldistill.errors import ConfigurationError, NotFound
from skilldistill.stages.evaluate import evaluate
from skilldistill.workspace.store import Workspace
from tests import tiny
from tests.tiny_workspace import add_checkpoint, add_experts


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.create(tmp_path / "workspace")
    add_experts(workspace)
    add_checkpoint(workspace)
    yield workspace
    domains.register(tiny.DOMAIN)


def test_load_finds_the_workspace_and_returns_the_model(workspace: Workspace) -> None:
    model = DistillationModel().load("distilled")
    assert model.ref == "checkpoint:distilled@1"
    assert DistillationModel(workspace.root).load("distilled@1").ref == model.ref
    with pytest.raises(NotFound):
        model.load("nothing")


def test_a_model_says_what_it_holds(workspace: Workspace) -> None:
    model = DistillationModel()
    assert repr(model) == "<DistillationModel: nothing loaded>"
    assert repr(model.load("distilled")) == "<DistillationModel: checkpoint:distilled@1>"


def test_predict_takes_one_observation_or_many(workspace: Workspace) -> None:
    model = DistillationModel().load("distilled")
    many = np.linspace(-1, 1, 12).reshape(4, 3)
    actions = model.predict(many)
    assert actions.shape == (4, 2)
    assert actions.dtype == np.float32
    assert set(np.unique(actions[:, 0])) <= {0.0, 1.0}
    assert np.abs(actions[:, 1]).max() <= 0.5
    assert np.allclose(model.predict(list(many[2])), actions[2])
    assert np.array_equal(model.predict(many), actions)


def test_sampled_predictions_vary_and_follow_the_seed(workspace: Workspace) -> None:
    observations = np.zeros((50, 3), dtype=np.float32)
    one, two = (DistillationModel(seed=seed).load("distilled") for seed in (1, 1))
    first = one.predict(observations, deterministic=False)
    assert len(np.unique(first[:, 1])) > 10
    assert np.array_equal(two.predict(observations, deterministic=False), first)
    assert not np.array_equal(one.predict(observations, deterministic=False), first)


@pytest.mark.parametrize("obs", [[0, 0], [[[0, 0, 0]]], [0, 0, np.nan]])
def test_observations_of_another_shape_are_refused(workspace: Workspace, obs: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"shape \(3,\) or \(n, 3\)"):
        DistillationModel().load("distilled").predict(obs)


def test_a_policy_with_other_senses_cannot_predict(workspace: Workspace) -> None:
    model = DistillationModel(domain="tiny").load("composite")
    with pytest.raises(ConfigurationError, match="cannot predict"):
        model.predict([0, 0, 1])
    with pytest.raises(ConfigurationError, match="cannot be fine-tuned"):
        model.fine_tune(10)


def test_nothing_works_before_load() -> None:
    for act in (lambda m: m.predict([0]), lambda m: m.evaluate(), lambda m: m.fine_tune(1)):
        with pytest.raises(ConfigurationError, match="no policy is loaded") as caught:
            act(DistillationModel())
        assert "load('distilled')" in caught.value.hint


def test_evaluate_returns_the_means_that_a_report_holds(workspace: Workspace) -> None:
    means = DistillationModel().load("distilled").evaluate(n_episodes=10)
    assert set(means) == {"steer", "ring", "both"}
    config = EvaluateConfig(policies=("distilled",), domain="tiny", episodes=10, baselines=False)
    report = evaluate(workspace, config).report
    assert means == report.means("distilled")


def test_evaluate_can_take_one_task_and_writes_nothing(workspace: Workspace) -> None:
    before = workspace.artefacts()
    assert set(DistillationModel().load("distilled").evaluate(3, task="ring")) == {"ring"}
    assert workspace.artefacts() == before


def test_experts_and_composite_play_what_they_can(workspace: Workspace) -> None:
    model = DistillationModel(domain="tiny")
    assert set(model.load("expert:steer").evaluate(3)) == {"steer"}
    with pytest.raises(ConfigurationError, match="cannot play 'ring'"):
        model.evaluate(3, task="ring")
    assert model.load("composite").evaluate(3)["both"]["score"] > 0.8


def test_a_baseline_does_not_play_in_a_domain_that_the_workspace_holds_nothing_of(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in (DistillationModel(), DistillationModel(workspace)):
        for name in ("composite", "random"):
            with pytest.raises(ConfigurationError, match="'duel', only in 'tiny'") as caught:
                model.load(name)
            assert "--domain tiny" in caught.value.hint
    assert DistillationModel(workspace, domain="duel").load("composite").ref == "composite"
    new = Workspace.create(tmp_path / "new")
    assert DistillationModel(new).load("composite").ref == "composite"
    monkeypatch.chdir(new.root)
    assert DistillationModel().load("random").ref == "random"


def test_render_draws_where_it_is_told(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot draw"):
        DistillationModel().load("distilled").evaluate(2, render=True)

    def draw(task: str, policy: object, *, path: Path, opponent: object, **_: Any) -> Path:
        path.write_text(f"{task} against {opponent}")
        return path

    domains.register(
        dataclasses.replace(tiny.DOMAIN, render_episode=draw, opponents=("lazy", "keen"))
    )
    model = DistillationModel().load("distilled")
    model.evaluate(2, render=True, opponent="keen")
    assert Path("episode.gif").read_text() == "both against keen"
    model.evaluate(2, tmp_path / "mine.gif", task="steer", opponent="keen")
    assert (tmp_path / "mine.gif").read_text() == "steer against None"


def test_a_picture_that_cannot_be_drawn_is_refused_before_all_is_played(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(*_: object, path: Path, **__: object) -> Path:
        raise ConfigurationError(f"cannot draw to {path}")

    def play(*_: object, **__: object) -> None:
        pytest.fail("it was played")

    domains.register(dataclasses.replace(tiny.DOMAIN, render_episode=draw))
    monkeypatch.setattr("skilldistill.stages.model.play", play)
    with pytest.raises(ConfigurationError, match=r"cannot draw to mine\.xyz"):
        DistillationModel().load("distilled").evaluate(2, "mine.xyz")


def test_fine_tuning_refuses_unknown_settings(workspace: Workspace) -> None:
    with pytest.raises(ConfigurationError, match="no setting learning_rat"):
        DistillationModel().load("distilled").fine_tune(10, learning_rat=1)


@pytest.mark.slow
def test_fine_tuning_publishes_and_loads_the_outcome(workspace: Workspace) -> None:
    model = DistillationModel().load("distilled")
    returned = model.fine_tune(
        128, n_steps=16, envs=4, batch_size=32, n_epochs=1, guard_every=0, opponent=""
    )
    assert returned is model
    assert model.ref == "checkpoint:finetuned@1"
    start = workspace.resolve("checkpoint:distilled").id
    assert start in workspace.resolve("checkpoint:finetuned").parents
    assert model.predict([0, 0, 1]).shape == (2,)
