"""A network that has half learned the tiny domain, and how it is scored."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch

from skilldistill.domain import Policy
from skilldistill.evaluation.rollout import play
from skilldistill.policy.network import DistilledPolicyNetwork
from tests import tiny


@functools.lru_cache
def network(steps: int = 400, seed: int = 0) -> DistilledPolicyNetwork:
    """Steers home, slowly; rings only on the right half of where it should. Not to be changed."""
    torch.manual_seed(seed)
    net = DistilledPolicyNetwork.for_domain(tiny.DOMAIN, 32)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(steps):
        x = torch.rand(256, 1) * 2 - 1
        out = net(torch.cat([x, x.abs(), torch.ones_like(x)], dim=1))
        ring = torch.where(x.abs() < 0.3, torch.where(x > 0, 0.8, 0.3), 0.1)
        loss = ((out - torch.cat([ring, -0.3 * x], dim=1)) ** 2).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def scores(policy: Policy, tasks: Sequence[str]) -> dict[str, np.ndarray]:
    """Main metric per episode of 32 fixed episodes."""
    return {
        task: play(tiny.DOMAIN, task, policy, episodes=32, seed=123).metrics["score"]
        for task in tasks
    }
