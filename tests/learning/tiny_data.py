"""Experts of the tiny domain made by hand, and the datasets they play."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skilldistill.config import CollectConfig, MergeConfig
from skilldistill.experts.network import Expert, Layer
from skilldistill.stages.collect import collect
from skilldistill.stages.merge import merge
from skilldistill.workspace.store import Workspace
from tests.tiny import DOMAIN


def steer_expert() -> Expert:
    """Goes to the origin: the mean is -x."""
    layer = Layer(np.array([[-1.0]], np.float32), np.zeros(1, np.float32))
    return Expert.build(
        DOMAIN, DOMAIN.skill("steer"), [layer], "gaussian", std=np.array([0.1], np.float32)
    )


def ring_expert() -> Expert:
    """Rings near the origin: the log-odds are 40 (0.3 - |x|)."""
    magnitude = Layer(
        np.array([[1.0, -1.0], [0.0, 0.0]], np.float32), np.zeros(2, np.float32), "relu"
    )
    odds = Layer(np.array([[-40.0], [-40.0]], np.float32), np.array([12.0], np.float32))
    return Expert.build(DOMAIN, DOMAIN.skill("ring"), [magnitude, odds], "bernoulli")


def save_experts(workspace: Workspace) -> None:
    """Publish both as artefacts, so that stages find them."""
    for expert in (steer_expert(), ring_expert()):
        with workspace.draft("expert", expert.skill) as draft:
            expert.save(draft.path)
            draft.commit(
                command="test",
                config={},
                seed=0,
                metrics={"skill": expert.skill, "sha256": expert.sha256},
            )


def prepared(path: Path, episodes: int = 12) -> Workspace:
    """A workspace with both experts and their merged dataset ``combined``."""
    workspace = Workspace.create(path)
    save_experts(workspace)
    collect(workspace, CollectConfig(domain="tiny", skill="all", episodes=episodes))
    merge(workspace, MergeConfig(domain="tiny"))
    return workspace
