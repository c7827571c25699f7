"""One way to compile the simulator's inner functions.

Why a compiler at all is in ``docs/decisions``: many arenas are limited by memory traffic in
NumPy, and a single arena by the cost of a hundred NumPy calls. Compiled code is kept on disk, so
that only the first run after installation waits.

Numba itself notices a changed function only by the file it stands in, not by the functions and
constants it uses from others. The folder it keeps compiled code in is therefore named after the
content of every file compiled code comes from.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import platformdirs

_KEPT_SECONDS = 24 * 3600
F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile ``function`` on first use; IEEE arithmetic as written, no fast-math.

    Results are therefore the same for any number of arenas. Division by zero gives inf or NaN
    as in NumPy.
    """
    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(_folder(before))
    try:
        compiled = numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    finally:
        settings.CACHE_DIR = before
    return cast(F, compiled)


@cache
def _folder(configured: str) -> Path:
    """Where compiled code of exactly these sources is kept; that of old ones is thrown away."""
    here = Path(__file__).parent
    sources = sorted([*here.rglob("*.py"), here.parent / "randomness.py"])
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    if configured:
        base = Path(configured) / "skilldistill"
    elif os.access(here, os.W_OK):
        base = here / "__pycache__"
    else:
        base = platformdirs.user_cache_path("skilldistill")
    folder = base / f"kernels-{digest[:16]}"
    for other in base.glob("kernels-*"):
        with contextlib.suppress(OSError):  # another process may throw the same one away
            # A recent one may be in use by a process that began before the sources changed.
            if other != folder and time.time() - other.stat().st_mtime > _KEPT_SECONDS:
                shutil.rmtree(other, ignore_errors=True)
    return folder
