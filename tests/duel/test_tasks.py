"""The four tasks: what their metrics mean, how episodes begin and end, what a tick does in order.

The metrics are computed a second time from what the arenas showed tick by tick, with formulas
of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from skilldistill.duel import combat, rules
from skilldistill.duel.arenas import DuelArenas, ScriptPolicy
from skilldistill.duel.declare import DOMAIN
from skilldistill.duel.state import DuelState
from tests.duel import formulas
from tests.duel.making import LIMIT, TASKS, Hash, Puppet, action, random_actions

HORIZON = {"movement": 400, "aiming": 200, "clicking": 600, "combined": 400}
PI = math.pi


@dataclass
class Diary:
    """What an episode of n arenas showed: one (n,) entry per tick."""

    before: list[DuelState] = field(default_factory=list)
    """The state in which the attacks were judged: after turning, before moving."""
    after: list[DuelState] = field(default_factory=list)
    clicks: list[np.ndarray] = field(default_factory=list)
    landed: list[np.ndarray] = field(default_factory=list)

    def stacked(self, what: str) -> np.ndarray:
        return np.stack(getattr(self, what))


def watch(arenas: DuelArenas, act: Callable[[], np.ndarray], ticks: int) -> Diary:
    diary = Diary()
    for _ in range(ticks):
        judged = arenas.state.copy()
        arenas.step(act())
        # Yaw and pitch change only when the fighters turn, at the beginning of the tick.
        judged.yaw, judged.pitch = arenas.state.yaw, arenas.state.pitch
        diary.before.append(judged)
        diary.after.append(arenas.state.copy())
        diary.clicks.append(arenas.state.fighters["click"].copy())
        diary.landed.append(arenas.state.fighters["landed"].copy())
    return diary


def distances(states: list[DuelState]) -> np.ndarray:
    """(ticks, n) from feet to feet."""
    return np.stack([np.linalg.norm(s.position[:, 1] - s.position[:, 0], axis=-1) for s in states])


def in_sight(states: list[DuelState], fighter: int) -> np.ndarray:
    """(ticks, n) whether the look ray of a fighter meets the other's grown box."""
    return np.stack([np.isfinite(combat.sight_distance(s)[:, fighter]) for s in states])


def coins(n: int, seed: int = 3) -> Callable[[], np.ndarray]:
    rng = np.random.default_rng(seed)
    return lambda: random_actions(rng, n)


# Metrics ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ticks", [41, 150, 400])
def test_in_band_and_exposed_count_ticks_after_tick_40(ticks: int) -> None:
    arenas = DuelArenas("movement", 12, seed=5)
    diary = watch(arenas, coins(12), ticks)
    distance = distances(diary.after)[40:]
    found = arenas.metrics()
    assert set(found) == {"in_band", "exposed"}
    expected = ((distance >= 2.0) & (distance <= 3.2)).mean(axis=0)
    np.testing.assert_allclose(found["in_band"], expected, rtol=1e-12)
    expected = in_sight(diary.before, 1)[40:].mean(axis=0)
    np.testing.assert_allclose(found["exposed"], expected, rtol=1e-12)


@pytest.mark.parametrize("ticks", [21, 200])
def test_on_target_counts_ticks_after_tick_20_and_error_all_of_them(ticks: int) -> None:
    arenas = DuelArenas("aiming", 12, seed=5)
    toss = coins(12)
    diary = watch(arenas, lambda: np.float32(0.2) * toss(), ticks)
    found = arenas.metrics()
    assert set(found) == {"on_target", "error_deg"}
    expected = in_sight(diary.before, 0)[20:].mean(axis=0)
    np.testing.assert_allclose(found["on_target"], expected, rtol=1e-12)

    angles = []
    for state in diary.before:
        centre = state.position[:, 1] + [0, 0.9, 0]
        to_centre = centre - (state.position[:, 0] + [0, 1.62, 0])
        to_centre /= np.linalg.norm(to_centre, axis=1, keepdims=True)
        cosine = (to_centre * formulas.look(state, 0)).sum(axis=1)
        angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    np.testing.assert_allclose(found["error_deg"], np.mean(angles, axis=0), atol=1e-6)


