"""The scripted fighters: what they are described to do, and how they fare against one another."""

from __future__ import annotations

import math

import numpy as np
import pytest

from skilldistill.duel import combat, opponents
from skilldistill.duel.arenas import DuelArenas, ScriptPolicy
from skilldistill.duel.declare import DOMAIN, scripted
from tests.duel.making import Puppet, action


def fights(first: str, second: str, episodes: int, seed: int) -> dict[str, np.ndarray]:
    arenas = DuelArenas("combined", episodes, seed=seed, opponent=second)
    policy = ScriptPolicy(first)
    while arenas.active.any():
        arenas.step(policy.act(arenas.view))
    return dict(arenas.metrics())


def wilson(wins: float, decided: float) -> tuple[float, float]:
    """95 % interval of a share."""
    z = 1.959964
    share, spread = wins / decided, z * z / decided
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / decided + spread / (4 * decided)) / (1 + spread)
    return centre - half, centre + half


def test_chaser_against_chaser_is_even_over_1000_fights() -> None:
    found = fights("chaser", "chaser", 1000, seed=0)
    wins, losses = found["win"].sum(), found["loss"].sum()
    assert wins + losses > 300
    low, high = wilson(wins, wins + losses)
    assert low <= 0.5 <= high, (wins, losses)
    assert found["dealt"].mean() == pytest.approx(found["taken"].mean(), rel=0.03)


def test_strafer_beats_chaser_in_more_than_60_percent_of_decided_fights() -> None:
    found = fights("strafer", "chaser", 1000, seed=1)
    wins, losses = found["win"].sum(), found["loss"].sum()
    assert wins + losses > 300
    assert wins / (wins + losses) > 0.6, (wins, losses)


def test_the_strafer_wins_from_the_other_seat_too() -> None:
    found = fights("chaser", "strafer", 500, seed=2)
    wins, losses = found["win"].sum(), found["loss"].sum()
    assert losses / (wins + losses) > 0.6, (wins, losses)


@pytest.mark.parametrize("name", ["still", "wander"])
def test_peaceful_opponents_never_hit(name: str) -> None:
    found = fights("chaser", name, 50, seed=3)
    assert (found["taken"] == 0).all()
    assert found["dealt"].mean() > 5


def test_still_stands_still() -> None:
    arenas = DuelArenas("combined", 5, seed=0, opponent="still")
    position, yaw = arenas.state.position[:, 1].copy(), arenas.state.yaw[:, 1].copy()
    for _ in range(100):
        arenas.step(np.zeros((5, 9), dtype=np.float32))
    assert (arenas.state.position[:, 1] == position).all()
    assert (arenas.state.yaw[:, 1] == yaw).all()


def test_wander_walks_about() -> None:
    arenas = DuelArenas("combined", 40, seed=0, opponent="wander")
    headings = []
    for _ in range(300):
        arenas.step(np.zeros((40, 9), dtype=np.float32))
        headings.append(arenas.state.yaw[:, 1].copy())
    moved = np.linalg.norm(arenas.state.position[:, 1], axis=-1)
    assert np.median(moved) > 3
    assert (np.ptp(headings, axis=0) > 1).mean() > 0.9


def test_the_chaser_comes_sprinting_turns_smoothly_and_clicks_six_times_a_second() -> None:
    arenas = DuelArenas("combined", 64, seed=5, opponent="chaser")
    arenas.state.position[:, 1] = [0, 0, 8]
    arenas.state.position[:, 0] = 0
    clicks, sprinted, turns = 0, 0, []
    for tick in range(400):
        yaw = arenas.state.yaw[:, 1].copy()
        arenas.state.position[:, 0] = 0  # stands as if nailed down, and cannot be killed
        arenas.state.health[:, 0] = 20
        arenas.step(np.zeros((64, 9), dtype=np.float32))
        clicks += int(arenas.state.fighters["click"][:, 1].sum())
        if tick < 10:
            sprinted += int(arenas.state.sprinting[:, 1].sum())
        turns.append(np.abs(np.angle(np.exp(1j * (arenas.state.yaw[:, 1] - yaw)))))
    assert clicks / 64 == pytest.approx(6 * 400 / 20, abs=1)
    assert sprinted > 0.9 * 64 * 10
    assert np.max(turns) < 0.35  # far below the 36° that the rules allow
    assert np.max(turns) <= opponents.SMOOTH_LIMIT + 1e-9
    distance = np.linalg.norm(arenas.state.position[:, 1], axis=-1)
    assert np.median(distance) < 4.5
    assert np.median(arenas.episodes["taken"]) > 10


def chaser_before(distance: float, *, yaw_off: float = 0.0, pitch_off: float = 0.0) -> DuelArenas:
    """The chaser so far from the agent, and so far from looking at it."""
    arenas = DuelArenas("combined", 1, seed=5, opponent="chaser")
    arenas.state.position[0] = [[0, 0, 0], [0, 0, distance]]
    arenas.state.yaw[0, 1] = math.pi - yaw_off
    arenas.state.pitch[0, 1] = -pitch_off
    return arenas


