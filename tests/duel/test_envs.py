"""The Gymnasium environments: spaces, one against many, auto-reset, and refusing bad actions."""

from __future__ import annotations

import math
import pickle
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import skilldistill  # noqa: F401  registers the environments
from skilldistill.duel.declare import DOMAIN, make_vector_env
from skilldistill.duel.envs import DuelEnv, DuelVectorEnv
from skilldistill.errors import ActionError, ConfigurationError
from skilldistill.learning.vecenv import SB3VecEnv
from tests.duel.making import TASKS, action

IDS = {task: f"skilldistill/{task.capitalize()}-v0" for task in TASKS}
LIMIT = np.float32(0.6283185)
SPACES = {
    "movement": (20, gymnasium.spaces.MultiBinary(6)),
    "aiming": (5, gymnasium.spaces.Box(-LIMIT, LIMIT, (2,), np.float32)),
    "clicking": (9, gymnasium.spaces.Discrete(2)),
    "combined": (
        20,
        gymnasium.spaces.Box(
            np.array([0] * 7 + [-LIMIT] * 2, np.float32),
            np.array([1] * 7 + [LIMIT] * 2, np.float32),
        ),
    ),
}
LENGTH = {"movement": 400, "aiming": 200, "clicking": 600, "combined": 400}


# Spaces and checkers ------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_spaces_are_those_of_the_design(task: str) -> None:
    size, actions = SPACES[task]
    env = gymnasium.make(IDS[task])
    assert env.observation_space == gymnasium.spaces.Box(-1, 1, (size,), np.float32)
    assert env.action_space == actions
    vector = DuelVectorEnv(3, task)
    assert vector.single_observation_space == env.observation_space
    assert vector.single_action_space == env.action_space
    assert vector.observation_space.shape == (3, size)
    assert vector.action_space.shape == (3, *(actions.shape or ()))
    assert DOMAIN.task(task).env_id == IDS[task]


@pytest.mark.parametrize("task", TASKS)
def test_gymnasium_finds_nothing_to_complain_about(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # the checker opens a window where it can
    check_env(gymnasium.make(IDS[task], render_mode="rgb_array").unwrapped)


def test_nor_does_it_where_no_window_can_be_opened() -> None:
    code = """
import sys
sys.modules["pygame"] = None  # as if it were not installed
import gymnasium
from gymnasium.utils.env_checker import check_env
import skilldistill
env = gymnasium.make("skilldistill/Aiming-v0").unwrapped
assert env.metadata["render_modes"] == ["rgb_array"]
check_env(env)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("task", TASKS)
def test_sb3_finds_nothing_but_unusual_bounds(task: str) -> None:
    """Actions are in environment units (keys in [0, 1], radians), which SB3 advises against."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        sb3_check_env(gymnasium.make(IDS[task]))
    texts = [str(warning.message) for warning in found]
    assert all("symmetric and normalized Box action space" in text for text in texts), texts
    assert bool(texts) == (task in ("aiming", "combined"))


@pytest.mark.parametrize("task", TASKS)
def test_make_vec_uses_the_vector_entry_point(task: str) -> None:
    env = gymnasium.make_vec(IDS[task], num_envs=5, vectorization_mode="vector_entry_point")
    assert isinstance(env.unwrapped, DuelVectorEnv)
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    observation, _ = env.reset(seed=3)
    assert env.observation_space.contains(observation)
    env.action_space.seed(0)
    observation, rewards, terminated, truncated, _ = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation)
    assert (rewards.shape, terminated.shape, truncated.shape) == ((5,), (5,), (5,))
    env.close()


def test_make_passes_the_opponent_on() -> None:
    env = gymnasium.make(IDS["combined"], opponent="still")
    assert env.unwrapped.arenas.opponent == "still"  # type: ignore[attr-defined]
    assert make_vector_env("combined", 4, seed=2, opponent="strafer").arenas.seed == 2


def test_an_environment_can_be_sent_to_another_process() -> None:
    env = DuelEnv("movement", seed=4)
    env.reset(seed=4)
    other = pickle.loads(pickle.dumps(env))
    for _ in range(5):
        held = np.ones(6, dtype=np.int8)
        assert (env.step(held)[0] == other.step(held)[0]).all()


