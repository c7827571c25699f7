"""The table of scores, and the notes below it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from skilldistill.cli import scores
from skilldistill.evaluation.report import (
    Difference,
    EvaluationReport,
    PolicyEntry,
    Score,
    TaskEntry,
)
from tests.cli.conftest import terminal, text


def report(**means: dict[str, float]) -> EvaluationReport:
    """Means by policy and task, each known to 0.02; ``fight`` is the combined task."""
    tasks = ("walk", "fight")
    return EvaluationReport(
        domain="duel",
        episodes=100,
        seed=0,
        first_episode=0,
        opponent="",
        versus="",
        policies=tuple(
            PolicyEntry(label=name, ref=name, kind="checkpoint" if name[0] == "s" else "baseline")
            for name in means
        ),
        tasks=tuple(
            TaskEntry(name=name, metrics=("m",), main_metric="m", skill=name == "walk")
            for name in tasks
        ),
        scores=tuple(
            Score(
                policy=policy, task=task, metric="m", mean=mean, low=mean - 0.02, high=mean + 0.02,
                n=100, missing=0, method="t",
            )
            for policy, found in means.items()
            for task, mean in found.items()
        ),
        differences=(),
        retention=(),
    )  # fmt: skip


GOOD = {"random": {"walk": 0.1, "fight": 0.0}, "composite": {"walk": 0.9, "fight": 1.0}}


def test_what_another_student_has_reached_is_no_news() -> None:
    first, second = {"walk": 0.9, "fight": 0.2}, {"walk": 0.9, "fight": 0.97}
    (note,) = scores.notes(report(**GOOD, student=first))
    assert note.startswith("student reaches 0.200 in fight where composite reaches 1.000")
    assert scores.notes(report(**GOOD, student=first, second=second, successor=second)) == []
    assert len(scores.notes(report(**GOOD, student=first, successor=first))) == 2
    for known, unknown in (("composite", "student"), ("student", "composite")):
        means = {**GOOD, known: first, unknown: {"walk": 0.9, "fight": math.nan}}
        assert scores.notes(report(**means)) == []


def test_a_student_is_judged_by_what_the_experts_have_over_chance() -> None:
    """Shifting a metric changes nothing: one below 0 is as good as one above."""
    for shift in (-200.0, 0.0, 200.0):
        goal = {name: {"fight": means["fight"] + shift} for name, means in GOOD.items()}
        assert scores.notes(report(**goal, student={"fight": 0.97 + shift})) == []
        (note,) = scores.notes(report(**goal, student={"fight": 0.5 + shift}))
        assert note.startswith(f"student reaches {0.5 + shift:.3f} in fight")
    assert scores.notes(report(composite={"fight": 1.0}, student={"fight": 0.5})) == []


def test_advice_on_fine_tuning_is_for_policies_that_were_fine_tuned() -> None:
    found = report(**GOOD, student={"fight": 0.3}, second={"fight": 0.2})
    worse = Difference(
        policy="second", versus="student", task="fight", metric="m", mean=-0.1, low=-0.15,
        high=-0.05, n=100, missing=0, method="t", better=0, worse=10, p_value=None,
    )  # fmt: skip
    found = replace(found, versus="student", differences=(worse,))
    second = found.policies[-1]
    distilled = [f"{name} reaches 0.{n}00" for name, n in (("student", 3), ("second", 2))]
    notes = scores.notes(found)
    assert [note.split(" in ")[0] for note in notes] == distilled
    assert all(note.endswith("distill with `--rounds 5`, or fine-tune") for note in notes)

    tuned = replace(second, finetuning={"collapse_depth": 0.0})
    found = replace(found, policies=(*found.policies[:-1], tuned))
    _, short, lost = scores.notes(found)
    assert short.endswith("composite reaches 1.000: fine-tune for more `--timesteps`")
    assert lost == (
        "second is worse than student in fight (-0.10, 95 % interval -0.15 to -0.05): "
        "go on with student, or fine-tune for more `--timesteps`"
    )


def test_a_student_whose_interval_comes_near_the_composite_needs_no_advice() -> None:
    assert scores.notes(report(**GOOD, student={"walk": 0.9, "fight": 0.89})) == []
    assert len(scores.notes(report(**GOOD, student={"walk": 0.9, "fight": 0.87}))) == 1


@pytest.mark.parametrize("opponent", ["", "sleepy"])
def test_another_opponent_is_advised_only_where_there_are_any(opponent: str) -> None:
    equal = {"walk": 0.9, "fight": 0.99}
    found = report(**GOOD, start=equal, successor=equal)
    *others, successor = found.policies
    found = replace(
        found,
        opponent=opponent,
        versus="start",
        policies=(*others, replace(successor, finetuning={"collapse_depth": 0.0})),
        differences=(
            Difference(
                policy="successor", task="fight", metric="m", mean=0.0, low=-0.1, high=0.1, n=100,
                missing=0, method="t", versus="start", better=1, worse=1, p_value=None,
            ),
        ),
    )  # fmt: skip
    (note,) = scores.notes(found)
    assert note.startswith("successor is not clearly better than start in fight")
    assert "compare their other metrics in the report" in note
    assert ("--opponent" in note) == bool(opponent)


def test_an_expert_no_better_than_chance_is_named_and_nothing_else_advised() -> None:
    weak = {"random": {"walk": 0.5, "fight": 0.0}, "composite": {"walk": 0.52, "fight": 0.9}}
    (note,) = scores.notes(report(**weak, student={"walk": 0.5, "fight": 0.0}))
    assert note == (
        "in 100 episodes the expert for walk is not clearly better than chance: play more, or "
        "train or add another"
    )


def test_the_score_table_fits_an_ordinary_terminal() -> None:
    found = report(**GOOD, student={"walk": 0.9, "fight": 0.2})
    wide = replace(
        found,
        tasks=tuple(replace(task, main_metric="a_long_metric") for task in found.tasks),
        scores=tuple(replace(score, metric="a_long_metric") for score in found.scores),
    )
    console = terminal(44)
    scores.report_table(console, wide)
    shown = text(console)
    assert "…" not in shown
    assert shown.splitlines()[1].split()[-2:] == ["a_long_metric"] * 2


def test_a_column_has_the_digits_of_its_intervals_and_no_signed_zero() -> None:
    found = report(
        one={"walk": 12_345.678, "fight": -0.0001}, two={"walk": 104.3, "fight": math.nan}
    )
    wide = tuple(
        replace(score, low=score.mean - 25, high=score.mean + 25) if score.task == "walk" else score
        for score in found.scores
    )
    console = terminal(100)
    scores.report_table(console, replace(found, scores=wide))
    rows = [line.split() for line in text(console).splitlines()[2:4]]
    assert rows == [
        ["one", "12,346", "±", "25", "0.000", "±", "0.020"],
        ["two", "104", "±", "25", "–"],
    ]


def test_a_figure_whose_interval_is_unknown_stands_alone() -> None:
    found = report(one={"walk": 0.25, "fight": 0.5})
    alone = tuple(replace(score, low=math.nan, high=math.nan) for score in found.scores)
    console = terminal(100)
    scores.report_table(console, replace(found, scores=alone))
    assert text(console).splitlines()[2].split() == ["one", "0.25", "0.5"]
