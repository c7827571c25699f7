"""The Gymnasium environments: spaces, one against many, auto-reset, and refusing bad actions."""

from __future__ import annotations

import math
import pickle
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import skilldistill  # noqa: F401  registers the environments
from skilldistill.duel import render
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
        before = other.arenas.state.position.copy()
        assert (env.step(held)[0] == other.step(held)[0]).all()
        assert (other.arenas.state.position != before).any()
        assert (other.arenas.state.position == env.arenas.state.position).all()


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": deepcopy,
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copied_environment_plays_the_same_fight_to_its_end(way: str) -> None:
    """Its health and positions are those that the rules look at, so it is lost in the end."""
    env = DuelEnv("combined", seed=3, opponent="chaser")
    env.reset(seed=3)
    stand = np.zeros(9, dtype=np.float32)
    for _ in range(20):
        env.step(stand)
    other = COPIES[way](env)
    start, over = other.arenas.state.position.copy(), False
    while not over:
        ours, theirs = env.step(stand), other.step(stand)
        assert ours[0].tobytes() == theirs[0].tobytes()
        assert ours[1:4] == theirs[1:4]
        over = ours[2] or ours[3]
    np.testing.assert_equal(theirs[4]["metrics"], ours[4]["metrics"])
    assert theirs[4]["metrics"]["taken"] == 20 - other.arenas.state.health[0, 0] > 5
    assert theirs[4]["metrics"]["loss"] == (other.arenas.state.health[0, 0] <= 0)
    assert (other.arenas.state.position[0, 1] != start[0, 1]).any()
    assert (other.arenas.state.position == env.arenas.state.position).all()


@pytest.mark.parametrize("way", COPIES)
def test_a_copied_batch_goes_on_by_itself(way: str) -> None:
    env = DuelVectorEnv(4, "combined", seed=3, opponent="strafer")
    env.reset()
    sample = _sampler("combined", 4)
    other = COPIES[way](env)
    before = env.arenas.state.position.copy()
    played = [(actions := sample(), other.step(actions))[1] for _ in range(450)]
    assert (env.arenas.state.position == before).all()
    assert (env.arenas.state.tick == 0).all()
    sample = _sampler("combined", 4)
    for theirs in played:
        ours = env.step(sample())
        for one, another in zip(ours[:4], theirs[:4], strict=True):
            assert one.tobytes() == another.tobytes()
        np.testing.assert_equal(ours[4], theirs[4])
    assert (other.arenas.state.position == env.arenas.state.position).all()


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
        assert set(own_info) == ({"unified"} if task != "combined" else set())
        assert set(info) == own_info.keys() | {f"_{name}" for name in own_info}
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
                last = infos["final_info"]
                found = {name: last[name][k] for name in DOMAIN.task(task).metrics}
                np.testing.assert_equal(own_info["metrics"], found)
                if task != "combined":
                    assert (own_info["unified"] == last["unified"][k]).all()
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
    assert info["_unified"].tolist() == [True] * 4


def test_infos_have_the_masks_that_gymnasium_gives_to_single_environments() -> None:
    """The names beside ours are those that SyncVectorEnv makes of the infos of its parts."""
    ours = DuelVectorEnv(3, "aiming", max_episode_steps=2)
    sync = gymnasium.make_vec(
        IDS["aiming"],
        num_envs=3,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        max_episode_steps=2,
    )
    for env in (ours, sync):
        assert set(env.reset(seed=0)[1]) == {"unified", "_unified"}
        for _ in range(2):
            infos = env.step(np.zeros((3, 2), dtype=np.float32))[4]
        assert {"unified", "_unified", "final_obs", "_final_obs", "final_info", "_final_info"} == (
            set(infos)
        )
        last = infos["final_info"]
        assert (last["unified"].shape, last["_unified"].tolist()) == ((3, 20), [True] * 3)
        assert (last["unified"] != infos["unified"]).any(axis=1).all()


def test_sb3_sees_the_metrics_of_episodes_and_nothing_else_of_them() -> None:
    env = SB3VecEnv(DuelVectorEnv(2, "aiming", seed=0, max_episode_steps=30))
    env.reset()
    for _ in range(30):
        _, _, dones, infos = env.step(np.zeros((2, 2), dtype=np.float32))
    assert dones.all()
    assert set(infos[0]) == {
        "on_target", "error_deg", "terminal_observation", "TimeLimit.truncated", "episode"
    }  # fmt: skip


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
        own = {name: value[k : k + 1] if value.ndim else value for name, value in saved.items()}
        twin._batch.set_state(own)
    unreset = np.stack([twin.step(actions[k])[0] for k, twin in enumerate(twins)])
    observation, _, terminated, truncated, infos = env.step(actions)
    assert truncated.all()
    assert not terminated.any()
    assert infos["_final_obs"].all()
    assert (infos["final_obs"] == unreset).all()
    names = {*DOMAIN.task(task).metrics, *(["unified"] if task != "combined" else [])}
    assert set(infos["final_info"]) == names | {f"_{name}" for name in names}
    assert all(infos["final_info"][f"_{name}"].all() for name in names)
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
    assert infos["final_info"]["_win"].tolist() == [False, True, False]
    assert infos["_final_info"].tolist() == [False, True, False]
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


