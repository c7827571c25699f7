"""What an evaluation found: records, their JSON, and what to keep of every episode.

A report is a flat list of figures, each naming its policy, task and metric, so that it can be
read into a table as it is. :mod:`skilldistill.evaluation.page` writes it as a page to read, and
:mod:`skilldistill.evaluation.pictures` draws it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from skilldistill.domain import Domain
from skilldistill.errors import CorruptFile
from skilldistill.evaluation import statistics
from skilldistill.evaluation.rollout import Rollout
from skilldistill.evaluation.statistics import Estimate
from skilldistill.workspace.manifest import plain

RANDOM, COMPOSITE = "random", "composite"
"""Labels of the policies between which retention measures: chance, and the experts."""
_ROUNDING = 1e-9
"""Parts of a figure that are no part of what was measured."""
_AGAIN = "evaluate again with this version: `skilldistill evaluate`"


@dataclass(frozen=True, kw_only=True)
class PolicyEntry:
    """A policy that was evaluated."""

    label: str
    """Unique in the report."""
    ref: str
    kind: Literal["baseline", "scripted", "checkpoint", "expert"]
    artefact: str | None = None
    """Id in the workspace."""
    skill: str | None = None
    """For an expert: the one skill it has."""
    experts: Mapping[str, str] = field(default_factory=dict)
    """For ``composite``: the reference of the expert of each skill."""
    finetuning: Mapping[str, Any] = field(default_factory=dict)
    """For a fine-tuned checkpoint: what its run says of itself, such as ``collapse_depth``."""


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """A task that was played."""

    name: str
    metrics: tuple[str, ...]
    main_metric: str
    skill: bool
    """It asks for one skill; otherwise for all of them together."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A figure of one policy in one task, with its 95 % interval; NaN where it is undefined."""

    policy: str
    task: str
    metric: str
    mean: float
    low: float
    high: float
    n: int
    """Episodes it rests on."""
    missing: int
    """Episodes that gave nothing to measure."""
    method: str
    """How the interval was made; see :mod:`skilldistill.evaluation.statistics`."""


@dataclass(frozen=True, kw_only=True)
class Difference(Score):
    """How much more ``policy`` scored than ``versus`` on the same episodes."""

    versus: str
    better: int
    """Episodes in which ``policy`` scored more."""
    worse: int
    """Episodes in which ``versus`` scored more."""
    p_value: float | None
    """0/1 outcomes only: McNemar's exact test."""

    @property
    def clear(self) -> bool:
        """The interval leaves out zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """Everything an evaluation found."""

    schema: ClassVar[str] = "skilldistill.evaluate/1"

    domain: str
    episodes: int
    """Episodes per policy and task."""
    seed: int
    first_episode: int
    """Index of the first episode; ``seed`` and index make an episode."""
    opponent: str
    """Opponent in the combined task."""
    versus: str
    """Label of the policy that the others are compared with."""
    policies: tuple[PolicyEntry, ...]
    tasks: tuple[TaskEntry, ...]
    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    retention: tuple[Score, ...]
    """Per policy and skill task, on the main metric: 0 plays at random, 1 as the expert does."""

    def score(self, policy: str, task: str, metric: str | None = None) -> Score | None:
        """A policy's figure in a task; None if it did not play it.

        Args:
            policy: its label.
            task: name of the task.
            metric: which; None takes the task's main metric.
        """
        wanted = metric or self.task(task).main_metric
        return _first(self.scores, policy, task, wanted)

    def difference(self, policy: str, task: str) -> Difference | None:
        """A policy beside ``versus`` by a task's main metric; None if they did not both play it."""
        return _first(self.differences, policy, task, self.task(task).main_metric)

    def task(self, name: str) -> TaskEntry:
        """The task called ``name``; KeyError if it was not played."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise KeyError(name)

    def table(self) -> list[tuple[str, list[Score | None]]]:
        """Per policy its label and its main figure in every task, None where it did not play."""
        return [
            (policy.label, [self.score(policy.label, task.name) for task in self.tasks])
            for policy in self.policies
        ]

    def means(self, policy: str) -> dict[str, dict[str, float]]:
        """A policy's means: task → metric → mean, NaN where nothing could be measured."""
        result: dict[str, dict[str, float]] = {}
        for score in self.scores:
            if score.policy == policy:
                result.setdefault(score.task, {})[score.metric] = score.mean
        return result

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-able values under ``schema``; NaN becomes None."""
        return {"schema": self.schema, **plain(dataclasses.asdict(self))}

    def to_json(self) -> str:
        """The report as a JSON document."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "this") -> EvaluationReport:
        """Read what :meth:`to_json` wrote.

        Args:
            text: the document.
            source: what to call it in an error, its path for one.

        Raises:
            CorruptFile: it is no such document.
        """
        try:
            content = json.loads(text)
            found = content.pop("schema")
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
            raise CorruptFile(f"{source} is no evaluation report: {error}", hint=_AGAIN) from error
        if found != cls.schema:
            raise CorruptFile(
                f"{source} is a document of schema {found!r}, not {cls.schema!r}", hint=_AGAIN
            )
        try:
            lists: dict[str, type[Any]] = {
                "policies": PolicyEntry,
                "tasks": TaskEntry,
                "scores": Score,
                "differences": Difference,
                "retention": Score,
            }
            for name, kind in lists.items():
                content[name] = tuple(_record(kind, entry) for entry in content[name])
            return cls(**content)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFile(f"{source} is damaged: {error}", hint=_AGAIN) from error


