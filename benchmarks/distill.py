"""Distillation, measured: how fast a student learns, in how much memory, and what it keeps.

The plain loop is what one would write first: a DataLoader over a TensorDataset, separate modules
for the heads, Adam, 256 rows per step, squared error. Both train the same network on the same
rows, 100 episodes per skill, and are judged by the same held-out squared error.

    python benchmarks/distill.py                # all of these
    python benchmarks/distill.py speed          # against the plain loop, share of the peak
    python benchmarks/distill.py memory         # peak of training on 20 million rows
    python benchmarks/distill.py retention      # per skill, and the fights, 3 seeds

A bar that is missed is printed as such and makes the exit code 1. What it last gave stands in
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bars import Bars, measure_all
from students import composite, scores, student, workspace_of
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from skilldistill import domain as domains
from skilldistill.config import DistillConfig
from skilldistill.data.reader import DatasetReader
from skilldistill.data.schema import Batch, DatasetInfo, ExpertRef
from skilldistill.data.writer import DatasetWriter
from skilldistill.domain import Domain
from skilldistill.evaluation.rollout import RandomPolicy
from skilldistill.evaluation.statistics import paired_difference, retention
from skilldistill.learning.device import product_dtype
from skilldistill.learning.distill import distill
from skilldistill.policy.player import NetworkPolicy

EPISODE = 200
SMALL, LARGE = "batch_256", "large_batch"


class PlainNetwork(nn.Module):
    """The same layers as ours, written down one by one."""

    def __init__(self, domain: Domain, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(domain.obs_dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden // 2),
            nn.ReLU(),
        )
        self.movement = nn.Sequential(nn.Linear(hidden // 2, 64), nn.ReLU(), nn.Linear(64, 6))
        self.clicking = nn.Sequential(nn.Linear(hidden // 2, 16), nn.ReLU(), nn.Linear(16, 1))
        self.aiming = nn.Sequential(nn.Linear(hidden // 2, 32), nn.ReLU(), nn.Linear(32, 2))
        self.bound = domain.actions[-1].high

    def forward(self, obs: Tensor) -> Tensor:
        features = self.encoder(obs)
        return torch.cat(
            [
                torch.sigmoid(self.movement(features)),
                torch.sigmoid(self.clicking(features)),
                torch.tanh(self.aiming(features)) * self.bound,
            ],
            dim=1,
        )


def make_rows(domain: Domain, rows: int, rng: np.random.Generator, skill: int) -> Batch:
    """Rows of one skill, labelled by a random network: smooth, learnable, and of our shape."""
    teacher = np.random.default_rng(7)
    columns = list(domain.columns(domain.heads[skill].name))
    walk = rng.normal(size=(rows, domain.obs_dim)).astype(np.float32)
    observations = np.tanh(walk)
    first = teacher.normal(size=(3, domain.obs_dim, 32)) / np.sqrt(domain.obs_dim)
    second = teacher.normal(size=(3, 32, domain.action_dim)) / np.sqrt(32)
    raw = np.tanh(2 * observations @ first[skill]) @ second[skill]
    binary = np.array([dim.kind == "binary" for dim in domain.actions])
    bound = np.array([dim.high for dim in domain.actions])
    targets = np.where(binary, 1 / (1 + np.exp(-6 * raw)), bound * np.tanh(raw))
    mask = np.zeros((rows, domain.action_dim), dtype=bool)
    mask[:, columns] = True
    targets = np.where(mask, targets, 0).astype(np.float32)
    std = np.where(mask & ~binary, 0.05, 0).astype(np.float32)
    last = np.arange(rows) % EPISODE == EPISODE - 1
    return {
        "observations": observations,
        "actions": targets,
        "targets": targets,
        "target_std": std,
        "action_mask": mask,
        "skill": np.full(rows, skill, dtype=np.uint8),
        "rewards": np.zeros(rows, dtype=np.float32),
        "terminated": np.zeros(rows, dtype=bool),
        "truncated": last,
    }


def write_rows(path: Path, domain: Domain, rows: int) -> None:
    """A dataset of ``rows`` rows, a third per skill."""
    info = DatasetInfo(
        domain=domain.name,
        skills=tuple(head.name for head in domain.heads),
        env_id="benchmark",
        experts=(ExpertRef("benchmark", "0" * 64),),
        observation_names=domain.observation_names,
        action_names=domain.action_names,
        seed=0,
    )
    rng = np.random.default_rng(0)
    with DatasetWriter(path, info) as writer:
        for skill in range(3):
            left = rows // 3 // EPISODE * EPISODE
            while left:
                count = min(left, 500 * EPISODE)
                writer.append_rows(make_rows(domain, count, rng, skill))
                episodes = count // EPISODE
                writer.append_episodes([EPISODE] * episodes, [0.0] * episodes, range(episodes))
                left -= count


def load(reader: DatasetReader, config: DistillConfig) -> tuple[list[Tensor], list[Tensor]]:
    """(observations, targets, mask) of the learnt and of the held-out rows."""
    parts = []
    for episodes in reader.split(config.val_fraction, config.seed):
        batch = reader.read_all(("observations", "targets", "action_mask"), episodes)
        tensors = [torch.from_numpy(batch[name]) for name in batch]
        parts.append([tensors[0], tensors[1], tensors[2].float()])
    return parts[0], parts[1]


def held_out_error(outputs: Tensor, targets: Tensor, mask: Tensor) -> float:
    return float((((outputs - targets) ** 2) * mask).sum() / mask.sum())


class Plain:
    """The plain loop."""

    def __init__(self, domain: Domain, learnt: list[Tensor], config: DistillConfig) -> None:
        torch.manual_seed(config.seed)
        self.network = PlainNetwork(domain, config.hidden_dim)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        self.loader = DataLoader(TensorDataset(*learnt), batch_size=256, shuffle=True)

    def train(self, epochs: int) -> float:
        """Train; returns rows per second."""
        rows, started = 0, time.perf_counter()
        for _ in range(epochs):
            for batch in self.loader:
                outputs = self.network(batch[0])
                squares = (outputs - batch[1]) ** 2
                loss = (squares * batch[2]).sum() / batch[2].sum() if batch[2:] else squares.mean()
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()
                rows += len(outputs)
        return rows / (time.perf_counter() - started)

    @torch.no_grad()
    def score(self, held: list[Tensor]) -> float:
        return held_out_error(self.network(held[0]), held[1], held[2])


def ours(
    reader: DatasetReader, domain: Domain, config: DistillConfig
) -> tuple[float, float, float]:
    """(rows per second, held-out squared error, seconds in all) of our loop."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        outcome = distill(reader, domain, config, directory=Path(folder))
    seconds = time.perf_counter() - started
    return outcome.metrics["samples_per_second"], outcome.metrics["mse"], seconds