def greedy_hits(arenas: DuelArenas, ticks: int) -> np.ndarray:
    """(n,) hits of clicking whenever that lands, found out by trying and taking back."""
    n = arenas.num_arenas
    hits = np.zeros(n)
    for _ in range(ticks):
        saved, had = arenas.save(), arenas.episodes["dealt"].copy()
        arenas.step(np.tile(action(click=1), (n, 1)))
        would = arenas.episodes["dealt"] > had
        arenas.restore(saved)
        clicks = np.zeros((n, 9), dtype=np.float32)
        clicks[:, 6] = would
        arenas.step(clicks)
        hits += would
    return hits


def test_hit_share_is_relative_to_a_perfect_clicker_of_the_same_episode() -> None:
    ticks, n = 600, 6
    arenas = DuelArenas("clicking", n, seed=8)
    diary = watch(arenas, coins(n), ticks)
    hits = diary.stacked("landed")[:, :, 0].sum(axis=0)
    clicks = diary.stacked("clicks")[:, :, 0].sum(axis=0)
    possible = greedy_hits(DuelArenas("clicking", n, seed=8), ticks)
    assert (possible > 3).all()
    found = arenas.metrics()
    assert set(found) == {"hit_share", "precision"}
    np.testing.assert_allclose(found["hit_share"], hits / possible, rtol=1e-12)
    np.testing.assert_allclose(found["precision"], hits / clicks, rtol=1e-12)


def test_hit_share_of_an_unfinished_episode_looks_at_its_ticks_only() -> None:
    n, ticks = 16, 130
    arenas = DuelArenas("clicking", n, seed=8)
    diary = watch(arenas, coins(n), ticks)
    hits = diary.stacked("landed")[:, :, 0].sum(axis=0)
    possible = greedy_hits(DuelArenas("clicking", n, seed=8), ticks)
    with np.errstate(invalid="ignore", divide="ignore"):
        np.testing.assert_allclose(arenas.metrics()["hit_share"], hits / possible, rtol=1e-12)


@pytest.mark.parametrize("opponent", [None, "chaser"])
def test_a_perfect_clicker_has_share_and_precision_one(opponent: str | None) -> None:
    arenas = DuelArenas("clicking", 4, seed=21, opponent=opponent)
    greedy_hits(arenas, 600)
    found = arenas.metrics()
    assert found["hit_share"].tolist() == [1, 1, 1, 1]
    assert found["precision"].tolist() == [1, 1, 1, 1]


def test_combined_metrics_count_hits_clicks_and_ticks() -> None:
    n = 24
    arenas = DuelArenas("combined", n, seed=2, opponent="chaser")
    chaser = ScriptPolicy("chaser")
    diary = watch(arenas, lambda: chaser.act(arenas.view), 400)
    running = np.stack([s.tick for s in diary.after])
    played = running > np.vstack([np.zeros((1, n)), running[:-1]])  # ended arenas stand still
    landed, clicks = diary.stacked("landed"), diary.stacked("clicks")
    found = arenas.metrics()
    assert list(found) == ["win", "loss", "draw", "dealt", "taken", "precision", "ticks"]
    dealt, taken = ((landed[:, :, seat] & played).sum(axis=0) for seat in (0, 1))
    assert (found["dealt"] == dealt).all()
    assert (found["taken"] == taken).all()
    clicked = (clicks[:, :, 0] & played).sum(axis=0)
    np.testing.assert_allclose(found["precision"], dealt / clicked)
    assert (found["ticks"] == played.sum(axis=0)).all()
    assert (arenas.state.health[:, 1] == 20 - dealt).all()
    assert (arenas.state.health[:, 0] == 20 - taken).all()
    assert (found["win"] + found["loss"] + found["draw"] == 1).all()


