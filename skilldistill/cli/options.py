"""Flags made from the configuration dataclasses, so that every default is written once.

:func:`flags_from` turns ``def collect(session, config)`` into a function that Typer reads like any
other: it gets the fields of the dataclass as flags, the flags every command has, and whatever
further parameters the function declares itself.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from skilldistill.cli.session import Session, boundary
from skilldistill.config import MAX_SEED
from skilldistill.settings import COMMON, Setting, settings_of

PANEL = "Every command"


def directory(text: str) -> Path:
    """The directory that a word on the command line names.

    Raises:
        typer.BadParameter: the word is empty, as an unset variable of a script leaves it:
            the current directory is the last place that such a script means.
    """
    if not text:
        raise typer.BadParameter("an empty path names no directory; write . for the current one")
    return Path(text)


WorkspaceFlag = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        parser=directory,
        metavar="<directory>",
        help="directory of the workspace; default: found upward from here, else ./workspace",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
JsonFlag = Annotated[
    bool,
    typer.Option("--json", help="print one JSON document on stdout", rich_help_panel=PANEL),
]
QuietFlag = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="print errors only", rich_help_panel=PANEL),
]
DebugFlag = Annotated[
    bool,
    typer.Option("--debug", help="show the traceback of an error", rich_help_panel=PANEL),
]
DryRunFlag = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="say what would be read and written, with which settings, and stop",
        rich_help_panel=PANEL,
    ),
]

SeedFlag = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        max=MAX_SEED,
        help="taken everywhere, so that a script can give it; nothing is drawn here",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]

_COMMON = {
    "workspace": WorkspaceFlag,
    "as_json": JsonFlag,
    "quiet": QuietFlag,
    "debug": DebugFlag,
}

Command = Callable[..., None]


def flags_from(
    config: type[Any] | None = None,
    *,
    writes: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> Callable[[Command], Command]:
    """Give a command its flags, its session, and the error boundary.

    The decorated function takes ``session`` first, then ``config`` if ``config`` is given, then
    its own parameters by name.

    Args:
        config: dataclass whose settings become flags; the built object is passed on.
        writes: whether the command writes, and so has ``--dry-run``. Where the dataclass has a
            field ``dry_run``, the stage itself says what it would do. Where it has a field
            ``steps``, that gets what settings say of the commands that this one calls.
        arguments: annotations of the fields that are positional arguments; those that end in
            ``| None`` may be left out.
    """
    settings = [s for s in settings_of(config) if s.field != "dry_run"] if config else []
    settings.sort(key=lambda setting: setting in COMMON)  # the command's own first
    names = {f.name for f in fields(config)} if config else set()
    common = dict(_COMMON, **({"dry_run": DryRunFlag} if writes else {}))
    idle = {} if "seed" in names else {"seed": SeedFlag}
    positional = dict(arguments or {})

    def decorate(function: Command) -> Command:
        def command(ctx: typer.Context, **given: Any) -> None:
            session = Session.begin(ctx, **{name: given.pop(name) for name in common})
            for name in idle:
                given.pop(name)
            with boundary(session):
                if config is None:
                    function(session, **given)
                    return
                flags = {setting.field: given.pop(setting.field) for setting in settings}
                values = {name: given.pop(name) for name in positional}
                further = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
                further = {name: value for name, value in further.items() if value is not None}
                if "dry_run" in names:
                    further["dry_run"] = session.dry_run
                if "steps" in names:
                    further["steps"] = session.settings.steps(flags)
                built = session.settings.config(config, flags, **further)
                session.domain = getattr(built, "domain", "")
                function(session, built, **given)

        parameters = [
            _parameter("ctx", typer.Context),
            *(_positional(name, annotation) for name, annotation in positional.items()),
            *_own_parameters(function, skip=1 if config is None else 2),
            *(_parameter(setting.field, _flag(setting), None) for setting in settings),
            *(
                _parameter(name, flag, None if name == "workspace" else False)
                for name, flag in common.items()
            ),
            *(_parameter(name, flag, None) for name, flag in idle.items()),
        ]
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _own_parameters(function: Command, skip: int) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    return [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
        for parameter in parameters
    ]


def _parameter(
    name: str, annotation: Any, default: Any = inspect.Parameter.empty
) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _positional(name: str, annotation: Any) -> inspect.Parameter:
    optional = type(None) in typing.get_args(typing.get_args(annotation)[0])
    return _parameter(name, annotation, None if optional else inspect.Parameter.empty)


def _flag(setting: Setting) -> Any:
    """The Typer option of one setting; None means that the flag was not given."""
    words = [setting.flag]
    if setting.type is bool:
        words = [f"{setting.flag}/--no-{setting.flag[2:]}"]
    if setting.short:
        words.append(f"-{setting.short}")
    choices = [choice for choice in setting.choices if choice]
    return Annotated[
        setting.type | None,
        typer.Option(
            *words,
            help=_help(setting),
            show_default=False,  # None: the flag was not given
            metavar="|".join(choices) if choices else None,
            autocompletion=(lambda: choices) if choices else None,
        ),
    ]


def _help(setting: Setting) -> str:
    """The setting's line in ``--help``: what it is, its range, its default."""
    notes = []
    if setting.allowed and not setting.choices and setting.allowed not in ("at least 0", _POSITIVE):
        notes.append(setting.allowed)
    if isinstance(setting.default, bool):
        notes.append(f"default {'on' if setting.default else 'off'}")
    elif setting.default != "":
        value = setting.default
        notes.append(f"default {value:g}" if isinstance(value, float) else f"default {value}")
    return setting.help + (f" ({'; '.join(notes)})" if notes else "")


_POSITIVE = "at least 1"
"""A range that goes without saying."""
