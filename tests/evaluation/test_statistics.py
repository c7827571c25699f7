from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skilldistill.errors import ConfigurationError
from skilldistill.evaluation.statistics import (
    Estimate,
    iqm,
    is_binary,
    mcnemar,
    mean,
    mean_interval,
    paired_difference,
    retention,
    t_quantile,
    tango,
    wilson,
)

finite = st.floats(-1e3, 1e3, allow_nan=False)
some = st.lists(finite, min_size=2, max_size=40)
bits = st.lists(st.integers(0, 1), min_size=1, max_size=60)


# ------------------------------------------------------------------ quantiles and shares


@pytest.mark.parametrize(
    ("degrees", "table"),
    # Abramowitz and Stegun, table 26.10 (two-sided 95 %)
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042), (120, 1.980)],
)
def test_t_quantiles_match_the_table(degrees: int, table: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(table, abs=6e-4)


def test_the_t_quantile_tends_to_the_normal_one() -> None:
    assert t_quantile(0.975, 5000) == pytest.approx(1.95996, abs=6e-4)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_matches_published_intervals(
    successes: int, n: int, low: float, high: float
) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=6e-5)


@given(n=st.integers(1, 2000), data=st.data())
def test_wilson_holds_the_share_and_stays_between_0_and_1(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert high - low > 0
    mirrored = wilson(n - successes, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_covers_shares_near_one() -> None:
    """Exact, by summing the binomial: no simulation error."""
    for share in (0.9, 0.95, 0.98):
        n = 100
        covered = sum(
            math.comb(n, k) * share**k * (1 - share) ** (n - k)
            for k in range(n + 1)
            if wilson(k, n)[0] <= share <= wilson(k, n)[1]
        )
        assert covered > 0.92


# ------------------------------------------------------------------ means


@given(values=some, seed=st.integers(0, 100))
def test_the_interval_holds_the_mean_and_lies_in_the_range(values: list[float], seed: int) -> None:
    found = mean_interval(values, seed=seed, resamples=300)
    assert found.mean == pytest.approx(np.mean(values))
    tolerance = 1e-9 * max(map(abs, values)) + 1e-12
    assert found.low - tolerance <= found.mean <= found.high + tolerance
    if found.method == "bca":
        assert min(values) - tolerance <= found.low
        assert found.high <= max(values) + tolerance


@given(values=some, scale=st.floats(0.1, 100), shift=st.floats(-100, 100))
def test_the_interval_moves_with_the_values(
    values: list[float], scale: float, shift: float
) -> None:
    base = np.round(values, 3)  # so that moved values keep their order and ties
    one = mean_interval(base, seed=5, binary=False, resamples=200)
    moved = mean_interval(base * scale + shift, seed=5, binary=False, resamples=200)
    for name in ("mean", "low", "high"):
        expected = getattr(one, name) * scale + shift
        assert getattr(moved, name) == pytest.approx(expected, rel=1e-6, abs=1e-4 * scale)


@given(values=some, gaps=st.integers(0, 5))
def test_missing_episodes_are_counted_and_change_nothing(values: list[float], gaps: int) -> None:
    clean = mean_interval(values, seed=1, resamples=200)
    holed = mean_interval(values + [math.nan] * gaps, seed=1, resamples=200)
    assert (holed.mean, holed.low, holed.high, holed.n) == (
        clean.mean,
        clean.low,
        clean.high,
        clean.n,
    )
    assert holed.missing == gaps


def test_the_method_follows_the_data() -> None:
    assert mean_interval([0, 1, 1], seed=0).method == "wilson"
    assert mean_interval([0.2, 0.5, 0.9], seed=0).method == "t"
    assert mean_interval(np.linspace(0, 1, 9), seed=0).method == "t"
    assert mean_interval(np.linspace(0, 1, 10), seed=0).method == "bca"
    assert mean_interval([1, 1, 1], seed=0, binary=False).method == "constant"


def test_nothing_measured_is_undefined_and_not_an_error() -> None:
    for values, missing in (([], 0), ([math.nan, math.nan], 2)):
        found = mean_interval(values, seed=0)
        assert found.n == 0
        assert found.missing == missing
        assert all(map(math.isnan, (found.mean, found.low, found.high)))


def test_one_value_has_a_mean_and_no_interval() -> None:
    found = mean_interval([0.3], seed=0)
    assert found.mean == 0.3
    assert math.isnan(found.low)


def test_equal_values_give_an_interval_of_no_width() -> None:
    found = mean_interval([0.1] * 30, seed=0)
    assert (found.low, found.mean, found.high) == (0.1, 0.1, 0.1)


def test_few_values_take_students_t() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0], seed=0)
    half = 3.182446 * np.std([1, 2, 3, 4], ddof=1) / 2
    assert (found.low, found.high) == pytest.approx((2.5 - half, 2.5 + half), rel=1e-6)


