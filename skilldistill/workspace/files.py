"""Files and locks: durable, deletable, hashable, with the system's errors in our words."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from skilldistill.errors import DiskProblem, Locked, SkillDistillError, UnsafeFile

if TYPE_CHECKING:
    from filelock import BaseFileLock

_ASIDE = re.compile(r"\.(.+)\.[0-9a-f]{8}", re.DOTALL)
"""What :func:`aside` calls a file."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
DISK = (*NO_SPACE, errno.EFBIG, errno.EIO, errno.EROFS)


def sync_directory(path: Path) -> None:
    """Make renames and new names in a directory survive a power cut, where the system can."""
    with contextlib.suppress(PermissionError):  # Windows opens no directories
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: aside, synced, then renamed.

    Raises:
        DiskProblem: the disk is full or fails; what was there before is untouched.
    """
    temporary = aside(path)
    with disk(path):
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)


def aside(path: Path) -> Path:
    """A new name beside a file's, to write it under until it is whole."""
    return path.with_name(f".{path.name}.{os.urandom(4).hex()}")


def remove_asides(folder: Path, names: Container[str] | None = None) -> None:
    """Delete the half-written files that killed processes left in a folder.

    Args:
        folder: where nobody else may be writing.
        names: of the files that were to be written; None for any.

    Raises:
        OSError: one could not be deleted.
    """
    for path in list(folder.iterdir()):
        found = _ASIDE.fullmatch(path.name)
        if found and (names is None or found[1] in names):
            path.unlink(missing_ok=True)


def acquire(path: Path, timeout: float = 0.0) -> BaseFileLock:
    """Take a lock file's lock; leaving it as a context, or ``release``, gives it back.

    Raises:
        Locked: another process holds it for longer than ``timeout`` seconds.
    """
    from filelock import FileLock, Timeout  # 30 ms that commands which only read need not pay

    lock = FileLock(path, timeout=timeout, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise Locked(
            f"another process holds {path} for more than {timeout:g} s",
            hint="wait until its command has ended, then run this one again",
        ) from None
    return lock


def lock_file(path: Path) -> Path:
    """The file whose lock says that a draft or partial work is being worked on.

    It is shared by all names with the same first part: ``.draft-1f`` guards ``.draft-1f.h5`` and
    whatever a writer puts beside that.
    """
    return path.with_name(f".{path.name[1:].partition('.')[0]}.lock")


def delete(path: Path) -> None:
    """Delete a file, a link, or a directory with all it holds, whichever is there.

    Raises:
        OSError: something could not be deleted.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(FileNotFoundError):  # another process may delete the same
        shutil.rmtree(path)


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain_files(path: Path) -> list[Path]:
    """The files of an artefact at ``path``, sorted: itself, or all in and below the directory.

    Raises:
        UnsafeFile: something there is neither a plain file nor a directory.
    """
    if path.is_symlink() or not path.is_dir():
        if not stat.S_ISREG(path.lstat().st_mode):
            raise UnsafeFile(f"{path} is no plain file")
        return [path]
    return [file for entry in sorted(path.iterdir()) for file in plain_files(entry)]


def tidy(folder: Path) -> None:
    """Remove the folder of an artefact's name, and that of its kind, if they are empty."""
    for empty in (folder, folder.parent):
        with contextlib.suppress(OSError):
            empty.rmdir()


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """Translate the system's errors about files into ours."""
    try:
        yield
    except SkillDistillError:
        raise
    except OSError as error:
        raise disk_problem(error, path) from error


def disk_problem(error: OSError, path: Path) -> DiskProblem:
    """What to raise for the system's error about ``path``, or the file the error names."""
    where = error.filename or path
    if error.errno in NO_SPACE:
        return DiskProblem(
            f"the disk is full: {where}",
            hint="free space: `skilldistill gc` removes leftovers, `skilldistill rm` what you name",
        )
    if error.errno == errno.EFBIG:
        return DiskProblem(
            f"{where} grew larger than a file may be here",
            hint="raise the limit (`ulimit -f`), or work on another disk",
        )
    reason = error.strerror or str(error)
    return DiskProblem(f"{where}: {reason}", hint="check the disk and the permissions there")
