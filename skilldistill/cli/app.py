"""The Typer application: global flags, the list of commands, and the process's exit code."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from skilldistill import __version__
from skilldistill.cli import commands, failures, render
from skilldistill.cli.options import DebugFlag, JsonFlag, QuietFlag, WorkspaceFlag
from skilldistill.cli.session import RootFlags, silence_stdout


def application(words: Sequence[str] = ()) -> typer.Typer:
    """The application, with every command that a command line may mean; all of them for none."""
    app = typer.Typer(
        name="skilldistill",
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # `boundary` prints errors; a bug in it shows plainly
        # Boxes are for people; in a pipe they would double the time that `--help` takes.
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(epilog="Example: skilldistill run --preset quick")(_root)
    commands.add_to(app, words)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"skilldistill {__version__}")
        raise typer.Exit(0)


def _root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="print the version"),
    ] = False,
    workspace: WorkspaceFlag = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Turn several single-skill policies into one policy that has every skill."""
    given = ctx.obj if isinstance(ctx.obj, RootFlags) else RootFlags()
    ctx.obj = RootFlags(given.argv, workspace, as_json, quiet, debug)


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; see :func:`skilldistill.cli.main`."""
    words = tuple(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except BrokenPipeError:
        silence_stdout()
        return failures.BROKEN_PIPE
    except OSError as error:  # outside a command, only writing the help can fail so
        silence_stdout()
        failure = failures.describe(error)
        render.show_failure(failure)
        return failure.exit_code


def _run(words: tuple[str, ...]) -> int:
    """Run one command line; its exit code.

    Raises:
        OSError: stdout or stderr cannot be written.
    """
    code = 0
    try:
        application(words)(args=list(words), prog_name="skilldistill", obj=RootFlags(words))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        # Typer turns a closed pipe (`skilldistill --help | head`) into a plain 1.
        if _was_broken_pipe(end):
            return failures.BROKEN_PIPE
        # Typer wrote it on stderr; whoever asked for one document reads stdout.
        failure = failures.usage(end.__context__)
        if failure is not None and "--json" in words:
            render.print_document(render.failure_document(failure))
    sys.stdout.flush()
    return code


def _was_broken_pipe(end: SystemExit) -> bool:
    cause = end.__context__
    return isinstance(cause, OSError) and cause.errno == errno.EPIPE
