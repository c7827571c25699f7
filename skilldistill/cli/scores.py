"""The table of an evaluation's scores, and what they mean for what to do next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from skilldistill.cli.render import escaped, print_table, table

if TYPE_CHECKING:
    from rich.console import Console

    from skilldistill.evaluation.report import EvaluationReport, Score

COMPOSITE, RANDOM = "composite", "random"
POOR_RETENTION = 0.9
"""Share of an expert's score below which a student is called poor."""


def report_table(console: Console, report: EvaluationReport) -> None:
    """Rows are policies, columns the main metric of each task; then what a reader should know."""
    between = "\n" if console.is_terminal else " "  # a log keeps a table's title on one line
    columns = ["policy", *(f"{task.name}{between}{task.main_metric}" for task in report.tasks)]
    grid = table(columns, right=columns[1:], gap=2 if console.is_terminal else 3)
    for label, scores in report.table():
        grid.add_row(escaped(label), *(_score(score) for score in scores))
    print_table(console, grid)
    opponent = f", opponent {report.opponent}" if report.opponent else ""
    console.print(
        f"[dim]mean ± half of the 95 % interval over {report.episodes:,} episodes, "
        f"seed {report.seed}{escaped(opponent)}[/]",
        soft_wrap=True,
    )
    for note in notes(report):
        console.print(f"[yellow]note:[/] {escaped(note)}", soft_wrap=True)


def _score(score: Score | None) -> str:
    if score is None or not math.isfinite(score.mean):
        return "–"
    return f"{score.mean:.3f} ± {(score.high - score.low) / 2:.3f}"


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
    students = [policy.label for policy in report.policies if policy.kind == "checkpoint"]
    if weak:
        return found  # no student can be asked for what nobody showed it
    for task in (entry.name for entry in report.tasks if not entry.skill):
        reached = any(_near_composite(report, student, task) for student in students)
        for student in students:
            found += _fight_notes(report, task, student, reached=reached)
    return found


def _no_better_than_chance(report: EvaluationReport, task: str) -> bool:
    expert, chance = report.score(COMPOSITE, task), report.score(RANDOM, task)
    return expert is not None and chance is not None and not expert.low > chance.high


def _near_composite(report: EvaluationReport, student: str, task: str) -> bool:
    own, goal = report.score(student, task), report.score(COMPOSITE, task)
    return own is not None and goal is not None and own.high >= POOR_RETENTION * goal.mean


def _fight_notes(report: EvaluationReport, task: str, student: str, *, reached: bool) -> list[str]:
    """Notes on one student; what to do is no news where another one got there by doing it."""
    found = []
    scores = (report.score(student, task), report.score(COMPOSITE, task))
    own, goal = (math.nan if score is None else score.mean for score in scores)
    if not reached and math.isfinite(own) and math.isfinite(goal):
        found.append(
            f"{student} reaches {own:.3f} in {task} where {COMPOSITE} reaches {goal:.3f}: "
            "distill with `--rounds 5`, or fine-tune"
        )
    gain = report.difference(student, task)
    if gain is not None and not gain.low > 0:
        advice = "evaluate more episodes, or fine-tune for more `--timesteps`"
        start = report.score(gain.versus, task)
        if gain.high >= 0 and start is not None and start.high >= goal:
            advice = (
                f"that one does as well as {COMPOSITE} already, so compare their other metrics "
                "in the report, or evaluate with another `--opponent`"
            )
        found.append(
            f"{student} is not clearly better than {gain.versus} in {task} "
            f"({gain.mean:+.3f}, 95 % interval {gain.low:+.3f} to {gain.high:+.3f}): {advice}"
        )
    return found