def assemble(
    domain: Domain,
    policies: Sequence[PolicyEntry],
    rollouts: Mapping[tuple[str, str], Rollout],
    *,
    versus: str,
    opponent: str,
) -> EvaluationReport:
    """Turn what was played into a report.

    Args:
        domain: where it was played.
        policies: who played, in the order of the report.
        rollouts: by label and task, all of the same episodes; a pair that is not there was not
            played.
        versus: label of the policy the others are compared with.
        opponent: who the opponent in the combined task was.
    """
    any_rollout = next(iter(rollouts.values()))
    seed = any_rollout.seed
    played = {task for _, task in rollouts}
    tasks = tuple(
        TaskEntry(
            name=task.name,
            metrics=task.metrics,
            main_metric=task.main_metric,
            skill=task.name in domain.skill_names,
        )
        for task in domain.tasks
        if task.name in played
    )
    scores: list[Score] = []
    differences: list[Difference] = []
    retention: list[Score] = []
    for task in tasks:
        here = {
            policy.label: rollouts[policy.label, task.name].metrics
            for policy in policies
            if (policy.label, task.name) in rollouts
        }
        for metric in task.metrics:
            columns = {label: metrics[metric] for label, metrics in here.items()}
            binary = statistics.is_binary(np.concatenate(list(columns.values())))
            for label, values in columns.items():
                estimate = statistics.mean_interval(values, seed=seed, binary=binary)
                place: dict[str, Any] = {"policy": label, "task": task.name, "metric": metric}
                scores.append(Score(**place, **_figures(estimate)))
                if label != versus and versus in columns:
                    pair = statistics.paired_difference(
                        values, columns[versus], seed=seed, binary=binary
                    )
                    differences.append(
                        Difference(
                            **place,
                            **_figures(pair.difference),
                            versus=versus,
                            better=pair.better,
                            worse=pair.worse,
                            p_value=pair.p_value,
                        )
                    )
        if task.skill:
            main = {label: metrics[task.main_metric] for label, metrics in here.items()}
            retention += _retention(task, main, seed)
    return EvaluationReport(
        domain=domain.name,
        episodes=any_rollout.episodes,
        seed=seed,
        first_episode=any_rollout.first_episode,
        opponent=opponent,
        versus=versus,
        policies=tuple(policies),
        tasks=tasks,
        scores=tuple(scores),
        differences=tuple(differences),
        retention=tuple(retention),
    )


