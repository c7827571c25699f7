"""What every expert must fulfil, whoever made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import numpy as np

from skilldistill.errors import CorruptFile
from skilldistill.experts.activations import ACTIVATIONS

if TYPE_CHECKING:
    from skilldistill.experts.network import Expert

MAX_WIDTH = 8192
MAX_LAYERS = 32


def check(expert: Expert) -> None:
    """Raise :class:`CorruptFile` unless the parts fit together."""

    def fail(reason: str) -> NoReturn:
        raise CorruptFile(f"expert {expert.name!r}: {reason}")

    if not 1 <= len(expert.layers) <= MAX_LAYERS:
        fail(f"{len(expert.layers)} layers; from 1 to {MAX_LAYERS} are allowed")
    width = expert.layers[0].weight.shape[0] if expert.layers[0].weight.ndim == 2 else 0
    for index, layer in enumerate(expert.layers):
        shape = layer.weight.shape
        if len(shape) != 2 or shape[0] != width or layer.bias.shape != shape[1:]:
            fail(f"layer {index} has weight {shape} and bias {layer.bias.shape} after {width}")
        if not (1 <= shape[0] <= MAX_WIDTH and 1 <= shape[1] <= MAX_WIDTH):
            fail(f"layer {index} is {shape}; widths from 1 to {MAX_WIDTH} are allowed")
        if layer.activation not in ACTIVATIONS:
            fail(f"unknown activation {layer.activation!r}")
        width = shape[1]
    if expert.layers[-1].activation != "identity":
        fail("the last layer has an activation")
    if expert.low.shape != (width,) or expert.high.shape != (width,):
        fail(f"bounds {expert.low.shape}, {expert.high.shape} for {width} actions")
    if expert.head not in ("bernoulli", "gaussian", "squashed"):
        fail(f"unknown head {expert.head!r}")
    if (expert.std is None) != (expert.head == "bernoulli"):
        fail(f"a {expert.head} head {'without' if expert.std is None else 'with'} deviations")
    latent = expert.layers[-1].weight.shape[0]
    if expert.std is not None and expert.std.shape not in ((width,), (latent, width)):
        fail(f"standard deviations of shape {expert.std.shape} for {width} actions")
    for name, tensor in expert.tensors().items():
        wanted = np.float64 if name.startswith("normaliser") else np.float32
        if tensor.dtype != wanted:
            fail(f"{name} is {tensor.dtype}, not {np.dtype(wanted)}")
        if not np.isfinite(tensor).all():
            fail(f"{name} holds numbers that are not finite")
    if not (np.isfinite(expert.low).all() and np.isfinite(expert.high).all()):
        fail("the action bounds are not finite")
    if (expert.high <= expert.low).any():
        fail("an upper action bound is not above the lower one")
    if expert.std is not None and (expert.std < 0).any():
        fail("a standard deviation is negative")
    _check_normaliser(expert)


def _check_normaliser(expert: Expert) -> None:
    scaler = expert.normaliser
    if scaler is None:
        return
    shape = (expert.obs_dim,)
    if scaler.mean.shape != shape or scaler.var.shape != shape:
        raise CorruptFile(
            f"expert {expert.name!r}: the normaliser has mean {scaler.mean.shape} and variance "
            f"{scaler.var.shape} for {expert.obs_dim} observations"
        )
    if not (0 <= scaler.epsilon < 1 and 0 < scaler.clip < 1e6):
        raise CorruptFile(
            f"expert {expert.name!r}: normaliser with epsilon {scaler.epsilon}, clip {scaler.clip}"
        )
    if (scaler.var + scaler.epsilon <= 0).any():
        raise CorruptFile(f"expert {expert.name!r}: the normaliser divides by zero or less")
