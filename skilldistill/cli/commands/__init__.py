"""The commands, each 10 to 20 lines: parse, call one stage, show its result."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add every command to the application, in the order in which a newcomer meets them."""
    from skilldistill.cli.commands import experts, pipeline, settings, workspace

    workspace.add_first(app)
    pipeline.add_to(app)
    workspace.add_to(app)
    app.add_typer(experts.app)
    app.add_typer(settings.app)
    settings.add_to(app)
