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
    assert (watch.raises, watch.rollbacks) == (5, 1)


def test_the_worst_is_remembered_and_the_early_worst_apart() -> None:
    watch = Watch()
    watch.see(0.6, early=True)
    watch.see(0.5, early=True)
    watch.see(0.2, early=False)
    watch.see(0.9, early=True)
    assert (watch.early_worst, watch.worst) == (0.5, 0.2)