@pytest.mark.parametrize(
    ("off", "turn"),
    [(3.0, 0.3), (-2.0, -0.3), (0.9, 0.3), (0.8, 0.28), (-0.2, -0.07), (0.01, 0.0035), (0, 0)],
)
def test_the_chaser_turns_by_a_share_of_the_angle_and_never_fast(off: float, turn: float) -> None:
    arenas = chaser_before(6.0, yaw_off=off)
    before = arenas.state.yaw[0, 1]
    arenas.step(np.zeros((1, 9), dtype=np.float32))
    turned = np.angle(np.exp(1j * (arenas.state.yaw[0, 1] - before)))
    assert turned == pytest.approx(turn, abs=1e-12)
    up = min(max(off, -1.5), 1.5)
    arenas = chaser_before(6.0, pitch_off=up)
    arenas.step(np.zeros((1, 9), dtype=np.float32))
    assert arenas.state.pitch[0, 1] + up == pytest.approx(turn, abs=1e-12)


def test_the_chaser_turns_ever_slower_and_does_not_overshoot() -> None:
    arenas = chaser_before(6.0, yaw_off=1.5)
    left = []
    for _ in range(30):
        arenas.state.position[0] = [[0, 0, 0], [0, 0, 6]]
        arenas.step(np.zeros((1, 9), dtype=np.float32))
        left.append(math.pi - arenas.state.yaw[0, 1])
    assert (np.diff(left) <= 0).all()
    assert 0 <= left[-1] < 1e-3


def test_the_chaser_strafes_in_reach_now_to_one_side_and_now_to_the_other() -> None:
    sides = []
    arenas = chaser_before(2.5)
    for _ in range(300):
        arenas.state.position[0] = [[0, 0, 0], [0, 0, 2.5]]
        arenas.state.health[0] = 20
        arenas.step(np.zeros((1, 9), dtype=np.float32))
        held = arenas.state.fighters[0, 1]
        assert bool(held["a"]) != bool(held["d"])
        sides.append(bool(held["a"]))
    assert 60 < sum(sides) < 240
    changes = np.flatnonzero(np.diff(sides)) + 1
    assert (changes % 15 == 0).all()  # not to and fro in every tick
    for distance in (3.01, 6.0):
        arenas = chaser_before(distance)
        arenas.step(np.zeros((1, 9), dtype=np.float32))
        assert not arenas.state.fighters["a"][0, 1]
        assert not arenas.state.fighters["d"][0, 1]


def test_the_strafer_keeps_its_distance_circles_and_clicks_only_when_aimed() -> None:
    arenas = DuelArenas("combined", 64, seed=5, opponent="strafer")
    distances, bearings, clicked = [], [], 0
    for _ in range(300):
        arenas.state.position[:, 0] = 0
        arenas.state.health[:, 0] = 20
        in_sight = combat.sight_distance(arenas.state)[:, 1] <= 3.0
        would_land = in_sight & (arenas.state.invulnerable_ticks[:, 0] == 0)
        arenas.step(np.zeros((64, 9), dtype=np.float32))
        clicks = arenas.state.fighters["click"][:, 1]
        assert (clicks == would_land).all()  # when a hit would land, and only then
        clicked += int(clicks.sum())
        offset = arenas.state.position[:, 1]
        distances.append(np.hypot(offset[:, 0], offset[:, 2]))
        bearings.append(np.arctan2(offset[:, 0], offset[:, 2]))
    settled = np.array(distances[100:])
    assert 2.0 < np.median(settled) < 3.8
    assert np.quantile(settled, 0.05) > 1.3
    travelled = np.abs(np.diff(np.unwrap(bearings, axis=0), axis=0)).sum(axis=0)
    assert np.median(travelled) > 2
    found = arenas.metrics()
    assert 64 * 10 < clicked <= 64 * 30  # a hit cannot be had more often than every tenth tick
    assert np.median(found["taken"]) > 10


@pytest.mark.parametrize(
    ("opponent", "distance", "keys"),
    [
        ("strafer", 3.1, "w"),
        ("strafer", 2.9, ""),
        ("strafer", 2.7, ""),
        ("strafer", 2.5, "s"),
        ("chaser", 1.6, "w"),
        ("chaser", 1.4, ""),
    ],
)
def test_fighters_come_and_go_to_keep_their_distance(
    opponent: str, distance: float, keys: str
) -> None:
    arenas = DuelArenas("combined", 1, seed=5, opponent=opponent)
    arenas.state.position[0] = 0
    arenas.state.position[0, 1, 2] = distance
    arenas.step(np.zeros((1, 9), dtype=np.float32))
    held = arenas.state.fighters[0, 1]
    assert "".join(key for key in "ws" if held[key]) == keys


@pytest.mark.parametrize("code", [opponents.EAGER, opponents.LANE])
def test_the_eager_turn_as_fast_as_the_rules_allow(code: int) -> None:
    arenas = DuelArenas("clicking", 1, seed=5)
    arenas.episodes["opponent"] = code
    arenas.state.position[0] = [[0, 0, 0], [0, 0, 6]]
    arenas.state.yaw[0, 1] = math.pi - 1.0
    arenas.step(np.zeros((1, 9), dtype=np.float32))
    assert arenas.state.yaw[0, 1] == pytest.approx(math.pi - 1.0 + 0.6283185)


