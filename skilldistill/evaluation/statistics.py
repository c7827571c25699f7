"""What a number of episodes shows, and how sure of it we are.

Every interval is two-sided with level 0.95 unless told otherwise. Which method is used where:

=========================  ==================================================================
quantity                   interval
=========================  ==================================================================
share of 0/1 outcomes      Wilson's score interval
mean, 10 values or more    bias-corrected accelerated bootstrap (BCa) over episodes, with its
                           ends moved outward as Student's t asks for few values
mean, fewer values         Student's t
difference of shares       Tango's score interval for pairs, with McNemar's exact p-value
difference of means        as the mean, of the differences of the pairs
retention (a ratio)        BCa bootstrap over the paired episodes
interquartile mean         percentile bootstrap, stratified by task
=========================  ==================================================================

NaN means that an episode gave nothing to measure. It is left out and counted in ``missing``.
The bootstrap draws from a generator made from ``seed``, so the same values and seed give the
same interval to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skilldistill.errors import ConfigurationError

Float64Array = NDArray[np.float64]
Method = Literal["wilson", "bca", "t", "percentile", "tango", "constant", "undefined"]

LEVEL = 0.95
RESAMPLES = 4000
"""Bootstrap samples. The ends of a 95 % interval then wander by about 2 % of its width."""

_SMALL = 10
_CHUNK = 2**21


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval."""

    mean: float
    """The figure itself; NaN if nothing could be measured."""
    low: float
    high: float
    n: int
    """Episodes (or pairs of episodes) it rests on."""
    missing: int
    """Episodes left out because they gave nothing to measure."""
    method: Method

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] (n={self.n})"


@dataclass(frozen=True)
class PairedDifference:
    """How much more a scored than b on the same episodes."""

    difference: Estimate
    """Mean of a − b over the pairs."""
    better: int
    """Pairs in which a scored more."""
    worse: int
    """Pairs in which b scored more; the rest are ties."""
    p_value: float | None
    """0/1 outcomes only: McNemar's exact test of "neither is better"."""

    @property
    def clear(self) -> bool:
        """The interval leaves out zero."""
        return self.difference.low > 0 or self.difference.high < 0


def mean(values: ArrayLike) -> float:
    """Mean of the scores that are not NaN; NaN if all are."""
    scores = _flat(values)
    kept = scores[~np.isnan(scores)]
    if not len(kept):
        return math.nan
    # the mean of equal numbers may differ from them in the last bit
    return float(kept[0] if np.ptp(kept) == 0 else kept.mean())


