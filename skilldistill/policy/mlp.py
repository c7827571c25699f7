"""A stack of affine layers with ReLU between them, forwards and backwards in few calls.

At a few hundred rows per step, a network this small spends as much time between its matrix
products as in them, so the whole stack is one node of the autograd graph. On the CPU the
products go to oneDNN, which applies bias and ReLU on the way out and uses the processor's widest
vectors whoever made it; torch's own float32 products use half of them on some processors
(``benchmarks/distill.py`` measures the difference). Elsewhere they are torch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_ONEDNN = bool(torch.backends.mkldnn.is_available()) and hasattr(  # type: ignore[no-untyped-call]
    torch.ops.mkldnn, "_linear_pointwise"
)

_NARROW = 64
"""Columns below which a product is three times as fast the other way round."""


def mlp(
    inputs: Tensor,
    layers: Sequence[tuple[Tensor, Tensor]],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(n, outputs) float32 of a stack of affine layers with ReLU between them.

    Args:
        inputs: (n, features). No gradient flows to them.
        layers: (outputs, inputs) weight and (outputs,) bias of each layer, float32.
        dtype: what matrices are multiplied in; sums and the gradients handed on are float32.
    """
    parameters = [parameter for layer in layers for parameter in layer]
    if torch.is_grad_enabled():
        result: Tensor = _Stack.apply(inputs, dtype, *parameters)  # type: ignore[no-untyped-call]
        return result
    return _forward(inputs, dtype, parameters)[0].float()


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, dtype: torch.dtype, *parameters: Tensor) -> Tensor:
        outputs, inner, weights = _forward(inputs, dtype, parameters)
        ctx.save_for_backward(*inner, *weights)
        return outputs.float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        half = len(saved) // 2
        inner, weights = saved[:half], saved[half:]
        gradient = gradient.to(weights[0].dtype)
        found: list[Tensor] = []
        for layer in range(half - 1, -1, -1):
            found.append(gradient.sum(dim=0, dtype=torch.float32))
            found.append(_transposed_product(gradient, inner[layer]).float())
            if layer:
                gradient = _affine(gradient, weights[layer].t(), None)
                # the ReLU's output is positive exactly where its input was
                gradient = torch.ops.aten.threshold_backward(gradient, inner[layer], 0)
        return None, None, *reversed(found)


def _forward(
    inputs: Tensor, dtype: torch.dtype, parameters: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Outputs, the input of every layer, and every layer's weight as it was multiplied."""
    weights = [weight.to(dtype) for weight in parameters[::2]]
    biases = [bias.to(dtype) for bias in parameters[1::2]]
    inner = [inputs.to(dtype)]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        inner.append(_affine(inner[-1], weight, bias, relu=True))
    return _affine(inner[-1], weights[-1], biases[-1]), inner, weights


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool = False) -> Tensor:
    """x weightᵀ + bias, through a ReLU if asked."""
    if _ONEDNN and x.device.type == "cpu":
        activation = "relu" if relu else "none"
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "")
        return y
    y = functional.linear(x, weight, bias)
    return y.relu_() if relu else y


def _transposed_product(a: Tensor, b: Tensor) -> Tensor:
    """aᵀ b, the gradient of a weight."""
    if not _ONEDNN or a.device.type != "cpu":
        return torch.mm(a.t(), b)
    if b.shape[1] < _NARROW:
        return _affine(b.t(), a.t(), None).t()
    if a.dtype == torch.float32:
        return _affine(a.t(), b.t(), None)
    return torch.mm(a.t(), b)
