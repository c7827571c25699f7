from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from skilldistill.errors import CorruptFile
from skilldistill.evaluation import page, pictures, statistics
from skilldistill.evaluation.report import (
    EvaluationReport,
    PolicyEntry,
    Score,
    assemble,
    episodes_csv,
    format_figure,
    format_interval,
)
from skilldistill.evaluation.rollout import Rollout
from tests import tiny

LABELS = ("random", "composite", "distilled", "<b>odd</b>")
MEANS = {"random": 0.2, "composite": 0.9, "distilled": 0.85, "<b>odd</b>": 0.5}


def rollout(task: str, values: np.ndarray) -> Rollout:
    size = len(values)
    return Rollout(
        task=task,
        seed=3,
        first_episode=10,
        metrics={"score": values},
        returns=values * 20,
        lengths=np.full(size, 20),
        terminated=np.zeros(size, dtype=bool),
    )


def rollouts() -> dict[tuple[str, str], Rollout]:
    rng = np.random.default_rng(0)
    luck = 0.1 * rng.random(40)
    played = {}
    for task in ("steer", "ring", "both"):
        for label in LABELS:
            if label != "<b>odd</b>" or task == "steer":
                values = MEANS[label] + luck + 0.01 * rng.random(40)
                values[0] = math.nan if label == "random" else values[0]
                values = (values > 0.6).astype(float) if task == "both" else values
                played[label, task] = rollout(task, values)
    return played


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    policies = [
        PolicyEntry(
            label=label,
            ref=label if label in ("random", "composite") else f"checkpoint:{label}@1",
            kind="baseline" if label in ("random", "composite") else "checkpoint",
            experts={"steer": "shipped:steer"} if label == "composite" else {},
            finetuning={"steps": 12_345, "warmup_updates": 678, "collapse_depth": 0.031}
            if label == "<b>odd</b>"
            else {},
        )
        for label in LABELS
    ]
    return assemble(tiny.DOMAIN, policies, rollouts(), versus="distilled", opponent="chaser")


def compared(**values: np.ndarray) -> EvaluationReport:
    """What the steer task shows of a few policies, compared with the first of them."""
    return assemble(
        tiny.DOMAIN,
        [PolicyEntry(label=label, ref=label, kind="checkpoint") for label in values],
        {(label, "steer"): rollout("steer", column) for label, column in values.items()},
        versus=next(iter(values)),
        opponent="",
    )


def test_every_policy_has_its_figure_where_it_played(report: EvaluationReport) -> None:
    score = report.score("distilled", "steer")
    assert score is not None
    assert score.low < score.mean < score.high
    assert score.mean == pytest.approx(0.9, abs=0.03)
    assert report.score("<b>odd</b>", "both") is None
    assert (report.episodes, report.seed, report.first_episode) == (40, 3, 10)


def test_missing_measurements_are_counted(report: EvaluationReport) -> None:
    score = report.score("random", "steer")
    assert score is not None
    assert (score.n, score.missing) == (39, 1)


def test_the_kind_of_interval_follows_the_metric_and_not_the_policy(
    report: EvaluationReport,
) -> None:
    methods = {score.method for score in report.scores if score.task == "both"}
    assert methods == {"wilson"}
    values = np.random.default_rng(0).random(40)
    mixed = compared(certain=(values > 0.5).astype(float), vague=values)
    assert [score.method for score in mixed.scores] == ["bca", "bca"]


def test_intervals_of_scores_and_differences_are_drawn_from_the_seed_of_the_episodes() -> None:
    one, other = np.random.default_rng(0).random((2, 40))
    found = compared(one=one, other=other)
    (difference,) = found.differences
    assert difference.policy == "other"
    direct = statistics.paired_difference(other, one, seed=3).difference
    assert (difference.low, difference.high) == (direct.low, direct.high)
    for score, values in zip(found.scores, (one, other), strict=True):
        alone = statistics.mean_interval(values, seed=3)
        assert (score.low, score.high) == (alone.low, alone.high)


def test_differences_are_paired_and_say_whether_they_are_clear(report: EvaluationReport) -> None:
    better = report.difference("composite", "steer")
    assert better is not None
    assert better.clear
    assert better.mean == pytest.approx(0.05, abs=0.005)
    assert better.high - better.low < 0.01  # common luck is gone
    assert better.versus == "distilled"
    assert report.difference("distilled", "steer") is None
    wins = report.difference("random", "both")
    assert wins is not None
    assert wins.p_value is not None
    assert wins.p_value < 1e-6


