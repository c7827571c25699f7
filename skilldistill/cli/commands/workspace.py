"""The commands that look after a workspace: init, ls, show, verify, gc, rm, export."""

from __future__ import annotations

from typing import Annotated

import typer

from skilldistill.cli.completion import complete_artefact
from skilldistill.cli.options import directory, flags_from
from skilldistill.cli.session import Session
from skilldistill.config import (
    ExportConfig,
    GcConfig,
    InitConfig,
    LsConfig,
    RmConfig,
    ShowConfig,
    VerifyConfig,
)
from skilldistill.errors import ConfigurationError


def _not_empty(text: str | None) -> str | None:
    return text if text is None else str(directory(text))


Path = Annotated[
    str | None,
    typer.Argument(
        metavar="[PATH]", help="directory to make; default: ./workspace", callback=_not_empty
    ),
]
Reference = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="name (its latest version), name@3, kind:name@3, an id, or a path; where an expert "
        "and a dataset share a name, dataset:name",
        autocompletion=complete_artefact,
    ),
]
References = Annotated[
    list[str],
    typer.Argument(
        metavar="REF...",
        help="name, name@3, kind:name@3; where an expert and a dataset share a name, dataset:name",
        autocompletion=complete_artefact,
    ),
]
OptionalReferences = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[REF...]",
        help="name, name@3, kind:name@3; default: all, and what lies beside them",
        show_default=False,
        autocompletion=complete_artefact,
    ),
]


@flags_from(InitConfig, writes=True, arguments={"path": Path})
def init(session: Session, config: InitConfig) -> None:
    """Make a workspace, or repair the manifest of one."""
    if config.path and session.workspace_flag is not None:
        raise ConfigurationError(
            f"two places for a workspace: {config.path} and {session.workspace_flag}",
            hint="give either the path or --workspace",
        )
    place = config.path or session.workspace_path
    if session.dry_run:
        from skilldistill.stages.plan import plan_init

        session.show(plan_init(place, config))
        return
    from skilldistill import stages

    session.show(stages.init(place, config))


@flags_from(LsConfig)
def ls(session: Session, config: LsConfig) -> None:
    """List what the workspace holds."""
    session.stage("ls", config)


@flags_from(ShowConfig, arguments={"reference": Reference})
def show(session: Session, config: ShowConfig) -> None:
    """Show one artefact: its origin, its settings, what is in it."""
    session.stage("show", config)


@flags_from(VerifyConfig, arguments={"references": OptionalReferences})
def verify(session: Session, config: VerifyConfig) -> None:
    """Compare every file with the manifest; damage exits with 3."""
    failure = session.stage("verify", config).failure()
    if failure is not None:
        raise failure


@flags_from(GcConfig, writes=True)
def gc(session: Session, config: GcConfig) -> None:
    """Remove leftovers and old unfinished work."""
    session.stage("gc", config)


@flags_from(RmConfig, writes=True, arguments={"references": References})
def rm(session: Session, config: RmConfig) -> None:
    """Remove artefacts."""
    session.stage("rm", config)


@flags_from(ExportConfig, writes=True, arguments={"reference": Reference})
def export(session: Session, config: ExportConfig) -> None:
    """Copy an artefact out of the workspace, with its origin."""
    session.stage("export", config)


def add_first(app: typer.Typer) -> None:
    """Add the command that comes before all others."""
    app.command(epilog="Example: skilldistill init my-workspace")(init)


_EXAMPLES = {
    ls: "skilldistill ls --kind dataset",
    show: "skilldistill show distilled",
    verify: "skilldistill verify",
    gc: "skilldistill gc --dry-run",
    rm: "skilldistill rm dataset:aiming@1",
    export: "skilldistill export finetuned -o my-bot",
}


def names() -> set[str]:
    """What the commands are called that :func:`add_to` adds."""
    return {command.__name__ for command in _EXAMPLES}


def add_to(app: typer.Typer) -> None:
    """Add the other commands, each with an example."""
    for command, example in _EXAMPLES.items():
        app.command(epilog=f"Example: {example}")(command)
