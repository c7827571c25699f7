"""The state of an unfinished run on disk: tensors, numbers and text in plain containers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from skilldistill.errors import CorruptFile

STATE_FILE = "training_state"
VERSION = 2

_AFRESH = "run without --resume to start afresh"


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state whole or not at all. Its ``records`` may be any JSON-able list."""
    aside = path.with_name(path.name + ".new")
    plain = {**state, "version": VERSION, "records": json.dumps(state["records"])}
    with aside.open("wb") as file:
        torch.save(plain, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote; nothing in it is executed.

    Raises:
        CorruptFile: damaged, or of another version.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state["records"] = json.loads(state["records"])
    except Exception as error:
        raise CorruptFile(f"{path} cannot be read: {error}", hint=_AFRESH) from error
    if state.get("version") != VERSION:
        raise CorruptFile(
            f"{path} has version {state.get('version')!r}, this skilldistill reads {VERSION}",
            hint=_AFRESH,
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
