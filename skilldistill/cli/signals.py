"""SIGINT and SIGTERM: the first asks working loops to stop, the second ends the program."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from skilldistill.errors import Interrupted, SkillDistillError

_HANDLED = (signal.SIGINT, signal.SIGTERM)


class Stopper:
    """Remembers the signal that asked to stop, and answers loops that ask.

    Until a loop has asked once, nothing would notice a remembered signal: then the first one
    already interrupts. But in the middle of an import that would come out as another error, be
    lost, or abort the process: there the first one is left to what follows, which asks or is short,
    and the second ends the process.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._watched = False
        self._received = 0

    def stop(self) -> int:
        """The :data:`~skilldistill.progress.StopCheck` that loops are given."""
        self._watched = True
        return self.signum

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """For a question to the user: a signal before or meanwhile interrupts at once."""
        if self.signum:
            raise _interrupted(self.signum)
        watched, self._watched = self._watched, False
        try:
            yield
        finally:
            self._watched = watched

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals inside the block; restores what was there before."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python delivers signals to the main thread only
            return
        before = {signum: signal.signal(signum, self._handle) for signum in _HANDLED}
        hook, sys.unraisablehook = sys.unraisablehook, _without_interruptions(sys.unraisablehook)
        try:
            yield
        finally:
            sys.unraisablehook = hook
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self._received += 1
        self.signum = self.signum or signum
        importing = _importing(frame)
        if self._received > (1 if importing else 2):
            os._exit(128 + signum)  # an import, or a clean-up that hangs, swallows interruptions
        if self._received == 2 or not (self._watched or importing):
            raise _interrupted(signum)

    def meaning(self, error: BaseException) -> BaseException:
        """What an error is to be called: after a second signal, whatever it led to is its doing."""
        if self._received < 2 or isinstance(error, SkillDistillError):
            return error
        interrupted = _interrupted(self.signum)
        interrupted.__cause__ = error
        return interrupted


def _interrupted(signum: int) -> Interrupted:
    return Interrupted(f"stopped by {signal.Signals(signum).name}", signum=signum)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _without_interruptions(hook: Callable[[Any], object]) -> Callable[[Any], object]:
    """A hook for exceptions that Python swallows, silent about ours: the signal is remembered."""

    def tell(swallowed: Any) -> None:
        if not isinstance(swallowed.exc_value, Interrupted):
            hook(swallowed)

    return tell