def test_retention_is_given_per_skill_and_not_for_the_baselines(report: EvaluationReport) -> None:
    assert {(s.policy, s.task) for s in report.retention} == {
        ("distilled", "steer"),
        ("distilled", "ring"),
        ("<b>odd</b>", "steer"),
    }
    kept = next(s for s in report.retention if s.policy == "distilled" and s.task == "steer")
    assert kept.mean == pytest.approx(0.65 / 0.7, abs=0.02)


def test_the_table_has_a_row_per_policy_and_a_column_per_task(report: EvaluationReport) -> None:
    table = report.table()
    assert [label for label, _ in table] == list(LABELS)
    assert [task.name for task in report.tasks] == ["steer", "ring", "both"]
    assert table[3][1][1:] == [None, None]


def test_means_are_by_task_and_metric(report: EvaluationReport) -> None:
    means = report.means("distilled")
    assert set(means) == {"steer", "ring", "both"}
    assert means["both"]["score"] == 1.0


def test_json_reads_back_to_the_same_report(report: EvaluationReport) -> None:
    again = EvaluationReport.from_json(report.to_json())
    assert again == report
    assert again.to_json() == report.to_json()
    assert json.loads(report.to_json())["schema"] == "skilldistill.evaluate/1"


def test_undefined_figures_are_null_in_json_and_nan_again(report: EvaluationReport) -> None:
    hollow = dataclasses.replace(
        report, scores=(dataclasses.replace(report.scores[0], mean=math.nan, low=math.nan),)
    )
    assert json.loads(hollow.to_json())["scores"][0]["mean"] is None
    assert math.isnan(EvaluationReport.from_json(hollow.to_json()).scores[0].mean)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-20], "no evaluation report"),
        (lambda text: "[]", "no evaluation report"),
        (lambda text: "[" * 100_000, "no evaluation report"),
        (lambda text: text.replace("evaluate/1", "evaluate/2"), "of schema"),
        (lambda text: text.replace('"tasks"', '"tsaks"'), "damaged"),
        (lambda text: text.replace('"kind"', '"kin"'), "damaged"),
    ],
)
def test_a_damaged_report_is_refused(
    report: EvaluationReport, damage: object, message: str
) -> None:
    assert callable(damage)
    with pytest.raises(CorruptFile, match=f"^old.json.* {message}") as caught:
        EvaluationReport.from_json(damage(report.to_json()), "old.json")
    assert "skilldistill evaluate" in caught.value.hint


def test_every_episode_is_kept_exactly() -> None:
    played = rollouts()
    rows = list(csv.DictReader(io.StringIO(episodes_csv(played))))
    assert len(rows) == len(played) * 40 * 3
    for row in rows[::97]:
        index = int(row["episode"]) - 10
        if row["metric"] == "score":
            value = played[row["policy"], row["task"]].metrics["score"][index]
            assert row["value"] == "" if math.isnan(value) else float(row["value"]) == value


def test_figures_are_shown_at_a_readable_precision() -> None:
    shown = [format_figure(x) for x in (0.98765, 3.14159, 31.4159, 314.159, math.nan)]
    assert shown == ["0.988", "3.142", "31.4", "314", "–"]


def test_intervals_are_shown_as_far_as_they_are_known(report: EvaluationReport) -> None:
    score = dataclasses.replace(report.scores[0], mean=0.5, low=0.25, high=0.75)
    assert format_interval(score) == "0.500 [0.250, 0.750]"
    assert format_interval(dataclasses.replace(score, low=math.nan)) == "0.500"
    assert format_interval(dataclasses.replace(score, mean=math.nan)) == "–"


# ------------------------------------------------------------------ the page


