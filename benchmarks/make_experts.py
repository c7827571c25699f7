"""Train the experts that ship with a domain again, replace them, and write their cards.

Run: ``make experts``. An expert is replaced only once its training has finished, and only by one
that scores no worse unless ``--force`` is given. The card, ``CARD.md`` beside the weights, holds
the command, the seed, the versions, and the figures with their intervals.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from skilldistill import domain as domains
from skilldistill.config import TrainConfig
from skilldistill.domain import Task
from skilldistill.experts.card import CARD_FILE, WEIGHTS_FILE
from skilldistill.experts.network import Expert
from skilldistill.progress import Progress
from skilldistill.stages.train import PICTURE, TrainResult, train
from skilldistill.workspace.store import Workspace


def card(result: TrainResult, expert: Expert, task: Task, command: str) -> str:
    source: Any = expert.source
    lines = [
        f"# Expert: {result.skill}",
        "",
        f"Made by `{command}` with seed {source['seed']} in {result.seconds:.0f} seconds "
        f"({result.timesteps:,} steps; kept as it was after {result.best_timesteps:,}).",
        "",
        f"| metric | mean of {source['episodes']} episodes | 95 % interval |",
        "|---|---|---|",
    ]
    for name, figure in result.metrics.items():
        star = " (main)" if name == task.main_metric else ""
        values = [figure.mean, figure.low, figure.high]
        mean, low, high = ("-" if value is None else f"{value:.4f}" for value in values)
        lines.append(f"| {name}{star} | {mean} | {low} to {high} |")
    widths = [expert.obs_dim, *(layer.weight.shape[1] for layer in expert.layers)]
    versions = ", ".join(f"{name} {number}" for name, number in source["versions"].items())
    settings = ", ".join(f"{key}={value}" for key, value in source["settings"]["ppo"].items())
    lines += [
        "",
        f"Network {'-'.join(map(str, widths))}, {expert.layers[0].activation}, {expert.head} head; "
        f"sha256 `{expert.sha256}`.",
        "",
        f"PPO: {settings or 'defaults'}; {source['settings']['envs']} arenas, "
        f"{source['settings']['schedule']} learning rate.",
        "",
        f"Versions: {versions}.",
        "",
        f"Numbers and layers: `{WEIGHTS_FILE}`, `{CARD_FILE}`.",
    ]
    return "\n".join(lines) + "\n"


def report(progress: Progress) -> None:
    values = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in progress.values.items()
    )
    print(f"\r{progress.stage}: {progress.done / progress.total:4.0%}  {values}", end="",
          file=sys.stderr)  # fmt: skip


def old_score(folder: Path, metric: str) -> float | None:
    if not (folder / CARD_FILE).is_file():
        return None
    figures: Any = Expert.load(folder).source.get("figures", {})
    return figures.get(metric, {}).get("mean")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--domain", default="duel")
    parser.add_argument("--skill", action="append", help="only this one; may be given again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timesteps", type=int, default=0, help="0: the skill's own setting")
    parser.add_argument("--out", type=Path, help="instead of the domain's own folder")
    parser.add_argument("--force", action="store_true", help="replace even by a worse expert")
    arguments = parser.parse_args()
    domain = domains.find(arguments.domain)
    out = arguments.out or domain.shipped_experts
    if out is None:
        parser.error(f"domain {domain.name} ships no experts; give --out")
    for skill in arguments.skill or domain.skill_names:
        task, folder = domain.task(skill), out / skill
        command = f"python benchmarks/make_experts.py --skill {skill} --seed {arguments.seed}"
        config = TrainConfig(
            domain=domain.name, skill=skill, seed=arguments.seed, timesteps=arguments.timesteps
        )
        with tempfile.TemporaryDirectory() as scratch:
            workspace = Workspace.create(Path(scratch) / "workspace")
            result = train(workspace, config, progress=report, command=command)
            print(file=sys.stderr)
            expert = Expert.load(Path(result.path))
            new, old = result.metrics[task.main_metric].mean, old_score(folder, task.main_metric)
            if old is not None and not arguments.force and (new is None or new < old):
                print(f"{skill}: {new} is worse than the {old} there is; kept (--force replaces)")
                continue
            folder.mkdir(parents=True, exist_ok=True)
            expert.save(folder)
            if (Path(result.path) / PICTURE).exists():
                shutil.copyfile(Path(result.path) / PICTURE, folder / PICTURE)
            (folder / "CARD.md").write_text(card(result, expert, task, command), encoding="utf-8")
        print(f"{skill}: {task.main_metric} {new} in {result.seconds:.0f} s -> {folder}")


if __name__ == "__main__":
    main()