# Seeds and options --------------------------------------------------------------------------


def _begun(env: DuelVectorEnv | DuelEnv) -> bytes:
    return env.arenas.state.position.tobytes()


def test_without_a_seed_no_two_environments_play_the_same() -> None:
    vectors = [DuelVectorEnv(2) for _ in range(3)]
    envs = [DuelEnv() for _ in range(3)]
    for made in (vectors, envs):
        for env in made:
            env.reset()
        assert len({_begun(env) for env in made}) == 3
    sync = gymnasium.make_vec(IDS["aiming"], num_envs=3, vectorization_mode="sync")
    observation, _ = sync.reset()
    assert len(np.unique(observation, axis=0)) == 3


@pytest.mark.parametrize("build", [DuelEnv, lambda **given: DuelVectorEnv(2, **given)])
def test_the_seed_that_was_drawn_can_be_played_again(build: Callable[..., Any]) -> None:
    env = build()
    env.reset()
    again = build()
    again.reset(seed=env.np_random_seed)
    assert _begun(again) == _begun(env)
    assert build(seed=7).np_random_seed == 7


def test_a_seed_given_to_the_constructor_begins_with_episode_zero() -> None:
    fresh = DuelVectorEnv(3, seed=5)
    fresh.reset()
    assert fresh.arenas.numbers.tolist() == [0, 1, 2]
    seeded = DuelVectorEnv(3, seed=8)
    seeded.reset(seed=5)
    assert _begun(fresh) == _begun(seeded)
    alone = DuelEnv(seed=5)
    alone.reset()
    assert _begun(alone) == fresh.arenas.state.position[:1].tobytes()


def test_resets_without_a_seed_go_on_with_episodes_not_played_yet() -> None:
    env = DuelVectorEnv(3, "combined", seed=5, opponent="still")
    numbers = []
    for _ in range(3):
        env.reset()
        numbers += env.arenas.numbers.tolist()
    assert numbers == list(range(9))
    env.arenas.state.health[1, 1] = 0  # arena 1 goes on with episode 10 by itself
    env.step(np.zeros((3, 9), dtype=np.float32))
    assert env.arenas.numbers.tolist() == [6, 10, 8]
    env.reset()
    assert env.arenas.numbers.tolist() == [9, 13, 11]
    env.reset(seed=5)
    assert env.arenas.numbers.tolist() == [0, 1, 2]
    env.reset(options={"episode": 40})
    assert env.arenas.numbers.tolist() == [40, 41, 42]
    env.reset(options={})
    assert env.arenas.numbers.tolist() == [43, 44, 45]


def test_a_saved_environment_goes_on_with_the_same_episodes() -> None:
    for resets in (0, 1, 2):
        env, other = DuelVectorEnv(2, seed=5), DuelVectorEnv(2, seed=6)
        other.reset()
        for _ in range(resets):
            env.reset()
        other.set_state(env.get_state())
        env.reset()
        other.reset()
        assert other.arenas.numbers.tolist() == [2 * resets, 2 * resets + 1]
        assert _begun(other) == _begun(env)
        assert other.np_random_seed == env.np_random_seed == 5


def test_the_first_of_a_list_of_seeds_counts() -> None:
    env, other = DuelVectorEnv(3), DuelVectorEnv(3)
    env.reset(seed=4)
    for seeds in ([4, 5, 6], (4, 5, 6), [np.int64(4), None, 9], np.uint8(4)):
        other.reset(seed=seeds)  # type: ignore[arg-type]
        assert _begun(other) == _begun(env)
    other.reset(seed=[None, None, None])
    assert other.arenas.numbers.tolist() == [3, 4, 5]


BAD_SEEDS = [-1, 1.0, "4", True, np.float64(4), {}, [], [-3, 1], [4, "x"], [4, -1]]


