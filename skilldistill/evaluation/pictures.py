"""Draw a report with matplotlib, where it is installed (extra ``plots``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skilldistill import palette
from skilldistill.evaluation.report import (
    EvaluationReport,
    Score,
    TaskEntry,
    decimals,
    format_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL = 40
"""Letters of a policy's name that are written."""
SMALL = 0.01
"""What stays below is drawn larger than a share, or there would be nothing to see."""
COLUMNS = 4
"""Panels side by side, at most."""

_DPI = 110
_LINE, _BARS, _SPACE, _MARGIN = 0.25, 1.75, 0.1, 0.2
"""Inches: height of a policy, width of the bars, between words and bars, around everything."""
_TITLE, _HEAD, _FOOT, _BETWEEN = 0.4, 0.32, 0.42, 0.4
"""Inches: above all panels, above a panel, below it, and between two side by side."""
_METRIC, _WORDS, _DIGITS, _NOTE = 10, 9, 8.5, 7.5
"""Points: names of metrics, of policies, their figures, and what is said in passing."""
_INK, _SOFT, _FAINT = "#222222", "#60646c", "#e2e4e8"


def colour(report: EvaluationReport, policy: str) -> str:
    """The colour of a policy, the same in every picture of a report."""
    if any(entry.label == policy and entry.ref == "random" for entry in report.policies):
        return palette.GREY
    others = [entry.label for entry in report.policies if entry.ref != "random"]
    return palette.colour(others.index(policy))


def draw(report: EvaluationReport, folder: Path) -> list[Path]:
    """Write one picture per task, bars with intervals for each metric.

    Returns:
        The files written; none where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: F401
    except ImportError:
        return []
    paths = []
    for task in report.tasks:
        path = folder / f"{task.name}.png"
        # without the version, or the picture's bytes depend on it
        _sheet(report, task).savefig(path, metadata={"Software": None})
        paths.append(path)
    return paths


def _sheet(report: EvaluationReport, task: TaskEntry) -> Figure:
    """A panel per metric, a line per policy; as large as its words and bars need."""
    # Never through pyplot: no window system, and no figure is kept alive.
    from matplotlib.figure import Figure

    played = {score.policy for score in report.scores if score.task == task.name}
    policies = [entry.label for entry in report.policies if entry.label in played]
    panels = [_scores(report, task.name, metric) for metric in task.metrics]
    figures = [_figures(scores) for scores in panels]
    title = _title(report, task)

    # Margins are set by hand: working them out costs more than all the drawing.
    names = _widest(map(_short, policies), _WORDS) + _SPACE
    values = _widest((text for shown in figures for text in shown.values()), _DIGITS) + _SPACE
    bars = max(_BARS, _widest(task.metrics, _METRIC, "bold") - values)
    rows = -(-len(panels) // COLUMNS)
    columns = -(-len(panels) // rows)
    lines = _LINE * len(policies)
    across, down = bars + values + _BETWEEN, _HEAD + lines + _FOOT
    width = 2 * _MARGIN + max(names + columns * across - _BETWEEN, _widest([title], _WORDS))
    height = _TITLE + rows * down

    figure = Figure(figsize=(width, height), dpi=_DPI)
    figure.text(
        _MARGIN / width, 1 - _MARGIN / height, title,
        fontsize=_WORDS, va="center", color=_SOFT, parse_math=False,
    )  # fmt: skip
    for place, metric in enumerate(task.metrics):
        row, column = divmod(place, columns)
        left = _MARGIN + names + column * across
        bottom = height - _TITLE - (row + 1) * down + _FOOT
        ax = figure.add_axes((left / width, bottom / height, bars / width, lines / height))
        _panel(ax, report, policies, panels[place])
        weight = "bold" if metric == task.main_metric else "normal"
        ax.set_title(metric, fontsize=_METRIC, fontweight=weight, loc="left", parse_math=False)
        for line, policy in enumerate(policies):
            if column == 0:
                _beside(ax, line, -_SPACE / bars, _short(policy), size=_WORDS)
            _beside(ax, line, 1 + values / bars, figures[place].get(policy, ""), size=_DIGITS)
    return figure


def _panel(
    ax: Axes, report: EvaluationReport, policies: Sequence[str], scores: Sequence[Score]
) -> None:
    """Bars and intervals; the words beside them are not the axes' own."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for score in scores:
        line = policies.index(score.policy)
        if math.isnan(score.mean):
            _note(ax, line)
            continue
        ax.barh(line, score.mean, height=0.7, color=colour(report, score.policy), zorder=2)
        if not math.isnan(score.low):
            ends = [[score.mean - score.low], [score.high - score.mean]]
            ends = [[max(0.0, length) for length in side] for side in ends]
            ax.errorbar(
                score.mean, line, xerr=ends, color=_INK, capsize=2.5, linewidth=1.2, zorder=3
            )
    ax.axvline(0, color=_SOFT, linewidth=0.8, zorder=4)
    low, high = limits(scores)
    room = 0.02 * (high - low)  # for the caps of the intervals
    ax.set_xlim(low - room if low < 0 else 0, high + room if high > 0 else 0)
    ax.set_ylim(len(policies) - 0.5, -0.5)
    ax.set_yticks([])
    ax.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _tick(x)))
    ax.tick_params(axis="x", labelsize=_NOTE, length=0, colors=_SOFT)
    ax.grid(axis="x", color=_FAINT, linewidth=0.8, zorder=0)
    ax.spines[:].set_visible(False)


