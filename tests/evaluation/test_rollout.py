from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldistill.domain import View
from skilldistill.errors import ConfigurationError, Interrupted, SkillDistillError
from skilldistill.evaluation.rollout import RandomPolicy, play
from tests import tiny


class Perfect:
    """Steers to the origin and rings there."""

    def act(self, view: View) -> np.ndarray:
        x = view.unified()[:, 0]
        return np.stack([np.abs(x) < 0.3, np.clip(-2 * x, -0.5, 0.5)], axis=1).astype(np.float32)


def score(policy: object, **options: object) -> np.ndarray:
    arguments = {"episodes": 9, "seed": 3, **options}
    return play(tiny.DOMAIN, "both", policy, **arguments).metrics["score"]  # type: ignore[arg-type]


def test_a_perfect_player_beats_a_random_one_in_every_episode() -> None:
    assert (score(Perfect()) > score(RandomPolicy(tiny.DOMAIN))).all()


@settings(max_examples=20)
@given(max_arenas=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_batching_changes_nothing(max_arenas: int, seed: int) -> None:
    policy = RandomPolicy(tiny.DOMAIN)
    whole = score(policy, seed=seed)
    assert np.array_equal(score(policy, seed=seed, max_arenas=max_arenas), whole)


def test_episodes_are_named_by_their_index() -> None:
    policy = RandomPolicy(tiny.DOMAIN)
    whole = score(policy, episodes=12)
    assert np.array_equal(score(policy, episodes=5, first_episode=7), whole[7:])


def test_other_seeds_give_other_episodes() -> None:
    policy = RandomPolicy(tiny.DOMAIN)
    assert not np.array_equal(score(policy, seed=1), score(policy, seed=2))


def test_lengths_returns_and_ends_are_reported_per_episode() -> None:
    rollout = play(tiny.DOMAIN, "both", Perfect(), episodes=5, seed=0, max_arenas=2)
    assert rollout.episodes == 5
    assert rollout.lengths.tolist() == [tiny.HORIZON] * 5
    assert not rollout.terminated.any()
    assert np.allclose(rollout.returns, rollout.metrics["score"] * tiny.HORIZON)


def test_random_actions_are_legal_and_spread_over_their_bounds() -> None:
    arenas = tiny.TinyArenas("both", 2000, seed=0)
    arenas.start(np.arange(2000))
    actions = RandomPolicy(tiny.DOMAIN).act(arenas)
    assert actions.dtype == np.float32
    assert set(np.unique(actions[:, 0])) == {0.0, 1.0}
    assert 0.45 < actions[:, 0].mean() < 0.55
    assert actions[:, 1].min() < -0.45
    assert actions[:, 1].max() > 0.45
    assert np.abs(actions[:, 1]).max() <= 0.5
    assert abs(np.corrcoef(actions.T)[0, 1]) < 0.1


def test_progress_counts_finished_episodes() -> None:
    seen: list[int] = []
    play(
        tiny.DOMAIN,
        "both",
        Perfect(),
        episodes=5,
        seed=0,
        max_arenas=2,
        on_episodes=seen.append,
    )
    assert seen == [2, 4, 5]


def test_a_signal_ends_the_play() -> None:
    with pytest.raises(Interrupted) as caught:
        play(tiny.DOMAIN, "both", Perfect(), episodes=5, seed=0, stop=lambda: 15)
    assert caught.value.exit_code == 143


def test_an_episode_that_outlasts_its_horizon_is_an_error() -> None:
    short = tuple(dataclasses.replace(task, horizon=5) for task in tiny.DOMAIN.tasks)
    with pytest.raises(SkillDistillError, match="after its horizon of 5 ticks"):
        play(dataclasses.replace(tiny.DOMAIN, tasks=short), "both", Perfect(), episodes=1, seed=0)


@pytest.mark.parametrize("options", [{"episodes": 0}, {"max_arenas": 0}])
def test_nothing_to_play_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        score(Perfect(), **options)


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError) as caught:
        play(tiny.DOMAIN, "bothh", Perfect(), episodes=1, seed=0)
    assert "'both'" in caught.value.hint
