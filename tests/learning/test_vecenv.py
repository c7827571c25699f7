"""SB3VecEnv: what SB3 and our own rollout see of a Gymnasium vector environment."""

from __future__ import annotations

import math
import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from skilldistill.errors import ActionError, ConfigurationError
from skilldistill.learning.vecenv import BatchCheck, SB3VecEnv
from tests import tiny


class Counter(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Arena i counts to i + 2; even arenas terminate, odd ones are truncated. Reward 1."""

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int = 3, *, objects: bool = False) -> None:
        self.num_envs, self.objects = num_envs, objects
        self.single_observation_space = gymnasium.spaces.Box(0, 100, (2,), np.float32)
        self.single_action_space = gymnasium.spaces.Discrete(5)
        self.ends = np.arange(num_envs) + 2
        self.buffer = np.zeros((num_envs, 2), np.float32)
        self.calls = 0
        self.last_seed: Any = None
        self.last_options: Any = None

    def ping(self, word: str) -> str:
        self.calls += 1
        return word

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.last_seed, self.last_options = seed, options
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


class Undecided(Counter):
    """Episodes that end by themselves on the tick on which their time is up."""

    def step(self, actions: np.ndarray) -> Any:
        observations, rewards, terminated, truncated, infos = super().step(actions)
        over = terminated | truncated
        return observations, rewards, over, over.copy(), infos


def test_an_episode_that_ends_by_itself_in_its_last_tick_is_not_out_of_time() -> None:
    env = SB3VecEnv(Undecided())
    env.reset()
    env.step(np.ones(3))
    tick = env.step_arrays(np.ones(3))
    assert (tick.terminated & tick.truncated).tolist() == [True, False, False]
    assert tick.ended is not None
    assert tick.ended.out_of_time.tolist() == [False]
    assert tick.ended.info(0)["TimeLimit.truncated"] is False


def test_played_ahead_past_an_end_an_episodes_count_begins_again() -> None:
    env = SB3VecEnv([Counter(2), Counter(1)])
    env.reset()
    assert env.advance(0, np.ones(2))[:, 0].tolist() == [1.0, 1.0]
    assert env.advance(0, np.ones(2))[:, 0].tolist() == [0.0, 2.0]
    ended: dict[int, dict[str, Any]] = {}
    for _ in range(2):
        infos = env.step(np.ones(3))[3]
        ended |= {i: info["episode"] for i, info in enumerate(infos) if info}
    assert {i: (episode["r"], episode["l"]) for i, episode in ended.items()} == {
        0: (2.0, 2), 1: (3.0, 3), 2: (2.0, 2),
    }  # fmt: skip


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


class Recorder(Counter):
    """Takes actions of any space and keeps them."""

    def __init__(self, num_envs: int, space: gymnasium.Space[Any]) -> None:
        super().__init__(num_envs)
        self.single_action_space = space
        self.given: list[np.ndarray] = []

    def step(self, actions: np.ndarray) -> Any:
        self.given.append(actions)
        return super().step(np.zeros(self.num_envs))


PAIR = gymnasium.spaces.Box(np.array([0, -0.1], np.float32), np.array([1, 0.1], np.float32))
ENDLESS = gymnasium.spaces.Box(-math.inf, math.inf, (2,), np.float32)
BYTES = gymnasium.spaces.Box(0, 255, (2,), np.uint8)
BITS = gymnasium.spaces.MultiBinary(2)
SIDES = gymnasium.spaces.Discrete(3, start=-1)
KNOBS = gymnasium.spaces.MultiDiscrete([2, 4])


def recorders(space: gymnasium.Space[Any]) -> tuple[SB3VecEnv, list[Recorder]]:
    envs = [Recorder(2, space), Recorder(1, space)]
    return SB3VecEnv(envs), envs


@pytest.mark.parametrize(
    ("space", "good", "bad", "told"),
    [
        (PAIR, 0.1, 0.10001, "outside [-0.1, 0.1]"),
        (PAIR, 0, math.nan, "outside [-0.1, 0.1]"),
        (PAIR, -0.1, -math.inf, "outside [-0.1, 0.1]"),
        (PAIR, 0.05, 1e300, "outside [-0.1, 0.1]"),
        (ENDLESS, 1e30, math.inf, "outside [-inf, inf]"),
        (ENDLESS, -5, math.nan, "outside [-inf, inf]"),
        (BYTES, 255, 256, "no whole number from 0 to 255"),
        (BYTES, 0, -1, "no whole number from 0 to 255"),
        (BITS, 1, 0.5, "no whole number from 0 to 1"),
        (BITS, True, 2, "no whole number from 0 to 1"),
        (BITS, 1.0, math.nan, "no whole number from 0 to 1"),
        (SIDES, -1, -2, "no whole number from -1 to 1"),
        (SIDES, 1, 2, "no whole number from -1 to 1"),
        (SIDES, 0.0, 0.999, "no whole number from -1 to 1"),
        (KNOBS, 3, 4, "no whole number from 0 to 3"),
    ],
)
def test_a_batch_for_several_environments_is_checked_before_any_of_them_plays(
    space: gymnasium.Space[Any], good: float, bad: float, told: str
) -> None:
    shape = (3, *(space.shape or ()))
    at = (2, *(1 for _ in shape[1:]))
    env, envs = recorders(space)
    env.reset()
    actions = np.zeros(shape, dtype=np.float64)
    actions[at] = bad
    message = rf"actions of shape {re.escape(str(shape))}: entry {re.escape(str(list(at)))} is "
    with pytest.raises(ActionError, match=message + ".*" + re.escape(told)):
        env.step(actions)
    assert [one.given for one in envs] == [[], []]
    actions[at] = good
    env.step(actions)
    given = np.concatenate([one.given[0] for one in envs])
    assert (given.shape, given.dtype) == (shape, space.dtype)
    assert given[at] == np.asarray(good, dtype=space.dtype)


@pytest.mark.parametrize(
    "actions",
    [
        None,
        "abc",
        ["a", "b", "c"],
        [[0, 0], [0], [0, 0]],
        [[0, 0], [0, None], [0, 0]],
        1j,
        [10**400],
    ],
)
def test_what_are_no_numbers_is_refused_before_any_environment_plays(actions: Any) -> None:
    for space, shape in ((PAIR, "(3, 2)"), (SIDES, "(3,)")):
        env, envs = recorders(space)
        env.reset()
        with pytest.raises(ActionError, match=f"expected actions of shape {re.escape(shape)}: "):
            env.step(actions)
        assert [one.given for one in envs] == [[], []]


@pytest.mark.parametrize("wrong", [(), (2,), (4, 2), (2, 2), (3, 3), (3, 2, 1)])
def test_a_batch_of_another_shape_is_refused_as_a_whole(wrong: tuple[int, ...]) -> None:
    env, envs = recorders(PAIR)
    env.reset()
    with pytest.raises(ActionError, match=re.escape(f"shape {wrong}, expected (3, 2)")):
        env.step(np.zeros(wrong))
    with pytest.raises(ActionError, match=re.escape("shape (), expected (3, 2)")):
        env.step(3)  # type: ignore[arg-type]
    assert [one.given for one in envs] == [[], []]


def test_spaces_that_sb3_does_not_know_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no actions of the kind"):
        BatchCheck(gymnasium.spaces.Text(3), 2)


class Painted(Counter):
    """Every arena's frame is of one tone: its number."""

    render_mode = "rgb_array"

    def render(self) -> Any:
        return tuple(np.full((4, 6, 3), i, dtype=np.uint8) for i in range(self.num_envs))


def test_sb3_renders_a_frame_of_every_arena() -> None:
    env = SB3VecEnv([Painted(2), Painted(1)])
    assert [int(frame[0, 0, 0]) for frame in env.get_images()] == [0, 1, 0]
    tiled = env.render()
    assert tiled is not None
    assert tiled.shape == (8, 12, 3)
    alone = SB3VecEnv(Painted(1)).render()
    assert alone is not None
    assert alone.shape == (4, 6, 3)


def test_methods_are_called_once_per_environment() -> None:
    env = SB3VecEnv([Counter(2), Counter(3)])
    assert env.env_method("ping", "x") == ["x"] * 5
    assert env.env_method("ping", "y", indices=[3]) == ["y"]
    assert env.get_attr("calls") == [1, 1, 2, 2, 2]
    env.set_attr("calls", 9, indices=0)
    assert env.get_attr("calls", indices=[1, 2]) == [9, 2]
    assert env.env_is_wrapped(Monitor) == [True] * 5
    assert not env.has_attr("nothing_of_that_name")


def test_options_of_an_environments_arenas_are_the_same_or_refused() -> None:
    first, second = Counter(), Counter()
    env = SB3VecEnv([first, second])
    env.set_options([{"episode": 1}] * 3 + [{"episode": 2}] * 3)
    env.reset()
    assert (first.last_options, second.last_options) == ({"episode": 1}, {"episode": 2})
    env.reset()
    assert first.last_options is None, "they are for one reset"
    env.set_options([{"episode": i} for i in range(6)])
    with pytest.raises(ConfigurationError, match="the same options"):
        env.reset()


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
