"""A batch of duels: the same episodes however many run side by side, saved and restored exactly,
and actions checked at the border."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from skilldistill.duel.arenas import DuelArenas, ScriptPolicy
from skilldistill.duel.declare import DOMAIN
from skilldistill.errors import ActionError, ConfigurationError
from tests.duel.making import LIMIT, TASKS, Hash, Puppet, action, play_through, random_actions

EPISODES = {1: (0, 5, 17, 255), 7: (0, 14, 252)}
"""First episodes of the batches of 1 and of 7 that are compared to the batch of 256."""


@pytest.mark.parametrize(
    ("task", "opponent"),
    [
        ("movement", None),
        ("aiming", None),
        ("clicking", None),
        ("combined", "chaser"),
        ("combined", "wander"),
        ("combined", "mix"),
    ],
)
def test_scripted_episodes_are_bit_identical_at_1_7_and_256_arenas(
    task: str, opponent: str | None
) -> None:
    script = ScriptPolicy("strafer")
    horizon = DOMAIN.task(task).horizon

    def traces(n: int, first: int) -> list[str]:
        arenas = DuelArenas(task, n, seed=11, opponent=opponent)
        arenas.start(first + np.arange(n))
        return play_through(arenas, lambda a: script.act(a.view), horizon)

    together = traces(256, 0)
    assert len(set(together)) == 256
    for n, firsts in EPISODES.items():
        for first in firsts:
            for i, trace in enumerate(traces(n, first)):
                if first + i < 256:
                    assert trace == together[first + i], (n, first + i)


@pytest.mark.parametrize("task", TASKS)
def test_policies_that_draw_random_numbers_play_the_same_alone(task: str) -> None:
    opponent = Hash() if task == "combined" else None
    many = DuelArenas(task, 40, seed=3, opponent=opponent)
    alone = DuelArenas(task, 1, seed=3, opponent=opponent)
    alone.start(np.array([17]))
    hashed = Hash()
    ticks = 200
    together = play_through(many, lambda a: hashed.act(a.view), ticks)
    (single,) = play_through(alone, lambda a: hashed.act(a.view), ticks)
    assert single == together[17]
    for name, value in alone.metrics().items():
        np.testing.assert_array_equal(value[0], many.metrics()[name][17])


def test_another_seed_or_episode_is_another_fight() -> None:
    begun = [
        DuelArenas("combined", 2, seed=seed).state.position.tobytes() for seed in (0, 1, -1, 2**63)
    ]
    assert len(set(begun)) == 4
    arenas = DuelArenas("combined", 2, seed=0)
    assert (arenas.state.position[0] != arenas.state.position[1]).any()


@pytest.mark.parametrize(
    ("task", "opponent"), [*((task, None) for task in TASKS), ("combined", "mix")]
)
def test_a_saved_batch_goes_on_exactly(task: str, opponent: str | None) -> None:
    hashed = Hash()
    arenas = DuelArenas(task, 20, seed=3, opponent=opponent)
    arenas.start(np.arange(20) * 3)
    play_through(arenas, lambda a: hashed.act(a.view), 37)
    saved = arenas.save()
    kept = {name: value.copy() for name, value in saved.items()}
    first = play_through(arenas, lambda a: hashed.act(a.view), 60)
    assert all((saved[name] == kept[name]).all() for name in kept)  # a copy, not a window

    other = DuelArenas(task, 20, seed=3, opponent=opponent)
    other.restore(saved)
    assert play_through(other, lambda a: hashed.act(a.view), 60) == first
    for name, value in other.metrics().items():
        np.testing.assert_array_equal(value, arenas.metrics()[name])
    assert all(value.dtype.names is None for value in saved.values())


def test_starting_some_arenas_leaves_the_others_alone() -> None:
    arenas = DuelArenas("combined", 6, seed=3)
    hashed = Hash()
    play_through(arenas, lambda a: hashed.act(a.view), 20)
    before = arenas.state.fighters.copy()
    chosen = np.array([True, False, False, True, False, False])
    arenas.start(np.arange(100, 106), chosen)
    assert arenas.numbers.tolist() == [100, 1, 2, 103, 4, 5]
    assert arenas.state.tick.tolist() == [0, 20, 20, 0, 20, 20]
    assert (arenas.state.fighters[~chosen] == before[~chosen]).all()
    fresh = DuelArenas("combined", 1, seed=3)
    fresh.start(np.array([103]))
    assert arenas.state.fighters[3].tobytes() == fresh.state.fighters[0].tobytes()


def test_the_rival_sees_the_fight_from_its_own_seat() -> None:
    """With the same policy in both seats, swapping the seats swaps what they see."""
    arenas = DuelArenas("combined", 9, seed=3)
    swapped = DuelArenas("combined", 9, seed=3)
    swapped.state.fighters[...] = arenas.state.fighters[:, ::-1]
    for skill in ("movement", "aiming", "clicking"):
        ours, theirs = arenas.rival_view.native(skill), swapped.view.native(skill)
        assert (ours == theirs).all()
    assert (arenas.rival_view.unified() == swapped.view.unified()).all()
    assert (arenas.view.uniform(1, 4) != arenas.rival_view.uniform(1, 4)).all()


def test_draws_of_a_view_belong_to_tick_episode_and_stream() -> None:
    arenas = DuelArenas("combined", 5, seed=3)
    first = arenas.view.uniform(0, 3)
    assert first.shape == (5, 3)
    assert (arenas.view.uniform(0, 3) == first).all()
    assert (arenas.view.uniform(1, 3) != first).all()
    arenas.step(np.zeros((5, 9), dtype=np.float32))
    assert (arenas.view.uniform(0, 3) != first).all()
    arenas.start(np.arange(5))
    assert (arenas.view.uniform(0, 3) == first).all()


def test_the_movement_view_remembers_the_look_one_tick_earlier() -> None:
    arenas = DuelArenas("combined", 4, seed=3, opponent="chaser")
    yaw, pitch = arenas.state.yaw[:, 1].copy(), arenas.state.pitch[:, 1].copy()
    look = np.stack([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)], 1)
    first = arenas.view.native("movement")
    assert first[:, 17:] == pytest.approx(first[:, 14:17], abs=1e-6)  # before the first tick
    arenas.step(np.zeros((4, 9), dtype=np.float32))
    agent_yaw, agent_pitch = arenas.state.yaw[:, 0], arenas.state.pitch[:, 0]
    forward = np.stack(
        [
            np.cos(agent_pitch) * np.sin(agent_yaw),
            np.sin(agent_pitch),
            np.cos(agent_pitch) * np.cos(agent_yaw),
        ],
        axis=1,
    )
    seen = arenas.view.native("movement")
    assert seen[:, 19] == pytest.approx((look * forward).sum(axis=1), abs=1e-6)
    assert (np.abs(seen[:, 14:17] - seen[:, 17:]).max(axis=1) > 1e-3).any()


# At the border ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "value", "bounds"),
    [
        ((1, 3), math.nan, "[0, 1]"),
        ((0, 0), math.inf, "[0, 1]"),
        ((2, 6), -0.01, "[0, 1]"),
        ((2, 5), 1.01, "[0, 1]"),
        ((1, 8), 0.7, "[-0.6283"),
        ((1, 7), -0.7, "[-0.6283"),
        ((0, 1), 1e300, "[0, 1]"),
    ],
)
def test_a_bad_number_is_named_with_shape_and_index(
    at: tuple[int, int], value: float, bounds: str
) -> None:
    arenas = DuelArenas("combined", 3, seed=0)
    before = arenas.save()
    actions = np.zeros((3, 9))
    actions[at] = value
    actions[2, 8] = 9.0  # a later one
    message = rf"shape \(3, 9\): entry {re.escape(str(list(at)))} is .*{re.escape(bounds)}"
    with pytest.raises(ActionError, match=message):
        arenas.step(actions)
    assert all((before[name] == value).all() for name, value in arenas.save().items())


@pytest.mark.parametrize("shape", [(9,), (3, 8), (2, 9), (3, 9, 1), ()])
def test_a_wrong_shape_is_named_beside_the_right_one(shape: tuple[int, ...]) -> None:
    arenas = DuelArenas("combined", 3, seed=0)
    with pytest.raises(ActionError, match=rf"{re.escape(str(shape))}, expected \(3, 9\)"):
        arenas.step(np.zeros(shape))


JUNK = {
    "word": "forward",
    "ragged": [[1, 2], [3]],
    "nothing": None,
    "dictionaries": [{}] * 3,
    "words": [["0"] * 9] * 3,
    "bytes": np.full((3, 9), b"0"),
    "dates": np.zeros((3, 9), dtype="datetime64[s]"),
    "complex": np.zeros((3, 9), dtype=complex),
    "objects": np.zeros((3, 9), dtype=object),
    "holes": [[None] * 9] * 3,
    "too long for a float": [[10**400] * 9] * 3,
    "a gradient": torch.zeros((3, 9), requires_grad=True),
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_what_is_no_array_of_numbers_is_refused(junk: object) -> None:
    with pytest.raises(ActionError, match=r"expected actions of shape \(3, 9\)"):
        DuelArenas("combined", 3, seed=0).step(junk)  # type: ignore[arg-type]


def test_a_number_too_long_for_a_float_is_refused_whatever_holds_it() -> None:
    class Long:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            raise OverflowError("int too large to convert to float")

    with pytest.raises(ActionError, match=r"shape \(3, 9\): int too large"):
        DuelArenas("combined", 3, seed=0).step(Long())  # type: ignore[arg-type]


def test_a_tensor_without_a_gradient_is_an_array() -> None:
    arenas = DuelArenas("combined", 3, seed=0)
    arenas.step(torch.zeros((3, 9)))  # type: ignore[arg-type]
    assert arenas.state.tick.tolist() == [1, 1, 1]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_just_beyond_a_bound_is_told_apart_from_it(sign: int) -> None:
    actions = np.zeros((3, 9), dtype=np.float32)
    actions[1, 7] = np.nextafter(sign * np.float32(0.6283185), np.float32(9 * sign))
    with pytest.raises(ActionError) as caught:
        DuelArenas("combined", 3, seed=0).step(actions)
    told = re.fullmatch(r".* is (.*), outside \[(.*), (.*)\]", str(caught.value))
    assert told is not None
    value, low, high = map(float, told.groups())
    assert not low <= value <= high
    assert [np.float32(number) for number in (low, high)] == [-LIMIT, LIMIT]
    assert np.float32(value) == actions[1, 7]


def test_a_rival_is_held_to_the_same_bounds() -> None:
    class Cheater(Hash):
        def act(self, view: object) -> np.ndarray:
            return np.tile(action(dyaw=0.63), (2, 1))

    arenas = DuelArenas("combined", 2, seed=0, opponent=Cheater())
    with pytest.raises(ActionError, match=r"entry \[0, 7\] is 0\.63,"):
        arenas.step(np.zeros((2, 9), dtype=np.float32))
    with pytest.raises(ActionError, match=r"^the opponent's actions of shape \(2, 9\)"):
        arenas.step(np.zeros((2, 9), dtype=np.float32))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((1, 9)), r"the opponent's actions have shape \(1, 9\), expected \(2, 9\)"),
        (None, r"expected the opponent's actions of shape \(2, 9\)"),
    ],
)
def test_a_rivals_mistake_is_not_blamed_on_the_agent(given: object, message: str) -> None:
    arenas = DuelArenas("combined", 2, seed=0, opponent=Puppet(given))  # type: ignore[arg-type]
    with pytest.raises(ActionError, match=message):
        arenas.step(np.zeros((2, 9), dtype=np.float32))


def test_legal_limits_are_legal() -> None:
    arenas = DuelArenas("combined", 2, seed=0)
    for limit in (np.float32(0.6283185), 0.6283185, -0.6283185):
        arenas.step(np.tile(np.array([1.0] * 7 + [limit] * 2), (2, 1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "combind"}, "no task 'combind'"),
        ({"opponent": "boss"}, "no opponent 'boss'"),
        ({"opponent": 3}, r"a name or a policy with act\(view\), not 3"),
        ({"opponent": object()}, r"a name or a policy with act\(view\)"),
        ({"opponent": ["chaser"]}, r"a name or a policy with act\(view\)"),
        ({"task": "aiming", "opponent": 3}, r"a name or a policy with act\(view\), not 3"),
        ({"max_ticks": 0}, "a whole number of ticks, not 0"),
        ({"max_ticks": 2.5}, r"a whole number of ticks, not 2\.5"),
        ({"max_ticks": True}, "a whole number of ticks, not True"),
        ({"task": "aiming", "opponent": Hash()}, "takes no policy"),
        ({"num_arenas": 0}, "at least one arena"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict, message: str) -> None:
    given = {"task": "combined", "num_arenas": 2, "opponent": None, **arguments}
    with pytest.raises(ConfigurationError, match=message):
        DuelArenas(seed=0, **given)


@pytest.mark.parametrize(("wanted", "ticks"), [(7, 7), (np.int64(199), 199), (10_000, 200)])
def test_episodes_can_be_made_shorter_but_not_longer(wanted: int, ticks: int) -> None:
    arenas = DuelArenas("aiming", 2, seed=0, max_ticks=wanted)
    for tick in range(1, ticks + 1):
        moved = arenas.step(np.zeros((2, 9), dtype=np.float32))
        assert (moved.truncated == (tick == ticks)).all()
    assert not moved.terminated.any()
    assert not arenas.active.any()


def test_scripts_play_only_duels_and_have_names() -> None:
    with pytest.raises(ConfigurationError, match="no script 'boss'"):
        ScriptPolicy("boss")
    with pytest.raises(ConfigurationError, match="only duels"):
        ScriptPolicy("chaser").act(object())  # type: ignore[arg-type]
    arenas = DuelArenas("combined", 2, seed=0)
    with pytest.raises(ConfigurationError, match=r"shape \(3,\), expected \(2,\)"):
        arenas.start(np.arange(3))


# Soak ---------------------------------------------------------------------------------------


def soak(ticks: int, n: int, seed: int = 0) -> tuple[float, float]:
    """Random play against random play: greatest speed (blocks per tick), lowest feet (blocks)."""
    rng = np.random.default_rng(seed)
    rival = Puppet(random_actions(rng, n))
    arenas = DuelArenas("combined", n, seed=seed, opponent=rival)
    fastest, lowest, episode = 0.0, 0.0, n
    for tick in range(ticks):
        if tick % 3 == 0:  # hold keys for a moment, as players do
            actions, rival.actions = random_actions(rng, n), random_actions(rng, n)
        arenas.step(actions)
        # np.maximum and np.minimum keep a NaN, which max() and min() may drop
        speed, height = (
            np.linalg.norm(arenas.state.velocity, axis=-1),
            arenas.state.position[..., 1],
        )
        fastest = float(np.maximum(fastest, speed.max()))
        lowest = float(np.minimum(lowest, height.min()))
        assert np.isfinite(arenas.view.unified()).all()
        over = ~arenas.active
        if over.any():
            arenas.start(arenas.numbers + episode, over)
    return fastest, lowest


@pytest.mark.slow
def test_random_play_stays_finite_above_ground_and_below_two_blocks_per_tick() -> None:
    fastest, lowest = soak(ticks=1000, n=512)
    assert lowest >= 0
    assert 0.5 < fastest < 2.0
