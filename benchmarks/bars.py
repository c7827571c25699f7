"""Figures beside what they should be."""

from __future__ import annotations

from dataclasses import dataclass, field
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