def test_the_seed_alone_decides_the_bootstrap() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_many_symmetric_values_agree_with_students_t() -> None:
    values = np.random.default_rng(1).normal(size=400)
    found = mean_interval(values, seed=0)
    half = t_quantile(0.975, 399) * values.std(ddof=1) / 20
    assert found.high - found.low == pytest.approx(2 * half, rel=0.06)


def test_ten_values_are_given_as_much_room_as_students_t_gives_them() -> None:
    values = [statistics.NormalDist().inv_cdf((i + 0.5) / 10) for i in range(10)]
    found = mean_interval(values, seed=0, resamples=40_000)
    half = t_quantile(0.975, 9) * statistics.stdev(values) / math.sqrt(10)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.025)


def test_samples_as_good_as_the_values_themselves_tilt_nothing() -> None:
    """A fifth of the samples of these values have the very same mean."""
    found = mean_interval([0.0, 1.0] * 8, seed=0, binary=False)
    assert found.low + found.high == pytest.approx(1)


def test_a_higher_level_is_wider() -> None:
    values = np.random.default_rng(1).exponential(size=60)
    wide, narrow = (mean_interval(values, seed=0, level=level) for level in (0.99, 0.8))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_skewed_values_give_a_skewed_interval() -> None:
    values = np.random.default_rng(2).exponential(size=40)
    found = mean_interval(values, seed=0)
    assert found.high - found.mean > 1.1 * (found.mean - found.low)


def test_is_binary_looks_at_measured_values_only() -> None:
    assert is_binary([0, 1, math.nan])
    assert not is_binary([0, 0.5])
    assert not is_binary([math.nan])


# ------------------------------------------------------------------ pairs


@given(pairs=st.lists(st.tuples(finite, finite), min_size=1, max_size=30))
def test_swapping_the_policies_mirrors_the_difference(pairs: list[tuple[float, float]]) -> None:
    a, b = map(list, zip(*pairs, strict=True))
    one = paired_difference(a, b, seed=2, resamples=500)
    other = paired_difference(b, a, seed=2, resamples=500)
    assert one.difference.mean == pytest.approx(-other.difference.mean, nan_ok=True)
    assert (one.better, one.worse) == (other.worse, other.better)
    width = one.difference.high - one.difference.low
    assert other.difference.low == pytest.approx(
        -one.difference.high, abs=0.15 * width + 1e-9, nan_ok=True
    )


@given(pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60))
def test_a_difference_of_shares_holds_the_observed_one(pairs: list[tuple[int, int]]) -> None:
    a, b = map(list, zip(*pairs, strict=True))
    found = paired_difference(a, b, seed=0, binary=True)
    estimate = found.difference
    assert -1 <= estimate.low <= estimate.mean + 1e-9
    assert estimate.mean - 1e-9 <= estimate.high <= 1
    assert found.p_value is not None
    assert 0 < found.p_value <= 1
    assert estimate.method == "tango"


