"""When the guard speaks up, and what it does then."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skilldistill.learning.guard import Watch, falling, interval, means


def test_wilson_interval_of_wins_and_losses() -> None:
    # 8 of 10: Wilson's 95 % interval as tabulated, e.g. in R's binom::binom.wilson(8, 10)
    found = interval(np.array([1.0] * 8 + [0.0] * 2))
    assert found.mean == pytest.approx(0.8)
    assert found.low == pytest.approx(0.4901625, abs=1e-6)
    assert found.high == pytest.approx(0.9433178, abs=1e-6)


def test_normal_interval_of_other_values_leaves_out_what_is_missing() -> None:
    values = np.array([0.2, 0.4, np.nan, 0.6])
    found = interval(values)
    half = 1.959964 * np.std([0.2, 0.4, 0.6], ddof=1) / math.sqrt(3)
    assert found.mean == pytest.approx(0.4)
    assert found.high - found.mean == pytest.approx(half, rel=1e-5)
    assert math.isnan(interval(np.array([np.nan])).mean)
    assert interval(np.array([0.5])).high == math.inf


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_a_policy_never_falls_below_itself(values: list[float]) -> None:
    scores = {"both": np.array(values)}
    assert falling(scores, scores) == ()
    found = interval(scores["both"])
    assert found.low <= found.mean + 1e-12
    assert found.mean <= found.high + 1e-12


def test_falling_names_the_tasks_that_are_wholly_below() -> None:
    rng = np.random.default_rng(0)
    baseline = {name: rng.normal(0.8, 0.1, 64) for name in ("both", "steer", "ring")}
    now = {**baseline, "steer": baseline["steer"] - 0.2, "ring": baseline["ring"] - 0.01}
    assert falling(now, baseline) == ("steer",)
    assert falling({"both": np.full(64, np.nan)}, baseline) == ()
    assert means(now)["steer"] == pytest.approx(baseline["steer"].mean() - 0.2)


def test_strikes_tighten_and_the_third_in_a_row_brings_the_good_weights_back() -> None:
    watch = Watch()
    verdicts = [watch.judge(below) for below in ((), ("both",), (), ("both",), ("ring",))]
    assert verdicts == ["good", "raise", "good", "raise", "raise"]
    assert watch.judge(("both",)) == "rollback"
    assert watch.judge(("both",)) == "raise"
    assert (watch.raises, watch.rollbacks, watch.fruitless) == (4, 1, 1)
    assert watch.judge(()) == "good"
    assert watch.fruitless == 0


def test_without_a_tie_nothing_is_raised_or_counted_as_raised() -> None:
    watch = Watch()
    verdicts = [watch.judge(("both",), tied=False) for _ in range(3)]
    assert verdicts == ["strike", "strike", "rollback"]
    assert (watch.raises, watch.rollbacks) == (0, 1)


def test_a_loss_on_the_same_episodes_is_seen_where_the_spread_hides_it() -> None:
    before = np.array([1.0] * 58 + [0.0] * 6)
    now = np.array([1.0] * 46 + [0.0] * 18)
    assert interval(now).high > interval(before).low, "the intervals overlap"
    assert falling({"both": now}, {"both": before}) == ("both",)
    slightly = np.array([1.0] * 57 + [0.0] * 7)
    assert falling({"both": slightly}, {"both": before}) == ()


def test_scores_without_an_episode_in_common_are_compared_by_their_intervals() -> None:
    before, now = np.tile([0.8, 0.9, np.nan, np.nan], 16), np.tile([np.nan, np.nan, 0.4, 0.5], 16)
    assert falling({"both": now}, {"both": before}) == ("both",)
    assert falling({"both": now + 0.4}, {"both": before}) == ()


def test_a_sure_but_tiny_loss_is_left_alone() -> None:
    before = np.random.default_rng(1).uniform(0.3, 1.0, 64)
    assert falling({"both": before - 0.01 * before.mean()}, {"both": before}) == ()
    assert falling({"both": before - 0.03 * before.mean()}, {"both": before}) == ("both",)


def test_the_worst_is_remembered_per_task_and_the_early_worst_apart() -> None:
    watch = Watch()
    watch.see({"both": 0.6, "ring": 0.9}, early=True)
    watch.see({"both": 0.5}, early=True)
    watch.see({"both": 0.2, "ring": 0.4}, early=False)
    watch.see({"both": 0.9}, early=True)
    assert watch.early_worst == {"both": 0.5, "ring": 0.9}
    assert watch.worst == {"both": 0.2, "ring": 0.4}
