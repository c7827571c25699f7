"""How fast experts act: plain NumPy against Stable-Baselines3's ``predict``, same weights.

Run: ``OMP_NUM_THREADS=1 python benchmarks/experts.py``. The ratio is that of the medians of
rounds that alternate between the two, so that a busy machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO

from skilldistill import domain as domains
from skilldistill.domain import ActionDim, Domain, Head, Skill
from skilldistill.experts.sb3_zip import read_zip

ROWS = 1024


def make_domain(action: str) -> Domain:
    binary = action == "multi_binary"
    dims = tuple(
        ActionDim(name=f"a{i}", kind="binary" if binary else "continuous", low=0 if binary else -1)
        for i in range(6 if binary else 2)
    )

    def nothing(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    return Domain(
        name=f"benchmark-{action}",
        observation_names=("x",),
        actions=dims,
        heads=(Head(name="all", dims=tuple(dim.name for dim in dims), hidden=8),),
        skills=(
            Skill(
                name="act",
                head="all",
                native_observations=tuple(f"o{i}" for i in range(20)),
                native_action="multi_binary" if binary else "box",
            ),
        ),
        tasks=(),
        combined="",
        make_arenas=nothing,
        make_vector_env=nothing,
    )


class Still(gymnasium.Env[Any, Any]):
    def __init__(self, action: str) -> None:
        self.observation_space = spaces.Box(-1, 1, (20,), np.float32)
        self.action_space: Any = (
            spaces.MultiBinary(6) if action == "multi_binary" else spaces.Box(-1, 1, (2,))
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}


def measure(width: int, action: str, rounds: int, directory: Path) -> dict[str, Any]:
    model = PPO(
        "MlpPolicy",
        Still(action),
        device="cpu",
        n_steps=8,
        batch_size=8,
        policy_kwargs={"net_arch": [width, width]},
    )
    path = directory / f"{action}-{width}.zip"
    model.save(path)
    domain = make_domain(action)
    domains.register(domain)
    expert = read_zip(path, domain.skill("act"), domain)
    seen = np.random.default_rng(0).uniform(-1, 1, (ROWS, 20)).astype(np.float32)
    ours = times(
        lambda: expert.distribution(seen), lambda: model.predict(seen, deterministic=True), rounds
    )
    mine, theirs = (statistics.median(column) for column in ours)
    return {
        "layers": f"20-{width}-{width}",
        "action": action,
        "rows": ROWS,
        "numpy_ms": round(mine * 1e3, 3),
        "sb3_predict_ms": round(theirs * 1e3, 3),
        "ratio": round(theirs / mine, 2),
    }


def times(
    first: Callable[[], Any], second: Callable[[], Any], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of each call, taken in turns after a warm-up."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 10):
        for work, column in zip((first, second), taken, strict=True):
            start = time.perf_counter()
            work()
            if number >= 10:
                column.append(time.perf_counter() - start)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        results = [
            measure(width, action, arguments.rounds, Path(directory))
            for width in (64, 256)
            for action in ("multi_binary", "box")
        ]
    if arguments.json:
        print(json.dumps({"schema": "skilldistill.benchmark.experts/1", "results": results}))
        return
    for row in results:
        print(
            f"{row['layers']} {row['action']:>12}: NumPy {row['numpy_ms']:.2f} ms, "
            f"SB3 predict {row['sb3_predict_ms']:.2f} ms, {row['ratio']:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
