from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import math
import re
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from skilldistill.errors import CorruptFile
from skilldistill.evaluation import page, pictures, statistics
from skilldistill.evaluation.report import (
    EvaluationReport,
    PolicyEntry,
    Score,
    TaskEntry,
    assemble,
    decimals,
    episodes_csv,
    format_figure,
    format_interval,
)
from skilldistill.evaluation.rollout import Rollout
from tests import tiny

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

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


def score(mean: float, low: float = math.nan, high: float = math.nan) -> Score:
    return Score(
        policy="one", task="steer", metric="score", mean=mean, low=low, high=high,
        n=40, missing=0, method="bca",
    )  # fmt: skip


def around(mean: float, half: float) -> Score:
    return score(mean, mean - half, mean + half)


@pytest.mark.parametrize(
    ("half", "places"),
    [(2600, 0), (26, 0), (5.1, 0), (2.6, 1), (0.26, 2), (0.04, 3), (0.0004, 5), (4e-6, 7)],
)
def test_an_interval_decides_how_many_digits_are_told(half: float, places: int) -> None:
    assert decimals([around(-104.3, half)]) == places


def test_figures_side_by_side_have_one_precision() -> None:
    found = [around(-134, 3), around(-36.1, 9), around(-6.83, 9.4)]
    places = decimals(found)
    assert [format_interval(x, places) for x in found] == [
        "-134 [-137, -131]",
        "-36 [-45, -27]",
        "-7 [-16, 3]",
    ]


def test_neither_a_certain_nor_an_unknown_figure_decides_the_precision() -> None:
    usual = around(235, 6)
    hollow = score(math.nan, math.nan, math.nan)
    assert decimals([score(400, 400, 400), hollow, usual, score(227)]) == decimals([usual])
    noise = score(400, 400 - 6e-14, 400)
    assert decimals([noise, usual]) == decimals([usual])
    assert decimals([noise]) == 0


def test_figures_without_intervals_are_told_exactly_or_with_three_digits() -> None:
    def shown(*means: float) -> list[str]:
        places = decimals(map(score, means))
        return [format_figure(mean, places) for mean in means]

    assert shown(150, 132) == ["150", "132"]
    assert shown(0.5, 1) == ["0.5", "1.0"]
    assert shown(1 / 3, 1) == ["0.333", "1.000"]
    assert shown(31.4159) == ["31.4"]
    assert shown(-0.000123456) == ["-0.000123"]
    assert shown(0) == ["0"]
    assert shown(math.nan) == ["–"]
    assert decimals([]) == 0


def test_what_rounds_to_zero_has_no_sign_and_large_figures_are_grouped() -> None:
    assert format_figure(-0.0004, 3) == format_figure(0.0004, 3, signed=True) == "0.000"
    assert format_figure(0.0006, 3, signed=True) == "+0.001"
    assert format_figure(-0.0006, 3, signed=True) == "-0.001"
    assert format_figure(-100_000.4, 0) == "-100,000"


def test_intervals_are_shown_as_far_as_they_are_known() -> None:
    assert format_interval(score(0.5, 0.25, 0.75), 3) == "0.500 [0.250, 0.750]"
    assert format_interval(score(0.5, math.nan), 3) == "0.500"
    assert format_interval(score(math.nan), 3) == "–"


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


def test_the_page_has_no_words_of_the_duel(report: EvaluationReport) -> None:
    text = page.render(report)
    assert "the combined task's score fell below the start's" in text
    assert not re.search(r"fight|duel|enemy|\bwins?\b", text)


def test_every_chart_stands_under_its_task_with_its_own_figures(report: EvaluationReport) -> None:
    text = page.render(report)
    for task in report.tasks:
        section = text.split(f"<h2>{task.name}</h2>")[1].split("</svg>")[0]
        (spoken,) = re.findall(r'aria-label="score: ([^"]*)"', section)
        scores = [score for score in report.scores if score.task == task.name]
        places = decimals(scores)
        expected = [f"{score.policy} {format_interval(score, places)}" for score in scores]
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


def test_a_column_of_the_page_has_one_precision_and_no_signed_zero() -> None:
    many = {"one": {"score": around(104.3, 2.4)}, "two": {"score": around(-0.04, 2.4)}}
    text = page.render(side_by_side(many))
    assert "<td>104.3<small>101.9 to 106.7</small></td>" in text
    assert "<td>0.0<small>-2.4 to 2.4</small></td>" in text
    assert "104.3 [101.9, 106.7]" in text
    assert not re.search(r"[-−]0\.?0*[^\d.]", text.split("</style>")[1])


