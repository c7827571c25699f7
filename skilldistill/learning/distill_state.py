"""Everything a distillation needs to go on where it was stopped, in memory and on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise_tensors
from torch import Tensor

from skilldistill.config import DistillConfig
from skilldistill.domain import Domain
from skilldistill.errors import CorruptFile
from skilldistill.learning.losses import LOG_STD_FLOOR, Labels
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.workspace.files import replace_file

STATE_FILE = "training_state"
METRICS_FILE = "metrics.jsonl"

Record = dict[str, float]
"""One epoch's line in ``metrics.jsonl``."""


@dataclass
class State:
    """Everything training needs to go on."""

    network: DistilledPolicyNetwork
    optimiser: torch.optim.Adam
    phase: int = 0
    epoch: int = 0
    """Finished epochs of this phase."""
    step: int = 0
    """Finished steps of this epoch."""
    loss_sum: float = 0.0
    """Summed loss of this epoch's steps."""
    best_loss: float = math.inf
    """Of this phase."""
    waiting: int = 0
    """Epochs since the best one."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights with the best held-out loss of this phase."""
    history: list[Record] = field(default_factory=list)
    rows: int = 0
    seconds: float = 0.0
    """Time spent on gradient steps."""


def begin(domain: Domain, config: DistillConfig, device: torch.device) -> State:
    """An untrained student: its weights are a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = DistilledPolicyNetwork.for_domain(domain, config.hidden_dim)
    return _state(network.to(device), config)


@torch.no_grad()
def match_std(network: DistilledPolicyNetwork, table: Tensor) -> None:
    """Start from the experts' mean standard deviation: it is known, so need not be learnt."""
    layout = network.layout
    labels = Labels.of(table, layout)
    mask = labels.mask[:, layout.continuous]
    count, total = mask.sum(dim=0), (labels.std * mask).sum(dim=0)
    known = (count > 0) & (total > 0)
    relative = total / count.clamp_min(1) / layout.scale[layout.continuous]
    network.log_std.copy_(torch.where(known, relative.log(), network.log_std))
    network.log_std.clamp_(min=LOG_STD_FLOOR)


def save(state: State, directory: Path) -> None:
    """Replace the training state and the metrics, each whole or not at all.

    Raises:
        DiskProblem: the disk is full or fails.
    """
    tensors = {f"network.{name}": value for name, value in state.network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    counters = {name: repr(getattr(state, name)) for name in _COUNTERS}
    header = {"counters": json.dumps(counters), "history": json.dumps(state.history)}
    replace_file(directory / STATE_FILE, serialise_tensors(tensors, metadata=header))
    write_metrics(state.history, directory / METRICS_FILE)


def resume(
    domain: Domain, config: DistillConfig, directory: Path, device: torch.device
) -> State | None:
    """The state saved in ``directory``, or None if nothing was saved yet."""
    path = directory / STATE_FILE
    if not path.exists():
        return None
    state = begin(domain, config, device)
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name, value in json.loads(header["counters"]).items():
            setattr(state, name, type(getattr(state, name))(value))
        state.history = json.loads(header["history"])
        state.network.load_state_dict(_under(tensors, "network."))
        state.best = _under(tensors, "best.")
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, "optimiser.").items():
            index, _, kind = name.partition(".")
            moments.setdefault(int(index), {})[kind] = value
        state.optimiser.load_state_dict(
            {**state.optimiser.state_dict(), "state": moments}  # lr is set at every step
        )
    except (SafetensorError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise CorruptFile(
            f"{path} is damaged: {error}", hint="start again without --resume"
        ) from error
    return state


def write_metrics(history: list[Record], path: Path) -> None:
    """Write ``metrics.jsonl``: one JSON object per epoch.

    Raises:
        DiskProblem: the disk is full or fails.
    """
    lines = [json.dumps({k: _number(v) for k, v in record.items()}) + "\n" for record in history]
    replace_file(path, "".join(lines).encode())


def _state(network: DistilledPolicyNetwork, config: DistillConfig) -> State:
    # fused: one call for all parameters instead of several per parameter
    optimiser = torch.optim.Adam(network.parameters(), lr=config.lr, fused=True)
    return State(network, optimiser)


_COUNTERS = ("phase", "epoch", "step", "loss_sum", "best_loss", "waiting", "rows", "seconds")


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
