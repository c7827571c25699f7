"""Labelled rows of the tiny domain, made of random numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from skilldistill.policy.heads import ActionLayout
from tests.tiny import DOMAIN

LAYOUT = ActionLayout(DOMAIN)
SCALE = 0.5
"""Half-width of the tiny domain's continuous dimension."""


def rows(count: int = 64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Targets, deviations and masks: each row labels one head, or now and then both."""
    made = torch.Generator().manual_seed(seed)
    targets = torch.rand(count, 2, generator=made) - torch.tensor([0.0, 0.5])
    std = torch.stack([torch.zeros(count), 0.05 + 0.1 * torch.rand(count, generator=made)], 1)
    mask = torch.rand(count, 2, generator=made) > 0.4
    mask[:, 0] |= ~mask[:, 1]
    return targets, std * mask, mask