@pytest.mark.parametrize(("better", "worse", "n"), [(0, 1, 44), (12, 3, 60), (40, 20, 160)])
def test_the_ends_of_tangos_interval_solve_his_equation(better: int, worse: int, n: int) -> None:
    """The likeliest probability of "worse" is found by search here, not by the formula."""
    for delta, z in zip(tango(better, worse, n), (1.959964, -1.959964), strict=True):
        q = np.linspace(max(0.0, -delta), (1 - delta) / 2, 400_001)[1:-1]
        likelihood = (
            better * np.log(q + delta)
            + worse * np.log(q)
            + (n - better - worse) * np.log(1 - 2 * q - delta)
        )
        best = q[np.argmax(likelihood)]
        score = (better - worse - n * delta) / math.sqrt(n * (2 * best + delta * (1 - delta)))
        assert score == pytest.approx(z, abs=2e-3)


def test_no_disagreement_still_leaves_doubt() -> None:
    low, high = tango(0, 0, 100)
    assert low == pytest.approx(-high)
    assert 0.03 < high < 0.04  # z² / (n + z²)


def test_tango_covers_by_exact_enumeration() -> None:
    """Over every outcome of 40 pairs, at several true probabilities of (better, worse)."""
    n = 40
    intervals = {
        (b, c): tango(b, c, n) for b, c in itertools.product(range(n + 1), repeat=2) if b + c <= n
    }
    for p, q in ((0.02, 0.02), (0.1, 0.02), (0.3, 0.1), (0.25, 0.25)):
        covered = sum(
            math.comb(n, b) * math.comb(n - b, c) * p**b * q**c * (1 - p - q) ** (n - b - c)
            for (b, c), (low, high) in intervals.items()
            if low <= p - q <= high
        )
        assert covered > 0.93


@given(b=st.integers(0, 60), c=st.integers(0, 60), rest=st.integers(0, 60))
def test_tango_leaves_out_zero_exactly_when_mcnemars_score_says_so(
    b: int, c: int, rest: int
) -> None:
    n = max(b + c + rest, 1)
    low, high = tango(b, c, n)
    score = (b - c) / math.sqrt(b + c) if b + c else 0.0
    if abs(abs(score) - 1.959964) > 1e-6:
        assert (low > 0) == (score > 1.959964)
        assert (high < 0) == (score < -1.959964)


@pytest.mark.parametrize(
    ("better", "worse", "p"), [(0, 0, 1.0), (10, 0, 2 / 1024), (5, 5, 1.0), (1, 7, 18 / 256)]
)
def test_mcnemar_is_exact(better: int, worse: int, p: float) -> None:
    assert mcnemar(better, worse) == pytest.approx(p)


def test_mcnemar_of_many_pairs_is_exact_still() -> None:
    assert mcnemar(20_000, 20_000) == 1.0
    normal = 2 * statistics.NormalDist().cdf(-(200 - 1) / 100)
    assert mcnemar(4900, 5100) == pytest.approx(normal, rel=1e-3)
    assert mcnemar(0, 2000) == 0.0


def test_pairs_need_both_measurements() -> None:
    found = paired_difference([1.0, math.nan, 3.5], [0.5, 2.0, math.nan], seed=0)
    assert found.difference.n == 1
    assert found.difference.missing == 2
    assert found.better == 1


@pytest.mark.parametrize("scores", [[0.1] * 7, [1, 0, 1], [0.3], [math.nan, 0.1, 2.0], [math.nan]])
def test_a_mean_alone_is_that_of_its_interval(scores: list[float]) -> None:
    found = mean_interval(scores, seed=0).mean
    assert mean(scores) == found or (math.isnan(mean(scores)) and math.isnan(found))


def test_pairing_removes_what_episodes_have_in_common() -> None:
    rng = np.random.default_rng(0)
    luck = rng.normal(size=100) * 5
    a, b = luck + 0.3 + 0.2 * rng.normal(size=100), luck + 0.2 * rng.normal(size=100)
    found = paired_difference(a, b, seed=0)
    assert found.clear
    assert found.difference.mean == pytest.approx(0.3, abs=0.1)
    assert mean_interval(a, seed=0).low < mean_interval(b, seed=0).high  # unpaired sees nothing


