"""Laid out flat, Adam does what it does over many tensors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from skilldistill.learning.flat_adam import flattened


def make() -> tuple[nn.Sequential, torch.optim.Adam]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    groups = [{"params": list(network[0].parameters())}, {"params": list(network[2].parameters())}]
    return network, torch.optim.Adam(groups, lr=1e-2, betas=(0.8, 0.95), eps=1e-5, weight_decay=0.1)


def gradient(network: nn.Sequential, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator) for p in network.parameters()]


def train(network: nn.Sequential, optimiser: torch.optim.Adam, steps: range) -> None:
    """Flat, as long as one is open."""
    with flattened(optimiser, (0, 1)) as parts:
        for step in steps:
            optimiser.param_groups[1]["lr"] = 1e-2 / (step + 1)
            for parameter, slope in zip(network.parameters(), gradient(network, step), strict=True):
                parameter.grad.copy_(slope)
            for part in parts:
                part.step()


def test_steps_are_torchs_own_across_openings() -> None:
    network, optimiser = make()
    plain, own = make()
    train(network, optimiser, range(3))
    train(network, optimiser, range(3, 5))
    for step in range(5):
        own.param_groups[1]["lr"] = 1e-2 / (step + 1)
        for parameter, slope in zip(plain.parameters(), gradient(plain, step), strict=True):
            parameter.grad = slope
        own.step()
    for a, b in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
        for name, value in own.state[b].items():
            torch.testing.assert_close(optimiser.state[a][name], value, rtol=1e-6, atol=1e-7)


def test_closed_nothing_shares_memory() -> None:
    network, optimiser = make()
    train(network, optimiser, range(1))
    tensors = [*network.parameters(), *(t for s in optimiser.state.values() for t in s.values())]
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors) == 16
    assert all(t.untyped_storage().nbytes() == 4 * t.numel() for t in tensors)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_group_left_out_keeps_every_bit() -> None:
    network, optimiser = make()
    before = copy.deepcopy(network)
    with flattened(optimiser, (1,)) as (last,):
        assert network[0].weight.grad is None
        last.gradient.fill_(1.0)
        last.step()
    assert torch.equal(network[0].weight, before[0].weight)
    assert not torch.equal(network[2].weight, before[2].weight)
    assert not optimiser.state[network[0].weight]


def test_only_long_gradients_are_clipped() -> None:
    network, optimiser = make()
    with flattened(optimiser, (0,)) as (part,):
        part.gradient.fill_(0.01)
        part.clip(1.0)
        assert torch.equal(part.gradient, torch.full_like(part.gradient, 0.01))
        part.clip(0.02)
        assert float(part.gradient.norm()) == pytest.approx(0.02, rel=1e-3)
        assert float(network[0].weight.grad.norm()) < 0.02


def test_an_error_closes_it_too() -> None:
    network, optimiser = make()
    with pytest.raises(KeyError), flattened(optimiser):
        raise KeyError
    assert network[0].weight.grad is None
    assert network[0].weight.untyped_storage().nbytes() == 60
