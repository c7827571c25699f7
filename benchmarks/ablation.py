"""What each part of the distillation is good for: the same data, one part left out at a time.

    python benchmarks/ablation.py                          # 5 seeds
    python benchmarks/ablation.py --seeds 2 --episodes 64  # a quick look
    python benchmarks/ablation.py --sizes                  # retention against parameters instead

Every run (variant, seed) is a line in ``runs.jsonl`` under ``--folder``; with a folder of one's
own, runs found there are not repeated. Prints a Markdown table: interquartile mean over the seeds
and its 95 % interval (stratified bootstrap) of the retention per skill, (student − random) /
(expert − random) on the skill's main metric, and of the wins in the combined task. All policies
play the same episodes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from skilldistill import domain as domains
from skilldistill.config import CollectConfig, DistillConfig, MergeConfig
from skilldistill.domain import Domain, Policy
from skilldistill.errors import NotFound
from skilldistill.evaluation.rollout import RandomPolicy, play
from skilldistill.evaluation.statistics import iqm
from skilldistill.policy import checkpoint
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.player import NetworkPolicy
from skilldistill.stages.collect import collect
from skilldistill.stages.distill import distill
from skilldistill.stages.expert_references import find_experts
from skilldistill.stages.merge import merge
from skilldistill.stages.references import load_policy
from skilldistill.workspace.store import Workspace

VARIANTS: dict[str, dict[str, Any]] = {
    "unmasked MSE": {"loss": "mse", "masked": False, "balanced": False},
    "masked MSE": {"loss": "mse", "balanced": False},
    "masked KL": {"balanced": False},
    "masked KL, balanced": {},
    "masked hard targets, balanced": {"loss": "hard"},
    "masked MSE, balanced, rounds": {"loss": "mse", "rounds": 5},
    "masked KL, rounds": {"balanced": False, "rounds": 5},
    "masked KL, balanced, rounds": {"rounds": 5},
}
SIZES = (0.07, 0.25, 1.0, 4.0)
"""Student's parameters as a share of the experts' together (Rusu et al. 2016, table 1)."""
EVALUATION_SEED = 1_000_003
"""No command's default: the episodes were never learnt from."""


def prepare(folder: Path, options: argparse.Namespace) -> Workspace:
    """The workspace with the merged dataset, made once."""
    workspace = Workspace.open_or_create(folder)
    try:
        workspace.resolve("combined", "dataset")
    except NotFound:
        collect(workspace, CollectConfig(domain=options.domain, episodes=options.collect))
        merge(workspace, MergeConfig(domain=options.domain))
    return workspace


def scores(domain: Domain, policy: Policy, episodes: int) -> dict[str, float]:
    """The main metric of every task, and the combined task's other ones."""
    found = {}
    for task in domain.tasks:
        measured = play(domain, task.name, policy, episodes=episodes, seed=EVALUATION_SEED).metrics
        for name, values in measured.items():
            if name == task.main_metric or task.name == domain.combined:
                known = values[~np.isnan(values)]  # precision without a click is none
                found[f"{task.name}/{name}"] = float(known.mean()) if len(known) else 0.0
    return found


def sized(domain: Domain, share: float, parameters: int) -> int:
    """The encoder width whose network comes nearest to a share of ``parameters``."""
    widths = range(2, 1025, 2)
    counts = [DistilledPolicyNetwork.for_domain(domain, w).num_parameters() for w in widths]
    return widths[int(np.argmin(np.abs(np.array(counts) - share * parameters)))]


def run_all(
    workspace: Workspace,
    domain: Domain,
    variants: dict[str, dict[str, Any]],
    options: argparse.Namespace,
    record: Path,
) -> list[dict[str, Any]]:
    """Every variant with every seed, those that are on record left out."""
    done = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    key = [options.episodes, options.epochs, options.large_batch]
    kept = [run for run in done if run["key"] == key]
    known = {(run["variant"], run["seed"]) for run in kept}
    for seed in range(options.seeds):
        for name, changes in variants.items():
            if (name, seed) in known:
                continue
            started = time.monotonic()
            config = DistillConfig(
                domain=domain.name,
                name="ablation",
                seed=seed,
                epochs=options.epochs,
                large_batch=options.large_batch,
                **changes,
            )
            result = distill(workspace, config)
            network = checkpoint.load(Path(result.path)).network
            run = {
                "key": key,
                "variant": name,
                "seed": seed,
                "parameters": network.num_parameters(),
                "held_out": dict(result.metrics),
                "scores": scores(domain, NetworkPolicy(network), options.episodes),
                "seconds": round(time.monotonic() - started, 1),
            }
            with record.open("a") as file:
                file.write(json.dumps(run) + "\n")
            kept.append(run)
            print(f"{name}, seed {seed}: {run['scores']} in {run['seconds']} s", file=sys.stderr)
    return kept


def table(
    domain: Domain,
    names: list[str],
    runs: list[dict[str, Any]],
    chance: dict[str, float],
    expert: dict[str, float],
) -> str:
    """Markdown: one line per variant."""
    main = {task.name: f"{task.name}/{task.main_metric}" for task in domain.tasks}
    lines = ["| variant | parameters | " + " | ".join([*domain.skill_names, "wins"]) + " |"]
    lines.append("|---" * (len(domain.skill_names) + 3) + "|")
    for name in names:
        mine = [run for run in runs if run["variant"] == name]
        if not mine:
            continue
        cells = [name, f"{mine[0]['parameters']:,}"]
        for task in [*domain.skill_names, domain.combined]:
            metric = main[task]
            values = np.array([run["scores"][metric] for run in mine])
            if task != domain.combined:
                values = (values - chance[metric]) / (expert[metric] - chance[metric])
            found = iqm(values, seed=0)
            cells.append(f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]")
        lines.append("| " + " | ".join(cells) + " |")
    wins = main[domain.combined]
    lines.append("")
    lines.append(f"experts together win {expert[wins]:.3f}, chance wins {chance[wins]:.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, help="workspace that keeps runs")
    parser.add_argument("--domain", default="duel")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=512, help="per task and policy")
    parser.add_argument("--collect", type=int, default=100, help="episodes per skill to learn from")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--large-batch", action="store_true", help="much faster, about as good")
    parser.add_argument("--variants", default="", help="names, separated by semicolons")
    parser.add_argument("--sizes", action="store_true", help="student sizes instead of variants")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measure(options, prepare(options.folder or Path(scratch), options))


def measure(options: argparse.Namespace, workspace: Workspace) -> None:
    domain = domains.find(options.domain)
    experts = find_experts(workspace, domain)
    variants = VARIANTS
    if options.sizes:
        total = sum(
            sum(layer.weight.size + layer.bias.size for layer in found.expert.layers)
            for found in experts.values()
        )
        variants = {
            f"{share:.0%} of the experts' parameters": {
                "hidden_dim": max(16, sized(domain, share, total))
            }
            for share in SIZES
        }
    if options.variants:
        variants = {name.strip(): variants[name.strip()] for name in options.variants.split(";")}
    runs = run_all(workspace, domain, variants, options, workspace.root / "runs.jsonl")
    chance = scores(domain, RandomPolicy(domain), options.episodes)
    expert = scores(domain, load_policy("composite", workspace, domain), options.episodes)
    print(table(domain, list(variants), runs, chance, expert))


if __name__ == "__main__":
    main()