def test_unequal_lengths_cannot_be_paired() -> None:
    with pytest.raises(ConfigurationError, match="3 scores cannot be paired with 2"):
        paired_difference([1, 2, 3], [1, 2], seed=0)


# ------------------------------------------------------------------ retention


def episodes(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    luck = rng.normal(size=n)
    return 9 + luck, 10 + luck, 0.5 * luck


def test_retention_is_one_for_the_expert_and_zero_for_chance() -> None:
    _, expert, random = episodes()
    same = retention(expert, expert, random, seed=0)
    assert (same.mean, same.low, same.high) == pytest.approx((1, 1, 1))
    none = retention(random, expert, random, seed=0)
    assert (none.mean, none.low, none.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_retention_is_the_share_of_the_lead() -> None:
    student, expert, random = episodes()
    found = retention(student, expert, random, seed=0)
    lead = expert.mean() - random.mean()
    assert found.mean == pytest.approx((student.mean() - random.mean()) / lead)
    assert found.low < found.mean < found.high
    assert found.high - found.low < 0.05


@given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
@settings(max_examples=30)
def test_retention_does_not_depend_on_the_unit(scale: float, shift: float) -> None:
    scores = episodes()
    one = retention(*scores, seed=0, resamples=300)
    other = retention(*(scale * s + shift for s in scores), seed=0, resamples=300)
    assert (other.mean, other.low, other.high) == pytest.approx(
        (one.mean, one.low, one.high), rel=1e-6
    )


def test_a_gap_does_not_hide_a_lead_that_is_small_beside_the_scores() -> None:
    student, expert, random = (1e10 + scores for scores in episodes())
    student[0] = math.nan
    found = retention(student, expert, random, seed=0)
    assert found.method == "bca"
    assert 0 < found.low < found.high


def test_retention_is_undefined_where_the_expert_does_not_lead() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 50))
    found = retention(*scores, seed=0)
    assert math.isnan(found.mean)
    assert found.method == "undefined"


def test_retention_is_undefined_where_the_experts_lead_may_be_nothing() -> None:
    """Any three of 40 episodes are missed by 4 % of the samples, any six by 0.2 %."""
    expert, random = np.zeros(40), np.zeros(40)
    expert[:3] = 1.0
    assert retention(expert, expert, random, seed=0).method == "undefined"
    expert[3:6] = 1.0
    assert retention(expert, expert, random, seed=0).method == "bca"


@given(
    n=st.integers(2, 24),
    seed=st.integers(0, 2**32 - 1),
    lead=st.floats(0.0, 2.0),
    noise=st.sampled_from([0.0, 1e-12, 0.1, 1.0]),
)
@example(n=2, seed=1, lead=2e-160, noise=0.0)
@example(n=16, seed=3, lead=0.4294661916495107, noise=1.0)
@settings(max_examples=150)
def test_retention_is_either_said_to_be_undefined_or_of_a_sensible_size(
    n: int, seed: int, lead: float, noise: float
) -> None:
    rng = np.random.default_rng(seed)
    student, expert, random = noise * rng.normal(size=(3, n))
    expert[rng.random(n) < 0.8] += lead
    found = retention(student + 0.9 * expert, expert, random, seed=0, resamples=1000)
    if found.method == "undefined":
        assert math.isnan(found.mean)
    else:
        assert found.low <= found.high
        assert max(abs(found.low), abs(found.high)) < 1e4


def test_one_lost_episode_of_four_leaves_the_experts_lead_open() -> None:
    expert, chance = [0.9, 0.9, 0.9, 0.1], [0.1, 0.1, 0.1, 0.9]
    assert not paired_difference(expert, chance, seed=0).clear
    assert retention([0.85, 0.8, 0.8, 0.2], expert, chance, seed=0).method == "undefined"


