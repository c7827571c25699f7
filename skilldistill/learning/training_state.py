"""The state of an unfinished run on disk: tensors, numbers and text in plain containers."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from skilldistill.errors import CorruptFile
from skilldistill.workspace.files import replace_file

STATE_FILE = "training_state"
VERSION = 2

AFRESH = "run without --resume to start afresh"


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state whole or not at all. Its ``records`` may be any JSON-able list.

    Raises:
        DiskProblem: the disk is full or fails.
    """
    plain = {**state, "version": VERSION, "records": json.dumps(state["records"])}
    buffer = io.BytesIO()
    torch.save(plain, buffer)
    replace_file(path, buffer.getvalue())


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote; nothing in it is executed.

    Raises:
        CorruptFile: damaged, or of another version.
    """
    try:
        with zipfile.ZipFile(path) as file:  # torch itself looks at no checksum
            if (damaged := file.testzip()) is not None:
                raise ValueError(f"{damaged} does not match its checksum")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state["records"] = json.loads(state["records"])
    except Exception as error:
        raise CorruptFile(f"{path} cannot be read: {error}", hint=AFRESH) from error
    if state.get("version") != VERSION:
        raise CorruptFile(
            f"{path} has version {state.get('version')!r}, this skilldistill reads {VERSION}",
            hint=AFRESH,
        )
    return state


def copied(value: Any) -> Any:
    """Nested dictionaries and lists with their tensors copied to the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value
