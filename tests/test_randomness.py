"""Counter-based random numbers: functions of their coordinates, even, and unrelated."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skilldistill import randomness
from skilldistill.duel import opponents
from skilldistill.randomness import global_generators_kept, uniform

words = st.integers(0, 2**64 - 1)


def finaliser(z: int) -> int:
    """SplitMix64's, in Python's unbounded integers."""
    mask = 2**64 - 1
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def folded(key: int, coordinate: int) -> int:
    mask = 2**64 - 1
    start = ((key + 0x9E3779B97F4A7C15) & mask) ^ ((coordinate * 0x94D049BB133111EB) & mask)
    return finaliser(start)


@given(words, words)
def test_mix_is_the_splitmix_finaliser_for_arrays_and_compiled_scalars(
    key: int, coordinate: int
) -> None:
    with np.errstate(over="ignore"):
        array = randomness.mix(np.array([key], np.uint64), np.array([coordinate], np.uint64))
    compiled = opponents.mix(np.uint64(key), np.uint64(coordinate))
    assert int(array[0]) == int(compiled) == folded(key, coordinate)


@given(words)
def test_unit_lies_in_zero_to_one_for_arrays_and_compiled_scalars(bits: int) -> None:
    array = randomness.unit(np.array([bits], np.uint64))[0]
    assert 0 <= array < 1
    assert array == opponents.unit(np.uint64(bits)) == (bits >> 11) / 2**53


def test_draws_keep_their_values_from_version_to_version() -> None:
    """Recorded episodes are named by (seed, index): the numbers behind them must not change."""

    def expected(seed: int, episode: int, tick: int, stream: int, index: int) -> float:
        key = seed % 2**64
        for coordinate in (episode, tick, stream, index):
            key = folded(key, coordinate)
        return (key >> 11) / 2**53

    drawn = uniform(7, [3, 4], [0, 9], stream=2, size=3)
    for row, (episode, tick) in enumerate([(3, 0), (4, 9)]):
        assert drawn[row].tolist() == [expected(7, episode, tick, 2, i) for i in range(3)]
    assert uniform(-1, [0], [0], 0, 1)[0, 0] == expected(2**64 - 1, 0, 0, 0, 0)


@given(st.integers(-(2**63), 2**64 - 1), st.integers(0, 2**31), st.integers(0, 400))
def test_a_draw_does_not_depend_on_its_neighbours(seed: int, episode: int, tick: int) -> None:
    alone = uniform(seed, [episode], [tick], 5, 4)
    among = uniform(seed, [1, episode, 9], [3, tick, 3], 5, 4)
    longer = uniform(seed, [episode], [tick], 5, 9)
    assert (alone[0] == among[1]).all()
    assert (alone[0] == longer[0, :4]).all()


def test_no_coordinate_is_ignored_and_none_repeats() -> None:
    base = {"seed": 0, "episodes": [0], "ticks": [0], "stream": 0}
    changed = [
        base,
        {**base, "seed": 1},
        {**base, "episodes": [1]},
        {**base, "ticks": [1]},
        {**base, "stream": 1},
    ]
    drawn = np.concatenate([uniform(size=1000, **kwargs)[0] for kwargs in changed])
    assert len(np.unique(drawn)) == len(drawn)


@pytest.mark.parametrize("axis", ["episodes", "ticks", "index", "seeds", "streams"])
def test_neighbouring_draws_are_even_and_unrelated(axis: str) -> None:
    n = 40_000
    counts = np.arange(n)
    drawn = {
        "episodes": lambda: uniform(1, counts, np.zeros(n), 0, 1)[:, 0],
        "ticks": lambda: uniform(1, np.zeros(n), counts, 0, 1)[:, 0],
        "index": lambda: uniform(1, [0], [0], 0, n)[0],
        "seeds": lambda: np.array([uniform(k, [0], [0], 0, 1)[0, 0] for k in range(4000)]),
        "streams": lambda: np.array([uniform(1, [0], [0], k, 1)[0, 0] for k in range(4000)]),
    }[axis]()
    size = len(drawn)
    bins = np.bincount((drawn * 64).astype(int), minlength=64)
    chi_squared = ((bins - size / 64) ** 2 / (size / 64)).sum()
    assert 25 < chi_squared < 115  # 63 degrees of freedom: 1 in 10,000 on either side
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 4 / np.sqrt(size)
    assert abs(drawn.mean() - 0.5) < 4 * np.sqrt(1 / 12 / size)


def test_global_generators_come_back_as_they_were() -> None:
    def seed(value: int) -> None:
        random.seed(value)
        np.random.seed(value)  # noqa: NPY002
        torch.manual_seed(value)

    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002

    with global_generators_kept():  # of the other tests
        seed(1)
        undisturbed = [draw(), draw()]
        seed(1)
        disturbed = [draw()]
        with global_generators_kept():
            seed(2)
            assert draw() != undisturbed[0]
        disturbed.append(draw())
        assert disturbed == undisturbed


def test_global_generators_come_back_after_a_failure_too() -> None:
    before = random.getstate()
    with pytest.raises(KeyError), global_generators_kept():
        _ = {}[random.random()]
    assert random.getstate() == before
