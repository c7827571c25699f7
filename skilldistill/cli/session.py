"""What one invocation knows: its flags, its settings, its workspace, and how it ends."""

from __future__ import annotations

import os
import re
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from skilldistill.cli import advice, failures, live, render
from skilldistill.cli.signals import Stopper
from skilldistill.errors import ConfigurationError, NotFound, SkillDistillError
from skilldistill.settings import FLAG_ORIGIN, Settings

if TYPE_CHECKING:
    from skilldistill.workspace.store import Workspace


@dataclass(frozen=True)
class RootFlags:
    """What was given before the command's name; the command's own flags win."""

    argv: tuple[str, ...] = ()
    workspace: Path | None = None
    as_json: bool = False
    quiet: bool = False
    debug: bool = False


@dataclass
class Session:
    """One invocation of one command."""

    command_line: str
    workspace_flag: Path | None = None
    as_json: bool = False
    quiet: bool = False
    debug: bool = False
    dry_run: bool = False
    domain: str = ""
    """The domain in force; empty for a command that takes none, or before it is known."""
    stopper: Stopper = field(default_factory=Stopper)
    watcher: live.Watcher = field(default_factory=live.Watcher)
    printed: bool = False
    """Whether the one JSON document is out."""

    @classmethod
    def begin(
        cls,
        ctx: typer.Context,
        *,
        workspace: Path | None,
        as_json: bool,
        quiet: bool,
        debug: bool,
        dry_run: bool = False,
    ) -> Session:
        """Join the command's flags with those before the command's name."""
        root = ctx.find_object(RootFlags) or RootFlags()
        words = shlex.join(["skilldistill", *root.argv]) if root.argv else ctx.command_path
        return cls(
            command_line=words,
            workspace_flag=workspace or root.workspace,
            as_json=as_json or root.as_json,
            quiet=quiet or root.quiet,
            debug=debug or root.debug,
            dry_run=dry_run,
        )

    @cached_property
    def settings(self) -> Settings:
        """The layers below the flags, read once."""
        return Settings.load()

    @property
    def workspace_setting(self) -> tuple[Path | None, str]:
        """The workspace that a flag or a setting names (None leaves it to be found), and which."""
        if self.workspace_flag is not None:
            return self.workspace_flag, FLAG_ORIGIN
        return self.settings.workspace()

    @property
    def workspace_path(self) -> Path | None:
        """The workspace that a flag or a setting names; None leaves it to be found."""
        return self.workspace_setting[0]

    def workspace(self, *, create: bool = False) -> Workspace:
        """Open the workspace; ``create`` makes one where there is none."""
        from skilldistill.workspace.store import Workspace

        if create:
            return Workspace.open_or_create(self.workspace_path)
        return Workspace.open(self.workspace_path)

    def existing_workspace(self) -> Workspace | None:
        """The workspace, or None where there is none yet; never creates one."""
        try:
            return self.workspace()
        except NotFound:
            return None

    def stage(self, name: str, config: Any, *, create: bool = False, **further: Any) -> Any:
        """Run one stage function on the workspace, show its result, and return it.

        Before a workspace is made, the stage is planned: what is refused leaves nothing behind.
        Where a stage's module has a function ``prepare``, that is called with the configuration
        instead; what it returns are further keyword arguments of the stage.

        Args:
            name: the name of the function in ``stages``.
            config: what it takes.
            create: whether a workspace is made where there is none.
            further: keyword arguments of that one stage.
        """
        if self.dry_run and not hasattr(config, "dry_run"):
            from skilldistill.stages.plan import plan

            planned = plan(name, config, self.existing_workspace(), self.workspace_path)
            self.show(planned)
            return planned
        from skilldistill import stages  # what a stage needs (torch, h5py) loads here

        function = getattr(stages, name)
        prepare = getattr(sys.modules.get(function.__module__), "prepare", None)
        with live.watching(enabled=not self.quiet) as self.watcher:
            if prepare is not None:
                further |= prepare(config)
            elif create and self.existing_workspace() is None:
                from skilldistill.stages.plan import plan

                plan(name, config, None, self.workspace_path)  # refuses what cannot be done
            workspace = self.workspace(create=create)
            result = function(
                workspace,
                config,
                progress=self.watcher,
                stop=self.stopper.stop,
                command=self.command_line,
                **further,
            )
        self.show(result)
        return result

    def show(self, result: Any) -> None:
        """Print a result: JSON on stdout, or text for people."""
        if self.as_json:
            content = render.document(result)
            self.printed = True  # also if that fails: a second attempt would, too
            render.print_document(content)
        elif not self.quiet or render.answers(result):
            render.show(result)

    def completed(self, text: str) -> str:
        """A text whose commands, between backticks, stay in this domain and workspace."""
        place = self.workspace_flag
        try:
            return advice.completed(
                text,
                self.settings,
                domain=self.domain,
                workspace=str(place.expanduser().absolute()) if place else "",
            )
        except (SkillDistillError, OSError):  # the settings, or where we are, cannot be read
            return text

    def ask(self, question: str) -> bool:
        """Ask a yes-or-no question on stderr; yes is the default."""
        with self.watcher.paused(), self.stopper.unwatched():
            return typer.confirm(question, default=True, err=True)

    @property
    def interactive(self) -> bool:
        """Whether a person is there to answer."""
        return sys.stdin.isatty() and sys.stderr.isatty() and not self.as_json


@contextmanager
def boundary(session: Session) -> Iterator[None]:
    """Turn whatever ends a command into a message and an exit code.

    Raises:
        typer.Exit: with the documented code, unless everything went well.
    """
    try:
        with session.stopper.installed():
            yield
            sys.stdout.flush()
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except BrokenPipeError as error:
        silence_stdout()
        raise typer.Exit(failures.BROKEN_PIPE) from error
    except (Exception, KeyboardInterrupt) as error:
        raise typer.Exit(_report(session, session.stopper.meaning(error))) from error
    if session.stopper.signum:  # asked to stop when the work was already done
        raise typer.Exit(128 + session.stopper.signum)


def _report(session: Session, error: BaseException) -> int:
    """Tell what went wrong, and return the exit code."""
    failure = failures.describe(error)
    hint = failure.hint
    if isinstance(error, ConfigurationError | NotFound):
        hint = _with_the_other_domain(session, hint)
    failure = replace(failure, hint=session.completed(hint))
    if session.debug:
        traceback.print_exception(error)
    if session.as_json and not session.printed:  # one document, whatever happens
        render.print_document(render.failure_document(failure))
    render.show_failure(failure)
    if isinstance(error, OSError):
        silence_stdout()  # if it was stdout that failed, Python's last flush would fail again
    return failure.exit_code


def _with_the_other_domain(session: Session, hint: str) -> str:
    """The hint, after the domain of the workspace where that is not the one in force."""
    try:
        workspace = session.existing_workspace() if session.domain else None
        domain = workspace.domain if workspace else ""
    except (SkillDistillError, OSError):
        return hint
    if domain in ("", session.domain):
        return hint
    flag = f"`--domain {shlex.quote(domain)}`"
    if re.findall("`--domain [^`]+`", hint) == [flag]:  # it says so itself
        return hint
    return f"add {flag}, the domain of this workspace" + (f"; else {hint}" if hint else "")


def silence_stdout() -> None:
    """Point stdout at nothing, so that Python's own flush at exit does not fail again."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass  # stdout is no file here (a test, or already closed): nothing to point
