"""A network on disk: weights, architecture, spaces and configuration, saved together.

A checkpoint is a directory with ``policy.safetensors`` (float32 tensors, nothing executable) and
``policy.json``, which says what they are: format, domain, the spaces and heads they were made
for, the configuration and metrics of the run, and the SHA-256 of the weights. Everything is
checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as serialise_tensors

import skilldistill
from skilldistill import domain as domains
from skilldistill.domain import Domain
from skilldistill.errors import CorruptFile, DiskProblem
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.randomness import global_generators_kept
from skilldistill.regular import read_regular
from skilldistill.workspace.manifest import plain

FORMAT = "skilldistill.policy"
MAX_WIDTH = 2**14
FORMAT_VERSION = 1
WEIGHTS = "policy.safetensors"
CARD = "policy.json"
MAX_BYTES = 8 * 2**30
"""Of a file: the widest network that is read has less."""
_ELSEWHERE = (
    "`skilldistill verify` says what is damaged, `skilldistill ls --kind checkpoint` what else "
    "there is"
)


@dataclass
class Checkpoint:
    """A network and what is known of it."""

    network: DistilledPolicyNetwork
    domain: Domain
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the run that made it, as its command's configuration names them."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
    """Of ``policy.safetensors``."""


def weights(network: DistilledPolicyNetwork) -> bytes:
    """Parameters and input scaling as a safetensors file; equal values give equal bytes."""
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    return serialise_tensors(state)


def digest(network: DistilledPolicyNetwork) -> str:
    """SHA-256 of :func:`weights`, in hexadecimal."""
    return hashlib.sha256(weights(network)).hexdigest()


def save(
    directory: Path,
    network: DistilledPolicyNetwork,
    *,
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Write the network into ``directory``, which is created if it is not there.

    Args:
        directory: an unpublished directory; an older checkpoint in it is replaced.
        network: what to save.
        config: JSON-able settings of the run.
        metrics: JSON-able results of the run.

    Raises:
        DiskProblem: writing failed.
    """
    data = weights(network)
    domain = network.domain
    card: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "skilldistill": skilldistill.__version__,
        "domain": domain.name,
        "hidden_dim": network.hidden_dim,
        "parameters": network.num_parameters(),
        "spaces": spaces(domain),
        "weights_sha256": hashlib.sha256(data).hexdigest(),
        "config": dict(config or {}),
        "metrics": dict(metrics or {}),
    }
    text = json.dumps(plain(card), indent=2, allow_nan=False) + "\n"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / WEIGHTS).write_bytes(data)
        (directory / CARD).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DiskProblem(f"cannot write a checkpoint to {directory}: {error}") from error
    return Checkpoint(network, domain, card["config"], card["metrics"], card["weights_sha256"])


def load(directory: Path | str, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint directory.

    Raises:
        NotFound: the directory or one of its two files is not there, or its domain is unknown.
        CorruptFile: damaged, not a checkpoint, of a newer format, or made for other spaces.
    """
    directory = Path(directory)
    card = _read_card(directory / CARD)
    domain = domains.find(card["domain"])
    if card["spaces"] != spaces(domain):
        raise CorruptFile(
            f"{directory / CARD} was made for other spaces than those of domain {domain.name!r}",
            hint="distil again with this version: `skilldistill distill`",
        )
    data = _read(directory / WEIGHTS)
    found = hashlib.sha256(data).hexdigest()
    if found != card["weights_sha256"]:
        raise CorruptFile(
            f"{directory / WEIGHTS} is not the file that {CARD} describes (SHA-256 differs)",
            hint="run `skilldistill verify`",
        )
    try:
        tensors = parse_tensors(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise CorruptFile(
            f"{directory / WEIGHTS} holds no tensors: {error}", hint=_ELSEWHERE
        ) from error
    network = rebuild(domain, card["hidden_dim"], tensors, directory / WEIGHTS)
    return Checkpoint(network.to(device), domain, card["config"], card["metrics"], found)


def spaces(domain: Domain) -> dict[str, Any]:
    """What a network's weights depend on, as JSON-able values."""
    return {
        "observations": list(domain.observation_names),
        "actions": [
            {"name": dim.name, "kind": dim.kind, "low": dim.low, "high": dim.high}
            for dim in domain.actions
        ],
        "heads": [
            {"name": head.name, "dims": list(head.dims), "hidden": head.hidden}
            for head in domain.heads
        ],
    }


@global_generators_kept()
def rebuild(
    domain: Domain, hidden_dim: int, tensors: Mapping[str, torch.Tensor], where: Path
) -> DistilledPolicyNetwork:
    """The network that has these weights.

    Args:
        domain: what it plays.
        hidden_dim: its width.
        tensors: its state, from a file that may be anything.
        where: what to call that file.

    Raises:
        CorruptFile: they are not the state of such a network.
    """
    if not 2 <= hidden_dim <= MAX_WIDTH:
        raise CorruptFile(f"{where}: hidden_dim {hidden_dim} is out of range", hint=_ELSEWHERE)
    with torch.device("meta"):  # shapes first: nothing is allocated for a width that lies
        expected = {
            name: tuple(value.shape)
            for name, value in DistilledPolicyNetwork.for_domain(domain, hidden_dim)
            .state_dict()
            .items()
        }
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if found != expected:
        wrong = sorted(
            name for name in {*found, *expected} if found.get(name) != expected.get(name)
        )
        raise CorruptFile(
            f"{where}: tensors {', '.join(wrong)} do not fit the network", hint=_ELSEWHERE
        )
    for name, value in tensors.items():
        if value.dtype != torch.float32 or not bool(torch.isfinite(value).all()):
            raise CorruptFile(
                f"{where}: {name} is not made of finite float32 numbers", hint=_ELSEWHERE
            )
    network = DistilledPolicyNetwork.for_domain(domain, hidden_dim)
    blocks = network.output_blocks
    if bool((tensors["head_output.weight"] * (1 - blocks) != 0).any()):
        raise CorruptFile(
            f"{where}: head_output.weight connects one head to another", hint=_ELSEWHERE
        )
    if bool((tensors["obs_scale"] <= 0).any()):
        raise CorruptFile(
            f"{where}: obs_scale holds numbers that are not positive", hint=_ELSEWHERE
        )
    network.load_state_dict(dict(tensors))
    return network


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path} is not JSON: {error}", hint=_ELSEWHERE) from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise CorruptFile(f"{path} does not describe a skilldistill policy", hint=_ELSEWHERE)
    version = card.get("format_version")
    if version != FORMAT_VERSION:
        raise CorruptFile(
            f"{path} has format version {version!r}, this skilldistill reads {FORMAT_VERSION}",
            hint="install the skilldistill that wrote it",
        )
    kinds = {
        "domain": str,
        "hidden_dim": int,
        "spaces": dict,
        "weights_sha256": str,
        "config": dict,
        "metrics": dict,
    }
    for key, kind in kinds.items():
        if not isinstance(card.get(key), kind):
            raise CorruptFile(
                f"{path}: {key!r} is missing or not a {kind.__name__}", hint=_ELSEWHERE
            )
    return card


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_BYTES, hint="run `skilldistill ls` to see checkpoints")
    except OSError as error:
        raise DiskProblem(f"cannot read {path}: {error}") from error


__all__ = ["CARD", "WEIGHTS", "Checkpoint", "digest", "load", "rebuild", "save", "weights"]
