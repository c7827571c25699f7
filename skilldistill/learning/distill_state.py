"""Everything a distillation needs to go on where it was stopped, in memory and on disk."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from skilldistill.config import DistillConfig
from skilldistill.domain import Domain
from skilldistill.learning.journal import write_records
from skilldistill.learning.losses import LOG_STD_FLOOR, Labels
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.randomness import global_generators_kept
from skilldistill.training_state import STATE_FILE, copied, packed, read_state, strange_state
from skilldistill.workspace.files import replace_file

_VERSION = 1

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
    with global_generators_kept():
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
    content = {
        "network": state.network.state_dict(),
        "best": state.best,
        "optimiser": state.optimiser.state_dict()["state"],
        "counters": {name: getattr(state, name) for name in _COUNTERS},
        "history": json.dumps(state.history),
    }
    replace_file(directory / STATE_FILE, packed(copied(content), version=_VERSION))
    write_records(state.history, directory)


def resume(
    domain: Domain, config: DistillConfig, directory: Path, device: torch.device
) -> State | None:
    """The state saved in ``directory``, or None if nothing was saved yet."""
    path = directory / STATE_FILE
    if not path.exists():
        return None
    content = read_state(path, version=_VERSION)
    state = begin(domain, config, device)
    try:
        for name in _COUNTERS:
            setattr(state, name, content["counters"][name])
        state.history = json.loads(content["history"])
        state.network.load_state_dict(content["network"])
        state.best = {name: tensor.to(device) for name, tensor in content["best"].items()}
        state.optimiser.load_state_dict(  # lr is set at every step
            {**state.optimiser.state_dict(), "state": content["optimiser"]}
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise strange_state(path, error) from error
    return state


def _state(network: DistilledPolicyNetwork, config: DistillConfig) -> State:
    # fused: one call for all parameters instead of several per parameter
    optimiser = torch.optim.Adam(network.parameters(), lr=config.lr, fused=True)
    return State(network, optimiser)


_COUNTERS = ("phase", "epoch", "step", "loss_sum", "best_loss", "waiting", "rows", "seconds")
