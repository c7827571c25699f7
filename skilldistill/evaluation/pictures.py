"""Draw a report with matplotlib, where it is installed (extra ``plots``)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from skilldistill.evaluation.report import EvaluationReport, Score, TaskEntry, format_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#8a8f98", "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""One per policy, in the report's order: chance in grey, then Okabe and Ito's palette, which
people with any colour vision can tell apart."""


def colour(report: EvaluationReport, policy: str) -> str:
    """The colour of a policy, the same in every picture of a report."""
    labels = [entry.label for entry in report.policies]
    place = labels.index(policy)
    if report.policies[place].ref == "random":
        return COLOURS[0]
    others = [entry.label for entry in report.policies if entry.ref != "random"]
    return COLOURS[1 + others.index(policy) % (len(COLOURS) - 1)]


def draw(report: EvaluationReport, folder: Path) -> list[Path]:
    """Write one picture per task, bars with intervals for each metric.

    Returns:
        The files written; none where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    paths = []
    for task in report.tasks:
        # Never through pyplot: no window system, and no figure is kept alive.
        # Margins are set by hand: working them out costs more than all the drawing.
        columns = min(len(task.metrics), 4)
        rows = -(-len(task.metrics) // columns)
        width, height = 2.6 * columns + 0.6, 3.0 * rows + 0.5
        figure = Figure(figsize=(width, height), dpi=110)
        figure.subplots_adjust(
            left=0.6 / width, right=1 - 0.15 / width, top=1 - 0.75 / height, bottom=0.75 / height,
            wspace=0.35, hspace=0.65,
        )  # fmt: skip
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for unused in axes[len(task.metrics) :]:
            unused.set_visible(False)
        for ax, metric in zip(axes, task.metrics, strict=False):
            scores = [score for score in report.scores if _is(score, task.name, metric)]
            _bars(ax, report, scores)
            weight = "bold" if metric == task.main_metric else "normal"
            ax.set_title(metric, fontsize=10, fontweight=weight)
        figure.suptitle(_title(report, task), fontsize=9, y=1 - 0.12 / height, va="top")
        path = folder / f"{task.name}.png"
        figure.savefig(path, metadata={"Software": None})  # or its bytes depend on the version
        paths.append(path)
    return paths


def _bars(ax: Axes, report: EvaluationReport, scores: list[Score]) -> None:
    known = [score for score in scores if not math.isnan(score.mean)]
    for place, score in enumerate(scores):
        if math.isnan(score.mean):
            ax.text(place, 0, "nothing\nmeasured", ha="center", va="bottom", fontsize=7)
            continue
        ax.bar(place, score.mean, width=0.72, color=colour(report, score.policy))
        top = score.mean
        if not math.isnan(score.low):
            ends = [[score.mean - score.low], [score.high - score.mean]]
            ends = [[max(0.0, length) for length in side] for side in ends]
            ax.errorbar(place, score.mean, yerr=ends, color="#222222", capsize=3, linewidth=1.2)
            top = score.high
        ax.annotate(
            format_figure(score.mean),
            (place, max(top, 0.0)),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    ax.set_xticks(range(len(scores)), [score.policy for score in scores], rotation=30, ha="right")
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(y=0.12)
    if known and all(0 <= score.mean <= 1 and score.high <= 1.001 for score in known):
        ax.set_ylim(0, 1.1)


def _is(score: Score, task: str, metric: str) -> bool:
    return (score.task, score.metric) == (task, metric)


def _title(report: EvaluationReport, task: TaskEntry) -> str:
    against = "" if task.skill or not report.opponent else f" against {report.opponent}"
    return f"{task.name}{against}: {report.episodes} episodes, mean and 95 % interval"