class Checker(HTMLParser):
    """Holds that tags are closed in order, and collects what would be loaded."""

    VOID = frozenset({"meta", "line", "rect", "path", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.loads += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return checker


def test_the_page_is_sound_and_loads_nothing(report: EvaluationReport) -> None:
    checker = parse(page.render(report, command="skilldistill evaluate -n 40"))
    assert checker.loads == []
    assert "script" not in checker.tags
    assert checker.tags.count("svg") == len(report.tasks) + 2  # a bar chart each, two retentions
    for expected in ("distilled", "chaser", "skilldistill evaluate -n 40", "shipped:steer"):
        assert expected in checker.text


def test_every_chart_stands_under_its_task_with_its_own_figures(report: EvaluationReport) -> None:
    text = page.render(report)
    for task in report.tasks:
        section = text.split(f"<h2>{task.name}</h2>")[1].split("</svg>")[0]
        (spoken,) = re.findall(r'aria-label="score: ([^"]*)"', section)
        scores = [score for score in report.scores if score.task == task.name]
        expected = [f"{score.policy} {format_interval(score)}" for score in scores]
        assert html.unescape(spoken).split("; ") == expected


def test_names_cannot_become_markup(report: EvaluationReport) -> None:
    checker = parse(page.render(report, command="<script>alert(1)</script>"))
    assert "script" not in checker.tags
    assert "<b>odd</b>" in checker.text


def drawn(report: EvaluationReport, *scores: Score) -> tuple[list[float], list[list[float]]]:
    """Where the grid lines stand, and begin, end, low and high end of each bar."""
    svg = page.bars(report, scores, unit="score")
    grid = [float(x) for x in re.findall(r'<line class="grid" x1="([\d.]+)"', svg)]
    rects = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)
    whiskers = re.findall(r'd="M([\d.]+) [\d.]+H([\d.]+)', svg)
    ends = [[float(x), float(x) + float(w)] for x, w in rects]
    return grid, [
        [*end, *(float(x) for x in pair)]
        for end, pair in zip(ends, whiskers or [()] * len(ends), strict=True)
    ]


def test_bars_and_intervals_are_drawn_to_scale(report: EvaluationReport) -> None:
    def score(mean: float, low: float, high: float) -> Score:
        return dataclasses.replace(report.scores[0], mean=mean, low=low, high=high)

    (zero, one), (half, most) = drawn(report, score(0.5, 0.25, 0.75), score(0.9, 0.8, 1.0))
    scale = one - zero
    for bar, ends in ((half, (0, 0.5, 0.25, 0.75)), (most, (0, 0.9, 0.8, 1.0))):
        assert bar == pytest.approx([zero + scale * end for end in ends], abs=0.11)
    # degrees and what falls below zero: the grid goes as far as the figures do
    (zero, top), (up, down) = drawn(report, score(30, 20, 40), score(-10, -20, -5))
    scale = (top - zero) / 40
    assert up == pytest.approx([zero + scale * end for end in (0, 30, 20, 40)], abs=0.11)
    assert down == pytest.approx([zero + scale * end for end in (-10, 0, -20, -5)], abs=0.21)
    # an interval that is not known is not drawn
    _, ((begin, end),) = drawn(report, score(0.5, math.nan, math.nan))
    assert begin < end


def test_a_long_label_is_cut_at_its_beginning(report: EvaluationReport) -> None:
    long = dataclasses.replace(report.scores[0], policy="/a/very/long/path/to/a/policy")
    entry = dataclasses.replace(report.policies[0], label=long.policy)
    svg = page.bars(dataclasses.replace(report, policies=(entry,)), [long], unit="score")
    assert "…path/to/a/policy" in svg


def test_the_page_tells_how_a_fine_tuning_went(report: EvaluationReport) -> None:
    text = page.render(report)
    assert "collapse depth" in text
    assert "12,345" in text
    assert "updates of the critic alone" in text
    assert "678" in text
    assert "0.031" in text
    plain = [dataclasses.replace(policy, finetuning={}) for policy in report.policies]
    assert "collapse depth" not in page.render(dataclasses.replace(report, policies=tuple(plain)))


def test_undefined_figures_leave_the_page_whole(report: EvaluationReport) -> None:
    hollow = [
        dataclasses.replace(score, mean=math.nan, low=math.nan, high=math.nan)
        for score in report.scores
    ]
    checker = parse(page.render(dataclasses.replace(report, scores=tuple(hollow))))
    assert "nan" not in checker.text.lower()


def test_drawings_become_part_of_the_page(report: EvaluationReport, tmp_path: Path) -> None:
    small, film = tmp_path / "a.gif", tmp_path / "b.mp4"
    small.write_bytes(b"GIF89a")
    film.write_bytes(b"....")
    checker = parse(page.render(report, drawings={"one": small, "two": film}))
    assert checker.loads == ["b.mp4", "data:image/gif;base64,R0lGODlh"][::-1]


def test_pictures_are_drawn_per_task_and_do_not_change(
    report: EvaluationReport, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    one, two = tmp_path / "1", tmp_path / "2"
    one.mkdir()
    two.mkdir()
    names = [path.name for path in pictures.draw(report, one)]
    assert names == ["steer.png", "ring.png", "both.png"]
    pictures.draw(report, two)
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_without_matplotlib_there_are_no_pictures(
    report: EvaluationReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert pictures.draw(report, tmp_path) == []


def test_every_policy_has_a_colour_of_its_own(report: EvaluationReport) -> None:
    assert len({pictures.colour(report, label) for label in LABELS}) == len(LABELS)