def test_a_sample_without_a_lead_does_not_hide_the_bias_of_the_others() -> None:
    rng = np.random.default_rng(5)
    expert = rng.exponential(1.0, 20) - 0.35
    student = 0.5 * expert + rng.normal(0, 0.2, 20) + 0.3 * (rng.random(20) < 0.15)
    rows = np.stack([student, expert, np.zeros(20)], axis=1)
    found = retention(*rows.T, seed=1, resamples=20_000)
    assert (found.low, found.high) == pytest.approx(tuple(slow_bca(rows, lead_ratio)), abs=0.015)


@pytest.mark.parametrize("measured", [2, 3, 5])
def test_samples_in_which_a_policy_measured_nothing_do_not_count(measured: int) -> None:
    rng = np.random.default_rng(0)
    scores = np.array([[-5.0], [-1.0], [-9.0]]) + rng.normal(0, 0.01, (3, 100))
    for rarely in range(3):
        gaps = scores.copy()
        gaps[rarely, measured:] = math.nan
        found = retention(*gaps, seed=0)
        assert 0.49 < found.low <= found.mean <= found.high < 0.51


def test_retention_uses_each_policys_own_measured_episodes() -> None:
    student, expert, random = episodes()
    random[:10] = math.nan
    expert[5] = math.nan
    found = retention(student, expert, random, seed=0)
    chance, lead = np.nanmean(random), np.nanmean(expert) - np.nanmean(random)
    assert found.mean == pytest.approx((student.mean() - chance) / lead)
    assert found.missing == 0


def slow_bca(
    rows: np.ndarray, figure: Callable[[np.ndarray], float], *, accelerated: bool = True
) -> np.ndarray:
    """Ends of a 95 % interval by the textbook's formulas, a resample and an episode at a time.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), 14.9 to 14.15, with the
    widening of Hesterberg (2015), section 4.4.
    """
    n, normal = len(rows), statistics.NormalDist()
    rng = np.random.default_rng(99)
    draws = np.sort([figure(rows[rng.integers(n, size=n)]) for _ in range(30_000)])
    bias = normal.inv_cdf(float((draws < figure(rows)).mean()))
    without = np.array([figure(np.delete(rows, i, axis=0)) for i in range(n)])
    apart = without.mean() - without
    a = (apart**3).sum() / (6 * (apart**2).sum() ** 1.5) if accelerated else 0.0
    reach = t_quantile(0.975, n - 1) * math.sqrt(n / (n - 1))
    levels = [normal.cdf(bias + (bias + z) / (1 - a * (bias + z))) for z in (-reach, reach)]
    return np.quantile(draws, levels)


def lead_ratio(rows: np.ndarray) -> float:
    student, expert, random = np.nanmean(rows, axis=0)
    return float((student - random) / (expert - random))


def skewed_episodes() -> np.ndarray:
    """(30, 3) scores of student, expert and chance with a few great successes, and gaps."""
    rng = np.random.default_rng(4)
    luck, other = rng.exponential(size=(2, 30)) ** 2
    rows = np.stack([1 + luck, 2 + other, 0.3 * rng.normal(size=30)], axis=1)
    rows[[3, 17], [1, 2]] = math.nan
    return rows


@pytest.mark.parametrize(
    ("interval", "figure", "columns"), [(mean_interval, np.mean, 1), (retention, lead_ratio, 3)]
)
def test_bootstrap_intervals_are_the_textbooks(
    interval: Callable[..., Estimate], figure: Callable[[np.ndarray], float], columns: int
) -> None:
    rows = skewed_episodes()[:, :columns]
    found = interval(*rows.T, seed=1, resamples=30_000)
    assert found.method == "bca"
    expected = slow_bca(rows, figure)
    tolerance = 0.025 * np.ptp(expected)
    plain = slow_bca(rows, figure, accelerated=False)
    assert abs(expected[1] - plain[1]) > 3 * tolerance, "or the acceleration is not seen here"
    np.testing.assert_allclose([found.low, found.high], expected, atol=tolerance)


