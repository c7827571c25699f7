"""The commands about the installation itself: config show, doctor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import typer

from skilldistill.cli.options import flags_from
from skilldistill.cli.session import Session
from skilldistill.config import DoctorConfig
from skilldistill.settings import SECTIONS

app = typer.Typer(name="config", help="Look at settings.", no_args_is_help=True)


@dataclass(frozen=True)
class ShownSetting:
    """One setting as it is in force here."""

    value: Any
    origin: str


@dataclass(frozen=True)
class ConfigResult:
    """Every setting in force, by section."""

    schema: ClassVar[str] = "skilldistill.config/1"

    workspace: ShownSetting
    sections: dict[str, dict[str, ShownSetting]]
    origin: bool
    """Whether people asked where values come from."""


@app.command("show", epilog="Example: skilldistill config show distill --origin")
@flags_from()
def config_show(
    session: Session,
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="[COMMAND]",
            help="show this command's settings only",
            autocompletion=lambda: list(SECTIONS),
        ),
    ] = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="say where each value comes from")
    ] = False,
) -> None:
    """Show the settings in force here, as TOML."""
    names = [section] if section else list(SECTIONS)
    sections = {
        name: {key: ShownSetting(*found) for key, found in session.settings.origins(name).items()}
        for name in names
    }
    path, source = session.workspace_setting
    place = ShownSetting("" if path is None else str(path), source)
    session.show(ConfigResult(place, sections, origin))


@flags_from(DoctorConfig)
def doctor(session: Session, config: DoctorConfig) -> None:
    """Check the installation, the experts and the workspace."""
    from skilldistill import stages

    named = session.workspace_flag is not None  # then it is an error if nothing is there
    workspace = session.workspace() if named else session.existing_workspace()
    found = stages.doctor(workspace, config)
    checks = (replace(check, hint=session.completed(check.hint)) for check in found.checks)
    result = replace(found, checks=tuple(checks))
    session.show(result)
    failure = result.failure()
    if failure is not None:
        raise failure


def add_to(root: typer.Typer) -> None:
    """Add ``doctor`` to the application."""
    root.command(epilog="Example: skilldistill doctor --json")(doctor)