def test_figures_beside_a_bar_stay_on_the_page() -> None:
    many = {"one": {"score": around(1e5, 0.26)}, "two": {"score": around(0.1, 0.26)}}
    found = side_by_side(many)
    svg = page.bars(found, [dataclasses.replace(x, missing=12) for x in found.scores], unit="x")
    words = re.findall(r'<text class="soft" x="([\d.]+)"[^>]*>([^<]*)<', svg)
    assert words[0][1] == "100,000.00 [99,999.74, 100,000.26] · 12 without"
    for x, text in words:
        assert float(x) + 8 * len(text) < 720


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
    labels = ["random", *(f"policy {place}" for place in range(12))]
    many = side_by_side({label: {"score": around(1, 0.1)} for label in labels})
    assert len({pictures.colour(many, label) for label in labels}) == 13


def side_by_side(scores: dict[str, dict[str, Score]], task: str = "steer") -> EvaluationReport:
    """A report of one task with these scores by policy and metric."""
    metrics = tuple(next(iter(scores.values())))
    return EvaluationReport(
        domain="own", episodes=40, seed=0, first_episode=0, opponent="", versus="",
        policies=tuple(PolicyEntry(label=x, ref=x, kind="checkpoint") for x in scores),
        tasks=(TaskEntry(name=task, metrics=metrics, main_metric=metrics[0], skill=False),),
        scores=tuple(
            dataclasses.replace(found[metric], policy=label, task=task, metric=metric)
            for metric in metrics
            for label, found in scores.items()
        ),
        differences=(),
        retention=(),
    )  # fmt: skip


def sheet(
    report: EvaluationReport, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Figure, list[tuple[str, Bbox]]]:
    """The picture of a report of one task, and where its words stand in it."""
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    figures: list[Any] = []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig", lambda figure, *_, **__: figures.append(figure)
    )
    pictures.draw(report, folder)
    (figure,) = figures
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    outside = set()  # numbers of an axis that lie beyond its ends are not drawn
    for ax in figure.axes:
        for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            for tick in axis.get_major_ticks():
                if not min(low, high) <= tick.get_loc() <= max(low, high):
                    outside |= {tick.label1, tick.label2}
    words = [
        (text.get_text(), text.get_window_extent(canvas.get_renderer()))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text() and text not in outside
    ]
    return figure, words


NAMES = {
    "one": ["student"],
    "the usual": ["random", "composite", "distilled", "finetuned"],
    "twelve": ["random", "composite", *(f"policy-{place}" for place in range(10))],
    "thirty": [f"policy-{place}" for place in range(30)],
    "long": [
        "random",
        "/home/me/arena/policies/the_best_of_all_of_them/step-000120",
        "$x_1$",
        "b$",
    ],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_no_words_of_a_picture_touch_or_leave_it(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    kinds = {
        "share": lambda: around(rng.random(), 0.02),
        "less_than_nothing": lambda: around(-30 * rng.random(), 1.5),
        "lead": lambda: around(200 * rng.random() - 100, 4),
        "large": lambda: around(2e5 * rng.random(), 900),
        "huge": lambda: around(3e6 * rng.random(), 2e4),
        "tiny_interval_and_a_name_that_is_long": lambda: around(0.5 + 1e-4 * rng.random(), 1e-5),
        "tiny": lambda: around(1e-5 * rng.random(), 1e-6),
        "unknown": lambda: score(math.nan),
        "alone": lambda: score(rng.random()),
    }
    found = side_by_side({name: {kind: kinds[kind]() for kind in kinds} for name in names})
    figure, words = sheet(found, tmp_path, monkeypatch)
    assert len(words) > len(names) * len(kinds)
    for text, box in words:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text
    for (text, box), (other, its) in combinations(words, 2):
        apart = box.x1 <= its.x0 or its.x1 <= box.x0 or box.y1 <= its.y0 or its.y1 <= box.y0
        assert apart, (text, other)
    for ax in figure.axes:
        covered = [text for text, box in words if ax.bbox.count_overlaps([box])]
        assert set(covered) <= {"nothing measured"}


def test_a_picture_tells_every_figure_of_a_metric_at_one_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = {"a": -134.0, "b": -36.1, "c": -6.83, "d": 104.3, "e": math.nan}
    many = {name: {"lead": around(mean, 2.4)} for name, mean in means.items()}
    _, words = sheet(side_by_side(many), tmp_path, monkeypatch)
    shown = {text for text, _ in words}
    assert {"−134.0", "−36.1", "−6.8", "104.3", "–", "nothing measured"} <= shown


def test_bars_too_small_for_a_share_can_be_seen() -> None:
    assert pictures.limits([around(0.002, 0.001)]) == (0, pytest.approx(0.003))
    assert pictures.limits([around(0.02, 0.01)]) == (0, 1)
    assert pictures.limits([score(0, 0, 0.004)]) == (0, 1)
    assert pictures.limits([score(math.nan)]) == (0, 1)
    assert pictures.limits([around(-3, 1), around(20, 2)]) == (-4, 22)
