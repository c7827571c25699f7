"""A stack of affine layers with ReLU between them, forwards and backwards in few calls.

At a few hundred rows per step, a network this small spends as much time between its matrix
products as in them. :func:`mlp` is one node of the autograd graph; :class:`Backprop` does
without the graph, for loops that know the slope of their loss.

Hidden layers can be multiplied in bfloat16. On a CPU where oneDNN knows such products they go to
it, which applies bias and ReLU on the way out; in float32, plain calls are faster. The last layer
is never multiplied so: its outputs are few, so it would save nothing, and they are what the loss
looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def _fuses() -> bool:
    """Whether oneDNN multiplies bfloat16 here: it needs AVX512, or raises."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    operations = torch.ops.mkldnn  # what is missing is an older or a newer torch's
    known = ("_linear_pointwise", "_is_mkldnn_bf16_supported")
    return all(hasattr(operations, name) for name in known) and bool(
        operations._is_mkldnn_bf16_supported()
    )


_ONEDNN = _fuses()
Layer = tuple[Tensor, Tensor]
"""(outputs, inputs) weight and (outputs,) bias."""


def mlp(inputs: Tensor, layers: Sequence[Layer], dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, outputs) float32 of a stack of affine layers with ReLU between them.

    Args:
        inputs: (n, features). No gradient flows to them.
        layers: weight and bias of each layer, float32.
        dtype: what hidden layers are multiplied in; gradients handed on are float32.
    """
    if torch.is_grad_enabled():
        parameters = [parameter for layer in layers for parameter in layer]
        result: Tensor = _Stack.apply(inputs, dtype, *parameters)  # type: ignore[no-untyped-call]
        return result
    return _forward(inputs.to(dtype), _rounded(layers, dtype))[0]


class Backprop:
    """Outputs of a stack and the gradients of its parameters, without autograd's graph.

    Call :meth:`forward`, work out the loss's slope by the outputs, call :meth:`backward`:
    every parameter's ``grad`` then holds its gradient. An optimiser may change the parameters
    in place between two such rounds.

    Args:
        layers: weight and bias of each layer, float32; each parameter's ``grad`` is a tensor
            already and is overwritten.
        dtype: what hidden layers are multiplied in.
        mask: (outputs, inputs) of the last weight, 0 where an entry is none: it counts as 0 and
            has no gradient. None: all entries are some.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        dtype: torch.dtype = torch.float32,
        mask: Tensor | None = None,
    ) -> None:
        self._dtype, self._mask = dtype, mask
        self._parameters = [(weight.detach(), bias.detach()) for weight, bias in layers]
        self._slopes = [(_gradient(weight), _gradient(bias)) for weight, bias in layers]
        self._layers = _rounded(self._parameters, dtype)
        self._inner: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, outputs) float32 for inputs (n, features)."""
        hidden = self._parameters[:-1]
        if self._dtype != torch.float32:
            torch._foreach_copy_(_flat(self._layers[:-1]), _flat(hidden))
        if self._mask is not None:
            weight, bias = self._parameters[-1]
            self._layers[-1] = (weight * self._mask, bias)
        outputs, self._inner = _forward(inputs.to(self._dtype), self._layers)
        return outputs

    def backward(self, slopes: Tensor) -> None:
        """Leave the gradients that slopes (n, outputs) of a loss by the latest outputs give."""
        found = _backward(slopes, self._inner, [weight for weight, _ in self._layers])
        if self._mask is not None:
            found[-1][0].mul_(self._mask)
        torch._foreach_copy_(_flat(self._slopes), _flat(found))


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, dtype: torch.dtype, *parameters: Tensor) -> Tensor:
        layers = _rounded(list(zip(parameters[::2], parameters[1::2], strict=True)), dtype)
        outputs, inner = _forward(inputs.to(dtype), layers)
        ctx.save_for_backward(*inner, *(weight for weight, _ in layers))
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        half = len(saved) // 2
        found = _backward(gradient, saved[:half], saved[half:])
        return None, None, *(gradient.float() for gradient in _flat(found))


def _rounded(layers: Sequence[Layer], dtype: torch.dtype) -> list[Layer]:
    """The layers as they are multiplied."""
    return [*((w.to(dtype), b.to(dtype)) for w, b in layers[:-1]), layers[-1]]


def _forward(inputs: Tensor, layers: Sequence[Layer]) -> tuple[Tensor, list[Tensor]]:
    """Outputs, and the input of every layer; the last one's is float32."""
    inner = [inputs]
    for weight, bias in layers[:-1]:
        inner.append(_affine(inner[-1], weight, bias, relu=True))
    inner[-1] = inner[-1].float()
    return _affine(inner[-1], *layers[-1], relu=False), inner


def _backward(gradient: Tensor, inner: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Layer]:
    """Gradients of every layer's weight and bias, in the dtype of its products."""
    found = []
    for layer in range(len(weights) - 1, -1, -1):
        # a sum of bfloat16 is rounded once, at its end
        found.append((torch.mm(gradient.t(), inner[layer]), gradient.sum(dim=0)))
        if layer:
            gradient = torch.mm(gradient, weights[layer])
            # the ReLU's output is positive exactly where its input was
            torch.ops.aten.threshold_backward.grad_input(
                gradient, inner[layer], 0, grad_input=gradient
            )
            gradient = gradient.to(weights[layer - 1].dtype)
    return found[::-1]


def _affine(x: Tensor, weight: Tensor, bias: Tensor, *, relu: bool) -> Tensor:
    """x weightᵀ + bias, through a ReLU if asked."""
    if relu and _ONEDNN and x.dtype == torch.bfloat16 and x.device.type == "cpu":
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu", [], "")
        return y
    y = functional.linear(x, weight, bias)
    return y.relu_() if relu else y


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _flat(layers: Sequence[Layer]) -> list[Tensor]:
    return [tensor for layer in layers for tensor in layer]
