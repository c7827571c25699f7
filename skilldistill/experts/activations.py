"""Activation functions of experts, in place on float32 arrays.

Names and defaults are those of ``torch.nn``. A function takes the array and its parameter
``alpha`` (the negative slope of LeakyReLU, the alpha of ELU and CELU; ignored by the others).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def _identity(x: Array, alpha: float) -> None:
    pass


def _tanh(x: Array, alpha: float) -> None:
    np.tanh(x, out=x)


def _relu(x: Array, alpha: float) -> None:
    np.maximum(x, np.float32(0), out=x)


def _leaky_relu(x: Array, alpha: float) -> None:
    np.multiply(x, np.float32(alpha), out=x, where=x < 0)


def _elu(x: Array, alpha: float) -> None:
    low = np.expm1(np.minimum(x, np.float32(0)))
    np.maximum(x, np.float32(0), out=x)
    x += np.float32(alpha) * low


def _silu(x: Array, alpha: float) -> None:
    x *= sigmoid(x)


def _gelu(x: Array, alpha: float) -> None:
    x *= np.float32(0.5) * (np.float32(1) + erf(x * np.float32(0.5**0.5)))


def _sigmoid(x: Array, alpha: float) -> None:
    x[...] = sigmoid(x)


def _softplus(x: Array, alpha: float) -> None:
    # From 20 on torch takes the line itself; there float32 knows no difference.
    x[...] = np.maximum(x, np.float32(0)) + np.log1p(np.exp(-np.abs(x)))


def _mish(x: Array, alpha: float) -> None:
    soft = x.copy()
    _softplus(soft, alpha)
    x *= np.tanh(soft)


def _selu(x: Array, alpha: float) -> None:
    _elu(x, 1.6732632423543772)
    x *= np.float32(1.0507009873554805)


def _celu(x: Array, alpha: float) -> None:
    low = np.expm1(np.minimum(x, np.float32(0)) / np.float32(alpha))
    np.maximum(x, np.float32(0), out=x)
    x += np.float32(alpha) * low


def _relu6(x: Array, alpha: float) -> None:
    np.clip(x, np.float32(0), np.float32(6), out=x)


def _hardtanh(x: Array, alpha: float) -> None:
    np.clip(x, np.float32(-1), np.float32(1), out=x)


def _softsign(x: Array, alpha: float) -> None:
    x /= np.float32(1) + np.abs(x)


def _hardsigmoid(x: Array, alpha: float) -> None:
    x += np.float32(3)
    _relu6(x, alpha)
    x /= np.float32(6)


def _hardswish(x: Array, alpha: float) -> None:
    gate = x.copy()
    _hardsigmoid(gate, alpha)
    x *= gate


def _log_sigmoid(x: Array, alpha: float) -> None:
    x[...] = np.minimum(x, np.float32(0)) - np.log1p(np.exp(-np.abs(x)))


ACTIVATIONS: dict[str, Callable[[Array, float], None]] = {
    "identity": _identity,
    "tanh": _tanh,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "silu": _silu,
    "gelu": _gelu,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "mish": _mish,
    "selu": _selu,
    "celu": _celu,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "softsign": _softsign,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "log_sigmoid": _log_sigmoid,
}
DEFAULT_ALPHA = {"leaky_relu": 0.01, "elu": 1.0, "celu": 1.0}
BOUNDED = frozenset({"tanh", "sigmoid", "hardtanh", "softsign", "hardsigmoid"})
"""Those whose results never leave [-1, 1]."""
TORCH_NAMES = {
    "Identity": "identity",
    "Tanh": "tanh",
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "SiLU": "silu",
    "GELU": "gelu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Mish": "mish",
    "SELU": "selu",
    "CELU": "celu",
    "ReLU6": "relu6",
    "Hardtanh": "hardtanh",
    "Softsign": "softsign",
    "Hardsigmoid": "hardsigmoid",
    "Hardswish": "hardswish",
    "LogSigmoid": "log_sigmoid",
}
"""Class names in ``torch.nn`` of the activations an expert may use."""


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    """1 / (1 + exp(-x)) without overflow, accurate also where the result is tiny."""
    small = np.exp(-np.abs(x))
    result: NDArray[Any] = np.where(x >= 0, x.dtype.type(1), small) / (1 + small)
    return result


def erf(x: Array) -> Array:
    """The error function to 1.5e-7 (Abramowitz and Stegun, formula 7.1.26), float32."""
    size = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * size)
    series = np.float32(1.061405429) * t
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(coefficient)) * t
    result: Array = np.copysign(1 - series * np.exp(-size * size), x)
    return result