@pytest.mark.parametrize(
    ("health", "outcome"), [((5, 1), "win"), ((1, 5), "loss"), ((1, 1), "draw")]
)
def test_win_loss_and_draw_by_death(health: tuple[float, float], outcome: str) -> None:
    both_click = Puppet(action(click=1)[None])
    arenas = DuelArenas("combined", 1, seed=0, opponent=both_click)
    arenas.state.position[0] = [[0, 0, 0], [0, 0, 2]]
    arenas.state.yaw[0], arenas.state.pitch[0] = [0, PI], 0.0
    arenas.state.health[0] = health
    assert set(arenas.metrics()[outcome]) == {0.0}
    moved = arenas.step(action(click=1)[None])
    assert (moved.terminated[0], moved.truncated[0]) == (True, False)
    assert not arenas.active[0]
    found = arenas.metrics()
    assert {name for name in ("win", "loss", "draw") if found[name][0]} == {outcome}


def test_time_running_out_is_a_draw_whatever_the_health() -> None:
    arenas = DuelArenas("combined", 1, seed=0, opponent="still")
    arenas.state.position[0, 1] = [0, 0, 50]
    arenas.state.health[0] = [20, 1]
    for tick in range(1, 401):
        moved = arenas.step(np.zeros((1, 9), dtype=np.float32))
        assert bool(moved.truncated[0]) == (tick == 400)
        assert not moved.terminated[0]
        assert arenas.metrics()["draw"][0] == (tick == 400)
    assert arenas.metrics()["ticks"][0] == 400


def test_death_on_the_last_tick_terminates_and_does_not_truncate() -> None:
    arenas = DuelArenas("combined", 1, seed=0, opponent="still")
    for _ in range(399):
        arenas.step(np.zeros((1, 9), dtype=np.float32))
    arenas.state.position[0] = [[0, 0, 0], [0, 0, 2]]
    arenas.state.yaw[0], arenas.state.pitch[0] = 0.0, 0.0
    arenas.state.health[0, 1] = 1
    moved = arenas.step(action(click=1)[None])
    assert (moved.terminated[0], moved.truncated[0]) == (True, False)
    assert arenas.metrics()["win"][0] == 1


def test_nothing_measured_is_nan() -> None:
    """No clicks: no precision. No hit possible: no share. Before the counted ticks: nothing."""
    for task, name in (
        ("movement", "in_band"),
        ("movement", "exposed"),
        ("aiming", "on_target"),
        ("clicking", "precision"),
        ("combined", "precision"),
    ):
        arenas = DuelArenas(task, 2, seed=0)
        arenas.step(np.zeros((2, 9), dtype=np.float32))
        assert np.isnan(arenas.metrics()[name]).all(), (task, name)
    fresh = DuelArenas("clicking", 2, seed=0)
    assert np.isnan(fresh.metrics()["hit_share"]).all()
    assert np.isnan(DuelArenas("aiming", 1, seed=0).metrics()["error_deg"]).all()
    arenas = DuelArenas("combined", 2, seed=0)
    for name in ("win", "loss", "draw", "dealt", "taken", "ticks"):
        assert (arenas.metrics()[name] == 0).all()


@pytest.mark.parametrize("task", TASKS)
def test_metrics_are_those_declared_in_that_order(task: str) -> None:
    assert tuple(DuelArenas(task, 1, seed=0).metrics()) == DOMAIN.task(task).metrics


# A tick -------------------------------------------------------------------------------------


def test_after_a_hit_the_next_lands_ten_ticks_later() -> None:
    arenas = DuelArenas("combined", 1, seed=0, opponent="still")
    landed = []
    for tick in range(35):
        arenas.state.position[0] = [[0, 0, 0], [0, 0, 2]]
        arenas.state.yaw[0], arenas.state.pitch[0] = 0.0, 0.0
        arenas.step(action(click=1)[None])
        if arenas.state.fighters["landed"][0, 0]:
            landed.append(tick)
        expected = 9 - (tick % 10)  # set to 10 within the tick, and one less at its end
        assert arenas.state.invulnerable_ticks[0].tolist() == [0, expected]
    assert landed == [0, 10, 20, 30]


