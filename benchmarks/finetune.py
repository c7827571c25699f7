"""Fine-tuning, measured: speed beside SB3's PPO, what is learned, and what each part is worth.

    python benchmarks/finetune.py speed                       # against SB3 over make_vec_env
    python benchmarks/finetune.py learn --seeds 3             # 100,000 steps against chaser
    python benchmarks/finetune.py learn --seeds 3 --timesteps 1000000 --opponent mix
    python benchmarks/finetune.py ablate --seeds 5            # without warm-up, KL, both, start

``learn`` and ``ablate`` take ``--workspace W --from distilled``; without them they make a student
as the bars ask for: default experts, default distillation, ``--rounds 5``. A bar that is missed
is printed as such and makes the exit code 1. Everything is also written to ``--json FILE``.
What it last gave stands in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from skilldistill import domain as domains
from skilldistill.config import CollectConfig, DistillConfig, FinetuneConfig, MergeConfig
from skilldistill.domain import Domain, Policy
from skilldistill.evaluation.rollout import play
from skilldistill.evaluation.statistics import iqm
from skilldistill.learning.finetune import FinetuneOutcome, finetune
from skilldistill.policy import checkpoint
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.player import NetworkPolicy
from skilldistill.progress import Progress
from skilldistill.workspace.store import Workspace

FIGHTS = 512
SCORING_SEED = 20_261
"""Episodes nobody trained on."""


class Bars:
    """Figures beside what they should be."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def check(self, name: str, value: float, bar: str, met: bool) -> None:
        self.rows.append({"name": name, "value": value, "bar": bar, "met": bool(met)})
        print(f"{'ok    ' if met else 'MISSED'} {name}: {value:.4g} (bar: {bar})", flush=True)

    @property
    def all_met(self) -> bool:
        return all(row["met"] for row in self.rows)


# speed ----------------------------------------------------------------------------------------


def measure_speed(options: argparse.Namespace, bars: Bars) -> dict[str, Any]:
    """The original recipe on both sides, in turns, so that both meet the same machine."""
    domain = domains.find("duel")
    task = domain.task(domain.combined)
    torch.manual_seed(0)
    network = DistilledPolicyNetwork.for_domain(domain, 256)
    width = sum(head.hidden for head in domain.heads)

    def ours(timesteps: int) -> float:
        config = FinetuneConfig(
            timesteps=timesteps, warmup_fraction=0.0, guard_every=0, bf16=options.bf16, device="cpu"
        )
        with tempfile.TemporaryDirectory() as directory:
            outcome = finetune(network, config, directory=Path(directory))
        # rollouts and updates: SB3's `learn` does not count building its model either
        return float(outcome.summary["steps_per_second"])

    env = make_vec_env(task.env_id, n_envs=4)
    model = PPO(
        "MlpPolicy", env, n_steps=1024, batch_size=512, n_epochs=10, device="cpu",
        policy_kwargs={
            "net_arch": {"pi": [256, 256, 128, width], "vf": [128, 128]},
            "activation_fn": torch.nn.ReLU,
        },
    )  # fmt: skip

    def theirs(timesteps: int) -> float:
        began, before = time.perf_counter(), model.num_timesteps
        model.learn(timesteps, reset_num_timesteps=False)
        return (model.num_timesteps - before) / (time.perf_counter() - began)

    ours(4096)
    theirs(4096)
    pairs = [(ours(8 * 4096), theirs(4 * 4096)) for _ in range(options.repeats)]
    fast, slow = (statistics.median(column) for column in zip(*pairs, strict=True))
    began = time.perf_counter()
    ours(100_000)
    whole = time.perf_counter() - began
    print(f"ours {fast:,.0f} steps/s, SB3 {slow:,.0f} steps/s, {torch.get_num_threads()} threads")
    bars.check("steps per second, ours / SB3", fast / slow, ">= 6", fast / slow >= 6)
    bars.check("seconds for 100,000 steps", whole, "< 15", whole < 15)
    return {"ours": fast, "sb3": slow, "pairs": pairs, "seconds_100k": whole, "bf16": options.bf16}


# students -------------------------------------------------------------------------------------