# One against many ---------------------------------------------------------------------------


def _sampler(task: str, n: int) -> Callable[[], np.ndarray]:
    """Random actions of n arenas; the turns are small, so that fights happen."""
    rng = np.random.default_rng(7)

    def sample() -> np.ndarray:
        if task == "movement":
            return rng.integers(0, 2, (n, 6), dtype=np.int8)
        if task == "clicking":
            return rng.integers(0, 2, n)
        turns = rng.uniform(-0.1, 0.1, (n, 2)).astype(np.float32)
        if task == "aiming":
            return turns
        return np.concatenate([rng.random((n, 7), dtype=np.float32), turns], axis=1)

    return sample


@pytest.mark.parametrize("task", TASKS)
def test_env_episode_k_is_what_arena_k_plays(task: str) -> None:
    """Everything a caller sees, over a whole episode: observations, rewards, ends, metrics."""
    n, ticks = 5, LENGTH[task]
    vector = DuelVectorEnv(n, task)
    envs = [DuelEnv(task) for _ in range(n)]
    together, info = vector.reset(seed=42)
    for k, env in enumerate(envs):
        alone, own_info = env.reset(seed=42, options={"episode": k})
        assert (alone == together[k]).all()
        assert set(own_info) == set(info) == ({"unified"} if task != "combined" else set())
    sample, over = _sampler(task, n), np.zeros(n, dtype=bool)
    for _ in range(ticks):
        actions = sample()
        together, rewards, terminated, truncated, infos = vector.step(actions)
        for k in np.flatnonzero(~over):
            alone, reward, ended, cut, own_info = envs[k].step(actions[k])
            last = terminated[k] or truncated[k]
            assert (alone == (infos["final_obs"] if last else together)[k]).all()
            assert (reward, ended, cut) == (rewards[k], terminated[k], truncated[k])
            if last:
                assert infos["_final_obs"][k]
                found = {name: value[k] for name, value in infos["final_info"].items()}
                np.testing.assert_equal(own_info["metrics"], found)
            elif task != "combined":
                assert (own_info["unified"] == infos["unified"][k]).all()
        over |= terminated | truncated
    assert over.all()


@pytest.mark.parametrize("task", TASKS)
def test_successive_resets_play_successive_episodes(task: str) -> None:
    env = DuelEnv(task)
    seen = [env.reset(seed=1)[0], env.reset()[0], env.reset()[0]]
    fresh, _ = DuelEnv(task).reset(seed=1, options={"episode": 2})
    assert (fresh == seen[2]).all()
    assert (seen[0] != seen[1]).any()
    assert (env.reset(seed=1)[0] == seen[0]).all()


def test_unified_in_info_is_the_unified_observation() -> None:
    env = DuelVectorEnv(4, "aiming")
    _, info = env.reset(seed=0)
    assert (info["unified"].shape, info["unified"].dtype) == ((4, 20), np.float32)
    assert (info["unified"] == env.arenas.view.unified()).all()


# Auto-reset ---------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_final_observation_survives_auto_reset(task: str) -> None:
    n = 4
    env = DuelVectorEnv(n, task, opponent="still" if task == "combined" else None)
    env.reset(seed=6)
    sample = _sampler(task, n)
    for _ in range(LENGTH[task] - 1):
        _, _, terminated, truncated, infos = env.step(sample())
        assert "final_obs" not in infos
        assert not (terminated | truncated).any()
    actions = sample()
    twins = [DuelEnv(task, opponent="still" if task == "combined" else None) for _ in range(n)]
    for k, twin in enumerate(twins):  # a single environment has no auto-reset
        twin.reset(seed=6)
        saved = env.get_state()
        rows = {name: value[k : k + 1] for name, value in saved.items() if value.ndim}
        twin._batch.set_state({**rows, "seed": saved["seed"]})
    unreset = np.stack([twin.step(actions[k])[0] for k, twin in enumerate(twins)])
    observation, _, terminated, truncated, infos = env.step(actions)
    assert truncated.all()
    assert not terminated.any()
    assert infos["_final_obs"].all()
    assert (infos["final_obs"] == unreset).all()
    assert set(infos["final_info"]) == set(DOMAIN.task(task).metrics)
    fresh, _ = DuelVectorEnv(n, task).reset(seed=6, options={"episode": n})
    assert (observation == fresh).all()  # arena i goes on with episode i + n
    assert (env.arenas.state.tick == 0).all()