def test_fighters_turn_before_their_attack_is_judged() -> None:
    for turn, lands in ((0.6, True), (-0.6, False)):
        arenas = DuelArenas("combined", 1, seed=0, opponent="still")
        arenas.state.position[0] = [[0, 0, 0], [0, 0, 2]]
        arenas.state.yaw[0], arenas.state.pitch[0] = [-0.6, 0.0], 0.0
        arenas.step(action(click=1, dyaw=turn)[None])
        assert bool(arenas.state.fighters["landed"][0, 0]) == lands


def test_a_hit_throws_back_within_the_same_tick() -> None:
    arenas = DuelArenas("combined", 1, seed=0, opponent="still")
    arenas.state.position[0] = [[0, 0, 0], [0, 0, 2]]
    arenas.state.yaw[0], arenas.state.pitch[0] = 0.0, 0.0
    arenas.step(action(click=1)[None])
    assert arenas.state.position[0, 1].tolist() == [0, 0.4, 2.4]


def test_turns_and_keys_are_those_of_the_action() -> None:
    arenas = DuelArenas("combined", 1, seed=0, opponent="still")
    yaw, pitch = arenas.state.yaw[0, 0], arenas.state.pitch[0, 0]
    arenas.step(action(dyaw=0.3, dpitch=-0.1, w=0.51, a=0.5, sprint=1)[None])
    assert arenas.state.yaw[0, 0] == pytest.approx(yaw + 0.3)
    assert arenas.state.pitch[0, 0] == pytest.approx(pitch - 0.1)
    held = arenas.state.fighters[0, 0]
    assert [bool(held[key]) for key in ("w", "a", "s", "d", "space", "sprint", "click")] == [
        True, False, False, False, False, True, False
    ]  # fmt: skip
    assert arenas.state.sprinting[0, 0]


@pytest.mark.parametrize("sign", [1, -1])
def test_nobody_looks_beyond_straight_up_or_down(sign: int) -> None:
    arenas = DuelArenas("combined", 1, seed=0, opponent="still")
    for _ in range(6):
        arenas.step(action(dpitch=sign * float(LIMIT))[None])
    assert arenas.state.pitch[0, 0] == pytest.approx(sign * PI / 2)


@pytest.mark.parametrize(
    ("task", "matters"),
    [
        ("movement", {"w", "a", "s", "d", "space", "sprint"}),
        ("aiming", {"dyaw", "dpitch"}),
        ("clicking", {"click"}),
    ],
)
def test_a_task_ignores_what_the_player_does_not_control(task: str, matters: set[str]) -> None:
    names = DOMAIN.action_names
    changed = set()
    for name in names:
        ended = []
        for value in (0.0, 0.6):
            arenas = DuelArenas(task, 8, seed=4)
            now = np.tile(action(**{"w": 1.0, name: value}), (8, 1))
            for _ in range(25):
                arenas.step(now)
            ended.append(arenas.state.position.tobytes() + arenas.state.yaw.tobytes())
            ended[-1] += arenas.state.pitch.tobytes() + arenas.episodes["clicks"].tobytes()
        if ended[0] != ended[1]:
            changed.add(name)
    # w must be moving for sprint to matter, and its own change is a change
    assert changed == matters


# Rewards ------------------------------------------------------------------------------------


def apart(task: str, distance: float, opponent: object = "still") -> DuelArenas:
    """One arena: the agent at the origin, its opponent before it; they look at each other."""
    arenas = DuelArenas(task, 1, seed=0, opponent=opponent)  # type: ignore[arg-type]
    arenas.state.position[0] = [[0, 0, 0], [0, 0, distance]]
    arenas.state.yaw[0], arenas.state.pitch[0] = [0, PI], 0.0
    arenas.state.health[0] = 20
    return arenas


def reward(arenas: DuelArenas, **keys: float) -> float:
    return float(arenas.step(action(**keys)[None]).rewards[0])