def limits(scores: Sequence[Score]) -> tuple[float, float]:
    """Between which values scores are drawn: zero is there, and one if they are shares."""
    ends = [x for s in scores for x in (s.mean, s.low, s.high) if not math.isnan(x)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    means = any(s.mean > 0 for s in scores)
    share = low == 0 and (SMALL < high <= 1.001 or not means)
    return low, 1.0 if share else high


def _beside(ax: Axes, line: int, x: float, text: str, *, size: float) -> None:
    """Words that end at ``x``, in widths of the bars, on a policy's line."""
    ax.text(
        x, line, text, transform=ax.get_yaxis_transform(), fontsize=size, color=_INK,
        ha="right", va="center_baseline", parse_math=False,
    )  # fmt: skip


def _note(ax: Axes, line: int) -> None:
    ax.text(
        0.02, line, "nothing measured", transform=ax.get_yaxis_transform(), fontsize=_NOTE,
        color=_SOFT, va="center_baseline",
    )  # fmt: skip


def _figures(scores: Sequence[Score]) -> dict[str, str]:
    """What a panel says of each policy, all at one precision."""
    places = decimals(scores)
    return {score.policy: _printed(format_figure(score.mean, places)) for score in scores}


def _tick(value: float) -> str:
    return _printed(f"{value:,g}").replace("e+0", "e").replace("e−0", "e−")


def _printed(figure: str) -> str:
    return figure.replace("-", "−")


def _widest(texts: Iterable[str], size: float, weight: str = "normal") -> float:
    """Inches that the widest of some texts takes, in points of ``size``."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight=weight)
    widths = [text_to_path.get_text_width_height_descent(text, font, False)[0] for text in texts]
    return max(widths, default=0.0) / 72


def _short(label: str) -> str:
    """The end of a path tells more than its beginning."""
    return label if len(label) <= LABEL else f"…{label[1 - LABEL :]}"


def _scores(report: EvaluationReport, task: str, metric: str) -> list[Score]:
    return [score for score in report.scores if (score.task, score.metric) == (task, metric)]


def _title(report: EvaluationReport, task: TaskEntry) -> str:
    against = "" if task.skill or not report.opponent else f" against {report.opponent}"
    return f"{task.name}{against}: {report.episodes} episodes, mean and 95 % interval"
