from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from skilldistill import domain as domains
from skilldistill.errors import DomainFailed
from skilldistill.learning.domain_env import CheckedVectorEnv
from skilldistill.learning.vecenv import SB3VecEnv
from tests import tiny


class WithoutFinal(tiny.TinyVectorEnv):
    def step(self, actions: Any) -> Any:
        return *super().step(actions)[:4], {}


class NaNFinal(tiny.TinyVectorEnv):
    def step(self, actions: Any) -> Any:
        *four, infos = super().step(actions)
        if infos:
            infos["final_obs"][1] = np.array([np.nan], dtype=np.float32)
        return *four, infos


class NextStep(tiny.TinyVectorEnv):
    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}


class Unified(tiny.TinyVectorEnv):
    """Of the combined task, whatever is asked for."""

    def __init__(self, task: str, num_envs: int, **options: Any) -> None:
        super().__init__("both", num_envs, **options)


class Lost(tiny.TinyVectorEnv):
    def _observe(self) -> np.ndarray:
        observations = super()._observe()
        observations[self.arenas.tick == 5, 0] = np.inf
        return observations


class Priceless(tiny.TinyVectorEnv):
    def step(self, actions: Any) -> Any:
        observations, rewards, *others = super().step(actions)
        return observations, np.where(self.arenas.tick == 5, np.inf, rewards), *others


class Crashing(tiny.TinyVectorEnv):
    def reset(self, **options: Any) -> Any:
        raise RuntimeError("no licence")


def nothing(task: str, num_envs: int, **options: Any) -> Any:
    return None


def episode(make_vector_env: Any) -> None:
    domain = dataclasses.replace(tiny.DOMAIN, make_vector_env=make_vector_env)
    env = SB3VecEnv(CheckedVectorEnv(domain, "steer", 3, seed=0))
    env.reset()
    for _ in range(tiny.HORIZON):
        env.step(np.zeros((3, 1), dtype=np.float32))


@pytest.mark.parametrize(
    ("make_vector_env", "problem"),
    [
        (WithoutFinal, r"step\(\) must give infos\['final_obs'\].* hold nothing"),
        (NaNFinal, r"infos\['final_obs'\] holds nan for 'x'"),
        (NextStep, r"must give metadata\['autoreset_mode'\] .*SAME_STEP, gives .*NEXT_STEP"),
        (Unified, r"must give single_observation_space of shape \(1,\), gives \(3,\)"),
        (Lost, r"step\(\)'s observations holds inf for 'x' in arena 0"),
        (Priceless, r"the sum of step\(\)'s rewards holds inf in arena 0"),
        (Crashing, r"reset\(\) raised RuntimeError: no licence"),
        (nothing, r"must give a gymnasium\.vector\.VectorEnv, gives a NoneType"),
    ],
)
def test_an_environment_that_breaks_the_contract_is_named(
    make_vector_env: Any, problem: str
) -> None:
    with pytest.raises(DomainFailed, match=f"^domain 'tiny', task 'steer': .*{problem}"):
        episode(make_vector_env)


class Single(gymnasium.Env[Any, Any]):
    """One point on a line, under a Gymnasium id."""

    def __init__(self) -> None:
        self.batch = tiny.TinyVectorEnv("steer", 1, seed=0)
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.batch.reset(seed=int(self.np_random.integers(1 << 30)))[0][0], {}

    def step(self, action: Any) -> Any:
        played = self.batch.arenas.step(np.array([[0, action[0]]], dtype=np.float32))
        seen = self.batch._observe()[0]
        return seen, float(played.rewards[0]), False, bool(played.truncated[0]), {}


def test_a_batch_of_single_environments_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/domains.md makes one."""
    monkeypatch.setattr(gymnasium.envs.registration, "registry", {})
    gymnasium.register("tiny/steer-v0", entry_point=Single)

    def made(task: str, num_envs: int, *, seed: int, opponent: Any = None) -> Any:
        same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
        return gymnasium.make_vec(f"tiny/{task}-v0", num_envs=num_envs, vector_kwargs=same_step)

    episode(made)


def test_a_sound_environment_plays_and_keeps_what_else_it_offers() -> None:
    episode(tiny.TinyVectorEnv)
    env = CheckedVectorEnv(tiny.DOMAIN, "both", 3, seed=0)
    assert isinstance(env, gymnasium.vector.VectorEnv)
    env.reset(seed=4)
    assert set(env.get_state()) == {"episodes", "tick", "x", "good", "near"}
    assert not hasattr(env, "something_else")


@pytest.mark.parametrize("task", ["movement", "aiming", "clicking", "combined"])
def test_the_duel_keeps_the_contract(task: str) -> None:
    env = CheckedVectorEnv(domains.find("duel"), task, 2, seed=0)
    env.action_space.seed(0)
    env.reset(seed=1)
    ends = 0
    for _ in range(401):
        ends += "final_obs" in env.step(env.action_space.sample())[4]
    assert ends or task == "clicking"  # its episodes last longer


def test_its_base_takes_no_parameters_which_older_gymnasiums_would_refuse() -> None:
    assert "__orig_bases__" not in vars(CheckedVectorEnv)
