"""The pool of earlier selves and their ratings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skilldistill.learning.selfplay import START_RATING, FrozenSelf, Pool, expected_score
from skilldistill.policy.network import DistilledPolicyNetwork
from tests import tiny


def network(seed: int) -> DistilledPolicyNetwork:
    torch.manual_seed(seed)
    return DistilledPolicyNetwork.for_domain(tiny.DOMAIN, 16)


def test_400_points_are_ten_to_one() -> None:
    assert expected_score(1400.0, 1000.0) == pytest.approx(10 / 11)
    assert expected_score(1000.0, 1000.0) == 0.5


@given(st.floats(0, 3000), st.floats(0, 3000))
def test_expectations_of_both_sides_add_up(a: float, b: float) -> None:
    assert expected_score(a, b) + expected_score(b, a) == pytest.approx(1.0)


def test_a_frozen_self_plays_the_member_it_became() -> None:
    first, second = network(0), network(1)
    pool = Pool()
    pool.add(first, 0)
    pool.add(second, 10)
    arenas = tiny.TinyArenas("both", 8, seed=0)
    frozen = FrozenSelf(first)
    before = frozen.act(arenas.view)
    frozen.become(pool.members[1])
    assert not np.array_equal(frozen.act(arenas.view), before)
    with torch.no_grad():
        first.log_std.add_(1.0)
        first.head_output.bias.add_(1.0)
    frozen.become(pool.members[0])
    np.testing.assert_array_equal(frozen.act(arenas.view), before)


def test_the_pool_keeps_the_start_and_the_latest() -> None:
    pool = Pool(size=3)
    for step in range(6):
        pool.add(network(step), step)
    assert [member.steps for member in pool.members] == [0, 4, 5]
    assert [m.steps for m in pool.rivals(2, torch.Generator())] == [0, 5]
    assert sorted(m.steps for m in pool.rivals(9, torch.Generator())) == [0, 4, 5]
    drawn = {pool.draw(torch.Generator().manual_seed(i)).steps for i in range(40)}
    assert drawn == {0, 4, 5}


def test_half_of_the_rivals_are_the_latest_and_the_rest_anyone() -> None:
    pool = Pool(size=4)
    for step in range(4):
        pool.add(network(step), step)
    generator = torch.Generator().manual_seed(0)
    drawn = np.bincount([pool.draw(generator).steps for _ in range(4000)]) / 4000
    np.testing.assert_allclose(drawn, [0.125, 0.125, 0.125, 0.625], atol=0.03)


def test_winning_raises_the_rating_and_the_start_stays_put() -> None:
    pool = Pool()
    pool.add(network(0), 0)
    pool.add(network(1), 5)
    frozen = FrozenSelf(network(0))
    pool.rate(frozen, frozen, pool.members, lambda player, rival: 1.0)
    assert pool.rating > START_RATING
    assert pool.members[0].rating == START_RATING
    assert pool.members[1].rating < START_RATING
    even = pool.rating
    pool.rate(frozen, frozen, pool.members[:1], lambda p, r: expected_score(even, START_RATING))
    assert pool.rating == pytest.approx(even)
