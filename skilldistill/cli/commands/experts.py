"""The commands about experts: experts add, experts ls."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from skilldistill.cli.options import flags_from
from skilldistill.cli.session import Session
from skilldistill.config import ExpertsAddConfig, ExpertsLsConfig

app = typer.Typer(name="experts", help="Bring experts and list them.", no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="what to call the expert; also its skill, unless --skill is given"
    ),
]
Zip = Annotated[
    str,
    typer.Argument(
        metavar="ZIP", help="what `model.save()` of Stable-Baselines3 wrote (PPO or A2C)"
    ),
]


@app.command("add", epilog="Example: skilldistill experts add movement policy.zip")
@flags_from(ExpertsAddConfig, writes=True, arguments={"name": Name, "path": Zip})
def add(session: Session, config: ExpertsAddConfig) -> None:
    """Take in a policy trained elsewhere, running no code from it."""
    session.stage("experts_add", config, create=True)


@app.command("ls", epilog="Example: skilldistill experts ls")
@flags_from(ExpertsLsConfig)
def ls(session: Session, config: ExpertsLsConfig) -> None:
    """List experts, and which one is used for each skill."""
    from skilldistill import stages

    found = stages.experts_ls(session.existing_workspace(), config)
    experts = (replace(e, problem=session.completed(e.problem)) for e in found.experts)
    session.show(replace(found, experts=tuple(experts)))
