"""The table of an evaluation's scores, and what they mean for what to do next."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from skilldistill.cli.render import escaped, print_table, table

if TYPE_CHECKING:
    from rich.console import Console

    from skilldistill.evaluation.report import EvaluationReport, PolicyEntry, Score

COMPOSITE, RANDOM = "composite", "random"
POOR_RETENTION = 0.9
"""Share of an expert's score below which a student is called poor."""


def report_table(console: Console, report: EvaluationReport) -> None:
    """Rows are policies, columns the main metric of each task; then what a reader should know."""
    between = "\n" if console.is_terminal else " "  # a log keeps a table's title on one line
    columns = ["policy", *(f"{task.name}{between}{task.main_metric}" for task in report.tasks)]
    grid = table(columns, right=columns[1:], gap=2 if console.is_terminal else 3)
    labels, rows = zip(*report.table(), strict=True)
    cells = [_column(scores) for scores in zip(*rows, strict=True)]
    for label, *shown in zip(labels, *cells, strict=True):
        grid.add_row(escaped(label), *shown)
    print_table(console, grid)
    opponent = f", opponent {report.opponent}" if report.opponent else ""
    console.print(
        f"[dim]mean ± half of the 95 % interval over {report.episodes:,} episodes, "
        f"seed {report.seed}{escaped(opponent)}[/]",
        soft_wrap=True,
    )
    for note in notes(report):
        console.print(f"[yellow]note:[/] {escaped(note)}", soft_wrap=True)


def _column(scores: Sequence[Score | None]) -> list[str]:
    """A task's cells, all at one precision."""
    from skilldistill.evaluation.report import decimals, format_figure  # numpy loads here

    places = decimals(filter(None, scores))
    shown = []
    for score in scores:
        mean, half = (
            (math.nan,) * 2 if score is None else (score.mean, (score.high - score.low) / 2)
        )
        known = f" ± {format_figure(half, places)}" if math.isfinite(half) else ""
        shown.append(format_figure(mean, places) + known)
    return shown


def notes(report: EvaluationReport) -> list[str]:
    """What the figures mean for what to do next: a poor student, a fine-tuning without gain."""
    skills = [task.name for task in report.tasks if task.skill]
    weak = [task for task in skills if _no_better_than_chance(report, task)]
    found = [
        f"in {report.episodes} episodes the expert for {task} is not clearly better than chance: "
        "play more, or train or add another"
        for task in weak
    ]
    for score in report.retention:
        if score.high < POOR_RETENTION:
            kept = max(score.mean, 0.0)
            found.append(
                f"{score.policy} keeps {kept:.0%} of the {score.task} expert's skill: "
                "collect more episodes, or distill with `--rounds 5`"
            )
    students = [policy for policy in report.policies if policy.kind == "checkpoint"]
    if weak:
        return found  # no student can be asked for what nobody showed it
    for task in (entry.name for entry in report.tasks if not entry.skill):
        found += _shortfalls(report, task, students)
        found += [
            note
            for student in students
            if student.finetuning and (note := _no_gain(report, task, student.label))
        ]
    return found


def _no_better_than_chance(report: EvaluationReport, task: str) -> bool:
    expert, chance = report.score(COMPOSITE, task), report.score(RANDOM, task)
    return expert is not None and chance is not None and not expert.low > chance.high


def _near_composite(report: EvaluationReport, student: str, task: str) -> bool | None:
    """Whether a student has nearly what the experts have over chance; None where nobody knows."""
    scores = [report.score(policy, task) for policy in (student, COMPOSITE, RANDOM)]
    own, goal, chance = scores
    if own is None or goal is None or chance is None:
        return None
    if not all(math.isfinite(score.mean) for score in (own, goal, chance)):
        return None
    return own.high >= chance.mean + POOR_RETENTION * (goal.mean - chance.mean)


def _shortfalls(
    report: EvaluationReport, task: str, students: Sequence[PolicyEntry]
) -> Iterator[str]:
    """Notes on students below the experts, unless one got there: what to do is no news then."""
    from skilldistill.evaluation.report import decimals, format_figure  # numpy loads here

    near = {student.label: _near_composite(report, student.label, task) for student in students}
    if any(near.values()):
        return
    for student in students:
        if near[student.label] is None:
            continue
        own, goal = report.score(student.label, task), report.score(COMPOSITE, task)
        assert own is not None
        assert goal is not None
        advice = "distill with `--rounds 5`, or fine-tune"
        if student.finetuning:
            advice = "fine-tune for more `--timesteps`"
        places = decimals([own, goal])
        yield (
            f"{student.label} reaches {format_figure(own.mean, places)} in {task} where "
            f"{COMPOSITE} reaches {format_figure(goal.mean, places)}: {advice}"
        )


def _no_gain(report: EvaluationReport, task: str, tuned: str) -> str:
    """What there is to say of a fine-tuned policy that is not above the one it is compared with."""
    from skilldistill.evaluation.report import decimals, format_figure  # numpy loads here

    gain = report.difference(tuned, task)
    if gain is None or gain.low > 0 or not math.isfinite(gain.mean):
        return ""
    mean, low, high = (
        format_figure(value, decimals([gain]), signed=True)
        for value in (gain.mean, gain.low, gain.high)
    )
    figures = f"({mean}, 95 % interval {low} to {high})"
    if gain.high < 0:
        advice = f"go on with {gain.versus}, or fine-tune for more `--timesteps`"
        return f"{tuned} is worse than {gain.versus} in {task} {figures}: {advice}"
    advice = "evaluate more episodes, or fine-tune for more `--timesteps`"
    start, goal = report.score(gain.versus, task), report.score(COMPOSITE, task)
    if start is not None and goal is not None and start.high >= goal.mean:
        advice = (
            f"that one does as well as {COMPOSITE} already, so compare their other metrics "
            "in the report"
        )
        advice += ", or evaluate with another `--opponent`" if report.opponent else ""
    return f"{tuned} is not clearly better than {gain.versus} in {task} {figures}: {advice}"
