"""What went wrong, as the user hears it: message, next command, exit code."""

from __future__ import annotations

import datetime
import errno
import os
import re
import signal
import traceback
from dataclasses import dataclass
from pathlib import Path

from skilldistill.errors import ConfigurationError, DiskProblem, DomainFailed, SkillDistillError
from skilldistill.workspace.files import NO_SPACE

BROKEN_PIPE = 141
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


@dataclass(frozen=True)
class Failure:
    """One error, ready to be printed."""

    kind: str
    """Class of the error, e.g. ``"NotFound"``."""
    message: str
    hint: str
    exit_code: int
    log: str = ""
    """File with the traceback of an error nobody expected, or of a domain's; empty otherwise."""


def describe(error: BaseException) -> Failure:
    """Turn an exception into what the user should read, writing a log for the unexpected."""
    if isinstance(error, DomainFailed) and error.__cause__ is not None:
        return _logged(error, error.message)
    if isinstance(error, SkillDistillError):
        return Failure(type(error).__name__, error.message, error.hint, error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return Failure("Interrupted", "interrupted", "", 128 + signal.SIGINT)
    if _is_memory(error):
        return Failure(
            "OutOfMemory",
            f"out of memory: {_first_line(error)}",
            "make the work smaller: lower --batch-size, --hidden-dim, --envs or --episodes",
            1,
        )
    if isinstance(error, OSError) and (number := _number(error)):
        return _disk(error, number)
    return _logged(error, f"unexpected {type(error).__name__}: {_first_line(error)}")


def _logged(error: BaseException, message: str) -> Failure:
    """An error whose traceback somebody will want."""
    log = write_log(error)
    return Failure(
        type(error).__name__,
        message,
        f"the traceback is in {log}; run again with --debug to see it here",
        1,
        str(log),
    )


def usage(error: BaseException | None) -> Failure | None:
    """What Typer found wrong with a command line; None if the error is another one.

    Args:
        error: the exception because of which Typer ended the process.
    """
    # Typer has no public name for these errors; what they have in common is how they are worded.
    worded = getattr(error, "format_message", None)
    if error is None or worded is None:
        return None
    path = getattr(getattr(error, "ctx", None), "command_path", "skilldistill")
    # This one's message is the whole help, which it printed for want of a command.
    message = "Missing command." if type(error).__name__ == "NoArgsIsHelpError" else worded()
    code: int = getattr(error, "exit_code", ConfigurationError.exit_code)
    return Failure("UsageError", message, f"`{path} --help` says what it takes", code)


def write_log(error: BaseException) -> Path:
    """Write the traceback to a new file in the user's log folder and return its path."""
    import tempfile

    import platformdirs

    name = f"error-{datetime.datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
    text = "".join(traceback.format_exception(error))
    for folder in (platformdirs.user_log_path("skilldistill"), Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue  # a read-only home must not hide the error itself
        return folder / name
    return Path(os.devnull)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _is_memory(error: BaseException) -> bool:
    # torch reports a failed allocation as a RuntimeError with one of these phrases.
    words = str(error).lower() if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or any(phrase in words for phrase in _OUT_OF_MEMORY)


def _number(error: OSError) -> int | None:
    """The system's number of an error, which HDF5 passes on in its text only."""
    found = re.search(r"\berrno = (\d+),", str(error))
    return error.errno or (int(found[1]) if found else None)


def _disk(error: OSError, number: int) -> Failure:
    where = f" for {error.filename}" if error.filename else ""
    what, hint = _first_line(error), ""
    if number in NO_SPACE:
        what = f"no space left on the disk{where}"
        hint = (
            "free some space (`skilldistill gc` removes leftovers, `skilldistill rm` what you "
            "name), then run the command again"
        )
    elif number == errno.EFBIG:
        what = f"a file grew larger than it may be here{where}"
        hint = "raise the limit (`ulimit -f`), or work on another disk"
    return Failure(type(error).__name__, what, hint, DiskProblem.exit_code)
