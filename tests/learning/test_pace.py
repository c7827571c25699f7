"""Schedules as functions; that a run follows them is in ``test_finetune``."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skilldistill.config import FinetuneConfig
from skilldistill.learning.pace import Pace

SHARES = st.floats(0.0, 1.0)


def pace(heads: int = 2, rows: int = 100, **settings: Any) -> Pace:
    return Pace(FinetuneConfig(**{"timesteps": 10_000, **settings}), rows, heads)


@given(
    released=st.integers(0, 5_000), since=st.integers(0, 20_000), ramp=SHARES, decay=st.booleans()
)
def test_the_actor_never_learns_faster_than_it_was_told_nor_stands_still(
    released: int, since: int, ramp: float, decay: bool
) -> None:
    made = pace(ramp=ramp, decay=decay)
    made.released = released
    rate = made.actor_lr(released + since)
    assert 0 < rate <= made.config.learning_rate
    if since >= ramp * 10_000:
        share = 1 - 0.9 * min((released + since) / 10_000, 1.0) if decay else 1.0
        assert rate == pytest.approx(made.config.learning_rate * share)


@given(first=st.integers(0, 20_000), later=st.integers(0, 20_000), high=st.floats(0.0, 5.0),
       floor=st.floats(0.0, 5.0), over=SHARES)  # fmt: skip
def test_the_tie_falls_from_its_weight_to_its_floor_and_no_further(
    first: int, later: int, high: float, floor: float, over: float
) -> None:
    made = pace(heads=1, kl_coef=high, kl_floor=floor, kl_decay=over)
    made.released = 0
    (at_first,), (after,) = made.kl_coefs(first), made.kl_coefs(first + later)
    lowest = min(high, floor)
    assert lowest <= after <= at_first * (1 + 1e-12) <= high * (1 + 1e-9)
    assert made.kl_coefs(10_000) == [lowest]


def test_a_tie_without_a_floor_fades_to_a_millionth_before_it_goes() -> None:
    made = pace(kl_coef=2.0, kl_floor=0.0, kl_decay=0.5)
    made.released = 0
    assert made.kl_coefs(2_500) == pytest.approx([2e-3, 2e-3])
    assert made.kl_coefs(5_000) == [0.0, 0.0]


def test_the_tie_does_not_fall_before_the_actor_learns() -> None:
    made = pace(kl_coef=2.0)
    assert made.kl_coefs(0) == [2.0, 2.0]
    made.released = 3_000
    assert made.kl_coefs(3_000) == [2.0, 2.0]
    assert made.kl_coefs(3_100)[0] < 2.0


def test_what_is_tightened_fades_but_not_below_what_it_was() -> None:
    made = pace(kl_coef=1.0, kl_floor=1.0)
    made.tighten([1])
    assert made.kl_coefs(0) == [1.0, 4.0]
    made.calm()
    assert made.kl_coefs(0) == [1.0, pytest.approx(3.6)]
    for _ in range(50):
        made.calm()
    assert made.kl_coefs(0) == [1.0, 1.0]
    for _ in range(50):
        made.tighten([0])
    assert made.kl_coefs(0) == [1000.0, 1.0]


def test_after_a_rollback_it_learns_at_half_the_rate_and_forgets_older_boosts() -> None:
    made = pace()
    made.released = 0
    before = made.actor_lr(5_000), made.critic_lr(5_000)
    made.tighten([0, 1])
    made.tighten([0])
    made.begin_again([1])
    assert made.boosts == [1.0, 4.0]
    after = made.actor_lr(5_000), made.critic_lr(5_000)
    assert after == (before[0] / 2, before[1] / 2)


def test_early_is_at_least_a_rollout_from_the_actors_release() -> None:
    short, long = pace(rows=2_000), pace(rows=100)
    for made, window in ((short, 2_000), (long, 1_000)):
        made.released = 500
        assert made.is_early(500 + window)
        assert not made.is_early(501 + window)


def test_a_tie_that_has_faded_to_nothing_is_tightened_all_the_same() -> None:
    made = pace(heads=2, kl_coef=2.0, kl_floor=0.0, kl_decay=0.5)
    assert made.kl_coefs(9_000) == [0.0, 0.0]
    made.tighten([1])
    assert made.kl_coefs(9_000) == [0.0, pytest.approx(4 * 0.01 * 2.0)]
    assert made.kl_coefs(0) == [2.0, 8.0]


def test_the_warm_up_has_a_limit() -> None:
    made = pace(warmup_fraction=0.2)
    assert made.warmup_limit == 2_000
    assert made.warming_up
    made.released = 0
    assert not made.warming_up


def test_it_goes_back_to_a_state_it_gave() -> None:
    made = pace()
    made.released = 700
    made.tighten([1])
    kept = made.state()
    made.begin_again([0])
    made.released = -1
    other = pace()
    for one in (made, other):
        one.restore({**kept, "something": "else"})
        assert (one.released, one.caution, one.boosts) == (700, 1.0, [1.0, 4.0])
    made.tighten([1])
    assert kept["boosts"] == other.boosts == [1.0, 4.0], "nobody shares a list"