def mean_interval(
    values: ArrayLike,
    *,
    seed: int,
    binary: bool | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Mean of episode scores with its interval.

    Args:
        values: (n,) one score per episode; NaN for episodes that measured nothing.
        seed: seed of the bootstrap.
        binary: whether scores are 0/1 outcomes; None looks whether they all are 0 or 1.
        level: confidence.
        resamples: bootstrap samples.
    """
    scores = _flat(values)
    kept = scores[~np.isnan(scores)]
    n, missing = len(kept), len(scores) - len(kept)
    if n == 0:
        return _undefined(missing)
    if is_binary(kept) if binary is None else binary:
        low, high = wilson(int(kept.sum()), n, level=level)
        return Estimate(float(kept.mean()), low, high, n, missing, "wilson")
    found = mean(kept)
    if n == 1:
        return Estimate(found, math.nan, math.nan, n, missing, "undefined")
    if np.ptp(kept) == 0:
        return Estimate(found, found, found, n, missing, "constant")
    if n < _SMALL:
        half = t_quantile((1 + level) / 2, n - 1) * float(kept.std(ddof=1)) / math.sqrt(n)
        return Estimate(found, found - half, found + half, n, missing, "t")
    replicates = np.concatenate([w @ kept for w in _weights(n, resamples, seed)]) / n
    left_out = (kept.sum() - kept) / (n - 1)
    low, high = _bca(replicates, found, left_out, level)
    return Estimate(found, low, high, n, missing, "bca")


def wilson(successes: int, n: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a share: honest near 0 and 1, where the textbook one shrinks to nothing.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22
    (1927): the shares p for which |successes/n − p| ≤ z √(p (1 − p) / n).
    """
    z = _z(level)
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    seed: int,
    binary: bool | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> PairedDifference:
    """How much more a scored than b, episode by episode.

    Playing the same episodes removes what they have in common: luck with the start weighs on
    both. A pair counts only where both measured something.

    Args:
        a: (n,) scores of one policy.
        b: (n,) scores of the other on the same episodes, in the same order.
        seed: seed of the bootstrap.
        binary: whether scores are 0/1 outcomes; None looks whether they all are 0 or 1.
        level: confidence.
        resamples: bootstrap samples.

    Raises:
        ConfigurationError: a and b differ in length.
    """
    first, second = _flat(a), _flat(b)
    if first.shape != second.shape:
        raise ConfigurationError(f"{len(first)} scores cannot be paired with {len(second)}")
    kept = ~(np.isnan(first) | np.isnan(second))
    first, second = first[kept], second[kept]
    difference = first - second
    better, worse = int((difference > 0).sum()), int((difference < 0).sum())
    n, missing = len(difference), int((~kept).sum())
    if binary is None:
        binary = is_binary(first) and is_binary(second)
    if not binary or n == 0:
        inner = mean_interval(difference, seed=seed, binary=False, level=level, resamples=resamples)
        estimate = Estimate(inner.mean, inner.low, inner.high, n, missing, inner.method)
        return PairedDifference(estimate, better, worse, None)
    low, high = tango(better, worse, n, level=level)
    estimate = Estimate((better - worse) / n, low, high, n, missing, "tango")
    return PairedDifference(estimate, better, worse, mcnemar(better, worse))


def tango(better: int, worse: int, n: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Interval of the difference of two shares measured on the same n episodes.

    Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17 (1998): the differences δ whose score
    statistic (better − worse − n δ) / √(n (2 q + δ (1 − δ))) lies within ±z, where q is the
    likeliest probability of "worse" under δ. At δ = 0 it is McNemar's statistic.

    Args:
        better: pairs in which only the first succeeded.
        worse: pairs in which only the second succeeded.
        n: all pairs.
        level: confidence.
    """
    z = _z(level)

    def statistic(delta: float) -> float:
        linear = -(better + worse) + (2 * n - better + worse) * delta
        constant = -worse * delta * (1 - delta)
        root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
        share = (root - linear) / (4 * n)
        variance = n * (2 * share + delta * (1 - delta))
        gap = better - worse - n * delta
        if variance <= 0:
            return 0.0 if gap == 0 else math.copysign(math.inf, gap)
        return gap / math.sqrt(variance)

    observed = (better - worse) / n
    low = _crossing(lambda delta: statistic(delta) - z, -1.0, observed)
    high = _crossing(lambda delta: statistic(delta) + z, observed, 1.0)
    return low, high


def mcnemar(better: int, worse: int) -> float:
    """Two-sided exact p-value of "neither is better", given the pairs that differ.

    McNemar, "Note on the sampling error of the difference between correlated proportions",
    Psychometrika 12 (1947), with the binomial distribution in place of its approximation: if
    neither is better, each differing pair is a fair coin.
    """
    trials = better + worse
    ways = tail = 1  # in which the coins can fall as unevenly as that
    for k in range(min(better, worse)):
        ways = ways * (trials - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * float(tail / 2**trials))


def retention(
    student: ArrayLike,
    expert: ArrayLike,
    random: ArrayLike,
    *,
    seed: int,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Share of the expert's lead over chance that the student kept.

    (mean student − mean random) / (mean expert − mean random): 0 plays at random, 1 plays as
    the expert does. The interval resamples whole episodes, with what all three scored there;
    samples in which one of them measured nothing are left out. It is undefined (NaN) where the
    interval of the expert's lead itself reaches zero, since then a ratio to it says nothing.

    Args:
        student: (n,) scores.
        expert: (n,) scores on the same episodes.
        random: (n,) scores on the same episodes.
        seed: seed of the bootstrap.
        level: confidence.
        resamples: bootstrap samples.

    Raises:
        ConfigurationError: the three differ in length.
    """
    columns = [_flat(student), _flat(expert), _flat(random)]
    if len({len(column) for column in columns}) != 1:
        raise ConfigurationError(
            f"retention needs the same episodes of all three, got {[len(c) for c in columns]}"
        )
    scores = np.stack(columns, axis=1)
    seen = ~np.isnan(scores)
    scores = np.where(seen, scores, 0.0)
    used = seen.any(axis=1)
    scores, seen = scores[used], seen[used].astype(np.float64)
    n, missing = len(scores), int((~used).sum())
    undefined = Estimate(math.nan, math.nan, math.nan, n, missing, "undefined")
    if n < 2 or (seen.sum(axis=0) < 2).any():
        return undefined

    own, lead = _leads(scores.sum(axis=0, keepdims=True) / seen.sum(axis=0))[0]
    sums = [(w @ scores, w @ seen) for w in _weights(n, resamples, seed)]
    totals, counts = (np.concatenate(part) for part in zip(*sums, strict=True))
    measured = (counts > 0).all(axis=1)
    owns, leads = _leads(totals[measured] / counts[measured]).T
    left_own, left_lead = _leads((scores.sum(axis=0) - scores) / (seen.sum(axis=0) - seen)).T
    least = 1e-9 * np.ptp(scores[seen > 0])  # leads below are zero but for rounding
    if min(lead, left_lead.min(), _bca(leads, lead, left_lead, level)[0]) <= least:
        return undefined
    # A sample in which next to nothing of the lead is left is one in which anything is possible.
    least = max(least, 1e-3 * lead)
    ratios = np.where(leads > least, owns, np.copysign(np.inf, owns)) / np.maximum(leads, least)
    observed = own / lead
    low, high = _bca(ratios, observed, left_own / left_lead, level, gaps=owns - observed * leads)
    if not math.isfinite(high - low):
        return undefined
    return Estimate(float(observed), low, high, n, missing, "bca")


def iqm(
    scores: ArrayLike, *, seed: int, level: float = LEVEL, resamples: int = RESAMPLES
) -> Estimate:
    """Interquartile mean over runs and tasks: the mean of the middle half of all scores.

    Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice",
    NeurIPS 2021: as ``rliable`` computes it, a quarter of the sorted scores (rounded down) goes
    from either end; the interval is the percentile bootstrap over runs, within each task.

    Args:
        scores: (runs, tasks), without NaN.
        seed: seed of the bootstrap.
        level: confidence.
        resamples: bootstrap samples.

    Raises:
        ConfigurationError: no scores, more than two axes, or a score that is not finite.
    """
    table = np.asarray(scores, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ConfigurationError(
            f"the interquartile mean needs finite scores of shape (runs, tasks), "
            f"got shape {table.shape}"
        )
    runs, tasks = table.shape
    generator = np.random.default_rng(seed)
    samples = []
    for count in _chunks(resamples, table.size):
        rows = generator.integers(runs, size=(count, runs, tasks))
        samples.append(_middle_half(table[rows, np.arange(tasks)].reshape(count, -1)))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(samples), [tail, 1 - tail])
    centre = float(_middle_half(table.reshape(1, -1))[0])
    return Estimate(centre, float(low), float(high), runs, 0, "percentile")


def is_binary(values: ArrayLike) -> bool:
    """Whether every score that was measured is 0 or 1, and there is one."""
    scores = _flat(values)
    scores = scores[~np.isnan(scores)]
    return len(scores) > 0 and bool(np.isin(scores, (0.0, 1.0)).all())


@lru_cache(maxsize=256)
def t_quantile(probability: float, degrees: int) -> float:
    """Student's t below which ``probability`` (above one half) lies.

    Inverts the finite series of Abramowitz and Stegun, "Handbook of Mathematical Functions",
    26.7.3 (odd degrees of freedom) and 26.7.4 (even), by bisection.
    """

    def excess(angle: float) -> float:
        """Shortfall of P(|T| < tan(angle) √degrees), which grows with the angle."""
        cosine, sine = math.cos(angle), math.sin(angle)
        odd = degrees % 2
        k = np.arange(1, (degrees - 1 - odd) // 2 + 1)
        ratios = (2 * k / (2 * k + 1) if odd else (2 * k - 1) / (2 * k)) * cosine**2
        series = 1.0 + float(np.cumprod(ratios).sum())
        if not odd:
            return float(2 * probability - 1 - sine * series)
        rest = sine * cosine * series if degrees > 1 else 0.0
        return float(2 * probability - 1 - 2 / math.pi * (angle + rest))

    angle = _crossing(excess, 0.0, math.pi / 2)
    return math.tan(angle) * math.sqrt(degrees)


def _bca(
    replicates: Float64Array,
    observed: float,
    left_out: Float64Array,
    level: float,
    gaps: Float64Array | None = None,
) -> tuple[float, float]:
    """Ends of the bias-corrected accelerated bootstrap interval.

    Efron, "Better bootstrap confidence intervals", JASA 82 (1987); formulas as in Efron and
    Tibshirani, "An Introduction to the Bootstrap" (1993), 14.9 to 14.15. A bootstrap of n values
    is too narrow by about √((n − 1)/n) and knows no Student's t; the normal quantile is widened
    for both, as in Hesterberg, "What teachers should know about the bootstrap", The American
    Statistician 69 (2015), section 4.4.

    Args:
        replicates: (resamples,) the figure in each bootstrap sample.
        observed: the figure itself.
        left_out: (n,) the figure without each episode (the jackknife), for the acceleration.
        level: confidence.
        gaps: (resamples,) what has the signs of replicates − observed, where that itself may
            lie so far out that nothing else can be told from rounding.
    """
    normal = NormalDist()
    count = len(replicates)
    gap = replicates - observed if gaps is None else gaps
    tied = np.abs(gap) <= 1e-9 * np.ptp(gap)  # equal but for rounding
    below = (gap[~tied] < 0).sum() + 0.5 * tied.sum()
    bias = normal.inv_cdf(min(max(float(below) / count, 0.5 / count), 1 - 0.5 / count))
    influence = left_out.mean() - left_out
    largest = np.abs(influence).max()  # whose cube may be too small for a number
    influence /= largest if largest > 0 else 1.0
    spread = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    n = len(left_out)
    reach = math.sqrt(n / (n - 1)) * t_quantile((1 + level) / 2, n - 1)
    ends = []
    for shift in (-reach, reach):
        shifted = bias + shift
        ends.append(normal.cdf(bias + shifted / (1 - acceleration * shifted)))
    with np.errstate(invalid="ignore"):  # between infinities there is nothing to interpolate
        low, high = np.quantile(replicates, ends)
    return float(low), float(high)


def _weights(n: int, resamples: int, seed: int) -> Iterable[Float64Array]:
    """How often each of n episodes is drawn in each bootstrap sample: (some resamples, n).

    Means of all samples are then one matrix product. Pieces are small enough to stay in cache;
    one that is all there is is kept, since a report asks for the same draws many times.
    """
    if n * resamples <= _CHUNK:
        return (_only_weights(n, resamples, seed),)
    generator = np.random.default_rng(seed)
    return (_draw(generator, count, n) for count in _chunks(resamples, n))


@lru_cache(maxsize=4)
def _only_weights(n: int, resamples: int, seed: int) -> Float64Array:
    weights = _draw(np.random.default_rng(seed), resamples, n)
    weights.flags.writeable = False
    return weights


def _draw(generator: np.random.Generator, count: int, n: int) -> Float64Array:
    drawn = generator.integers(n, size=(count, n))
    drawn += np.arange(count)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(np.float64)


def _chunks(total: int, width: int) -> Iterator[int]:
    step = max(1, _CHUNK // width)
    for begin in range(0, total, step):
        yield min(step, total - begin)


def _middle_half(rows: Float64Array) -> Float64Array:
    cut = rows.shape[1] // 4
    ordered = np.sort(rows, axis=1)
    result: Float64Array = ordered[:, cut : rows.shape[1] - cut].mean(axis=1)
    return result


def _leads(means: Float64Array) -> Float64Array:
    """(k, 3) means of student, expert, random → (k, 2) leads of student and expert."""
    return means[:, :2] - means[:, 2:]


def _crossing(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that falls from positive to negative crosses zero, by bisection."""
    for _ in range(80):
        middle = (low + high) / 2
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _flat(values: ArrayLike) -> Float64Array:
    return np.asarray(values, dtype=np.float64).reshape(-1)


def _undefined(missing: int) -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, 0, missing, "undefined")


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
