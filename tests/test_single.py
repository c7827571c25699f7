"""Single Gymnasium environments play as a domain's arenas."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np
import pytest

from skilldistill.domain import Domain
from skilldistill.errors import ActionError, ConfigurationError
from skilldistill.evaluation.rollout import RandomPolicy, Rollout, play
from skilldistill.experts.composite import CompositePolicy
from skilldistill.single import SingleEnvs
from tests import tiny
from tests.tiny_workspace import ring, steer


class Point(gymnasium.Env[Any, Any]):
    """The tiny domain's point, alone; it is at home, and done, where |x| < 0.01."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-0.5, 0.5, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.tick, self.good = self.np_random.uniform(-1, 1), 0, 0
        return np.array([self.x], np.float32), {}

    def step(self, action: Any) -> Any:
        bell, move = action
        good = (abs(self.x) < 0.3) == bool(bell)
        self.x = float(np.clip(self.x + 0.5 * move, -1, 1))
        self.tick, self.good = self.tick + 1, self.good + good
        home, late = abs(self.x) < 0.01, self.tick >= tiny.HORIZON
        return np.array([self.x], np.float32), float(good), home, late and not home, {}


def native(env: Any, skill: str) -> list[float]:
    return [env.x] if skill == "steer" else [env.x, np.sign(env.x)]


ARENAS = SingleEnvs(
    make_env=lambda task: Point(),
    actions=tiny.DOMAIN.actions,
    unified=lambda env: [env.x, abs(env.x), 1],  # type: ignore[attr-defined]
    native=native,
    apply=lambda env, action: (action[0] > 0.5, action[1]),
    metrics=lambda env: {"score": env.good / max(env.tick, 1)},  # type: ignore[attr-defined]
)


def domain() -> Domain:
    return dataclasses.replace(tiny.DOMAIN, make_arenas=ARENAS)


def played(policy: Any, **options: Any) -> Rollout:
    return play(domain(), "both", policy, **{"episodes": 12, "seed": 3, **options})


def test_experts_play_single_environments_well() -> None:
    good = played(CompositePolicy(domain(), {"steer": steer(), "ring": ring()}))
    chance = played(RandomPolicy(domain()))
    assert good.metrics["score"].mean() > 0.9 > chance.metrics["score"].mean()
    np.testing.assert_allclose(good.returns, good.metrics["score"] * good.lengths)


def test_an_episode_is_a_function_of_seed_and_index() -> None:
    policy = RandomPolicy(domain())
    whole = played(policy)
    for again in (played(policy, max_arenas=1), played(policy, max_arenas=5)):
        np.testing.assert_array_equal(again.returns, whole.returns)
        np.testing.assert_array_equal(again.lengths, whole.lengths)
    part = played(policy, episodes=4, first_episode=8)
    np.testing.assert_array_equal(part.returns, whole.returns[8:])
    assert not np.array_equal(played(policy, seed=4).returns, whole.returns)


def test_an_ended_arena_stands_still_while_others_go_on() -> None:
    arenas = ARENAS("both", 6, seed=0)
    arenas.start(np.arange(6))
    home = np.zeros((6, 2), dtype=np.float32)
    home[0, 1] = np.clip(-2 * arenas.unified()[0, 0], -0.5, 0.5)
    for _ in range(tiny.HORIZON):
        home[0, 1] = np.clip(-2 * arenas.unified()[0, 0], -0.5, 0.5)
        outcome = arenas.step(home)
        if outcome.terminated[0]:
            break
    assert arenas.active.tolist() == [False] + [True] * 5
    seen, score = arenas.unified()[0].copy(), arenas.metrics()["score"][0]
    home[0, 1] = 0.5
    outcome = arenas.step(home)
    assert (outcome.rewards[0], outcome.terminated[0], outcome.truncated[0]) == (0, False, False)
    np.testing.assert_array_equal(arenas.unified()[0], seen)
    assert arenas.metrics()["score"][0] == score


def test_illegal_actions_and_opponents_are_refused() -> None:
    arenas = ARENAS("both", 2, seed=0)
    for actions in (np.zeros((2, 3)), np.full((2, 2), np.nan), np.full((2, 2), 0.7)):
        with pytest.raises(ActionError):
            arenas.step(actions.astype(np.float32))
    with pytest.raises(ConfigurationError, match="no opponent"):
        ARENAS("both", 2, seed=0, opponent="lazy")