def test_the_strafers_clicks_all_land() -> None:
    found = fights("strafer", "wander", 100, seed=4)
    assert np.nanmean(found["precision"]) > 0.9


def test_scripts_take_either_seat() -> None:
    """The policy and the built-in opponent of a name decide alike, given the same key."""
    for name in DOMAIN.opponents:
        policy = scripted(name)
        arenas = DuelArenas("combined", 30, seed=6, opponent=policy)
        built_in = DuelArenas("combined", 30, seed=6, opponent=name)
        still = np.zeros((30, 9), dtype=np.float32)
        for _ in range(60):
            arenas.step(still)
            built_in.step(still)
        # Turns pass through float32 actions on the way to a policy's fighter.
        assert arenas.state.position == pytest.approx(built_in.state.position, abs=1e-3)


def test_mix_draws_among_those_that_fight() -> None:
    arenas = DuelArenas("combined", 400, seed=0, opponent="mix")
    kinds, counts = np.unique(arenas.episodes["opponent"], return_counts=True)
    assert len(kinds) == len(DOMAIN.sparring) == 2
    assert counts.min() > 150


def test_the_practice_opponent_hits_back() -> None:
    for task in ("movement", "clicking"):
        arenas = DuelArenas(task, 100, seed=0)
        stand = np.zeros((100, 9), dtype=np.float32)
        while arenas.active.any():
            arenas.step(stand)
        assert (arenas.episodes["taken"] > 0).mean() > 0.2, task


def held_apart(task: str, code: int, ticks: int, distance: float = 1.0) -> np.ndarray:
    """(ticks, arenas, 2) fighters after each tick, put so far apart before each of them."""
    arenas = DuelArenas(task, 300, seed=1)
    arenas.episodes["opponent"] = code
    seen = []
    for _ in range(ticks):
        arenas.state.position[:] = 0
        arenas.state.position[:, 1, 2] = distance
        arenas.state.health[:] = 20
        arenas.step(np.zeros((300, 9), dtype=np.float32))
        seen.append(arenas.state.fighters.copy())
    return np.array(seen)


@pytest.mark.parametrize(
    ("task", "code", "fights", "roams"),
    [
        ("movement", opponents.PARTNER, 0.08, 0.4 * 0.92),
        ("movement", opponents.DRILL, 0.7, 0.4 * 0.3),
        ("clicking", opponents.BRAWLER, 0.7, 0.3),
    ],
)
def test_practice_opponents_fight_and_roam_their_share_of_the_time(
    task: str, code: int, fights: float, roams: float
) -> None:
    opponent = held_apart(task, code, 240)[:, :, 1]
    assert opponent["click"].mean() == pytest.approx(0.3 * fights, rel=0.12)  # 6 in 20 ticks
    wanderer = held_apart(task, opponents.WANDER, 240)[:, :, 1]
    assert opponent["w"].mean() == pytest.approx(roams * wanderer["w"].mean(), rel=0.15)


@pytest.mark.parametrize("code", [opponents.PARTNER, opponents.DRILL])
def test_both_hit_in_an_exchange_only_and_a_roaming_partner_walks_on(code: int) -> None:
    fighters = held_apart("movement", code, 120)
    agent, partner = fighters[:, :, 0], fighters[:, :, 1]
    modes = np.array(
        [
            [opponents.partner_mode(code, key, tick) for key in row]
            for tick, row in enumerate(partner["key"])
        ]
    )
    assert set(modes[partner["click"]]) == {opponents.EXCHANGING}
    assert set(modes[partner["w"]]) == {opponents.ROAMING}
    assert set(modes[agent["landed"]]) == {opponents.EXCHANGING}


@pytest.mark.parametrize(
    ("distance", "shares"),
    [
        (1.0, {"w": 0.0, "s": 1.0, "sprint": 0.4, "a": 0.35, "d": 0.35, "space": 0.15}),
        (3.0, {"w": 1.4 / 2.4, "s": 0.4 / 2.4, "sprint": 0.5, "a": 0.35, "d": 0.35}),
        (6.0, {"w": 1.0, "s": 0.0, "sprint": 1.0, "space": 0.15}),
    ],
)
@pytest.mark.parametrize("task", ["aiming", "clicking"])
def test_the_legs_of_practice_hold_each_key_its_share_of_the_time(
    task: str, distance: float, shares: dict[str, float]
) -> None:
    """The range they want is drawn evenly from 1.6 to 4 blocks."""
    agent = held_apart(task, opponents.BRAWLER, 240, distance)[:, :, 0]
    for key, share in shares.items():
        assert agent[key].mean() == pytest.approx(share, abs=0.03), key


def test_policies_can_fight_each_other() -> None:
    rival = Puppet(np.tile(action(w=1), (4, 1)))
    arenas = DuelArenas("combined", 4, seed=0, opponent=rival)
    before = arenas.state.position[:, 1].copy()
    arenas.step(np.zeros((4, 9), dtype=np.float32))
    assert (arenas.state.position[:, 1] != before).any(axis=1).all()
