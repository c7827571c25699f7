"""SB3VecEnv: what SB3 and our own rollout see of a Gymnasium vector environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from skilldistill.errors import ConfigurationError
from skilldistill.learning.vecenv import SB3VecEnv
from tests import tiny


class Counter(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Arena i counts to i + 2; even arenas terminate, odd ones are truncated. Reward 1."""

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int = 3, *, objects: bool = False) -> None:
        self.num_envs, self.objects = num_envs, objects
        self.single_observation_space = gymnasium.spaces.Box(0, 100, (2,), np.float32)
        self.single_action_space = gymnasium.spaces.Discrete(2)
        self.ends = np.arange(num_envs) + 2
        self.buffer = np.zeros((num_envs, 2), np.float32)
        self.calls = 0
        self.last_seed: Any = None

    def ping(self, word: str) -> str:
        self.calls += 1
        return word

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.last_seed = seed
        self.buffer[:] = 0
        return self.buffer, {}

    def step(self, actions: np.ndarray) -> Any:
        self.buffer[:, 0] += 1
        self.buffer[:, 1] = actions
        over = self.buffer[:, 0] >= self.ends
        infos: dict[str, Any] = {}
        if over.any():
            final: Any = self.buffer.copy()
            if self.objects:
                final = np.full(self.num_envs, None, dtype=object)
                for i in np.flatnonzero(over):
                    final[i] = self.buffer[i].copy()
            infos = {
                "final_obs": final,
                "_final_obs": over.copy(),
                "final_info": {"win": over.astype(float), "_win": over},
            }
            self.buffer[over] = 0
        even = np.arange(self.num_envs) % 2 == 0
        return self.buffer, np.ones(self.num_envs), over & even, over & ~even, infos


@pytest.mark.parametrize("objects", [False, True])
def test_final_observation_and_episode_are_given_to_the_arena_that_ended(objects: bool) -> None:
    env = SB3VecEnv([Counter(objects=objects)])
    env.reset()
    observations, _, dones, infos = env.step(np.ones(3))
    assert not dones.any()
    assert infos == [{}, {}, {}]
    observations, rewards, dones, infos = env.step(np.ones(3))
    assert dones.tolist() == [True, False, False]
    assert rewards.dtype == np.float32
    assert infos[0]["terminal_observation"].tolist() == [2.0, 1.0]
    assert infos[0]["terminal_observation"].dtype == np.float32
    assert infos[0]["episode"]["r"] == 2.0
    assert infos[0]["episode"]["l"] == 2
    assert infos[0]["TimeLimit.truncated"] is False
    assert infos[0]["win"] == 1.0
    assert infos[1:] == [{}, {}]
    assert observations[:, 0].tolist() == [0.0, 2.0, 2.0]
    _, _, dones, infos = env.step(np.ones(3))
    assert dones.tolist() == [False, True, False]
    assert infos[1]["TimeLimit.truncated"] is True
    assert infos[1]["episode"]["l"] == 3
    _, _, dones, infos = env.step(np.ones(3))
    assert infos[0]["episode"]["l"] == 2, "the count begins again after an episode"


def test_ordinary_ticks_reuse_the_infos_and_ends_do_not_leak_into_them() -> None:
    env = SB3VecEnv(Counter())
    env.reset()
    ordinary = env.step(np.ones(3))[3]
    ended = env.step(np.ones(3))[3]
    assert ended is not ordinary
    assert ordinary == [{}, {}, {}]


def test_observations_are_not_overwritten_by_the_next_tick() -> None:
    env = SB3VecEnv(Counter())
    env.reset()
    first = env.step(np.ones(3))[0]
    env.step(np.ones(3))
    assert first[:, 0].tolist() == [1.0, 1.0, 1.0]


def test_environments_stand_side_by_side() -> None:
    env = SB3VecEnv([Counter(2), Counter(3)])
    assert env.num_envs == 5
    env.seed(7)
    env.reset()
    assert env.get_attr("last_seed") == [7, 7, 9, 9, 9]
    actions = np.arange(5)
    observations = env.step(actions)[0]
    assert observations[:, 1].tolist() == [0, 1, 2, 3, 4]
    _, _, dones, infos = env.step(actions)
    assert dones.tolist() == [True, False, True, False, False]
    assert infos[2]["terminal_observation"].tolist() == [2.0, 2.0]


def test_methods_are_called_once_per_environment() -> None:
    env = SB3VecEnv([Counter(2), Counter(3)])
    assert env.env_method("ping", "x") == ["x"] * 5
    assert env.env_method("ping", "y", indices=[3]) == ["y"]
    assert env.get_attr("calls") == [1, 1, 2, 2, 2]
    env.set_attr("calls", 9, indices=0)
    assert env.get_attr("calls", indices=[1, 2]) == [9, 2]
    assert env.env_is_wrapped(Monitor) == [True] * 5
    assert not env.has_attr("nothing_of_that_name")


def test_other_autoreset_modes_and_unequal_spaces_are_refused() -> None:
    late = Counter()
    late.metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}
    with pytest.raises(ConfigurationError, match="same-step"):
        SB3VecEnv(late)
    other = Counter()
    other.single_action_space = gymnasium.spaces.Discrete(3)
    with pytest.raises(ConfigurationError, match="different spaces"):
        SB3VecEnv([Counter(), other])
    with pytest.raises(ConfigurationError, match="at least one"):
        SB3VecEnv([])


@pytest.mark.parametrize("task", ["steer", "ring", "both"])
def test_sb3_learns_and_evaluates_on_every_kind_of_action(task: str) -> None:
    env = SB3VecEnv(tiny.DOMAIN.make_vector_env(task, 4, seed=0))
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=64, n_epochs=1, seed=3, device="cpu")
    model.learn(256)
    assert model.ep_info_buffer
    assert model.ep_info_buffer[0]["l"] == tiny.HORIZON
    mean, _ = evaluate_policy(model, env, n_eval_episodes=4)
    assert 0 <= mean <= tiny.HORIZON


def test_a_saved_state_goes_on_identically() -> None:
    def build() -> SB3VecEnv:
        envs = [tiny.DOMAIN.make_vector_env("both", n, seed=n) for n in (2, 3)]
        return SB3VecEnv(envs)

    rng = np.random.default_rng(0)
    actions = rng.uniform([0, -0.5], [1, 0.5], size=(45, 5, 2)).astype(np.float32)
    env = build()
    env.reset()
    for action in actions[:13]:
        env.step(action)
    saved = env.get_state()
    other = build()
    other.reset()
    other.set_state(saved)
    for action in actions[13:]:
        expected, got = env.step(action), other.step(action)
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])
        assert [i.get("episode") for i in got[3]] == [i.get("episode") for i in expected[3]]
