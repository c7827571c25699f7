"""How the duel's locomotion is compared to scripts of the public engine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from skilldistill.duel import physics
from skilldistill.duel.physics import Inputs
from skilldistill.duel.state import DuelState

FIXTURE = Path(__file__).parents[1] / "data" / "locomotion.json"
KEYS = ("w", "a", "s", "d", "space", "sprint")


def read(text: str) -> dict[str, Any]:
    """A fixture, checked to have the columns that are read here."""
    fixture: dict[str, Any] = json.loads(text)
    assert fixture["columns"]["inputs"] == [*KEYS, "yaw"]
    return fixture


def errors(scripts: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Largest deviation in position (blocks), velocity (blocks per tick) and ground contact.

    All scripts are played at once, in both seats.
    """
    inputs, impulse, pos, vel, grounded = (
        np.array([script[name] for script in scripts])
        for name in ("inputs", "impulse", "pos", "vel", "on_ground")
    )
    n, ticks, _ = inputs.shape
    state = DuelState.create(n)
    worst = {"position": 0.0, "velocity": 0.0, "on_ground": 0.0}
    for tick in range(ticks):
        now = inputs[:, tick, None, :].repeat(2, axis=1)
        state.velocity += impulse[:, tick, None, :]
        state.yaw = now[..., 6]
        held = {key: now[..., at] > 0.5 for at, key in enumerate(KEYS)}
        physics.step(state, Inputs(**held))
        off = {
            "position": state.position - pos[:, tick, None, :],
            "velocity": state.velocity - vel[:, tick, None, :],
            "on_ground": state.on_ground * 1.0 - grounded[:, tick, None],
        }
        # np.maximum keeps a NaN, which max() may drop
        worst = {name: float(np.maximum(worst[name], np.abs(off[name]).max())) for name in worst}
    return worst
