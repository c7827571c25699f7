"""Results and errors as text for people, and as one JSON document for programs.

Commands that answer a question (``ls``, ``show``, ``config show``, …, and every ``--dry-run``)
print the answer on stdout. Commands that make something say so on stderr, and leave stdout empty.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from skilldistill.cli.failures import Failure
from skilldistill.workspace.manifest import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ERROR_SCHEMA = "skilldistill.error/1"
_LONGEST = 2000
"""Characters of a failure's message or hint. Whoever quotes a file cuts it short; this is for
what nobody thought of."""
_PLAIN_WIDTH = 10_000
"""Columns where no terminal limits them: a log or a pipe gets whole lines."""

Printer = Callable[["Console", Any], None]


def document(result: Any) -> dict[str, Any]:
    """A stage's result as the JSON document that ``--json`` prints."""
    if hasattr(result, "as_dict"):
        content: dict[str, Any] = plain(result.as_dict())
        return content
    return {"schema": result.schema, **plain(result)}


def failure_document(failure: Failure) -> dict[str, Any]:
    """An error as a JSON document."""
    return {"schema": ERROR_SCHEMA, **asdict(_bounded(failure))}


def print_document(content: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout; what a terminal would obey is written as ``\\u…``."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    print(_harmless(text, lambda character: json.dumps(character)[1:-1]))


def answers(result: Any) -> bool:
    """Whether the result is an answer, which belongs on stdout, even with ``--quiet``."""
    return command_of(result) in _ANSWERS or bool(getattr(result, "dry_run", False))


def command_of(result: Any) -> str:
    """The command in a result's schema, e.g. ``collect`` of ``skilldistill.collect/1``."""
    name: str = result.schema.removeprefix("skilldistill.").partition("/")[0]
    return name


def show(result: Any) -> None:
    """Print a result for people."""
    from skilldistill.cli import results

    console = console_on(sys.stdout if answers(result) else sys.stderr)
    results.PRINTERS[command_of(result)](console, result)


def show_failure(failure: Failure) -> None:
    """Print an error on stderr: what and where, then what to do."""
    failure = _bounded(failure)
    console = console_on(sys.stderr)
    with as_far_as_the_disk_goes():
        console.print(f"[bold red]error:[/] {escaped(failure.message)}", soft_wrap=True)
        if failure.hint:
            console.print(f"[cyan]hint:[/]  {escaped(failure.hint)}", soft_wrap=True)


@contextmanager
def as_far_as_the_disk_goes() -> Iterator[None]:
    """Write what a full disk may cut off: neither work nor an exit code is lost with it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        pass


def console_on(stream: Any) -> Console:
    """A Rich console on a stream; lines are whole where it is no terminal."""
    from rich.console import Console

    console = Console(file=stream, highlight=False)
    if console.is_terminal:
        return console
    return Console(file=stream, highlight=False, width=_PLAIN_WIDTH)


def escaped(text: str) -> str:
    """Text in which square brackets mean themselves and nothing commands the terminal."""
    from rich.markup import escape

    return escape(_harmless(text, lambda character: "\N{REPLACEMENT CHARACTER}"))


def _harmless(text: str, replaced: Callable[[str], str]) -> str:
    """Text with each character but newlines that is not printable replaced."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else replaced(c) for c in text)


def _bounded(failure: Failure) -> Failure:
    """The same with a message and a hint that fit on a screen."""
    return replace(failure, message=_cut(failure.message), hint=_cut(failure.hint))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"


def table(
    columns: Iterable[str], *, right: Iterable[str] = (), folds: Iterable[str] = (), gap: int = 3
) -> Table:
    """A plain table.

    Args:
        columns: their titles.
        right: those that hold numbers.
        folds: those that go on below where the terminal is too narrow; others are cut.
        gap: blanks between columns.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    numbers, folding = set(right), set(folds)
    for column in columns:
        justify = "right" if column in numbers else "left"
        made.add_column(
            column,
            justify=justify,  # type: ignore[arg-type]
            no_wrap=column not in folding,
            overflow="fold" if column in folding else "ellipsis",
        )
    return made


def print_table(console: Console, made: Table) -> None:
    """Print a table without the blanks at the ends of lines that a log does not need."""
    if console.is_terminal:
        console.print(made)
        return
    with console.capture() as capture:
        console.print(made)
    for line in capture.get().splitlines():
        console.print(line.rstrip(), markup=False, soft_wrap=True)


def size(count: float) -> str:
    """A number of bytes for people, e.g. ``1.4 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


_ANSWERS = frozenset({"ls", "show", "config", "doctor", "experts_ls", "plan", "verify"})