@pytest.mark.parametrize(
    ("distance", "expected"),
    [(2.0, 0.1), (3.2, 0.1), (5.2, -0.2), (3.7, -0.05), (1.0, -0.1), (6.2, -0.3), (50.0, -0.3)],
)
def test_movement_pays_for_the_band_and_charges_for_the_way_to_it(
    distance: float, expected: float
) -> None:
    arenas = apart("movement", distance)
    arenas.state.invulnerable_ticks[0] = 5  # no hits
    assert reward(arenas) == pytest.approx(expected, abs=1e-6)


def test_movement_pays_half_a_point_for_a_hit_and_charges_it_for_one_taken() -> None:
    # the opponent is thrown from 2.5 to 2.9 blocks, within the band
    assert reward(apart("movement", 2.5)) == pytest.approx(0.1 + 0.5, abs=1e-6)
    # from 3.1 to 3.5, and 0.4 up: too far
    far = math.hypot(3.5, 0.4) - 3.2
    assert reward(apart("movement", 3.1)) == pytest.approx(-0.1 * far + 0.5, abs=1e-6)
    taken = 0
    arenas = apart("movement", 2.5, "chaser")
    for _ in range(10):
        arenas.state.position[0] = [[0, 0, 0], [0, 0, 2.5]]
        arenas.state.velocity[0], arenas.state.invulnerable_ticks[0] = 0.0, [0, 5]
        found = reward(arenas)
        gone = np.linalg.norm(arenas.state.position[0, 1] - arenas.state.position[0, 0])
        outside = max(float(gone) - 3.2, 2.0 - float(gone), 0.0)
        hit = bool(arenas.state.fighters["landed"][0, 1])
        taken += hit
        expected = (0.1 if outside == 0 else -0.1 * outside) - 0.5 * hit
        assert found == pytest.approx(expected, abs=1e-6)
    assert taken == 3  # six clicks per second, all of them in reach


def test_aiming_pays_for_the_target_and_charges_the_angle_to_its_middle() -> None:
    low = math.atan2(1.62 - 0.9, 5.0)  # the middle of the box is below the eyes
    assert reward(apart("aiming", 5.0)) == pytest.approx(1 - low, abs=1e-6)
    assert reward(apart("aiming", 5.0), dpitch=-low) == pytest.approx(1.0, abs=1e-3)
    beside = math.acos(math.cos(0.5) * math.cos(low))
    assert reward(apart("aiming", 5.0), dyaw=0.5) == pytest.approx(-beside, abs=1e-6)
    behind = apart("aiming", 5.0)
    behind.state.yaw[0, 0] = PI
    assert reward(behind) == pytest.approx(-(PI - low), abs=1e-6)


def test_clicking_pays_one_for_a_hit_and_charges_two_for_a_click_at_nothing() -> None:
    inside = 0.2  # from within the box every look meets it, wherever the autopilot looks
    assert reward(apart("clicking", inside), click=1) == 1.0
    assert reward(apart("clicking", inside)) == 0.0
    assert reward(apart("clicking", 8.0), click=1) == -2.0
    assert reward(apart("clicking", 8.0)) == 0.0
    unhurt = apart("clicking", inside)
    unhurt.state.invulnerable_ticks[0, 1] = 3
    assert reward(unhurt, click=1) == -2.0


@pytest.mark.parametrize(
    ("mine", "theirs", "health", "expected"),
    [
        (0, 0, (20, 20), 0.0),
        (1, 0, (20, 20), 1.0),
        (0, 1, (20, 20), -1.0),
        (1, 1, (20, 20), 0.0),
        (1, 0, (20, 1), 11.0),
        (0, 1, (1, 20), -11.0),
        (1, 1, (1, 20), -10.0),
        (1, 1, (20, 1), 10.0),
        (1, 1, (1, 1), 0.0),
    ],
)
def test_combined_pays_for_hits_and_ten_for_the_fight(
    mine: int, theirs: int, health: tuple[int, int], expected: float
) -> None:
    arenas = apart("combined", 2.0, Puppet(action(click=theirs)[None]))
    arenas.state.health[0] = health
    assert reward(arenas, click=mine) == expected
    missed = apart("combined", 8.0, Puppet(action(click=theirs)[None]))
    assert reward(missed, click=mine) == 0.0