def test_only_the_arenas_that_ended_start_again() -> None:
    env = DuelVectorEnv(3, "combined", opponent="still")
    env.reset(seed=0)
    arenas = env.arenas
    arenas.state.position[1] = [[0, 0, 0], [0, 0, 2]]
    arenas.state.yaw[1], arenas.state.pitch[1] = 0.0, 0.0
    arenas.state.health[1, 1] = 1
    _, rewards, terminated, truncated, infos = env.step(np.tile(action(click=1), (3, 1)))
    assert terminated.tolist() == [False, True, False]
    assert not truncated.any()
    assert infos["_final_obs"].tolist() == [False, True, False]
    assert infos["final_info"]["win"][1] == 1
    assert infos["final_obs"][1, 13] == 0  # the opponent's health, before it was reset
    assert arenas.state.tick.tolist() == [1, 0, 1]
    assert arenas.numbers.tolist() == [0, 4, 2]
    assert rewards[1] > rewards[[0, 2]].max()


def test_what_a_step_returned_is_not_overwritten_by_the_next() -> None:
    env = DuelVectorEnv(3, "movement")
    first, _ = env.reset(seed=0)
    kept = [first, first.copy()]
    for _ in range(3):
        moved = env.step(np.ones((3, 6), dtype=np.int8))
        kept += [x for value in moved[:4] for x in (value, value.copy())]
        kept += [moved[4]["unified"], moved[4]["unified"].copy()]
    for value, copy in zip(kept[::2], kept[1::2], strict=True):
        assert (value == copy).all()


def test_a_single_environment_stops_at_the_end_of_its_episode() -> None:
    env = DuelEnv("aiming")
    with pytest.raises(ConfigurationError, match="no episode is going on"):
        env.step(np.zeros(2, dtype=np.float32))
    env.reset(seed=0)
    truncated = False
    while not truncated:
        _, _, terminated, truncated, info = env.step(np.zeros(2, dtype=np.float32))
        assert not terminated
    assert set(info["metrics"]) == {"on_target", "error_deg"}
    with pytest.raises(ConfigurationError, match="no episode is going on"):
        env.step(np.zeros(2, dtype=np.float32))


# Save and restore ---------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_a_saved_environment_goes_on_bit_for_bit(task: str) -> None:
    n = 6
    env = DuelVectorEnv(n, task)
    env.reset(seed=13)
    sample = _sampler(task, n)
    for _ in range(150):
        env.step(sample())
    saved = env.get_state()
    other = DuelVectorEnv(n, task, seed=99)
    other.set_state(saved)
    for _ in range(300):  # over the end of episodes, into the next
        actions = sample()
        ours, theirs = env.step(actions), other.step(actions)
        for one, another in zip(ours[:4], theirs[:4], strict=True):
            assert one.tobytes() == another.tobytes()
        np.testing.assert_equal(ours[4], theirs[4])
    assert all(isinstance(value, np.ndarray) for value in saved.values())


@pytest.mark.parametrize("seed", [0, -3, 2**40, 2**63, 2**64 - 1])
def test_the_saved_seed_decides_the_episodes_to_come(seed: int) -> None:
    env = DuelVectorEnv(2, "combined", seed=seed)
    other = DuelVectorEnv(2, "combined", seed=8)
    other.set_state(env.get_state())
    first, again = env.reset()[0], other.reset()[0]
    assert (first == again).all()
    assert (first != DuelVectorEnv(2, "combined", seed=8).reset()[0]).any()


# Bad actions --------------------------------------------------------------------------------

BAD = {
    "movement": [(1, 4, 2.0), (0, 5, -1.0), (2, 0, math.nan), (1, 1, 0.5)],
    "aiming": [(1, 1, math.nan), (0, 1, 0.63), (2, 0, -math.inf), (1, 0, 3.0)],
    "combined": [(1, 3, math.nan), (0, 6, 1.5), (2, 8, 0.7), (2, 0, -0.1)],
}


def _bad_batch(task: str, row: int, column: int, value: float) -> np.ndarray:
    shape = SPACES[task][1].shape
    assert shape is not None
    actions = np.zeros((3, *shape), dtype=np.float64)
    actions[row, column] = value
    actions[2, -1] = value  # a later one, unless it is the same
    return actions


