"""What every expert must fulfil, whoever made it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from skilldistill.errors import CorruptFile, excerpt
from skilldistill.experts.activations import ACTIVATIONS, BOUNDED

if TYPE_CHECKING:
    from skilldistill.experts.network import Expert

MAX_WIDTH = 8192
MAX_LAYERS = 32
MAX_NUMBER = 1e30
"""What no number may reach while an expert plays: far above any use, far below float32's 3e38."""
MAX_STD = 1e6
"""Larger deviations are noise without limits, and their squares leave float32 behind."""


def check(expert: Expert) -> None:
    """Raise :class:`CorruptFile` unless the parts fit together."""

    def fail(reason: str) -> NoReturn:
        raise CorruptFile(f"expert {excerpt(expert.name)!r}: {reason}")

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
            fail(f"unknown activation {excerpt(layer.activation)!r}")
        if not math.isfinite(layer.alpha):
            fail(f"layer {index} has the activation's parameter {layer.alpha}")
        if layer.activation == "celu" and layer.alpha <= 0:
            fail(f"layer {index} divides by the activation's parameter {layer.alpha}")
        width = shape[1]
    if expert.layers[-1].activation != "identity":
        fail("the last layer has an activation")
    if expert.low.shape != (width,) or expert.high.shape != (width,):
        fail(f"bounds {expert.low.shape}, {expert.high.shape} for {width} actions")
    if expert.head not in ("bernoulli", "gaussian", "squashed"):
        fail(f"unknown head {excerpt(expert.head)!r}")
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
    if expert.std is not None and (expert.std > MAX_STD).any():
        fail(f"a standard deviation of {expert.std.max():g}; up to {MAX_STD:g} are allowed")
    _check_normaliser(expert)
    _check_reach(expert)


def _check_reach(expert: Expert) -> None:
    """Raise :class:`CorruptFile` if a number within the network could leave float32 behind.

    For observations within ±1, or ±clip behind a normaliser: the largest size of every number is
    carried through the layers.
    """
    bounds = np.full(expert.obs_dim, max(1.0, expert.normaliser.clip if expert.normaliser else 0))
    for layer in expert.layers:
        latent = bounds
        bounds = latent @ np.abs(layer.weight.astype(np.float64)) + np.abs(layer.bias)
        _refuse_beyond(bounds, expert)
        if layer.activation in BOUNDED:
            bounds = np.ones_like(bounds)  # some are not 0 where their input is
        elif layer.activation != "identity":
            # None is steeper than SELU or its own alpha, and none is further than 2 from 0 at 0.
            bounds = 1.1 * max(1.0, abs(layer.alpha)) * (bounds + 2)
            _refuse_beyond(bounds, expert)
    if expert.std is not None and expert.std.ndim == 2:
        _refuse_beyond(np.square(latent) @ np.square(expert.std.astype(np.float64)), expert)


def _refuse_beyond(bounds: NDArray[np.float64], expert: Expert) -> None:
    if not (bounds < MAX_NUMBER).all():
        raise CorruptFile(
            f"expert {excerpt(expert.name)!r}: its weights are so large that numbers up to "
            f"{bounds.max():.0e} can arise"
        )


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
