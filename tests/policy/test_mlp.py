from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from skilldistill.policy import mlp as module
from skilldistill.policy.mlp import Backprop, mlp


def stack(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def layers_of(network: nn.Sequential) -> list[tuple[nn.Parameter, nn.Parameter]]:
    return [(layer.weight, layer.bias) for layer in network if isinstance(layer, nn.Linear)]


def give_gradients(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("onednn", [True, False])
def test_without_a_graph_outputs_and_gradients_are_the_same(
    dtype: torch.dtype, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not onednn:
        monkeypatch.setattr(module, "_ONEDNN", False)
    network, inputs = stack(20, 96, 80, 9), torch.randn(64, 20)
    layers, parameters = layers_of(network), list(network.parameters())
    found = mlp(inputs, layers, dtype)
    slope = torch.randn(64, 9)
    wanted = torch.autograd.grad(found, parameters, slope)
    give_gradients(network)
    backprop = Backprop(layers, dtype)
    assert torch.equal(backprop.forward(inputs), found)
    for _ in range(2):  # gradients are overwritten, not added to
        backprop.backward(slope)
        assert all(torch.equal(p.grad, g) for p, g in zip(parameters, wanted, strict=True))


def test_onednn_is_not_asked_for_bfloat16_where_it_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert not module._fuses()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_follows_parameters_that_an_optimiser_changed(dtype: torch.dtype) -> None:
    network, inputs = stack(20, 32, 9), torch.randn(64, 20)
    give_gradients(network)
    backprop = Backprop(layers_of(network), dtype)
    backprop.backward(backprop.forward(inputs))
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert torch.equal(backprop.forward(inputs), mlp(inputs, layers_of(network), dtype))


def test_entries_outside_the_mask_count_as_zero_and_have_no_gradient() -> None:
    network, inputs = stack(20, 32, 9), torch.randn(64, 20)
    mask = (torch.rand(9, 32) < 0.5).float()
    (first, (weight, bias)) = layers_of(network)
    give_gradients(network)
    backprop = Backprop([first, (weight, bias)], mask=mask)
    found = backprop.forward(inputs)
    assert torch.equal(found, mlp(inputs, [first, (weight * mask, bias)]))
    backprop.backward(torch.randn(64, 9))
    assert weight.grad is not None
    assert torch.equal(weight.grad != 0, mask.bool())
