"""What a run tells while it goes on: JSON lines, and TensorBoard's files if wanted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from skilldistill.errors import NotInstalled

RECORDS_FILE = "metrics.jsonl"
BOARD_FOLDER = "tensorboard"


class Journal:
    """Appends records to ``metrics.jsonl`` in a directory; a context manager.

    Args:
        directory: where; an older file there is replaced.
        tensorboard: also write event files.

    Raises:
        NotInstalled: TensorBoard is wanted and not installed.
    """

    def __init__(self, directory: Path, *, tensorboard: bool = False) -> None:
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise NotInstalled("TensorBoard", "plots") from error
            self._board = SummaryWriter(str(directory / BOARD_FOLDER))
        self._file = (directory / RECORDS_FILE).open("w", encoding="utf-8")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record, which has a ``kind`` and ``steps``."""
        self._file.write(line(record))
        self._file.flush()
        if self._board is not None:
            for name, value in _numbers(record):
                self._board.add_scalar(f"{record['kind']}/{name}", value, record["steps"])


def line(record: Mapping[str, Any]) -> str:
    """A record as one line of JSON; numbers that are not finite become null."""
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
