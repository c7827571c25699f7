from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from skilldistill.policy import mlp as module
from skilldistill.policy.mlp import mlp


def stack(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def layers_of(network: nn.Sequential) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(layer.weight, layer.bias) for layer in network if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 256])
def test_it_is_torchs_own_stack(rows: int, onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not onednn:
        monkeypatch.setattr(module, "_ONEDNN", False)
    network, inputs = stack(20, 96, 80, 9), torch.randn(rows, 20)
    slope = torch.randn(rows, 9)
    expected = network(inputs)
    expected.backward(slope)
    wanted = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    found = mlp(inputs, layers_of(network))
    assert torch.allclose(found, expected, atol=1e-5)
    found.backward(slope)
    assert len(wanted) == 6
    for parameter, gradient in zip(network.parameters(), wanted, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradient, atol=1e-4)


def test_without_gradients_it_gives_the_same() -> None:
    network, inputs = stack(20, 32, 9), torch.randn(50, 20)
    with torch.inference_mode():
        plain = mlp(inputs, layers_of(network))
    assert torch.equal(plain, mlp(inputs, layers_of(network)))


def test_bfloat16_is_close_and_hands_on_float32() -> None:
    network, inputs = stack(20, 64, 64, 9), torch.randn(50, 20)
    found = mlp(inputs, layers_of(network), torch.bfloat16)
    assert found.dtype == torch.float32
    assert torch.allclose(found, network(inputs), atol=0.02)
    found.sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32


def test_gradients_can_be_asked_for_twice() -> None:
    network, inputs = stack(20, 32, 9), torch.randn(50, 20)
    found = mlp(inputs, layers_of(network)).sum()
    first = torch.autograd.grad(found, list(network.parameters()), retain_graph=True)
    second = torch.autograd.grad(found, list(network.parameters()))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
