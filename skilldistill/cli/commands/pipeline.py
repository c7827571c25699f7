"""The commands that compute: train, collect, merge, distill, finetune, evaluate, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skilldistill.cli.completion import complete_dataset, complete_policy
from skilldistill.cli.options import flags_from
from skilldistill.cli.session import Session
from skilldistill.config import (
    CollectConfig,
    DistillConfig,
    EvaluateConfig,
    FinetuneConfig,
    MergeConfig,
    RunConfig,
    TrainConfig,
)

Datasets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="REF...",
        help="datasets: names, name@3, or files; default: the latest of every skill",
        show_default=False,
        autocompletion=complete_dataset,
    ),
]
Policies = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="REF...",
        help="checkpoints, experts, composite, random, or folders; default: the checkpoints "
        "distilled and finetuned",
        show_default=False,
        autocompletion=complete_policy,
    ),
]


@flags_from(TrainConfig, writes=True)
def train(session: Session, config: TrainConfig) -> None:
    """Train an expert for one skill with PPO."""
    session.stage("train", config, create=True)


@flags_from(CollectConfig, writes=True)
def collect(session: Session, config: CollectConfig) -> None:
    """Play experts and write what they did, a dataset per skill."""
    session.stage("collect", config, create=True)


@flags_from(MergeConfig, writes=True, arguments={"datasets": Datasets})
def merge(session: Session, config: MergeConfig) -> None:
    """Join the datasets of the skills into one."""
    session.stage("merge", config, create=_any_file(config.datasets))


@flags_from(DistillConfig, writes=True)
def distill(session: Session, config: DistillConfig) -> None:
    """Teach one policy from the merged dataset."""
    session.stage("distill", config, create=_any_file((config.dataset,)))


@flags_from(FinetuneConfig, writes=True)
def finetune(session: Session, config: FinetuneConfig) -> None:
    """Improve a distilled policy with PPO on the combined task."""
    session.stage("finetune", config, create=False)


@flags_from(EvaluateConfig, writes=True, arguments={"policies": Policies})
def evaluate(session: Session, config: EvaluateConfig) -> None:
    """Score policies on the same episodes, and write a report."""
    session.stage("evaluate", config, create=bool(config.policies))


@flags_from(RunConfig, writes=True)
def run(session: Session, config: RunConfig) -> None:
    """Do the whole pipeline, from collect to evaluate.

    Steps that are done already are not done again. Asks before the fine-tuning where somebody
    is there to answer.
    """
    asks = session.interactive and not config.yes
    session.stage("run", config, create=True, confirm=session.ask if asks else None)


def _any_file(refs: tuple[str, ...]) -> bool:
    """Whether a reference is a file: then the command can do without an earlier workspace."""
    return any(Path(ref).is_file() for ref in refs)


def add_to(app: typer.Typer) -> None:
    """Add the commands, each with an example."""
    examples = {
        train: "skilldistill train --skill aiming --seed 1",
        collect: "skilldistill collect --skill aiming -n 100",
        merge: "skilldistill merge movement aiming clicking -o combined",
        distill: "skilldistill distill --dataset combined --epochs 50 --rounds 5",
        finetune: "skilldistill finetune --from distilled --timesteps 100000",
        evaluate: "skilldistill evaluate distilled finetuned -n 100",
        run: "skilldistill run --preset quick --yes",
    }
    for command, example in examples.items():
        app.command(epilog=f"Example: {example}")(command)
