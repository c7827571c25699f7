"""What a run tells while it goes on: JSON lines, and TensorBoard's files if wanted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from skilldistill.errors import NotInstalled
from skilldistill.training_state import TENSORBOARD_FOLDER
from skilldistill.workspace.files import replace_file

RECORDS_FILE = "metrics.jsonl"


class Journal:
    """Appends records to ``metrics.jsonl`` in a directory; a context manager.

    Args:
        directory: where; an older file there is replaced.
        tensorboard: also write event files.

    Raises:
        NotInstalled: TensorBoard is wanted and not installed.
    """

    def __init__(self, directory: Path, *, tensorboard: bool = False) -> None:
        with ExitStack() as stack:
            self._board = stack.enter_context(board(directory)) if tensorboard else None
            file = (directory / RECORDS_FILE).open("w", encoding="utf-8")
            self._file = stack.enter_context(file)
            self._open = stack.pop_all()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record, which has a ``kind`` and ``steps``."""
        self._file.write(_line(record))
        self._file.flush()
        if self._board is not None:
            for name, value in _numbers(record):
                self._board.add_scalar(f"{record['kind']}/{name}", value, record["steps"])


def board(directory: Path) -> AbstractContextManager[Any]:
    """A writer of TensorBoard's files in a folder of ``directory``; leaving it closes them.

    Raises:
        NotInstalled: TensorBoard is not there.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise NotInstalled("TensorBoard", "plots") from error
    writer: AbstractContextManager[Any] = SummaryWriter(str(directory / TENSORBOARD_FOLDER))
    return writer


def write_records(records: Iterable[Mapping[str, Any]], directory: Path) -> None:
    """Write ``metrics.jsonl`` as a whole, or leave what is there.

    Raises:
        DiskProblem: the disk is full or fails.
    """
    lines = "".join(_line(record) for record in records)
    replace_file(directory / RECORDS_FILE, lines.encode())


def _line(record: Mapping[str, Any]) -> str:
    """JSON; numbers that are not finite become null."""
    return json.dumps(_finite(record), allow_nan=False) + "\n"


def _numbers(record: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "steps":
            yield f"{prefix}{name}", float(value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
