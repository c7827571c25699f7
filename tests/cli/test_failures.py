from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import numpy as np
import pytest

from skilldistill import errors
from skilldistill.cli import failures


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SkillDistillError("x"), 1),
        (errors.ConfigurationError("x"), 2),
        (errors.CorruptFile("x"), 3),
        (errors.VerificationFailed("x"), 3),
        (errors.UnsafeFile("x"), 3),
        (errors.NotFound("x"), 4),
        (errors.Locked("x"), 5),
        (errors.DiskProblem("x"), 6),
        (errors.Interrupted("x", signum=2), 130),
        (errors.Interrupted("x", signum=15), 143),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), 6),
        (OSError("Can't write data (errno = 28, error message = 'No space left')"), 6),
        (OSError(errno.EFBIG, "File too large"), 6),
        (OSError("Can't write data (errno = 27, error message = 'File too large')"), 6),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), 6),
        (MemoryError(), 1),
        (ValueError("surprise"), 1),
    ],
    ids=lambda value: value if isinstance(value, int) else type(value).__name__,
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert failures.describe(error).exit_code == code


def test_what_where_and_next_come_from_the_error() -> None:
    found = failures.describe(errors.NotFound("no dataset 'x' in ws", hint="run `collect`"))
    assert (found.kind, found.message, found.hint, found.log) == (
        "NotFound",
        "no dataset 'x' in ws",
        "run `collect`",
        "",
    )


def test_a_full_disk_names_the_file_and_what_frees_space() -> None:
    found = failures.describe(OSError(errno.ENOSPC, "No space left on device", "/data/x.h5"))
    assert "no space left on the disk" in found.message
    assert "/data/x.h5" in found.message
    assert "skilldistill gc" in found.hint
    assert "skilldistill rm" in found.hint


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EFBIG, "File too large", "/data/x.h5"),
        OSError("Can't write data (errno = 27, error message = 'File too large')"),
    ],
)
def test_a_file_beyond_the_limit_is_told_with_what_raises_the_limit(error: OSError) -> None:
    found = failures.describe(error)
    assert "grew larger than it may be" in found.message
    assert (error.filename or "") in found.message
    assert "ulimit -f" in found.hint


def test_only_what_typer_says_of_a_command_line_is_a_usage_error() -> None:
    import typer

    found = failures.usage(typer.BadParameter("no number"))
    assert found is not None
    assert (found.kind, found.message, found.exit_code) == (
        "UsageError",
        "Invalid value: no number",
        2,
    )
    for other in (None, typer.Exit(2), typer.Abort(), OSError(errno.EPIPE, "gone")):
        assert failures.usage(other) is None


def test_out_of_memory_says_what_to_lower() -> None:
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 47)
    found = failures.describe(caught.value)
    assert found.message.startswith("out of memory: Unable to allocate")
    assert "--batch-size" in found.hint
    torch_says = "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"
    assert failures.describe(RuntimeError(torch_says)).kind == "OutOfMemory"


def test_a_surprise_about_a_path_that_is_not_utf_8_is_logged_like_any_other(home: Path) -> None:
    log = Path(failures.describe(ValueError("odd\udcff")).log)
    assert log.is_relative_to(home)
    assert "ValueError: odd\\udcff" in log.read_text("utf-8")


def test_a_surprise_leaves_its_traceback_in_a_log(home: Path) -> None:
    try:
        raise ValueError("surprise\nsecond line")
    except ValueError as error:
        found = failures.describe(error)
    assert found.message == "unexpected ValueError: surprise"
    assert found.log in found.hint
    log = Path(found.log)
    assert log.is_relative_to(home)
    assert "Traceback (most recent call last)" in log.read_text()


def test_a_home_that_cannot_be_written_does_not_hide_the_error(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = home / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert Path(failures.describe(ValueError("x")).log).parent == tmp_path
