"""Fine-tuning, measured: speed beside SB3's PPO, what is learned, and what each part is worth.

    python benchmarks/finetune.py            # all of these
    python benchmarks/finetune.py speed      # against SB3 over make_vec_env
    python benchmarks/finetune.py short      # 100,000 steps against chaser, 3 seeds
    python benchmarks/finetune.py long       # 1,000,000 steps against the mix, 3 seeds
    python benchmarks/finetune.py ablate     # 500,000, without warm-up, KL, both, start; 5 seeds

Runs start from a student distilled with defaults and ``--rounds 5``, one per seed. A bar that is
missed is printed as such and makes the exit code 1. With a folder of students of one's own, the
ablation's runs are kept in it too and not repeated. What it last gave stands in
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bars import Bars, measure_all
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from students import composite, report, scores, student

from skilldistill import domain as domains
from skilldistill.config import FinetuneConfig
from skilldistill.domain import Domain, Policy
from skilldistill.evaluation.rollout import RandomPolicy, play
from skilldistill.evaluation.statistics import iqm, retention
from skilldistill.learning.finetune import FinetuneOutcome, finetune
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.player import NetworkPolicy

# speed ----------------------------------------------------------------------------------------


def measure_speed(options: argparse.Namespace, bars: Bars) -> dict[str, Any]:
    """The original recipe on both sides, in turns, so that both meet the same machine.

    SB3's has neither a tie nor a rehearsal, so ours does without them here; the 100,000 steps
    are those of the defaults.
    """
    domain = domains.find("duel")
    task = domain.task(domain.combined)
    torch.manual_seed(0)
    network = DistilledPolicyNetwork.for_domain(domain, 256)
    width = sum(head.hidden for head in domain.heads)

    original = {"kl_coef": 0.0, "rehearsal": 0.0}

    def ours(timesteps: int, **settings: float) -> float:
        config = FinetuneConfig(
            timesteps=timesteps, warmup_fraction=0.0, guard_every=0, device="cpu", **settings,
        )  # fmt: skip
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

    ours(4096, **original)
    theirs(4096)
    turns = [
        (
            ours(8 * 4096, **original),
            ours(8 * 4096, **original, bf16=False),
            theirs(4 * 4096),
        )
        for _ in range(options.repeats)
    ]
    fast, exact, slow = (statistics.median(column) for column in zip(*turns, strict=True))
    began = time.perf_counter()
    ours(100_000)
    whole = time.perf_counter() - began
    print(f"ours {fast:,.0f} steps/s, in float32 {exact:,.0f}, SB3 {slow:,.0f}")
    print(f"{torch.get_num_threads()} threads")
    bars.at_least("steps per second, ours / SB3", fast / slow, 6)
    bars.at_most("seconds for 100,000 steps", whole, 15)
    return {"ours": fast, "float32": exact, "sb3": slow, "turns": turns, "seconds_100k": whole}


# learning -------------------------------------------------------------------------------------


def means(policy: Policy, domain: Domain, opponent: str | Policy) -> dict[str, float]:
    """Every metric of the fight."""
    found = scores(policy, domain, domain.combined, opponent)
    return {name: average(values) for name, values in found.items()}


def average(values: np.ndarray) -> float:
    """NaN left out; NaN if nothing is left."""
    measured = values[np.isfinite(values)]
    return float(measured.mean()) if len(measured) else math.nan


def kept(policy: Policy, domain: Domain) -> dict[str, float]:
    """(policy − random) / (expert − random) per skill, on its main metric."""
    found = {}
    for skill in domain.skill_names:
        own = scores(policy, domain, skill)[domain.task(skill).main_metric]
        found[skill] = retention(own, *yardsticks(skill), seed=0).mean
    return found


@functools.cache
def yardsticks(skill: str) -> tuple[np.ndarray, np.ndarray]:
    """(FIGHTS,) main metric of a skill, of its expert and of chance."""
    domain = domains.find("duel")
    players: tuple[Policy, ...] = (composite(domain), RandomPolicy(domain))
    metric = domain.task(skill).main_metric
    expert, chance = (scores(player, domain, skill)[metric] for player in players)
    return expert, chance


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


def learn(options: argparse.Namespace, timesteps: int, opponent: str) -> list[dict[str, Any]]:
    """One run per seed, and how its policy fights before and after."""
    rows = []
    for seed in range(options.first, options.first + options.seeds):
        start = student(options.students, seed, 5)
        domain = start.domain
        config = FinetuneConfig(
            seed=seed, timesteps=timesteps, opponent=opponent,
            device="cpu", **json.loads(options.settings),
        )  # fmt: skip
        outcome = train(start, config, options.guard_fights)
        before, after = NetworkPolicy(start), NetworkPolicy(outcome.network)
        rows.append(
            {
                "seed": seed,
                "before": {rival: means(before, domain, rival) for rival in domain.sparring},
                "after": {rival: means(after, domain, rival) for rival in domain.sparring},
                "head_to_head": means(after, domain, before),
                "kept_before": kept(before, domain),
                "kept_after": kept(after, domain),
                "summary": outcome.summary,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def check_what_is_kept(rows: list[dict[str, Any]], bars: Bars) -> None:
    for skill in ("aiming", "clicking"):
        least = min(row["kept_after"][skill] for row in rows)
        bars.at_least(f"retention of {skill}, worst seed", least, 0.95)
    depth = max(row["summary"]["collapse_depth"] for row in rows)
    bars.at_most("collapse depth, worst seed", depth, 0.05)


def measure_short(options: argparse.Namespace, bars: Bars) -> dict[str, Any]:
    """100,000 steps against chaser."""
    rows = learn(options, 100_000, "chaser")
    wins = min(row["after"]["chaser"]["win"] for row in rows)
    bars.at_least("wins against chaser after 100,000 steps, worst seed", wins, 0.98)
    taken = max(row["after"]["chaser"]["taken"] / row["before"]["chaser"]["taken"] for row in rows)
    bars.at_most("damage taken, of the distilled policy's, worst seed", taken, 0.5)
    check_what_is_kept(rows, bars)
    return {"rows": rows}


def measure_long(options: argparse.Namespace, bars: Bars) -> dict[str, Any]:
    """1,000,000 steps against the mix."""
    rows = learn(options, 1_000_000, "mix")
    for rival, bar in (("chaser", 0.995), ("strafer", 0.8)):
        wins = min(row["after"][rival]["win"] for row in rows)
        bars.at_least(f"wins against {rival} after 1,000,000 steps, worst seed", wins, bar)
    wins = min(row["head_to_head"]["win"] for row in rows)
    bars.at_least("wins against the distilled policy, worst seed", wins, 0.7)
    check_what_is_kept(rows, bars)
    return {"rows": rows}


# ablation -------------------------------------------------------------------------------------


COLUMNS = ("chaser", "strafer", "start", "movement", "aiming", "clicking", "score", "depth")
"""Of the ablation's table, means over the seeds: wins against three opponents, what is kept of each
skill, a score of the fight with ``chaser`` that health counts in, and how far the fight fell early
on. The interquartile mean is over the seeds and the first six, which are what the bars above look
at."""
FOUGHT, SCORED = COLUMNS[:3], COLUMNS[:6]


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
    record = options.students / "finetune-ablation.jsonl"
    lines = record.read_text().splitlines() if record.exists() else []
    known = {json.dumps(run["key"]): run["scores"] for run in map(json.loads, lines)}
    table: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for seed in range(options.ablation_first, options.ablation_seeds):
        for name, changes in variants.items():
            config = FinetuneConfig(
                seed=seed, timesteps=options.ablation_steps, opponent=options.ablation_opponent,
                device="cpu",
            )  # fmt: skip
            config = dataclasses.replace(config, **(json.loads(options.settings) | changes))
            rounds = options.ablation_rounds
            key = [name, rounds, dataclasses.asdict(config), options.guard_fights]
            found = known.get(json.dumps(key))
            if found is None:
                start = student(options.students, seed, rounds)
                begin = fresh(start, seed) if name == "from scratch" else start
                found = ablated(begin, start, config, options.guard_fights)
                with record.open("a") as file:
                    file.write(json.dumps({"key": key, "scores": found}) + "\n")
            table[name].append(found)
            print(seed, name, found, flush=True)
    print(f"\n{'':<14}{'IQM':>8}{'95 %':>18}" + "".join(f"{name:>10}" for name in COLUMNS))
    for name, rows in table.items():
        estimate = iqm([[row[task] for task in SCORED] for row in rows], seed=0)
        figures = [statistics.mean(row[key] for row in rows) for key in COLUMNS]
        print(
            f"{name:<14}{estimate.mean:>8.3f}{f'{estimate.low:.3f} to {estimate.high:.3f}':>18}"
            + "".join(f"{value:>10.3f}" for value in figures)
        )
    whats = {"": SCORED, ", by wins alone": FOUGHT, ", by the score against chaser": ("score",)}
    for what, tasks in whats.items():
        middles = {
            name: iqm([[row[task] for task in tasks] for row in rows], seed=0).mean
            for name, rows in table.items()
        }
        others = max(value for name, value in middles.items() if name != "ours")
        bars.at_least(f"IQM of ours minus the best other{what}", middles["ours"] - others, 0)
    return {"table": table}


def ablated(
    begin: DistilledPolicyNetwork,
    start: DistilledPolicyNetwork,
    config: FinetuneConfig,
    guard_fights: int,
) -> dict[str, float]:
    """The figures of :data:`COLUMNS` for one run that begins with ``begin``."""
    outcome = train(begin, config, guard_fights)
    policy, domain = NetworkPolicy(outcome.network), start.domain
    rivals: dict[str, str | Policy] = {"chaser": "chaser", "strafer": "strafer"}
    rivals["start"] = NetworkPolicy(start)
    fights = {name: means(policy, domain, rival) for name, rival in rivals.items()}
    chaser = fights["chaser"]
    return {
        **{name: fight["win"] for name, fight in fights.items()},
        **kept(policy, domain),
        # between 0 and 1: wins, and how much health is left over the opponent's
        "score": 0.5 * chaser["win"] + 0.5 * (20 + chaser["dealt"] - chaser["taken"]) / 40,
        "depth": outcome.summary["collapse_depth"],
    }


def main() -> int:
    measures = {
        "speed": measure_speed,
        "short": measure_short,
        "long": measure_long,
        "ablate": measure_ablation,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", default="all", choices=("all", *measures))
    parser.add_argument("--students", type=Path, help="folder that keeps students between runs")
    parser.add_argument("--seeds", type=int, default=3, help="how many, of short and long")
    parser.add_argument("--first", type=int, default=0, help="seed that short and long begin with")
    parser.add_argument("--ablation-seeds", type=int, default=5)
    parser.add_argument("--ablation-first", type=int, default=0, help="seed to begin with")
    parser.add_argument("--ablation-steps", type=int, default=500_000)
    parser.add_argument("--ablation-opponent", default="mix")
    parser.add_argument("--ablation-rounds", type=int, default=5, help="of the students")
    parser.add_argument("--guard-fights", type=int, default=128)
    parser.add_argument("--settings", default="{}", help="more of FinetuneConfig, as JSON")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    return measure_all(measures, options)


if __name__ == "__main__":
    sys.exit(main())
