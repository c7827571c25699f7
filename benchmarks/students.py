"""Students to measure: distilled from the shipped experts with default settings, once per seed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from skilldistill import stages
from skilldistill.config import CollectConfig, DistillConfig, MergeConfig
from skilldistill.domain import Domain, Policy
from skilldistill.errors import NotFound
from skilldistill.evaluation.rollout import play
from skilldistill.policy import checkpoint
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.progress import Progress
from skilldistill.stages.references import load_policy
from skilldistill.workspace.store import Workspace

FIGHTS = 512
SCORING_SEED = 20_261
"""No command's default: episodes that nobody learnt from."""


def workspace_of(folder: Path, seed: int) -> Workspace:
    """The workspace with one seed's merged dataset, made once."""
    workspace = Workspace.open_or_create(folder / f"seed-{seed}")
    try:
        workspace.resolve("combined", "dataset")
    except NotFound:
        stages.collect(workspace, CollectConfig(seed=seed))
        stages.merge(workspace, MergeConfig(seed=seed))
    return workspace


def student(folder: Path, seed: int, rounds: int) -> DistilledPolicyNetwork:
    """The student of one seed, distilled once: 100 episodes per skill, 50 epochs, ``rounds``."""
    workspace, name = workspace_of(folder, seed), f"rounds-{rounds}"
    try:
        found = workspace.resolve(name, "checkpoint")
    except NotFound:
        config = DistillConfig(name=name, rounds=rounds, seed=seed)
        made = stages.distill(workspace, config, progress=report)
        return checkpoint.load(Path(made.path)).network
    return checkpoint.load(workspace.path(found)).network


def composite(domain: Domain) -> Policy:
    """The shipped experts acting together."""
    return load_policy("composite", None, domain)


def scores(
    policy: Policy, domain: Domain, task: str, opponent: str | Policy | None = None
) -> dict[str, np.ndarray]:
    """(FIGHTS,) per metric of a task, on the same episodes for every policy."""
    rollout = play(domain, task, policy, episodes=FIGHTS, seed=SCORING_SEED, opponent=opponent)
    return dict(rollout.metrics)


def report(progress: Progress) -> None:
    """One line that is written over, for people only."""
    if sys.stderr.isatty():
        values = " ".join(f"{key}={value}" for key, value in progress.values.items())
        done = progress.done / progress.total
        print(f"\r{progress.stage} {done:5.0%} {values[:100]:<100}", end="", file=sys.stderr)