def test_retention_needs_the_same_episodes() -> None:
    with pytest.raises(ConfigurationError, match="same episodes"):
        retention([1, 2], [1, 2, 3], [0, 0], seed=0)


# ------------------------------------------------------------------ interquartile mean


def test_iqm_drops_the_outer_quarters() -> None:
    assert iqm([-1000, 1, 3, 1000], seed=0).mean == 2
    assert iqm(np.arange(20.0).reshape(5, 4), seed=0).mean == pytest.approx(9.5)


def test_iqm_resamples_runs_within_tasks() -> None:
    """Tasks that differ, runs that do not: nothing to be unsure of."""
    scores = np.tile([0.1, 0.4, 0.8, 0.9], (6, 1))
    found = iqm(scores, seed=0)
    assert (found.low, found.high) == pytest.approx((found.mean, found.mean))


@given(runs=st.integers(2, 8), tasks=st.integers(1, 5), seed=st.integers(0, 50))
@settings(max_examples=30)
def test_iqm_lies_in_its_interval(runs: int, tasks: int, seed: int) -> None:
    scores = np.random.default_rng(seed).random((runs, tasks))
    found = iqm(scores, seed=seed, resamples=500)
    assert scores.min() - 1e-12 <= found.low <= found.high <= scores.max() + 1e-12
    assert found == iqm(scores, seed=seed, resamples=500)


@pytest.mark.parametrize("scores", [[], [[0.1, math.nan]], np.zeros((2, 2, 2))])
def test_iqm_refuses_what_it_cannot_average(scores: object) -> None:
    with pytest.raises(ConfigurationError, match="shape"):
        iqm(scores, seed=0)  # type: ignore[arg-type]


def test_an_estimate_reads_well() -> None:
    assert str(Estimate(0.5, 0.25, 0.75, 20, 0, "bca")) == "0.500 [0.250, 0.750] (n=20)"


# ------------------------------------------------------------------ coverage by simulation

Sampler = Callable[[np.random.Generator, int], np.ndarray]

SKEWED: dict[str, tuple[Sampler, float]] = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0),
    "uniform": (lambda rng, n: rng.random(n), 0.5),
    "exponential": (lambda rng, n: rng.exponential(size=n), 1.0),
    "share near one": (lambda rng, n: rng.beta(8, 0.4, size=n), 8 / 8.4),
    "share often one": (
        lambda rng, n: np.where(rng.random(n) < 0.9, 1.0, rng.random(n)),
        0.95,
    ),
}


@pytest.mark.parametrize(
    ("name", "n", "least"),
    [
        (name, n, least)
        for name in SKEWED
        for n, least in ((6, 0.8), (20, 0.87), (100, 0.915))
        # half of its small samples hold ones only, from which no interval can know better
        if name != "share often one" or n == 100
    ],
)
def test_intervals_of_means_cover(name: str, n: int, least: float) -> None:
    sampler, truth = SKEWED[name]
    rng = np.random.default_rng(n)
    covered = 0
    for trial in range(600):
        found = mean_interval(sampler(rng, n), seed=trial, resamples=600)
        covered += found.low <= truth <= found.high
    assert least < covered / 600 <= 0.99


def test_intervals_of_retention_cover() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(500):
        luck = rng.exponential(size=80)
        student = 0.9 * 3 + luck + 0.3 * rng.normal(size=80)
        expert = 3 + luck + 0.3 * rng.normal(size=80)
        random = luck + 0.5 * rng.normal(size=80)
        found = retention(student, expert, random, seed=trial, resamples=600)
        covered += found.low <= 0.9 <= found.high
    assert 0.92 < covered / 500 < 0.98


def test_iqm_intervals_cover() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        found = iqm(rng.normal(size=(20, 4)), seed=trial, resamples=500)
        covered += found.low <= 0 <= found.high
    assert 0.88 < covered / 300 < 0.99
