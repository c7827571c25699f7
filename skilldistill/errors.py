"""Every error skilldistill raises: what happened, what to do next, and the exit code.

``cli`` turns each class into its documented exit code; nothing below it prints or exits.
"""

from __future__ import annotations

import reprlib


class _Brief(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Beyond 4,300 digits Python refuses to write a number out.
        return super().repr_int(x, level) if x.bit_length() < 10_000 else "a huge number"


_BRIEF = _Brief()
_BRIEF.maxlevel = 3
_BRIEF.maxdict = _BRIEF.maxlist = _BRIEF.maxtuple = 8
_BRIEF.maxstring = _BRIEF.maxlong = _BRIEF.maxother = 80


def excerpt(value: object, limit: int = 100) -> str:
    """Something a stranger wrote, fit for a message: printable and at most ``limit`` long.

    Args:
        value: text, or a plain value (numbers, lists, tuples, dictionaries) to be described.
        limit: characters.
    """
    text = value if isinstance(value, str) else _BRIEF.repr(value)
    # Cut first: a megabyte is not worth looking through.
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:limit])
    return shown if len(text) <= limit else shown[:-1] + "…"


class SkillDistillError(Exception):
    """Something expected went wrong.

    Args:
        message: what happened, and where.
        hint: the next command to run, or the setting to change; empty if there is none.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigurationError(SkillDistillError, ValueError):
    """A flag, setting, or argument that cannot be used."""

    exit_code = 2


class NotInstalled(ConfigurationError):
    """An optional package that is needed and not there.

    Args:
        package: what is missing.
        extra: the extra of skilldistill that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", hint=f"pip install 'skilldistill[{extra}]'")


class ActionError(SkillDistillError, ValueError):
    """An action of the wrong shape, not finite, or out of range."""

    exit_code = 2


class DomainFailed(SkillDistillError):
    """A domain's own code raised, or handed out what it must not.

    Where it raised, that exception is the cause.
    """


class CorruptFile(SkillDistillError):
    """A file whose content is damaged, or not what it claims to be."""

    exit_code = 3


class NewerFormat(CorruptFile):
    """A file in a format that only a later skilldistill reads."""


class VerificationFailed(SkillDistillError):
    """The workspace does not match its manifest."""

    exit_code = 3


class UnsafeFile(CorruptFile):
    """A file from outside that is refused because reading it could do harm."""


class UnsupportedExpert(CorruptFile):
    """A policy file that is sound, but that cannot be rebuilt as plain layers."""


class BeyondTrust(UnsupportedExpert):
    """A policy file that would be no plain layers either if the code in it were run."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message, hint=f"--trust-pickle cannot help: {hint}")


class SpaceMismatch(UnsupportedExpert):
    """A sound policy file, but for other observations or actions than the skill's."""


class NotFound(SkillDistillError, LookupError):
    """A workspace, artefact, or file that is not there."""

    exit_code = 4


class Locked(SkillDistillError):
    """Another process holds the workspace's lock."""

    exit_code = 5


class DiskProblem(SkillDistillError, OSError):
    """The disk is full, or reading or writing failed."""

    exit_code = 6


class Interrupted(SkillDistillError):
    """The user or the system asked the work to stop; what could be saved was saved.

    Args:
        signum: the signal that asked (2 for SIGINT, 15 for SIGTERM).
    """

    def __init__(self, message: str, *, signum: int = 2, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.signum = signum

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """128 plus the signal number, as shells report it."""
        return 128 + self.signum
