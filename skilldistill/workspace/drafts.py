"""Unpublished work: drafts that become artefacts, and partial work that outlives its process.

Both are known by the beginning of their name, and guarded by a lock file beside them that a
living process holds: that tells them from what a killed one left.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skilldistill.errors import ConfigurationError, CorruptFile, UnsafeFile
from skilldistill.workspace import manifest as manifests
from skilldistill.workspace.files import (
    acquire,
    delete,
    digest,
    disk,
    lock_file,
    plain_files,
    replace_file,
    sync_directory,
    tidy,
)
from skilldistill.workspace.manifest import STATUSES, Artefact, FileEntry

if TYPE_CHECKING:
    from filelock import BaseFileLock

DRAFT = ".draft-"
PARTIAL = ".partial-"
BEGINNING = "beginning.json"
"""In a directory of partial work: how things stood when it was last taken up."""

held: dict[Path, BaseFileLock] = {}
"""Locks of the partial work this process has taken up, by the work's directory."""


class Draft:
    """An artefact that is being written, at :attr:`path`, seen by nobody else."""

    def __init__(
        self, publish: Callable[[Draft, Artefact], Artefact], kind: str, name: str, path: Path
    ) -> None:
        self._publish = publish
        self.kind = kind
        self.name = name
        self.path = path
        """A file still to be made, ending in ``.h5``, for datasets; else an empty directory."""
        self._published = False

    def commit(
        self,
        *,
        command: str,
        config: Mapping[str, Any],
        seed: int,
        parents: Sequence[str] = (),
        metrics: Mapping[str, Any] | None = None,
        status: str = "complete",
        check: Callable[[Path], object] | None = None,
    ) -> Artefact:
        """Publish what was written. All files must be closed.

        Args:
            command: the command line that made it.
            config: the settings that made it.
            seed: the seed that made it.
            parents: ids of the artefacts it was made from.
            metrics: figures about it; numbers that are not finite become None.
            status: ``complete`` or ``interrupted``.
            check: reads the closed draft at its path once more and raises if it is not sound.

        Raises:
            ConfigurationError: an unknown status, or committed before.
            CorruptFile: nothing was written.
            UnsafeFile: a link or something else that is no plain file lies among the files.
            Locked: another process's commit did not end in time.
            DiskProblem: the disk is full or fails.
        """
        if status not in STATUSES:
            raise ConfigurationError(f"no status {status!r}; choose from {', '.join(STATUSES)}")
        if self._published:
            raise ConfigurationError(
                f"this draft of {self.kind} {self.name!r} was committed before"
            )
        if isinstance(parents, str):
            raise ConfigurationError("parents is one text; a list of ids is needed")
        with disk(self.path):
            files = _seal(self.path)
        if check is not None:
            check(self.path)
        artefact = self._publish(
            self,
            Artefact(
                id="",
                kind=self.kind,
                name=self.name,
                version=0,
                files=files,
                created="",
                command=command,
                config=manifests.plain(config),
                seed=int(seed),
                parents=tuple(parents),
                metrics=manifests.plain(metrics or {}),
                status=status,
            ),
        )
        self._published = True
        return artefact


@dataclass(frozen=True)
class Beginning:
    """What tells whether partial work was overtaken, whatever became of the clock since."""

    version: int
    """Highest that artefacts of its kind and name had when it was last taken up."""
    settings: Mapping[str, Any]
    """The command's, as far as they decide what comes of it."""

    def write(self, path: Path) -> None:
        """Note it in the directory of the work.

        Raises:
            DiskProblem: the disk is full or fails.
        """
        content = {"version": self.version, "settings": manifests.plain(self.settings)}
        replace_file(path / BEGINNING, json.dumps(content, indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> Beginning | None:
        """What the directory notes; None if it was begun by a skilldistill that noted nothing."""
        try:
            content = json.loads((path / BEGINNING).read_bytes())
            return cls(int(content["version"]), dict(content["settings"]))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, KeyError, TypeError, ValueError):  # damaged: let nothing overtake it
            return cls(manifests.MAX_COUNT, {})

    def overtaken_by(self, artefact: Artefact) -> bool:
        """Whether an artefact of its kind and name was finished by the same command since.

        One of other settings overtakes nothing: ``--resume`` can still take the work up.
        """
        return (
            artefact.status == "complete"
            and artefact.version > self.version
            and artefact.records(self.settings)
        )


def claim(path: Path) -> BaseFileLock:
    """Lock the lock file of a draft or partial work, making the folder it lies in."""
    while True:
        # Another process may remove the folder while it is empty, or the lock file while nobody
        # holds it. Once both are ours, neither can go.
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = acquire(lock_file(path))
        except FileNotFoundError:
            continue
        except FileExistsError:  # so does Python call a folder that went while it looked
            if path.parent.is_dir() or not os.path.lexists(path.parent):
                continue
            raise
        if lock_file(path).exists():
            return lock
        lock.release()


def give_back(path: Path, lock: BaseFileLock | None) -> None:
    """Remove the lock file that :func:`claim` made, and let go of it."""
    with contextlib.suppress(OSError):
        lock_file(path).unlink(missing_ok=True)
    if lock is not None:
        lock.release()


def unclaim(path: Path, lock: BaseFileLock | None) -> None:
    """Give a lock file back and remove it, and the folder if nothing else is in it."""
    give_back(path, lock)
    tidy(path.parent)


def discard(path: Path) -> None:
    """Delete partial work. What a kill in the middle of it leaves is a draft that never was.

    Raises:
        OSError: something could not be deleted.
    """
    with contextlib.suppress(FileNotFoundError):
        doomed = path.rename(path.with_name(f"{DRAFT}{os.urandom(6).hex()}"))
        delete(doomed)


def held_here(path: Path) -> bool:
    """Whether this process has taken up the partial work at ``path``."""
    return path in held


def _seal(path: Path) -> tuple[FileEntry, ...]:
    """Sync the files of a draft, reopen them, and list them relative to it ("" for a file)."""
    if not path.exists() or not (files := plain_files(path)):
        raise CorruptFile(f"nothing was written to {path}")
    entries = []
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    for directory in sorted({file.parent for file in files}):
        sync_directory(directory)
    for file in files:
        relative = file.relative_to(path).as_posix() if file != path else ""
        try:
            relative = manifests.check_path(relative) if relative else ""
        except ValueError as error:
            raise UnsafeFile(f"{path}: {error}") from None
        entries.append(FileEntry(relative, digest(file), file.stat().st_size))
    return tuple(entries)
