"""Training learns, keeps the best, publishes what it made, and goes on where it stopped."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skilldistill import domain as domains
from skilldistill.config import TrainConfig
from skilldistill.errors import ConfigurationError, Interrupted, NotFound
from skilldistill.evaluation.rollout import RandomPolicy, Rollout, play
from skilldistill.experts.composite import CompositePolicy
from skilldistill.experts.network import Expert
from skilldistill.experts.train import CurvePoint, TrainOutcome, training_seed
from skilldistill.progress import Progress
from skilldistill.stages.train import TrainResult, draw_curve, train
from skilldistill.workspace.store import Workspace
from tests.stateful import StatefulEnv
from tests.tiny import DOMAIN


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "workspace")


def config(skill: str = "steer", **changes: Any) -> TrainConfig:
    settings = {"evaluations": 3, "eval_episodes": 32, "domain": "tiny", "skill": skill}
    return TrainConfig(**{**settings, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("skill", DOMAIN.skill_names)
def test_learns_far_more_than_chance(skill: str, workspace: Workspace) -> None:
    reports: list[Progress] = []
    result = train(workspace, config(skill), progress=reports.append)
    expert = Expert.load(Path(result.path))
    policy = CompositePolicy(DOMAIN, {skill: expert})
    learnt = play(DOMAIN, skill, policy, episodes=256, seed=77).metrics["score"].mean()
    chance = (
        play(DOMAIN, skill, RandomPolicy(DOMAIN), episodes=256, seed=77).metrics["score"].mean()
    )
    assert learnt > chance + 0.2
    figure = result.metrics["score"]
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low <= learnt + 0.05
    assert figure.high >= learnt - 0.05
    assert "score" in reports[-1].values
    assert reports[-1].done == reports[-1].total == 6000


def test_learning_choosing_and_scoring_have_episodes_of_their_own(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def spy(*args: Any, seed: int, **settings: Any) -> Rollout:
        seeds.append(seed)
        return play(*args, seed=seed, **settings)

    monkeypatch.setattr(sys.modules[train.__module__], "play", spy)
    train(workspace, config(seed=5, timesteps=2048, evaluations=2))
    choosing, again, final = seeds
    assert choosing == again
    assert len({choosing, final, training_seed(5), 5}) == 4
    assert min(seeds) >= 0


def test_publishes_expert_curve_picture_and_figures(workspace: Workspace) -> None:
    pytest.importorskip("matplotlib")
    result = train(workspace, config(timesteps=3000), command="skilldistill train --skill steer")
    folder = Path(result.path)
    assert {path.name for path in folder.iterdir()} == {
        "expert.safetensors",
        "expert.json",
        "learning_curve.png",
    }
    artefact = workspace.resolve("expert:steer")
    assert artefact.id == result.id
    assert artefact.status == "complete"
    assert artefact.command == "skilldistill train --skill steer"
    assert artefact.metrics["sha256"] == result.sha256 == Expert.load(folder).sha256
    assert len(artefact.metrics["curve"]) == 3
    assert set(artefact.metrics["intervals"]["score"]) == {"mean", "low", "high", "n"}
    card = json.loads((folder / "expert.json").read_text())
    assert card["source"]["settings"]["ppo"]["gamma"] == 0.8
    assert card["source"]["versions"]["torch"]
    assert not list((workspace.root / "experts" / "steer").glob(".partial*"))


def test_the_picture_has_a_panel_per_metric_and_lines_without_gaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = pytest.importorskip("matplotlib.figure")
    sheets: list[Any] = []

    class Sheet(figures.Figure):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            sheets.append(self)

    monkeypatch.setattr(figures, "Figure", Sheet)
    task = replace(DOMAIN.task("steer"), metrics=("score", "error_deg"))
    curve = tuple(
        CurvePoint(step, math.nan if step == 2 else 1.0, {"score": 0.1 * step, "error_deg": 9.0})
        for step in (1, 2, 3)
    )
    assert draw_curve(TrainOutcome(None, 3, 3, curve, 1.0, 0), task, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000
    (sheet,) = sheets
    assert [axes.get_ylabel() for axes in sheet.axes] == [*task.metrics, "return, exploring"]
    lines = [list(axes.lines[0].get_xdata()) for axes in sheet.axes]
    assert lines == [[1, 2, 3], [1, 2, 3], [1, 3]]
    legend = sheet.axes[0].get_legend().get_window_extent()
    words = sheet.findobj(pytest.importorskip("matplotlib.text").Text)
    (title,) = (text for text in words if text.get_text().startswith("steer: "))
    assert not legend.count_overlaps([sheet.axes[0].bbox, title.get_window_extent()])


def test_the_same_command_gives_the_same_expert(tmp_path: Path) -> None:
    first, second = (
        train(Workspace.create(tmp_path / name), config(timesteps=1500)) for name in "ab"
    )
    assert first.sha256 == second.sha256
    assert first.curve == second.curve
    other = train(Workspace.create(tmp_path / "c"), config(timesteps=1500, seed=1))
    assert other.sha256 != first.sha256


def stop_after(checks: int) -> Callable[[], int]:
    count = 0

    def stop() -> int:
        nonlocal count
        count += 1
        return 15 if count > checks else 0

    return stop


@pytest.fixture
def stateful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(domains._registered, "tiny", replace(DOMAIN, make_vector_env=StatefulEnv))


def interrupt_then_resume(workspace: Workspace, checks: int) -> TrainResult:
    with pytest.raises(Interrupted) as caught:
        train(workspace, config(timesteps=6000), stop=stop_after(checks))
    assert caught.value.exit_code == 143
    assert "--resume" in caught.value.hint
    return train(workspace, config(timesteps=6000, resume=True))


@pytest.mark.slow
def test_resuming_is_exact_where_arenas_give_their_state(stateful: None, tmp_path: Path) -> None:
    whole = train(Workspace.create(tmp_path / "whole"), config(timesteps=6000))
    split = interrupt_then_resume(Workspace.create(tmp_path / "split"), checks=200)
    assert split.sha256 == whole.sha256
    assert split.curve == whole.curve


def test_resuming_goes_on_from_the_weights_in_any_case(workspace: Workspace) -> None:
    result = interrupt_then_resume(workspace, checks=200)
    versions = workspace.artefacts("expert")
    assert [version.status for version in versions] == ["interrupted", "complete"]
    assert versions[0].metrics["timesteps"] < 6000 <= result.timesteps
    assert list(result.curve[:1]) == versions[0].metrics["curve"][:1]


def test_an_interruption_before_the_first_scoring_publishes_nothing(workspace: Workspace) -> None:
    with pytest.raises(Interrupted):
        train(workspace, config(), stop=stop_after(3))
    assert workspace.artefacts("expert") == []


@pytest.mark.parametrize("checks", [0, 3])
def test_a_stop_in_the_first_rollout_can_be_gone_on_from(workspace: Workspace, checks: int) -> None:
    with pytest.raises(Interrupted, match="stopped after 0 of 2048 steps") as caught:
        train(workspace, config(timesteps=2048), stop=stop_after(checks))
    assert "--resume" in caught.value.hint
    assert train(workspace, config(timesteps=2048, resume=True)).timesteps == 2048


def test_work_that_never_began_leaves_no_folder(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **settings: Any) -> TrainOutcome:
        raise Interrupted("stopped by SIGINT")

    monkeypatch.setattr("skilldistill.experts.train.train", interrupted)
    with pytest.raises(Interrupted):
        train(workspace, config())
    assert not list(workspace.root.glob("experts/*/.partial*"))


def test_nothing_to_resume_says_so(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="no unfinished work on expert") as caught:
        train(workspace, config(resume=True))
    assert "without --resume" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"skill": ""}, "no skill"),
        ({"skill": "stear"}, "stear"),
        ({"name": "a/b"}, "a/b"),
        ({"name": "composite"}, "composite"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    changes: dict[str, Any], word: str, workspace: Workspace
) -> None:
    with pytest.raises(ConfigurationError, match=word):
        train(workspace, replace(config(), **changes))


@pytest.mark.parametrize("training", [{"gama": 0.9}, {"schedule": "cosine"}, {"hidden": (0,)}])
def test_settings_nobody_understands_are_refused(
    training: dict[str, Any], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    skills = tuple(replace(skill, training=training) for skill in DOMAIN.skills)
    monkeypatch.setitem(domains._registered, "tiny", replace(DOMAIN, skills=skills))
    with pytest.raises(ConfigurationError):
        train(workspace, config())
