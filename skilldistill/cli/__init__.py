"""The command line. :func:`main` is the console script's entry; nothing loads before it runs."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after ``skilldistill``; None takes the process's own, and with it what
            SIGINT and SIGTERM do where no command is at work: end the process without a word.
    """
    if argv is None:
        _end_quietly_when_signalled()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us (`2>&-`)
            setattr(sys, name, io.StringIO())
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and "utf" not in stream.encoding.lower():
            stream.reconfigure(errors="backslashreplace")  # as stderr always does
    collecting = gc.isenabled()
    gc.disable()  # what imports make stays: to look through it again and again frees nothing
    try:
        from skilldistill.cli.app import run
    finally:
        if collecting:
            gc.enable()
    return run(argv)


def _end_quietly_when_signalled() -> None:
    """For the imports before a command and Python's clean-up after it: nothing is lost there."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        # One that our caller had ignored, as for a job in the background, stays ignored.
        if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signum, _end)


def _end(signum: int, frame: FrameType | None) -> None:
    # An exception would be printed, or swallowed by what happens to run just then.
    os._exit(128 + signum)
