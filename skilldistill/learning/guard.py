"""Whether a policy in training has fallen behind the one it started from.

Scores are main metrics per episode on seeds that never change during a run, so the same policy
always scores the same, and two policies are compared on the same episodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = Mapping[str, NDArray[np.float64]]
"""Main metric per episode, by task; NaN where an episode gave nothing to measure."""

_Z = 1.959963984540054
"""The standard normal's 97.5 % quantile: two-sided 95 %."""


PATIENCE = 3
"""Strikes in a row at which the last good weights come back: a tighter tie needs a moment."""


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
    """Tasks whose interval lies wholly below the baseline's. NaN never counts as falling."""
    return tuple(
        task
        for task, values in scores.items()
        if interval(values).high < interval(baseline[task]).low
    )


@dataclass
class Watch:
    """What the guard remembers between evaluations; plain values, saved with the run."""

    strikes: int = 0
    """Evaluations in a row that found something falling."""
    raises: int = 0
    rollbacks: int = 0
    worst: float = math.inf
    """Lowest mean score of the combined task so far."""
    early_worst: float = math.inf
    """The same within the window in which a collapse would show."""

    def see(self, score: float, *, early: bool) -> None:
        """Remember a mean score of the combined task."""
        self.worst = min(self.worst, score)
        if early:
            self.early_worst = min(self.early_worst, score)

    def judge(self, below: tuple[str, ...]) -> str:
        """What to do: ``"good"``, ``"raise"`` the KL weight, or ``"rollback"`` as well."""
        if not below:
            self.strikes = 0
            return "good"
        self.strikes += 1
        self.raises += 1
        if self.strikes < PATIENCE:
            return "raise"
        self.strikes = 0
        self.rollbacks += 1
        return "rollback"
