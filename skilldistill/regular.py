"""Open files that somebody else named or made: regular ones, and nothing else.

A pipe would wait for ever, ``/dev/zero`` never ends, and opening some devices does something.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from skilldistill.errors import CorruptFile, NotFound

_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# Opening a pipe that nobody writes to must not wait.
_FLAGS |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_NO_FILE = (errno.ENOENT, errno.ENOTDIR)
_NOT_REGULAR = (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.EOPNOTSUPP)
"""What opening a circle of links, a socket, or an absent device fails with."""
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path, *, hint: str = "") -> BinaryIO:
    """Open a regular file for reading; links to one are followed.

    Args:
        path: the file.
        hint: what to do if it is not there.

    Raises:
        NotFound: there is nothing of that name.
        CorruptFile: a directory, pipe, socket, device, or circle of links.
        OSError: whatever else the system says, such as a lack of permission.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise NotFound(f"no file {path}", hint=hint) from error
        if error.errno in _NOT_REGULAR:
            raise CorruptFile(f"{path} is no regular file: {error.strerror}") from error
        raise
    try:
        # Of what is open, not of the name, which may mean something else by now.
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "something special")
            raise CorruptFile(f"{path} is {kind}, not a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, limit: int, *, hint: str = "") -> bytes:
    """All bytes of a regular file.

    Raises:
        NotFound, CorruptFile, OSError: as :func:`open_regular`.
        CorruptFile: more than ``limit`` bytes.
    """
    with open_regular(path, hint=hint) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise CorruptFile(f"{path} has more than the {limit} bytes allowed")
    return data