def episodes_csv(rollouts: Mapping[tuple[str, str], Rollout]) -> str:
    """Every episode's figures, one per line: policy, task, episode, metric, value.

    Nothing to measure is an empty value. Numbers are written so that they read back exactly.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["policy", "task", "episode", "metric", "value"])
    for (label, task), rollout in rollouts.items():
        columns = {**rollout.metrics, "return": rollout.returns, "length": rollout.lengths}
        for metric, values in columns.items():
            for index, value in enumerate(values.tolist(), start=rollout.first_episode):
                shown = "" if isinstance(value, float) and math.isnan(value) else repr(value)
                writer.writerow([label, task, index, metric, shown])
    return text.getvalue()


def decimals(scores: Iterable[Score]) -> int:
    """Places after the point for figures that stand side by side, which all get the same.

    They tell two digits of how wide the intervals are, by the median of these. Where none has a
    width, they tell the means exactly, unless that takes more than three digits of the largest.
    """
    known = [score for score in scores if math.isfinite(score.mean)]
    size = max((abs(score.mean) for score in known), default=0.0)
    lengths = sorted(score.high - score.low for score in known)
    # a difference in the last bits is rounding
    widths = [width for width in lengths if math.isfinite(width) and width > _ROUNDING * size]
    if widths:
        return max(0, 1 - math.floor(math.log10(widths[(len(widths) - 1) // 2])))
    most = max(0, 3 - math.ceil(math.log10(size))) if size else 0
    exact = (
        places
        for places in range(most)
        if all(math.isclose(x.mean, round(x.mean, places), rel_tol=_ROUNDING) for x in known)
    )
    return next(exact, most)


def format_figure(value: float, places: int, *, signed: bool = False) -> str:
    """A figure with so many places after the point, and a dash for one that is undefined.

    Args:
        value: the figure; one that rounds to zero has no sign.
        places: as many as :func:`decimals` found for it and its neighbours.
        signed: write a plus before what is more than zero.
    """
    if math.isnan(value):
        return "–"
    shown = round(value, places) + 0.0  # turns -0.0 into 0.0
    return f"{'+' if signed and shown > 0 else ''}{shown:,.{places}f}"


def format_interval(score: Score, places: int) -> str:
    """``0.973 [0.951, 0.990]``, or a dash where the figure is undefined."""
    mean, low, high = (format_figure(x, places) for x in (score.mean, score.low, score.high))
    return mean if math.isnan(score.mean) or math.isnan(score.low) else f"{mean} [{low}, {high}]"


def _retention(
    task: TaskEntry, columns: Mapping[str, NDArray[np.float64]], seed: int
) -> list[Score]:
    if RANDOM not in columns or COMPOSITE not in columns:
        return []
    return [
        Score(
            policy=label,
            task=task.name,
            metric=task.main_metric,
            **_figures(
                statistics.retention(values, columns[COMPOSITE], columns[RANDOM], seed=seed)
            ),
        )
        for label, values in columns.items()
        if label not in (RANDOM, COMPOSITE)
    ]


def _figures(estimate: Estimate) -> dict[str, Any]:
    return dataclasses.asdict(estimate)


_S = TypeVar("_S", bound=Score)


def _first(scores: Sequence[_S], policy: str, task: str, metric: str) -> _S | None:
    for score in scores:
        if (score.policy, score.task, score.metric) == (policy, task, metric):
            return score
    return None


def _record(kind: type[Any], entry: Mapping[str, Any]) -> Any:
    """A record from its JSON: null is NaN where a number belongs, lists are tuples."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in entry.items():
        if hints[name] is float:
            value = math.nan if value is None else float(value)
        elif isinstance(value, list):
            value = tuple(value)
        values[name] = value
    return kind(**values)