def matrix_peak(dtype: torch.dtype) -> float:
    """Best measured matrix-product speed, floating-point operations per second."""
    best = 0.0
    for rows, width in ((4096, 256), (2048, 2048), (4096, 1024)):
        a, b = torch.randn(rows, width).to(dtype), torch.randn(width, width).to(dtype)
        torch.mm(a, b)
        for _ in range(5):
            started = time.perf_counter()
            for _ in range(4):
                torch.mm(a, b)
            best = max(best, 4 * 2 * rows * width * width / (time.perf_counter() - started))
    return best


def operations_per_row(domain: Domain, hidden: int) -> int:
    """Of one training step: forward, gradients of weights, gradients of inputs."""
    heads = sum(h.hidden * (hidden // 2 + len(h.dims)) for h in domain.heads)
    first, later = domain.obs_dim * hidden, hidden * hidden + hidden * (hidden // 2) + heads
    return 2 * (2 * first + 3 * later)  # nothing asks for the gradient of the observations


def measure_memory(options: argparse.Namespace, bars: Bars) -> dict[str, Any]:
    """Peak resident memory of an epoch over a file far larger than it, in a process of its own."""
    domain = domains.find("duel")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.h5"
        write_rows(path, domain, options.memory_rows)
        child = subprocess.run(
            [sys.executable, __file__, "epoch", "--dataset", str(path)],
            stdout=subprocess.PIPE,
            check=True,
        )
        size = path.stat().st_size / 2**30
    found: dict[str, Any] = json.loads(child.stdout)
    bars.at_most(f"peak GiB, {options.memory_rows:,} rows", found["peak_gib"], 3)
    return {"rows": options.memory_rows, "file_gib": round(size, 2), **found}


def measure_epoch(path: Path) -> None:
    """Train one epoch on a file, and print what that took."""
    domain = domains.find("duel")
    with DatasetReader(path, domain=domain) as reader:
        speed, _, seconds = ours(reader, domain, DistillConfig(epochs=1, large_batch=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures = {"peak_gib": round(peak, 2), "rows_per_second": round(speed), "seconds": seconds}
    print(json.dumps(figures))


def measure_speed(options: argparse.Namespace, bars: Bars) -> dict[str, Any]:
    domain, config = domains.find("duel"), DistillConfig()
    path = options.dataset
    if not path:
        workspace = workspace_of(options.students, 0)
        path = workspace.path(workspace.resolve("combined", "dataset"))
    with DatasetReader(path, domain=domain) as reader:
        found = compare(reader, domain, config, options)
    print(json.dumps(found, indent=2))
    bars.at_least("rows per second at 256, times the plain loop", found["times_plain"][SMALL], 2.3)
    bars.at_least("the same in large batches", found["times_plain"][LARGE], 6)
    reached = [run for run in found["time_to_score"]["ours"] if run["reached"]]
    shares = [run["share_of_plain_time"] for run in reached]
    bars.at_most("time to the plain loop's score, of its own", min(shares, default=math.inf), 0.1)
    return found


def measure_retention(options: argparse.Namespace, bars: Bars) -> dict[str, Any]:
    """What students keep of each skill, and how they fight after rounds, on paired episodes."""
    domain = domains.find("duel")
    experts, chance = composite(domain), RandomPolicy(domain)
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        taught = NetworkPolicy(student(options.students, seed, 0))
        for skill in domain.skill_names:
            metric = domain.task(skill).main_metric
            columns = [scores(p, domain, skill)[metric] for p in (taught, experts, chance)]
            kept = retention(*columns, seed=0)
            rows.append({"seed": seed, "skill": skill, **asdict(kept)})
            print(json.dumps(rows[-1]), flush=True)
    for skill in domain.skill_names:
        mine = [row for row in rows if row["skill"] == skill]
        bars.at_least(f"retention of {skill}, worst seed", min(r["mean"] for r in mine), 0.98)
        bars.at_least("lower end of its interval, worst seed", min(r["low"] for r in mine), 0.95)
    fights = []
    expert = scores(experts, domain, domain.combined)
    for seed in range(options.seeds):
        own = scores(NetworkPolicy(student(options.students, seed, 5)), domain, domain.combined)
        wins = paired_difference(own["win"], expert["win"], seed=0).difference
        precision = float(np.nanmean(own["precision"]) - np.nanmean(expert["precision"]))
        fights.append({"seed": seed, "wins": asdict(wins), "precision": precision})
        print(json.dumps(fights[-1]), flush=True)
    bars.at_least(
        "wins minus composite's after 5 rounds, worst seed",
        min(row["wins"]["mean"] for row in fights),
        -0.02,
    )
    bars.at_least(
        "click precision minus the experts', worst seed",
        min(row["precision"] for row in fights),
        -0.05,
    )
    return {"retention": rows, "fights": fights}


def main() -> int:
    measures = {"speed": measure_speed, "memory": measure_memory, "retention": measure_retention}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", default="all", choices=("all", *measures, "epoch"))
    parser.add_argument("--dataset", type=Path, help="dataset file; default: collected anew")
    parser.add_argument("--repeats", type=int, default=3, help="of each timing; medians count")
    parser.add_argument("--epochs", type=int, default=50, help="of the plain loop's score")
    parser.add_argument("--memory-rows", type=int, default=20_000_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=Path, help="folder that keeps students between runs")
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.what == "epoch":
        measure_epoch(options.dataset)
        return 0
    return measure_all(measures, options)


def compare(
    reader: DatasetReader, domain: Domain, config: DistillConfig, options: argparse.Namespace
) -> dict[str, Any]:
    learnt, held = load(reader, config)
    variants = {
        SMALL: replace(config, epochs=2),
        "batch_256_float32": replace(config, epochs=2, bf16=False),
        LARGE: replace(config, epochs=4, large_batch=True),
        "large_batch_float32": replace(config, epochs=4, large_batch=True, bf16=False),
    }
    speeds: dict[str, list[float]] = {"plain": [], "plain_masked": []}
    for _ in range(options.repeats):  # one after the other, so that noise meets all of them
        speeds["plain"].append(Plain(domain, learnt[:2], config).train(1))
        speeds["plain_masked"].append(Plain(domain, learnt, config).train(1))
        for name, variant in variants.items():
            speeds.setdefault(name, []).append(ours(reader, domain, variant)[0])
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    used = {
        name: product_dtype(variants[name].bf16, torch.device("cpu"))
        if name in variants
        else torch.float32
        for name in medians
    }
    peaks = {dtype: matrix_peak(dtype) for dtype in set(used.values())}
    work = operations_per_row(domain, config.hidden_dim)
    result: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "rows": reader.num_rows,
        "rows_per_second": {name: round(value) for name, value in medians.items()},
        "times_plain": {
            name: round(value / medians["plain"], 2) for name, value in medians.items()
        },
        "peak_gflops": {str(dtype): round(value / 1e9) for dtype, value in peaks.items()},
        "share_of_peak": {
            name: round(value * work / peaks[used[name]], 3) for name, value in medians.items()
        },
        "products_in": {name: str(dtype) for name, dtype in used.items()},
    }
    result["time_to_score"] = time_to_score(reader, domain, config, learnt, held, options.epochs)
    return result


def time_to_score(
    reader: DatasetReader,
    domain: Domain,
    config: DistillConfig,
    learnt: list[Tensor],
    held: list[Tensor],
    epochs: int,
) -> dict[str, object]:
    """How long we take to the plain loop's last score, with how many epochs."""
    plain = Plain(domain, learnt, config)
    started = time.perf_counter()
    plain.train(epochs)
    seconds = time.perf_counter() - started
    score = plain.score(held)
    runs = []
    for variant, tried in (({"large_batch": True}, (15, 20, 24, 28)), ({}, (4, 6, 8, 10))):
        for count in tried:
            _, found, took = ours(reader, domain, replace(config, epochs=count, **variant))
            runs.append(
                {
                    **variant,
                    "epochs": count,
                    "held_out_mse": found,
                    "seconds": round(took, 2),
                    "share_of_plain_time": round(took / seconds, 3),
                    "reached": found <= score,
                }
            )
    return {
        "plain_epochs": epochs,
        "plain_held_out_mse": score,
        "plain_seconds": round(seconds, 1),
        "ours": runs,
    }


if __name__ == "__main__":
    sys.exit(main())
