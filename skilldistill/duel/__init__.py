"""The duel: two fighters on flat ground under Minecraft 1.8 melee rules.

Importing this package is cheap; the simulator is loaded by what needs it. ``DOMAIN`` is the
description the pipeline reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skilldistill.domain import Domain

    DOMAIN: Domain


def __getattr__(name: str) -> Any:
    if name == "DOMAIN":
        from skilldistill.duel.declare import DOMAIN

        return DOMAIN
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
