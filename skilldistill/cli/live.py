"""Progress while work goes on: a live table on a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skilldistill.cli.render import as_far_as_the_disk_goes, size
from skilldistill.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_BARS = "▁▂▃▄▅▆▇█"
_HISTORY = 32
_BAR_WIDTH = 28


class Watcher:
    """A progress callback that shows nothing; the base of those that do."""

    def __call__(self, report: Progress) -> None:
        """Show one report."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the screen to somebody else, such as a question, while the block runs."""
        yield


@contextmanager
def watching(*, enabled: bool) -> Iterator[Watcher]:
    """Give a progress callback that shows reports on stderr while the block runs."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if enabled and console.is_terminal:
        screen = LiveScreen(console)
        with screen.shown():
            yield screen
    else:
        yield PlainLines() if enabled else Watcher()


@dataclass
class PlainLines(Watcher):
    """One line per finished tenth of each stage, for logs."""

    _shown: dict[str, int] = field(default_factory=dict)

    def __call__(self, report: Progress) -> None:
        """Print a line where the report crosses a tenth."""
        tenth = int(10 * share(report) + 1e-9)
        last = self._shown.get(report.stage, 0)
        if tenth < last:  # a stage of that name began anew
            last = 0
        self._shown[report.stage] = max(tenth, last)
        if tenth > last:
            with as_far_as_the_disk_goes():
                print(line(report, tenth * 10), file=sys.stderr, flush=True)


def share(report: Progress) -> float:
    """How much is done, from 0 to 1."""
    return min(1.0, max(0.0, report.done / report.total)) if report.total > 0 else 1.0


def line(report: Progress, percent: int) -> str:
    """One plain line of a report, e.g. ``distill  50 %  25/50 epoch  loss 0.012``."""
    words = [f"{report.stage:<16} {percent:3d} %", _count(report)]
    words += [f"{name} {_figure(value)}" for name, value in report.values.items()]
    return "  ".join(words)


def _count(report: Progress) -> str:
    if report.unit == "byte":
        return f"{size(report.done)} of {size(report.total)}"
    return f"{report.done:,.0f}/{report.total:,.0f} {report.unit}".rstrip()


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def sparkline(values: deque[float]) -> str:
    """The course of a figure in block characters, lowest to highest of what is shown."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    if len(finite) < 2 or not math.isfinite(high - low):
        return ""
    step = (high - low) / (len(_BARS) - 1) or 1.0
    return "".join(_BARS[round((v - low) / step)] for v in finite)


@dataclass
class _Stage:
    """What the live table knows of one stage."""

    report: Progress
    began: float
    now: float
    history: dict[str, deque[float]] = field(default_factory=dict)

    def add(self, report: Progress, now: float) -> None:
        self.report, self.now = report, now
        for name, value in report.values.items():
            if not isinstance(value, str):
                self.history.setdefault(name, deque(maxlen=_HISTORY)).append(float(value))

    @property
    def finished(self) -> bool:
        return share(self.report) >= 1.0

    @property
    def timing(self) -> str:
        done = share(self.report)
        if self.finished:
            return f"{self.now - self.began:.1f} s"
        spent = time.monotonic() - self.began  # the clock goes on between reports
        if done <= 0:
            return f"{spent:.0f} s"
        left = max(0.0, (self.now - self.began) / done - spent)
        return f"{spent:.0f} s, {left:.0f} s left"


class LiveTable:
    """The live view: a row per stage, and the figures of the one at work with their course."""

    def __init__(self) -> None:
        self.stages: dict[str, _Stage] = {}
        self.current = ""

    def add(self, report: Progress) -> None:
        """Take in one report."""
        now = time.monotonic()
        stage = self.stages.get(report.stage)
        if stage is None or (stage.finished and share(report) < 1.0):
            stage = self.stages[report.stage] = _Stage(report, now, now)
        stage.add(report, now)
        self.current = report.stage

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        rows = Table.grid(padding=(0, 2))
        for name, stage in self.stages.items():
            done = share(stage.report)
            mark = Text("✓", "green") if stage.finished else Text("▸", "cyan")
            rows.add_row(
                mark,
                Text(name, "bold" if name == self.current else ""),
                ProgressBar(total=1.0, completed=done, width=_BAR_WIDTH),
                f"{100 * done:3.0f} %",
                Text(_count(stage.report), "dim"),
                Text(stage.timing, "dim"),
            )
        stage_now = self.stages.get(self.current)
        if stage_now is None or not stage_now.report.values:
            return rows
        figures = Table.grid(padding=(0, 2))
        for name, value in stage_now.report.values.items():
            course = sparkline(stage_now.history.get(name, deque()))
            figures.add_row("  ", Text(name, "dim"), _figure(value), Text(course, "cyan"))
        return Group(rows, figures)


class LiveScreen(Watcher):
    """The live table on a terminal."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._table = LiveTable()
        self._view = Live(self._table, console=console, refresh_per_second=8)

    def __call__(self, report: Progress) -> None:
        """Take in one report; the table is drawn eight times per second."""
        self._table.add(report)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the table off the screen while the block runs."""
        self._view.transient = True
        self._view.stop()
        try:
            yield
        finally:
            self._view.transient = False
            self._view.start()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw the table while the block runs, and leave the finished rows behind."""
        with self._view:
            yield
            self._table.current = ""
            self._view.refresh()
