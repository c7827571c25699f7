"""What went wrong, as the user hears it: message, next command, exit code."""

from __future__ import annotations

import datetime
import errno
import os
import signal
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

from skilldistill.errors import DiskProblem, SkillDistillError

BROKEN_PIPE = 141
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
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
    """File with the traceback of an error nobody expected; empty otherwise."""


def describe(error: BaseException) -> Failure:
    """Turn an exception into what the user should read, writing a log for the unexpected."""
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
    if isinstance(error, OSError) and (error.errno or _says_disk_full(error)):
        return _disk(error)
    log = write_log(error)
    return Failure(
        type(error).__name__,
        f"unexpected {type(error).__name__}: {_first_line(error)}",
        f"the traceback is in {log}; run again with --debug to see it here",
        1,
        str(log),
    )


def write_log(error: BaseException) -> Path:
    """Write the traceback to a new file in the user's log folder and return its path."""
    import platformdirs

    name = f"error-{datetime.datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
    text = "".join(traceback.format_exception(error))
    for folder in (platformdirs.user_log_path("skilldistill"), Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
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


def _says_disk_full(error: OSError) -> bool:
    # HDF5 passes the operating system's number on in its text only.
    return any(f"errno = {number}," in str(error) for number in _DISK_FULL)


def _disk(error: OSError) -> Failure:
    full = error.errno in _DISK_FULL or _says_disk_full(error)
    what = "no space left on the disk" if full else _first_line(error)
    if full and error.filename:
        what += f" for {error.filename}"
    hint = "free some space (`skilldistill gc` removes leftovers), then run the command again"
    return Failure(type(error).__name__, what, hint if full else "", DiskProblem.exit_code)