@pytest.mark.parametrize(("task", "entry"), [(t, e) for t, found in BAD.items() for e in found])
def test_a_bad_number_is_named_alike_by_all_interfaces(
    task: str, entry: tuple[int, int, float]
) -> None:
    row, column, value = entry
    actions = _bad_batch(task, row, column, value)
    shape = re.escape(str(actions.shape))
    many = rf"actions of shape {shape}: entry \[{row}, {column}\] is "
    vector, sb3 = DuelVectorEnv(3, task), SB3VecEnv(DuelVectorEnv(3, task))
    vector.reset(seed=0)
    sb3.reset()
    with pytest.raises(ActionError, match=many):
        vector.step(actions)
    with pytest.raises(ActionError, match=many):
        sb3.step(actions)
    env = gymnasium.make(IDS[task])
    env.reset(seed=0)
    own = re.escape(str(actions[row].shape))
    with pytest.raises(ActionError, match=rf"actions of shape {own}: entry \[{column}\] is "):
        env.step(actions[row])
    assert vector.arenas.state.tick.tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [2, -1, math.nan, 0.5])
def test_a_bad_click_is_named_alike_by_all_interfaces(value: float) -> None:
    actions = np.array([0, 1, value, value])
    for env in (DuelVectorEnv(4, "clicking"), SB3VecEnv(DuelVectorEnv(4, "clicking"))):
        env.reset()
        with pytest.raises(ActionError, match=r"actions of shape \(4,\): entry \[2\] is "):
            env.step(actions)
    alone = gymnasium.make(IDS["clicking"])
    alone.reset(seed=0)
    with pytest.raises(ActionError, match=r"actions of shape \(\): entry \[\] is "):
        alone.step(value)


@pytest.mark.parametrize("task", TASKS)
def test_a_wrong_shape_is_named_alike_by_all_interfaces(task: str) -> None:
    space = SPACES[task][1]
    right = (3, *(space.shape or ()))
    for wrong in ((2, *right[1:]), (*right, 1), ()):
        message = rf"shape {re.escape(str(wrong))}, expected {re.escape(str(right))}"
        for env in (DuelVectorEnv(3, task), SB3VecEnv(DuelVectorEnv(3, task))):
            env.reset()
            with pytest.raises(ActionError, match=message):
                env.step(np.zeros(wrong, dtype=np.float32))
    alone = gymnasium.make(IDS[task])
    alone.reset(seed=0)
    wrong = (*(space.shape or ()), 3)
    message = rf"shape {re.escape(str(wrong))}, expected {re.escape(str(space.shape or ()))}"
    with pytest.raises(ActionError, match=message):
        alone.step(np.zeros(wrong, dtype=np.float32))


def test_an_action_error_is_a_value_error_and_leaves_the_environment_usable() -> None:
    env = DuelEnv("combined")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="expected"):
        env.step("forward")
    env.step(np.zeros(9))
    assert env.arenas.state.tick[0] == 1


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.bool_, np.float32, np.float64])
def test_keys_may_have_any_type_of_number(dtype: Any) -> None:
    env = DuelVectorEnv(2, "movement")
    env.reset(seed=0)
    held = np.zeros((2, 6), dtype=dtype)
    held[:, [0, 5]] = 1
    env.step(held)
    assert env.arenas.state.sprinting[:, 0].all()


# Rendering ----------------------------------------------------------------------------------


def test_rgb_array_frames_show_the_fight() -> None:
    env = gymnasium.make(IDS["combined"], render_mode="rgb_array")
    env.reset(seed=0)
    first: Any = env.render()
    assert (first.shape, first.dtype) == ((480, 640, 3), np.uint8)
    for _ in range(5):
        env.step(action(w=1))
    later: Any = env.render()
    assert (first != later).any()
    env.close()


def test_rendering_needs_a_mode() -> None:
    env = DuelEnv("combined")
    env.reset(seed=0)
    with pytest.raises(ConfigurationError, match="without a render mode"):
        env.render()
    with pytest.raises(ConfigurationError, match="no render mode 'ansi'"):
        DuelEnv("combined", render_mode="ansi")
