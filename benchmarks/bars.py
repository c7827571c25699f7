"""Figures beside what they should be."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Bars:
    """Collects figures and their bars, and prints each as it comes."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def at_least(self, name: str, value: float, bar: float) -> None:
        self._add(name, value, f">= {bar:g}", value >= bar)

    def at_most(self, name: str, value: float, bar: float) -> None:
        self._add(name, value, f"<= {bar:g}", value <= bar)

    def _add(self, name: str, value: float, bar: str, met: bool) -> None:
        self.rows.append({"name": name, "value": value, "bar": bar, "met": bool(met)})
        print(f"{'ok    ' if met else 'MISSED'} {name}: {value:.4g} (bar: {bar})", flush=True)

    @property
    def all_met(self) -> bool:
        return all(row["met"] for row in self.rows)


def measure_all(
    measures: Mapping[str, Callable[[argparse.Namespace, Bars], Any]], options: argparse.Namespace
) -> int:
    """Take ``options.what`` of the measures, or all; the exit code: 1 if a bar was missed.

    Without ``options.students``, students are kept only as long as this runs.
    """
    bars = Bars()
    with tempfile.TemporaryDirectory() as scratch:
        options.students = options.students or Path(scratch)
        chosen = measures if options.what == "all" else [options.what]
        figures = {name: measures[name](options, bars) for name in chosen}
    if options.json:
        options.json.write_text(json.dumps({"bars": bars.rows, **figures}, indent=2) + "\n")
    return 0 if bars.all_met else 1
