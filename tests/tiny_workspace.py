"""What tests of the stages put into a workspace of the tiny domain: experts and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from skilldistill.experts.network import Expert, Layer
from skilldistill.workspace.manifest import Artefact
from skilldistill.workspace.store import Workspace
from tests import tiny


def steer(gain: float = 2.0, **extra: Any) -> Expert:
    """Moves against x: at gain 2 straight to the origin."""
    skill = tiny.DOMAIN.skill("steer")
    layer = Layer(np.array([[-gain]], dtype=np.float32), np.zeros(1, dtype=np.float32))
    std = np.array([0.05], dtype=np.float32)
    return Expert.build(tiny.DOMAIN, skill, [layer], "gaussian", std=std, **extra)


def ring(sharpness: float = 40.0, **extra: Any) -> Expert:
    """Rings where |x| < 0.3."""
    skill = tiny.DOMAIN.skill("ring")
    first = Layer(
        np.array([[1.0, -1.0], [0.0, 0.0]], dtype=np.float32), np.zeros(2, dtype=np.float32), "relu"
    )
    last = Layer(
        np.full((2, 1), -sharpness, dtype=np.float32),
        np.array([0.3 * sharpness], dtype=np.float32),
    )
    return Expert.build(tiny.DOMAIN, skill, [first, last], "bernoulli", **extra)


def add_expert(workspace: Workspace, expert: Expert, name: str = "", **extra: Any) -> Artefact:
    """Publish an expert."""
    with workspace.draft("expert", name or expert.skill) as draft:
        expert.save(draft.path)
        extra.setdefault("metrics", {"skill": expert.skill, "sha256": expert.sha256})
        return draft.commit(
            command="test", config={"skill": expert.skill, "domain": "tiny"}, seed=0, **extra
        )


def add_experts(workspace: Workspace) -> dict[str, Artefact]:
    """Publish a good expert for each skill."""
    return {expert.skill: add_expert(workspace, expert) for expert in (steer(), ring())}


def ship(folder: Path) -> Path:
    """Write the experts as a domain ships them."""
    for expert in (steer(), ring()):
        (folder / expert.skill).mkdir(parents=True)
        expert.save(folder / expert.skill)
    return folder


def add_checkpoint(
    workspace: Workspace, name: str = "distilled", *, seed: int = 0, **extra: Any
) -> Artefact:
    """Publish an untrained student."""
    import torch

    from skilldistill.policy import checkpoint
    from skilldistill.policy.network import DistilledPolicyNetwork

    torch.manual_seed(seed)
    network = DistilledPolicyNetwork.for_domain(tiny.DOMAIN, 16)
    with workspace.draft("checkpoint", name) as draft:
        checkpoint.save(draft.path, network, config={}, metrics={})
        extra.setdefault("config", {"domain": "tiny"})
        return draft.commit(command="test", seed=seed, **extra)
