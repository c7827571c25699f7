"""A report as one HTML file: nothing to load, light or dark as the reader's screen."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from skilldistill import __version__
from skilldistill.evaluation.pictures import colour, limits
from skilldistill.evaluation.report import (
    Difference,
    EvaluationReport,
    Score,
    TaskEntry,
    decimals,
    format_figure,
    format_interval,
)

LABEL = 17
"""Letters of a policy's name that fit beside a bar."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --line: #d9dce1;
        --paper: #fcfcfd; --panel: #f3f4f6; --good: #18794e; --bad: #c62a2f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #edeef0; --soft: #a5abb5; --line: #363a3f; --paper: #111113; --panel: #1b1d20;
          --good: #4cc38a; --bad: #ff8589; } }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem; color: var(--ink);
       background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: .95rem; margin: 1.2rem 0 .2rem; font-weight: 600; }
p { margin: .4rem 0 .8rem; } .soft, caption, figcaption { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .45rem .7rem; border-bottom: 1px solid var(--line);
         white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { vertical-align: bottom; }
td small, th small { display: block; color: var(--soft); font-weight: 400; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .5em; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
svg { display: block; width: 100%; height: auto; max-width: 46rem; }
svg text { fill: currentColor; font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } svg .whisker { stroke: var(--ink); stroke-width: 1.6; }
svg .grid { stroke: var(--line); }
figure { margin: 1rem 0; } img { max-width: 100%; border-radius: 6px; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
code { background: var(--panel); padding: .1em .35em; border-radius: 4px; }
"""

_METHOD = """
Every policy played the same episodes, so differences compare like with like. Shares of 0/1 outcomes
carry Wilson's score interval and, in pairs, Tango's with McNemar's exact p-value; other means a
bias-corrected accelerated bootstrap over episodes (Student's t below ten). Retention is
(student − random) ÷ (expert − random) on the task's main metric. A figure counts as higher or lower
only where its interval leaves out zero; with many figures, one in twenty does so by chance.
"""


def render(
    report: EvaluationReport, *, command: str = "", drawings: Mapping[str, Path] | None = None
) -> str:
    """The report as an HTML document.

    Args:
        report: what to show.
        command: what made it, shown at the foot.
        drawings: pictures of episodes, by caption; they become part of the document.
    """
    tasks = "".join(_task(report, task) for task in report.tasks)
    against = f", opponent <b>{escape(report.opponent)}</b>" if report.opponent else ""
    made = f"<p class='soft'>Made by <code>{escape(command)}</code></p>" if command else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation in {escape(report.domain)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Evaluation in {escape(report.domain)}</h1>
<p class="soft">{report.episodes} episodes per policy and task, seed {report.seed}{against}</p>
{_overview(report)}
{_comparison(report)}
{_retention(report)}
{_finetuning(report)}
{tasks}
{_drawings(drawings or {})}
<footer>
<p class="soft">{_METHOD.strip()}</p>
{made}
<p class="soft">skilldistill {escape(__version__)}. The same figures: <code>report.json</code>;
every episode: <code>episodes.csv</code>.</p>
</footer>
</body>
</html>
"""


def _overview(report: EvaluationReport) -> str:
    heads = "".join(f"<th>{escape(t.name)}<small>{escape(t.main_metric)}</small></th>"
                    for t in report.tasks)  # fmt: skip
    table = report.table()
    columns = zip(*(scores for _, scores in table), strict=True)
    places = [decimals(filter(None, column)) for column in columns]
    rows = "".join(
        f"<tr><th>{_name(report, label)}</th>{''.join(map(_cell, scores, places))}</tr>"
        for label, scores in table
    )
    return f"""<h2>At a glance</h2>
<div class="scroll"><table><caption>Main metric of each task: mean and 95 % interval</caption>
<thead><tr><th>policy</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"""


def _comparison(report: EvaluationReport) -> str:
    others = [p.label for p in report.policies if p.label != report.versus]
    if not others:
        return ""
    columns = [[report.difference(label, task.name) for label in others] for task in report.tasks]
    places = [decimals(filter(None, column)) for column in columns]
    rows = ""
    for label, *found in zip(others, *columns, strict=True):
        cells = "".join(map(_difference, found, places))
        rows += f"<tr><th>{_name(report, label)}</th>{cells}</tr>"
    heads = "".join(f"<th>{escape(task.name)}</th>" for task in report.tasks)
    return f"""<h2>Compared with {escape(report.versus)}</h2>
<div class="scroll"><table><caption>Difference on the same episodes, main metric</caption>
<thead><tr><th>policy</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"""


def _retention(report: EvaluationReport) -> str:
    if not report.retention:
        return ""
    parts = "<h2>What each student kept of the experts</h2>"
    for task in report.tasks:
        here = [score for score in report.retention if score.task == task.name]
        if here:
            parts += f"<h3>{escape(task.name)}</h3>" + bars(report, here, unit="retention")
    return parts


_RUN = {
    "steps": "steps",
    "warmup_steps": "of them critic only",
    "warmup_updates": "updates of the critic alone",
    "collapse_depth": "collapse depth",
    "kl_raises": "times the tie was tightened",
    "rollbacks": "times good weights came back",
}
"""Figures of a fine-tuning, and what they are called."""


def _finetuning(report: EvaluationReport) -> str:
    tuned = [policy for policy in report.policies if policy.finetuning]
    if not tuned:
        return ""
    heads = "".join(f"<th>{escape(words)}</th>" for words in _RUN.values())
    rows = ""
    for policy in tuned:
        cells = "".join(f"<td>{_plain(policy.finetuning.get(name))}</td>" for name in _RUN)
        rows += f"<tr><th>{_name(report, policy.label)}</th>{cells}</tr>"
    caption = "Collapse depth: how far the combined task's score fell below the start's, early on"
    return f"""<h2>How the fine-tuning went</h2>
<div class="scroll"><table><caption>{caption}</caption>
<thead><tr><th>policy</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"""


def _plain(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return format_figure(value, 3) if isinstance(value, float) else "–"


def _task(report: EvaluationReport, task: TaskEntry) -> str:
    parts = f"<h2>{escape(task.name)}</h2>"
    for metric in task.metrics:
        here = [s for s in report.scores if (s.task, s.metric) == (task.name, metric)]
        main = " (main metric)" if metric == task.main_metric else ""
        parts += f"<h3>{escape(metric)}{main}</h3>" + bars(report, here, unit=metric)
    return parts


def _drawings(drawings: Mapping[str, Path]) -> str:
    if not drawings:
        return ""
    figures = ""
    for caption, path in drawings.items():
        kind = {".gif": "gif", ".png": "png"}.get(path.suffix.lower())
        text = escape(caption)
        if kind is None:  # a film: too large to carry along
            figures += f'<p>{text}: <a href="{escape(path.name)}">{escape(path.name)}</a></p>'
            continue
        data = base64.b64encode(path.read_bytes()).decode()
        figures += (
            f'<figure><img alt="{text}" src="data:image/{kind};base64,{data}">'
            f"<figcaption>{text}</figcaption></figure>"
        )
    return f"<h2>Episodes</h2>{figures}"


_LEFT, _RIGHT, _WIDTH, _ROW = 130, 190, 720, 26
_LETTER = 8.5
"""Width of a letter beside a bar, with what keeps the last one off the edge."""


def bars(report: EvaluationReport, scores: Iterable[Score], *, unit: str) -> str:
    """Horizontal bars with intervals as an SVG image, one per policy."""
    shown = list(scores)
    places = decimals(shown)
    words = [_words(score, places) for score in shown]
    width = _WIDTH - _LEFT - max(_RIGHT, _LETTER * max(map(len, words), default=0))
    low, high = limits(shown)

    def x(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * width

    height = _ROW * len(shown) + 8
    parts = [
        f'<line class="grid" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="0" y2="{height}"/>'
        for at in sorted({0.0, high})
    ]
    for place, score in enumerate(shown):
        middle = 4 + _ROW * place + _ROW / 2
        parts.append(
            f'<text x="{_LEFT - 10}" y="{middle + 4.5:.1f}" text-anchor="end">'
            f"{escape(_short(score.policy))}</text>"
        )
        after = x(0.0)
        if not math.isnan(score.mean):
            left, right = sorted((x(0.0), x(score.mean)))
            parts.append(
                f'<rect x="{left:.1f}" y="{middle - 8:.1f}" width="{right - left:.1f}" '
                f'height="16" rx="2" fill="{colour(report, score.policy)}"/>'
            )
            after = max(x(0.0), right)
        if not math.isnan(score.low):
            a, b = x(score.low), x(score.high)
            parts.append(
                f'<path class="whisker" fill="none" d="M{a:.1f} {middle:.1f}H{b:.1f}'
                f'M{a:.1f} {middle - 5:.1f}v10M{b:.1f} {middle - 5:.1f}v10"/>'
            )
            after = max(after, b)
        parts.append(
            f'<text class="soft" x="{after + 10:.1f}" y="{middle + 4.5:.1f}">'
            f"{escape(words[place])}</text>"
        )
    spoken = "; ".join(f"{score.policy} {format_interval(score, places)}" for score in shown)
    return (
        f'<svg role="img" aria-label="{escape(unit)}: {escape(spoken)}" '
        f'viewBox="0 0 {_WIDTH} {height}">{"".join(parts)}</svg>'
    )


def _words(score: Score, places: int) -> str:
    missing = f" · {score.missing} without" if score.missing else ""
    return format_interval(score, places) + missing


def _short(label: str) -> str:
    """A label that fits beside a bar; the end of a path tells more than its beginning."""
    return label if len(label) <= LABEL else f"…{label[1 - LABEL :]}"


def _name(report: EvaluationReport, label: str) -> str:
    entry = next(policy for policy in report.policies if policy.label == label)
    notes = [entry.ref] if entry.ref != label else []
    notes += [f"{skill}: {ref}" for skill, ref in entry.experts.items()]
    small = f"<small>{escape('; '.join(notes))}</small>" if notes else ""
    return (
        f'<span class="dot" style="background:{colour(report, label)}"></span>'
        f"{escape(label)}{small}"
    )


def _cell(score: Score | None, places: int) -> str:
    if score is None:
        return "<td></td>"
    mean, low, high = (format_figure(x, places) for x in (score.mean, score.low, score.high))
    ends = "" if math.isnan(score.low) else f"<small>{low} to {high}</small>"
    return f"<td>{mean}{ends}</td>"


def _difference(found: Difference | None, places: int) -> str:
    if found is None:
        return "<td></td>"
    if math.isnan(found.mean):
        return "<td>–</td>"
    word = "" if not found.clear else ' class="good"' if found.mean > 0 else ' class="bad"'
    note = f"{format_figure(found.low, places)} to {format_figure(found.high, places)}"
    if found.p_value is not None:
        note += f", p {'&lt; 0.001' if found.p_value < 0.001 else f'= {found.p_value:.3f}'}"
    return f"<td{word}>{format_figure(found.mean, places, signed=True)}<small>{note}</small></td>"
