from __future__ import annotations

import io
import sys
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from skilldistill.cli import live
from skilldistill.progress import Progress


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_off_a_terminal_each_tenth_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with live.watching(enabled=True) as progress:
        for done in range(101):
            progress(Progress("distill", done, 100, "epoch", {"loss": 0.5 / (done + 1)}))
    shown = lines(capsys)
    assert len(shown) == 10
    assert shown[4].split() == ["distill", "50", "%", "50/100", "epoch", "loss", "0.009804"]


def test_few_reports_print_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with live.watching(enabled=True) as progress:
        for done in (0, 1, 2, 3):
            progress(Progress("collect aiming", done, 3, "episode"))
    assert [line.split()[2] for line in lines(capsys)] == ["30", "60", "100"]


def test_stages_are_counted_apart_and_may_begin_anew(capsys: pytest.CaptureFixture[str]) -> None:
    plain = live.PlainLines()
    for stage, done in (("a", 5), ("b", 5), ("a", 10), ("a", 1), ("a", 2)):
        plain(Progress(stage, done, 10))
    assert [line.split()[:2] for line in lines(capsys)] == [
        *(["a", "50"], ["b", "50"], ["a", "100"], ["a", "10"], ["a", "20"])
    ]


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with live.watching(enabled=False) as progress, progress.paused():
        progress(Progress("distill", 1, 1))
    assert lines(capsys) == []


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_the_share_lies_between_0_and_1(done: float, total: float) -> None:
    assert 0.0 <= live.share(Progress("x", done, total)) <= 1.0


def test_a_sparkline_rises_with_its_values() -> None:
    assert live.sparkline(deque(range(8))) == "▁▂▃▄▅▆▇█"
    assert live.sparkline(deque([1.0, float("nan"), 1.0])) == "▁▁"
    assert live.sparkline(deque([3.0])) == ""


@given(st.lists(st.floats(), max_size=40))
def test_a_sparkline_can_be_drawn_of_anything(values: list[float]) -> None:
    assert set(live.sparkline(deque(values))) <= set("▁▂▃▄▅▆▇█")


def drawn(reports: list[Progress]) -> str:
    table = live.LiveTable()
    for report in reports:
        table.add(report)
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_live_table_shows_every_stage_and_the_figures_of_the_one_at_work() -> None:
    reports = [Progress("collect", done, 4, "episode", {"in_band": done / 4}) for done in range(5)]
    reports += [Progress("distill", done, 10, "epoch", {"loss": 1 / (1 + done)}) for done in (0, 5)]
    text = drawn(reports)
    rows = text.splitlines()
    assert rows[0].startswith("✓  collect")
    assert "100 %" in rows[0]
    assert rows[1].startswith("▸  distill")
    assert " 50 %  5/10 epoch" in rows[1]
    assert "left" in rows[1]
    assert "loss" in rows[2]
    assert "█▁" in rows[2]
    assert "in_band" not in text


def test_the_clock_goes_on_between_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    table = live.LiveTable()
    table.add(Progress("distill", 0, 10))
    now = 104.0
    table.add(Progress("distill", 5, 10))
    now = 106.0
    assert table.stages["distill"].timing == "6 s, 2 s left"
    now = 200.0
    assert table.stages["distill"].timing == "100 s, 0 s left"


def test_words_among_the_figures_are_shown_as_they_are() -> None:
    assert "composite" in drawn([Progress("evaluate", 1, 4, "episode", {"policy": "composite"})])


def test_on_a_terminal_the_table_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with live.watching(enabled=True) as progress:
        progress(Progress("distill", 1, 2, "epoch", {"loss": 0.25}))
        progress(Progress("distill", 2, 2, "epoch", {"loss": 0.125}))
        with progress.paused():
            screen.write("a question")
    after = screen.getvalue().split("a question")[1]
    assert after.count("distill") >= 1  # the table is back
    assert "2/2 epoch" in screen.getvalue()
    assert "\x1b[" in screen.getvalue()
