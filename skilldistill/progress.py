"""How long work tells what it does, and learns that it should stop.

Stages and learning loops take two callables and know nothing of terminals or signals:
``progress`` receives :class:`Progress` records, ``stop`` answers with a signal number once
somebody asked the work to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """One report from a loop."""

    stage: str
    """What is being done, e.g. ``"distill"`` or ``"collect aiming"``."""
    done: float
    """How much of ``total`` is finished."""
    total: float
    unit: str = ""
    """What is counted, e.g. ``"epoch"``, ``"episode"``, ``"step"``."""
    values: Mapping[str, float | str] = field(default_factory=dict)
    """Named figures a person would like to watch."""


ProgressCallback = Callable[[Progress], None]
StopCheck = Callable[[], int]
"""Returns 0 to go on, or the number of the signal that asked to stop."""


def silent(report: Progress) -> None:
    """Ignore a report."""


def never() -> int:
    """Never ask to stop."""
    return 0