@contextlib.contextmanager
def student(options: argparse.Namespace, seed: int) -> Iterator[DistilledPolicyNetwork]:
    """The policy to start from: the one asked for, or one distilled with defaults."""
    if options.workspace:
        workspace = Workspace.open(options.workspace)
        found = workspace.resolve(options.start, "checkpoint")
        yield checkpoint.load(workspace.path(found)).network
        return
    from skilldistill import stages

    with tempfile.TemporaryDirectory() as directory:
        workspace = Workspace.create(directory)
        stages.collect(workspace, CollectConfig(seed=seed))
        stages.merge(workspace, MergeConfig(seed=seed))
        made = stages.distill(workspace, DistillConfig(rounds=5, seed=seed), progress=report)
        yield checkpoint.load(Path(made.path)).network


def report(progress: Progress) -> None:
    if sys.stderr.isatty():
        values = " ".join(f"{key}={value}" for key, value in progress.values.items())
        print(
            f"\r{progress.stage} {progress.done / progress.total:5.0%} {values[:100]:<100}",
            end="", file=sys.stderr,
        )  # fmt: skip


# learning -------------------------------------------------------------------------------------


def scores_of(
    policy: Policy, domain: Domain, opponent: str | Policy, fights: int
) -> dict[str, Any]:
    rollout = play(
        domain, domain.combined, policy, episodes=fights, seed=SCORING_SEED, opponent=opponent
    )
    return {name: mean(values) for name, values in rollout.metrics.items()}


def mean(values: np.ndarray) -> float:
    """NaN left out; NaN if nothing is left."""
    measured = values[np.isfinite(values)]
    return float(measured.mean()) if len(measured) else math.nan


def skills_of(policy: Policy, domain: Domain, fights: int) -> dict[str, float]:
    result = {}
    for name in domain.skill_names:
        rollout = play(domain, name, policy, episodes=fights, seed=SCORING_SEED)
        result[name] = mean(rollout.metrics[domain.task(name).main_metric])
    return result


def train(
    start: DistilledPolicyNetwork, config: FinetuneConfig, guard_fights: int
) -> FinetuneOutcome:
    domain = start.domain

    def evaluate(policy: Policy, tasks: Sequence[str]) -> dict[str, Any]:
        return {
            name: play(
                domain, name, policy, episodes=guard_fights, seed=config.seed,
                first_episode=1_000_000,
                opponent=domain.opponents[0] if name == domain.combined else None,
            ).metrics[domain.task(name).main_metric]
            for name in tasks
        }  # fmt: skip

    with tempfile.TemporaryDirectory() as directory:
        return finetune(
            start, config, directory=Path(directory), evaluate=evaluate, progress=report
        )


def measure_learning(options: argparse.Namespace, bars: Bars) -> dict[str, Any]:
    rows = []
    for seed in range(options.seeds):
        with student(options, seed) as start:
            domain = start.domain
            config = FinetuneConfig(
                seed=seed, timesteps=options.timesteps, opponent=options.opponent,
                device="cpu", bf16=options.bf16, **json.loads(options.settings),
            )  # fmt: skip
            outcome = train(start, config, options.guard_fights)
            before, after = NetworkPolicy(start), NetworkPolicy(outcome.network)
            rows.append(
                {
                    "seed": seed,
                    "before": {o: scores_of(before, domain, o, FIGHTS) for o in domain.sparring},
                    "after": {o: scores_of(after, domain, o, FIGHTS) for o in domain.sparring},
                    "head_to_head": scores_of(after, domain, before, FIGHTS),
                    "skills_before": skills_of(before, domain, 128),
                    "skills_after": skills_of(after, domain, 128),
                    "summary": outcome.summary,
                }
            )
            print(json.dumps(rows[-1]), flush=True)

    def worst(pick: Any) -> float:
        return min(pick(row) for row in rows)

    long = options.timesteps >= 1_000_000
    chaser, strafer = domain.sparring[0], domain.sparring[-1]
    wins, bar = worst(lambda row: row["after"][chaser]["win"]), 0.995 if long else 0.98
    bars.check(f"wins against {chaser}, worst seed", wins, f">= {bar}", wins >= bar)
    if long:
        wins = worst(lambda row: row["after"][strafer]["win"])
        bars.check(f"wins against {strafer}, worst seed", wins, ">= 0.8", wins >= 0.8)
        wins = worst(lambda row: row["head_to_head"]["win"])
        bars.check("wins against the distilled policy, worst seed", wins, ">= 0.7", wins >= 0.7)
    else:
        kept = -worst(lambda r: -r["after"][chaser]["taken"] / r["before"][chaser]["taken"])
        bars.check(
            "damage taken, of the distilled policy's, worst seed", kept, "<= 0.5", kept <= 0.5
        )
    for skill in ("aiming", "clicking"):
        kept = worst(lambda r, s=skill: r["skills_after"][s] / r["skills_before"][s])
        bars.check(f"retention of {skill}, worst seed", kept, ">= 0.95", kept >= 0.95)
    depth = -worst(lambda row: -row["summary"]["collapse_depth"])
    bars.check("collapse depth, worst seed", depth, "<= 0.05", depth <= 0.05)
    return {"rows": rows}


