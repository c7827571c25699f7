"""The commands, each 10 to 20 lines: parse, call one stage, show its result."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def add_to(app: typer.Typer, words: Sequence[str] = ()) -> None:
    """Add the commands to the application, in the order in which a newcomer meets them.

    Args:
        app: what they are added to.
        words: the command line. One that begins with a command that looks after a workspace
            gets those alone: to make every command's flags takes longer than such a command.
    """
    from skilldistill.cli.commands import workspace

    workspace.add_first(app)
    if words and words[0] in workspace.names():
        workspace.add_to(app)
        return
    from skilldistill.cli.commands import experts, pipeline, settings

    pipeline.add_to(app)
    workspace.add_to(app)
    app.add_typer(experts.app)
    app.add_typer(settings.app)
    settings.add_to(app)
