"""The two files of an expert on disk: the card that describes it, and its arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors

from skilldistill.errors import CorruptFile, NotFound, excerpt
from skilldistill.regular import read_regular

FORMAT = "skilldistill.expert"
FORMAT_VERSION = 1
WEIGHTS_FILE = "expert.safetensors"
CARD_FILE = "expert.json"
MAX_WEIGHTS_BYTES = 128 * 2**20
MAX_CARD_BYTES = 4 * 2**20
AGAIN = "add it again with `skilldistill experts add`, or train it with `skilldistill train`"


def canonical(value: Any) -> bytes:
    """The one text that JSON values are hashed by."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        return read_regular(path, limit)
    except NotFound as error:
        raise NotFound(
            f"no expert at {path.parent}: {path.name} is missing",
            hint="list the experts there are with `skilldistill experts ls`",
        ) from error


def _no_constant(name: str) -> None:
    """Refuse ``NaN`` and ``Infinity``, which JSON has not and Python reads."""
    raise ValueError(f"{name} is no number of JSON")


def read_card(path: Path) -> dict[str, Any]:
    """What ``expert.json`` says, as yet unchecked but for its format.

    Raises:
        NotFound: there is no such file.
        CorruptFile: it is no JSON, no card, or of another version.
    """
    content = _read_bytes(path, MAX_CARD_BYTES)
    try:
        card = json.loads(content, parse_constant=_no_constant)
        canonical(card)  # what was read can be written: 1e999 is infinite
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path} is not valid JSON: {error}") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise CorruptFile(f"{path} does not describe an expert (format {FORMAT!r})")
    if card.get("format_version") != FORMAT_VERSION:
        raise CorruptFile(
            f"{path} has format version {excerpt(card.get('format_version'))}, "
            f"this is {FORMAT_VERSION}",
            hint="install the skilldistill that wrote it, or a newer one",
        )
    return card


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of ``expert.safetensors`` by name.

    Raises:
        NotFound: there is no such file.
        CorruptFile: it holds something else.
    """
    try:
        tensors: dict[str, NDArray[Any]] = parse_safetensors(_read_bytes(path, MAX_WEIGHTS_BYTES))
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        reason = excerpt(str(error))
        raise CorruptFile(f"{path} is not a safetensors file of plain arrays: {reason}") from error
    return tensors


def word(card: Mapping[str, Any], field: str) -> str:
    """A name on the card.

    Raises:
        KeyError: the card lacks it.
        ValueError: it is no text, or too long for a name.
    """
    value = card[field]
    if not isinstance(value, str) or value != excerpt(value):
        raise ValueError(f"{field} is no short text")
    return value