# ablation -------------------------------------------------------------------------------------


def fresh(like: DistilledPolicyNetwork, seed: int) -> DistilledPolicyNetwork:
    torch.manual_seed(seed)
    network = DistilledPolicyNetwork.for_domain(like.domain, like.hidden_dim)
    with torch.no_grad():
        network.log_std.fill_(math.log(0.5))
    return network


def measure_ablation(options: argparse.Namespace, bars: Bars) -> dict[str, Any]:
    no_warmup = {"warmup_fraction": 0.0, "ramp": 0.0}
    no_tie = {"kl_coef": 0.0}
    variants: dict[str, dict[str, Any]] = {
        "ours": {},
        "no warm-up": no_warmup,
        "no KL": no_tie,
        "neither": {**no_warmup, **no_tie},
        "from scratch": {**no_warmup, **no_tie, "initial_std": 0.0, "binary_temperature": 1.0},
    }
    table: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for seed in range(options.seeds):
        with student(options, seed) as start:
            for name, changes in variants.items():
                config = FinetuneConfig(
                    seed=seed, timesteps=options.timesteps, opponent=options.opponent,
                    device="cpu", bf16=options.bf16,
                )  # fmt: skip
                config = dataclasses.replace(config, **json.loads(options.settings), **changes)
                begin = fresh(start, seed) if name == "from scratch" else start
                outcome = train(begin, config, options.guard_fights)
                policy = NetworkPolicy(outcome.network)
                fight = scores_of(policy, start.domain, options.opponent, FIGHTS)
                table[name].append(
                    {
                        # between 0 and 1: wins, and how much health is left over the opponent's
                        "score": 0.5 * fight["win"]
                        + 0.5 * (20 + fight["dealt"] - fight["taken"]) / 40,
                        "win": fight["win"],
                        "taken": fight["taken"],
                        "depth": outcome.summary["collapse_depth"],
                        "worst": outcome.summary["worst"],
                    }
                )
                print(seed, name, table[name][-1], flush=True)
    means = {}
    print(f"\n{'':<14}{'IQM':>8}{'95 %':>18}{'win':>8}{'taken':>8}{'depth':>8}{'worst':>8}")
    for name, rows in table.items():
        estimate = iqm([[row["score"]] for row in rows], seed=0)
        means[name] = estimate.mean
        figures = [statistics.mean(row[key] for row in rows) for key in ("win", "taken")]
        figures += [max(row["depth"] for row in rows), min(row["worst"] for row in rows)]
        print(
            f"{name:<14}{estimate.mean:>8.3f}{f'{estimate.low:.3f} to {estimate.high:.3f}':>18}"
            + "".join(f"{value:>8.3f}" for value in figures)
        )
    others = max(value for name, value in means.items() if name != "ours")
    bars.check(
        "IQM of ours minus the best other", means["ours"] - others, ">= 0", means["ours"] >= others
    )
    return {"table": table, "iqm": means}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "learn", "ablate"))
    parser.add_argument("--workspace", help="workspace with the student")
    parser.add_argument("--from", dest="start", default="distilled", help="the student")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--timesteps", type=int, default=100_000)
    parser.add_argument("--opponent", default="chaser")
    parser.add_argument("--guard-fights", type=int, default=128)
    parser.add_argument("--settings", default="{}", help="more of FinetuneConfig, as JSON")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bars = Bars()
    measure = {"speed": measure_speed, "learn": measure_learning, "ablate": measure_ablation}
    figures = measure[options.what](options, bars)
    if options.json:
        content = {"what": options.what, "bars": bars.rows, **figures}
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0 if bars.all_met else 1


if __name__ == "__main__":
    sys.exit(main())
