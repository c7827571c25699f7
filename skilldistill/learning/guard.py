"""Whether a policy in training has fallen behind the one it started from.

Scores are main metrics per episode on seeds that never change during a run, so the same policy
always scores the same, and two policies are compared on the same episodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Scores = Mapping[str, NDArray[np.float64]]
"""Main metric per episode, by task; NaN where an episode gave nothing to measure."""

_Z = 1.959963984540054
"""The standard normal's 97.5 % quantile: two-sided 95 %."""


PATIENCE = 3
"""Strikes in a row at which the last good weights come back: a tighter tie needs a moment."""
LAST_RESORT = 3
"""Rollbacks with nothing good in between after which a run ends with the last good weights."""
MARGIN = 0.02
"""Share of the baseline's mean that a policy may lose, on the same episodes, unnoticed."""


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


def interval(values: NDArray[np.float64]) -> Interval:
    """Mean of (n,) values with its 95 % interval: Wilson's for 0/1 values, else the normal one.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927. NaN is
    left out; with nothing left, everything is NaN.
    """
    values = values[np.isfinite(values)]
    n = len(values)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan)
    mean = float(values.mean())
    if bool(((values == 0) | (values == 1)).all()):
        shrink = 1 + _Z**2 / n
        middle = (mean + _Z**2 / (2 * n)) / shrink
        half = _Z * math.sqrt(mean * (1 - mean) / n + _Z**2 / (4 * n**2)) / shrink
        return Interval(mean, max(0.0, middle - half), min(1.0, middle + half))
    half = _Z * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Interval(mean, mean - half, mean + half)


def means(scores: Scores) -> dict[str, float]:
    """Mean score by task."""
    return {task: interval(values).mean for task, values in scores.items()}


def falling(scores: Scores, baseline: Scores) -> tuple[str, ...]:
    """Tasks in which a policy has clearly fallen behind. NaN never counts as falling.

    Either its interval lies wholly below the baseline's, or, since both play the same episodes,
    the interval of the paired differences lies wholly below -:data:`MARGIN` of the baseline's
    mean: a test of its own for losses that the spread between episodes would hide.
    """
    return tuple(
        task
        for task, values in scores.items()
        if interval(values).high < interval(baseline[task]).low
        or _paired(values - baseline[task]).high < -margin(baseline[task])
    )


def margin(baseline: NDArray[np.float64]) -> float:
    """What a mean score may lose against these scores without being called worse."""
    return MARGIN * abs(interval(baseline).mean)


def _paired(differences: NDArray[np.float64]) -> Interval:
    """Mean and normal 95 % interval of (n,) differences between episodes; NaN left out."""
    differences = differences[np.isfinite(differences)]
    n = len(differences)
    if n < 2:
        return Interval(math.nan, math.nan, math.nan)
    mean, half = float(differences.mean()), _Z * float(differences.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


@dataclass
class Watch:
    """What the guard remembers between evaluations; plain values, saved with the run."""

    strikes: int = 0
    """Evaluations in a row that found something falling."""
    raises: int = 0
    rollbacks: int = 0
    fruitless: int = 0
    """Rollbacks since the last good evaluation."""
    worst: dict[str, float] = field(default_factory=dict)
    """Lowest mean score so far, by task."""
    early_worst: dict[str, float] = field(default_factory=dict)
    """The same within the window in which a collapse would show."""

    def see(self, scores: Mapping[str, float], *, early: bool) -> None:
        """Remember mean scores by task."""
        for lowest in (self.worst, self.early_worst) if early else (self.worst,):
            for task, score in scores.items():
                lowest[task] = min(lowest.get(task, math.inf), score)

    def judge(self, below: tuple[str, ...], *, tied: bool = True) -> str:
        """What to do: nothing (``"good"``), ``"raise"`` the KL weight, or ``"rollback"``.

        Without a tie there is nothing to raise: a mere ``"strike"``.
        """
        if not below:
            self.strikes = self.fruitless = 0
            return "good"
        self.strikes += 1
        if self.strikes >= PATIENCE:
            self.roll_back()
            return "rollback"
        self.raises += tied
        return "raise" if tied else "strike"

    def roll_back(self) -> None:
        """Count a rollback."""
        self.strikes = 0
        self.rollbacks += 1
        self.fruitless += 1