@pytest.mark.parametrize("seed", BAD_SEEDS, ids=repr)
@pytest.mark.parametrize("build", [DuelEnv, lambda **given: DuelVectorEnv(2, **given)])
def test_what_is_no_seed_is_refused_before_anything_changes(
    build: Callable[..., Any], seed: Any
) -> None:
    env = build(seed=3)
    env.reset()
    before, generator = _begun(env), env.np_random
    with pytest.raises(ConfigurationError, match="seed"):
        env.reset(seed=seed)
    assert _begun(env) == before
    assert env.arenas.seed == env.np_random_seed == 3
    assert env.np_random is generator
    if not isinstance(seed, int) or isinstance(seed, bool):  # −1 may stand in a constructor
        with pytest.raises(ConfigurationError, match="seed"):
            build(seed=seed)


def test_one_environment_takes_one_seed() -> None:
    with pytest.raises(ConfigurationError, match=r"a seed is .* not \[4\]"):
        DuelEnv().reset(seed=[4])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"episodes": 3}, "no option 'episodes'", "did you mean episode?"),
        ({"low": -1}, "no option 'low'", "choose from episode"),
        ({"episode": -1}, "an episode is .* not -1", ""),
        ({"episode": 1.0}, r"an episode is .* not 1\.0", ""),
        ({"episode": True}, "an episode is .* not True", ""),
        ({"episode": "1"}, "an episode is .* not '1'", ""),
        ({"episode": 2**63}, "an episode is .* not 9223372036854775808", ""),
        ([("episode", 1)], "are a dictionary", ""),
    ],
)
@pytest.mark.parametrize("build", [DuelEnv, lambda **given: DuelVectorEnv(2, **given)])
def test_options_that_mean_nothing_are_refused_before_anything_changes(
    build: Callable[..., Any], options: Any, message: str, hint: str
) -> None:
    env = build(seed=3)
    env.reset()
    before = _begun(env)
    with pytest.raises(ConfigurationError, match=message) as caught:
        env.reset(seed=9, options=options)
    assert caught.value.hint.startswith(hint)
    assert _begun(env) == before
    assert env.arenas.seed == env.np_random_seed == 3


def test_a_mask_resets_only_the_arenas_it_names() -> None:
    env = DuelVectorEnv(4, "aiming", seed=3)
    env.reset()
    for _ in range(5):
        env.step(np.zeros((4, 2), dtype=np.float32))
    before = env.arenas.state.fighters.copy()
    mask = np.array([True, False, False, True])
    observation, info = env.reset(options={"reset_mask": mask})
    assert env.arenas.numbers.tolist() == [4, 1, 2, 7]
    assert env.arenas.state.tick.tolist() == [0, 5, 5, 0]
    assert (env.arenas.state.fighters[~mask] == before[~mask]).all()
    assert (observation == env.arenas.view.native("aiming")).all()
    assert (info["unified"] == env.arenas.view.unified()).all()
    fresh, _ = DuelVectorEnv(4, "aiming").reset(seed=3, options={"episode": 4})
    assert (observation[mask] == fresh[mask]).all()
    later = (~mask).repeat(2)[::2]  # not side by side in memory
    later.flags.writeable = False
    env.reset(options={"reset_mask": later, "episode": 20})
    assert env.arenas.numbers.tolist() == [4, 21, 22, 7]


@pytest.mark.parametrize(
    "mask", [np.ones(3, dtype=bool), np.ones((4, 1), dtype=bool), np.ones(4), [0, 1, 0, 1], True]
)
def test_a_mask_that_does_not_fit_is_refused(mask: Any) -> None:
    env = DuelVectorEnv(4, "aiming", seed=3)
    with pytest.raises(
        ConfigurationError, match=r"reset_mask is .*, expected bool of shape \(4,\)"
    ):
        env.reset(options={"reset_mask": mask})


def test_a_mask_and_a_seed_do_not_go_together() -> None:
    env = DuelVectorEnv(2, "aiming", seed=3)
    with pytest.raises(ConfigurationError, match="cannot take a new seed"):
        env.reset(seed=4, options={"reset_mask": np.array([True, False])})
    assert env.arenas.seed == 3
    with pytest.raises(ConfigurationError, match="no option 'reset_mask'"):
        DuelEnv("aiming").reset(options={"reset_mask": np.array([True])})