# Beginning and end --------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_episodes_end_at_their_horizon(task: str) -> None:
    arenas = DuelArenas(task, 3, seed=1, opponent="still" if task == "combined" else None)
    for _ in range(HORIZON[task] - 1):
        moved = arenas.step(np.zeros((3, 9), dtype=np.float32))
        assert not (moved.truncated | moved.terminated).any()
    moved = arenas.step(np.zeros((3, 9), dtype=np.float32))
    assert moved.truncated.all()
    assert not moved.terminated.any()
    assert DOMAIN.task(task).horizon == HORIZON[task]


@pytest.mark.parametrize("task", TASKS)
def test_ended_episodes_stand_still_until_started_again(task: str) -> None:
    arenas = DuelArenas(task, 3, seed=1)
    hashed = Hash()
    while arenas.active.any():
        arenas.step(hashed.act(arenas.view))
    before, metrics = arenas.save(), arenas.metrics()
    moved = arenas.step(hashed.act(arenas.view))
    assert (moved.rewards == 0).all()
    assert not (moved.terminated | moved.truncated).any()
    assert all((before[name] == value).all() for name, value in arenas.save().items())
    for name, value in arenas.metrics().items():
        np.testing.assert_array_equal(value, metrics[name])
    arenas.start(np.array([7, 8, 9]))
    assert arenas.active.all()
    assert (arenas.state.tick == 0).all()


@pytest.mark.parametrize("task", TASKS)
def test_episodes_begin_on_the_ground_within_eight_blocks(task: str) -> None:
    arenas = DuelArenas(task, 500, seed=9)
    state = arenas.state
    assert (state.position[..., 1] == 0).all()
    assert (state.velocity == 0).all()
    assert state.on_ground.all()
    distance = distances([state])[0]
    assert distance.min() >= 1.0
    assert distance.max() <= 8.0
    assert distance.std() > 0.5
    assert len(np.unique(distance)) == 500
    if task == "combined":
        assert (state.health == 20).all()


@pytest.mark.parametrize(("task", "widest"), [("aiming", PI), ("clicking", 1.0), ("combined", 1.0)])
def test_only_aiming_begins_with_the_opponent_out_of_view(task: str, widest: float) -> None:
    state = DuelArenas(task, 500, seed=9).state
    ahead = state.position[:, 1] - state.position[:, 0]
    off = np.abs(np.angle(np.exp(1j * (state.yaw[:, 0] - np.arctan2(ahead[:, 0], ahead[:, 2])))))
    assert 0.98 * widest < off.max() <= widest


@pytest.mark.parametrize("task", ["movement", "aiming", "clicking"])
def test_practice_goes_on_after_a_fall(task: str) -> None:
    arenas = DuelArenas(task, 2, seed=0)
    arenas.state.health = 0.0
    moved = arenas.step(np.zeros((2, 9), dtype=np.float32))
    assert not moved.terminated.any()
    assert (arenas.state.health > 0).all()


def test_turning_is_limited_to_36_degrees_and_pitch_to_upright() -> None:
    down = Puppet(action(dyaw=-LIMIT, dpitch=-LIMIT)[None])
    arenas = DuelArenas("combined", 1, seed=0, opponent=down)
    arenas.state.yaw[0], arenas.state.pitch[0] = 0.0, 0.0
    arenas.step(action(dyaw=LIMIT, dpitch=0.1)[None])
    assert np.abs(arenas.state.yaw).max() <= rules.MAX_TURN
    assert arenas.state.yaw[0] == pytest.approx([rules.MAX_TURN, -rules.MAX_TURN])
    assert arenas.state.pitch[0] == pytest.approx([0.1, -rules.MAX_TURN])
    for _ in range(4):
        arenas.step(action(dpitch=LIMIT)[None])
    assert arenas.state.pitch[0].tolist() == [PI / 2, -PI / 2]
