"""A domain that breaks its promises is told so by its name, wherever the pipeline plays it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skilldistill import domain as domains
from skilldistill.cli import failures
from skilldistill.contract import CheckedArenas
from skilldistill.data.writer import DatasetWriter
from skilldistill.domain import Domain, Transition
from skilldistill.errors import ActionError, ConfigurationError, DomainFailed
from skilldistill.evaluation.rollout import RandomPolicy, play
from skilldistill.experts.composite import CompositePolicy
from skilldistill.learning.collect import collect
from skilldistill.learning.onpolicy import play_labelled
from tests import tiny
from tests.data.samples import make_info
from tests.tiny_workspace import ring, steer


def variant(arenas: Any) -> Domain:
    return dataclasses.replace(tiny.DOMAIN, make_arenas=arenas)


class Forgetful(tiny.TinyArenas):
    def metrics(self) -> Mapping[str, np.ndarray]:
        return {"speed": np.zeros(self.num_arenas)}


class Narrow(tiny.TinyArenas):
    def unified(self) -> np.ndarray:
        return super().unified()[:, :-1]


class NarrowNative(tiny.TinyArenas):
    def native(self, skill: str) -> np.ndarray:
        return super().native(skill)[:, :0]


class Listed(tiny.TinyArenas):
    def unified(self) -> Any:
        return super().unified().tolist()


class Lost(tiny.TinyArenas):
    """Episode 2 blows up at its fourth tick."""

    def unified(self) -> np.ndarray:
        return self._blown_up(super().unified())

    def native(self, skill: str) -> np.ndarray:
        return self._blown_up(super().native(skill))

    def _blown_up(self, observations: np.ndarray) -> np.ndarray:
        observations[(self.episodes == 2) & (self.tick == 3), 0] = np.nan
        return observations


class Priceless(tiny.TinyArenas):
    def step(self, actions: np.ndarray) -> Transition:
        rewards = np.where(self.episodes == 1, np.inf, 0).astype(np.float32)
        return dataclasses.replace(super().step(actions), rewards=rewards)


class Numbered(tiny.TinyArenas):
    def step(self, actions: np.ndarray) -> Transition:
        outcome = super().step(actions)
        return dataclasses.replace(outcome, truncated=outcome.truncated.astype(int))


class Endless(tiny.TinyArenas):
    @property
    def active(self) -> np.ndarray:
        return np.ones(self.num_arenas, dtype=bool)


class Crashing(tiny.TinyArenas):
    def step(self, actions: np.ndarray) -> Transition:
        raise ValueError("my simulator exploded\nbadly")


BROKEN = [
    (Forgetful, r"metrics\(\) must give 'score', .* gives 'speed'"),
    (Lost, r"view\.(unified\(\)|native\('steer'\)) holds nan for 'x' at tick 3 of episode 2"),
    (Priceless, r"step\(\)\.rewards holds inf at tick 0 of episode 1"),
    (Numbered, r"step\(\)\.truncated must hold booleans, holds int64"),
    (Endless, r"goes on after its horizon of 20 ticks"),
    (Crashing, r"step\(\) raised ValueError: my simulator exploded$"),
]


@pytest.mark.parametrize(("arenas", "problem"), BROKEN)
@pytest.mark.parametrize("how", ["evaluate", "collect"])
def test_what_breaks_the_contract_names_domain_task_and_method(
    arenas: Any, problem: str, how: str, tmp_path: Path
) -> None:
    domain = variant(arenas)
    experts = CompositePolicy(domain, {"steer": steer()})

    def play_or_collect() -> None:
        if how == "evaluate":
            play(domain, "steer", experts, episodes=4, seed=0)
            return
        with DatasetWriter(tmp_path / "a.h5", make_info(("steer",)), 1) as writer:
            collect(domain, "steer", experts, writer, episodes=4, seed=0)

    with pytest.raises(DomainFailed, match=f"^domain 'tiny', task 'steer': {problem}") as caught:
        play_or_collect()
    assert caught.value.exit_code == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arenas", "problem"),
    [
        (Narrow, r"view\.unified\(\) must have shape \(4, 3\), has \(4, 2\)"),
        (Listed, r"view\.unified\(\) must be an array of shape \(4, 3\), is a list"),
        (NarrowNative, r"view\.native\('steer'\) must have shape \(4, 1\), has \(4, 0\)"),
        (Lost, r"holds nan for 'x' at tick 3 of episode 2"),
        (Endless, r"goes on after its horizon"),
    ],
)
def test_a_round_of_the_student_says_it_too(arenas: Any, problem: str) -> None:
    domain = variant(arenas)
    experts = CompositePolicy(domain, {"steer": steer(), "ring": ring()})
    student = RandomPolicy(domain)
    options: dict[str, Any] = {"episodes": 4, "first_episode": 0, "seed": 0, "beta": 0.0}
    with pytest.raises(DomainFailed, match=problem) as caught:
        list(play_labelled(domain, "both", student, experts, **options))
    assert "skilldistill.domain." in caught.value.hint


def test_a_crash_in_a_domain_leaves_its_traceback_in_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    with pytest.raises(DomainFailed) as caught:
        play(variant(Crashing), "steer", RandomPolicy(tiny.DOMAIN), episodes=1, seed=0)
    found = failures.describe(caught.value)
    assert found.message.startswith("domain 'tiny', task 'steer': step() raised ValueError")
    assert "unexpected" not in found.message
    assert found.log in found.hint
    assert "my simulator exploded" in Path(found.log).read_text()


def test_a_breach_without_a_crash_needs_no_log() -> None:
    with pytest.raises(DomainFailed) as caught:
        play(variant(Forgetful), "steer", RandomPolicy(tiny.DOMAIN), episodes=1, seed=0)
    assert failures.describe(caught.value).log == ""


def test_an_arena_factory_that_raises_is_named() -> None:
    def broken(task: str, num_arenas: int, *, seed: int, opponent: Any = None) -> Any:
        return {}[task]

    with pytest.raises(DomainFailed, match=r"make_arenas\(\) raised KeyError: 'both'"):
        CheckedArenas(variant(broken), "both", 1, seed=0)


def test_refusals_of_the_domain_itself_pass_as_they_are() -> None:
    arenas = CheckedArenas(tiny.DOMAIN, "both", 2, seed=0)
    with pytest.raises(ActionError, match="expected finite actions"):
        arenas.step(np.full((2, 2), np.nan, dtype=np.float32))
    with pytest.raises(ConfigurationError, match="no task"):
        CheckedArenas(tiny.DOMAIN, "neither", 1, seed=0)


def test_numbers_may_be_huge_and_of_another_type() -> None:
    class Vast(tiny.TinyArenas):
        def unified(self) -> np.ndarray:
            return 1e30 * super().unified()  # its square is beyond float32

        def native(self, skill: str) -> np.ndarray:
            return super().native(skill).astype(np.float64)

    domain = variant(Vast)
    play(domain, "steer", CompositePolicy(domain, {"steer": steer()}), episodes=2, seed=0)
    assert np.isfinite(CheckedArenas(domain, "steer", 2, seed=0).view.unified()).all()


def test_a_domains_own_policies_may_ask_its_view_for_more() -> None:
    duel = domains.find("duel")
    assert duel.scripted is not None
    fight = play(duel, "combined", duel.scripted("chaser"), episodes=2, seed=0)
    assert fight.lengths.min() > 0