def test_make_vec_can_shorten_episodes() -> None:
    env = gymnasium.make_vec(IDS["aiming"], num_envs=2, max_episode_steps=5)
    assert isinstance(env.unwrapped, DuelVectorEnv)
    env.reset(seed=0)
    for tick in range(1, 11):
        _, _, terminated, truncated, infos = env.step(np.zeros((2, 2), dtype=np.float32))
        assert not terminated.any()
        assert (truncated == (tick % 5 == 0)).all()
        assert ("final_obs" in infos) == (tick % 5 == 0)
    with pytest.raises(ConfigurationError, match="a whole number of ticks, not 0"):
        DuelVectorEnv(2, max_episode_steps=0)


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
    vector, parts = DuelVectorEnv(3, task), [DuelVectorEnv(n, task) for n in (2, 1)]
    for player in (vector, SB3VecEnv(DuelVectorEnv(3, task)), SB3VecEnv(parts)):
        player.reset()
        with pytest.raises(ActionError, match=many):
            player.step(actions)
    for part in parts:  # none plays before all have agreed
        assert (part.arenas.state.tick == 0).all()
    env = gymnasium.make(IDS[task])
    env.reset(seed=0)
    own = re.escape(str(actions[row].shape))
    with pytest.raises(ActionError, match=rf"actions of shape {own}: entry \[{column}\] is "):
        env.step(actions[row])
    assert vector.arenas.state.tick.tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [2, -1, math.nan, 0.5])
def test_a_bad_click_is_named_alike_by_all_interfaces(value: float) -> None:
    actions = np.array([0, 1, value, value])
    parts = [DuelVectorEnv(2, "clicking"), DuelVectorEnv(2, "clicking")]
    whole = DuelVectorEnv(4, "clicking")
    for env in (whole, SB3VecEnv(DuelVectorEnv(4, "clicking")), SB3VecEnv(parts)):
        env.reset()
        with pytest.raises(ActionError, match=r"actions of shape \(4,\): entry \[2\] is "):
            env.step(actions)
    assert parts[0].arenas.state.tick.tolist() == [0, 0]
    alone = gymnasium.make(IDS["clicking"])
    alone.reset(seed=0)
    with pytest.raises(ActionError, match=r"actions of shape \(\): entry \[\] is "):
        alone.step(value)


def test_a_key_that_is_almost_pressed_is_told_apart_from_one_that_is() -> None:
    env = DuelEnv("movement", seed=0)
    env.reset()
    held = np.zeros(6, dtype=np.float32)
    held[2] = np.nextafter(np.float32(1), np.float32(0))
    with pytest.raises(ActionError, match=r"entry \[2\] is 0\.9999999\d, neither 0 nor 1"):
        env.step(held)


@pytest.mark.parametrize("task", TASKS)
def test_a_wrong_shape_is_named_alike_by_all_interfaces(task: str) -> None:
    space = SPACES[task][1]
    right = (3, *(space.shape or ()))
    for wrong in ((2, *right[1:]), (*right, 1), ()):
        message = rf"shape {re.escape(str(wrong))}, expected {re.escape(str(right))}"
        parts = [DuelVectorEnv(2, task), DuelVectorEnv(1, task)]
        whole = DuelVectorEnv(3, task)
        for env in (whole, SB3VecEnv(DuelVectorEnv(3, task)), SB3VecEnv(parts)):
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


@pytest.mark.parametrize("view", render.VIEWS)
def test_a_batch_gives_a_frame_per_arena_and_one_environment_one(view: str) -> None:
    batch = gymnasium.make_vec(IDS["combined"], num_envs=3, render_mode="rgb_array", view=view)
    batch.reset(seed=0)
    frames = batch.render()
    assert isinstance(frames, tuple)
    assert [frame.shape for frame in frames] == [(480, 640, 3)] * 3
    alone = gymnasium.make(IDS["combined"], render_mode="rgb_array", view=view)
    for k, frame in enumerate(frames):
        alone.reset(seed=0, options={"episode": k})
        assert (alone.render() == frame).all()
        assert (frame == render.draw(batch.unwrapped.arenas, k, view)).all()  # type: ignore[attr-defined]


def test_sb3_renders_every_arena_in_one_picture() -> None:
    parts = [DuelVectorEnv(n, "aiming", seed=n, render_mode="rgb_array") for n in (2, 1)]
    env = SB3VecEnv(parts)
    env.reset()
    frames = env.get_images()
    assert len({frame.tobytes() for frame in frames}) == 3
    picture = env.render()
    assert picture is not None
    assert picture.shape == (2 * 480, 2 * 640, 3)
    assert (picture[:480, 640:] == frames[1]).all()


@pytest.mark.parametrize("build", [DuelEnv, lambda **given: DuelVectorEnv(2, **given)])
def test_an_unknown_view_is_refused_at_once(build: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="no view 'side'"):
        build(view="side")


def test_what_was_refused_can_still_be_closed_as_older_gymnasiums_do() -> None:
    DuelVectorEnv.__new__(DuelVectorEnv).close_extras()


def test_rendering_needs_a_mode() -> None:
    env = DuelEnv("combined")
    env.reset(seed=0)
    with pytest.raises(ConfigurationError, match="without a render mode"):
        env.render()
    with pytest.raises(ConfigurationError, match="no render mode 'ansi'"):
        DuelEnv("combined", render_mode="ansi")
