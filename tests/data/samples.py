"""Small made-up datasets of the tiny domain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skilldistill.data.schema import DatasetInfo, Episode, ExpertRef
from skilldistill.data.writer import DatasetWriter
from tests import tiny

NATIVE_DIMS = {"steer": 1, "ring": 2}


def make_episode(
    seed: int = 0, length: int = 5, *, skill: int = 0, native: int | None = 1, run: int = 0
) -> Episode:
    """Random rows that depend on every argument."""
    rng = np.random.default_rng([seed, length, skill, run])

    def block(width: int) -> np.ndarray:
        return rng.normal(size=(length, width)).astype(np.float32)

    last = np.arange(length) == length - 1
    return Episode(
        observations=block(3),
        actions=block(2),
        targets=block(2),
        target_std=np.abs(block(2)),
        action_mask=rng.random((length, 2)) < 0.5,
        skill=np.full(length, skill, dtype=np.uint8),
        native_observations=None if native is None else block(native),
        rewards=block(1)[:, 0],
        terminated=last & (seed % 2 == 0),
        truncated=last & (seed % 2 == 1),
        seed=seed,
    )


def make_info(skills: Sequence[str] = ("steer",), **changes: Any) -> DatasetInfo:
    fields: dict[str, Any] = {
        "domain": "tiny",
        "skills": tuple(skills),
        "env_id": ",".join(f"tiny/{skill}-v0" for skill in skills),
        "experts": (ExpertRef(f"expert:{skills[0]}@1", "ab" * 32),),
        "observation_names": tiny.DOMAIN.observation_names,
        "action_names": tiny.DOMAIN.action_names,
        "seed": 7,
        "config": {"episodes": 3, "name": "größe"},
    }
    return DatasetInfo(**{**fields, **changes})


def write(
    path: Path,
    lengths: Sequence[int] = (5, 1, 8),
    *,
    skill: str = "steer",
    run: int = 0,
    chunk_rows: int = 4,
    **changes: Any,
) -> list[Episode]:
    """A single-skill file; returns what was written."""
    native = NATIVE_DIMS.get(skill)
    episodes = [
        make_episode(seed, length, native=native, run=run) for seed, length in enumerate(lengths)
    ]
    info = make_info((skill,), seed=run, **changes)
    with DatasetWriter(path, info, native, chunk_rows=chunk_rows) as writer:
        writer.append_many(episodes)
    return episodes


def joined(episodes: Sequence[Episode], column: str) -> np.ndarray:
    """One column of all episodes, one after another."""
    return np.concatenate([getattr(episode, column) for episode in episodes])
