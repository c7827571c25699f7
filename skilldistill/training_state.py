"""The state of unfinished training on disk: tensors, numbers and text in plain containers."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from skilldistill.errors import CorruptFile

STATE_FILE = "training_state"
TENSORBOARD_FOLDER = "tensorboard"
"""Beside the state, where it is asked for."""

AFRESH = "run without --resume to start afresh"


def packed(state: Mapping[str, Any], *, version: int) -> bytes:
    """The content of a state's file, to be written whole or not at all.

    Args:
        state: nested dictionaries and lists of tensors, numbers, text and None.
        version: of what its maker puts there; :func:`read_state` accepts no other.
    """
    buffer = io.BytesIO()
    torch.save({**state, "version": version}, buffer)
    return buffer.getvalue()


def read_state(path: Path, *, version: int) -> dict[str, Any]:
    """Read what :func:`packed` made, its tensors on the CPU; nothing in it is executed.

    Raises:
        CorruptFile: damaged, or of another version.
    """
    try:
        with zipfile.ZipFile(path) as file:  # torch itself looks at no checksum
            if (damaged := file.testzip()) is not None:
                raise ValueError(f"{damaged} does not match its checksum")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = state.pop("version", None)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CorruptFile(f"{path} cannot be read: {error}", hint=AFRESH) from error
    if found != version:
        raise CorruptFile(
            f"{path} has version {found!r}, this skilldistill reads {version}", hint=AFRESH
        )
    return state


def strange_state(path: Path, error: Exception) -> CorruptFile:
    """What to raise where a whole state holds other things than its reader looks for."""
    return CorruptFile(f"{path} is no state of this run: {error}", hint=AFRESH)


def copied(value: Any) -> Any:
    """Nested dictionaries and lists with their tensors copied to the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value
