"""Rows of a batch in blocks of one size, so that a row's result depends on that row alone."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]

ROWS = 16
"""Rows multiplied in one matrix product, padded with zeros if need be. Products of other heights
may round a row differently, depending on its place; blocks of 16 fill the kernels of the common
BLAS libraries exactly. So an action does not depend on how many arenas are played beside it."""
BLOCKS = 8
"""Blocks pushed through all layers before the next ones, so that they stay in the cache."""

_scratch = threading.local()


def buffers(inputs: tuple[int, ...], outputs: int) -> list[Float32Array]:
    """A (BLOCKS, width, ROWS) array per layer boundary, kept per thread to spare allocations."""
    kept: dict[tuple[int, ...], list[Float32Array]] = _scratch.__dict__.setdefault("kept", {})
    widths = (*inputs, outputs)
    if widths not in kept:
        if len(kept) >= 16:
            kept.clear()
        kept[widths] = [np.zeros((BLOCKS, width, ROWS), dtype=np.float32) for width in widths]
    return kept[widths]


def fill(stack: Float32Array, rows: NDArray[Any]) -> None:
    """Put (n, d) rows into (blocks, d, ROWS), zeros after the last."""
    whole, rest = divmod(len(rows), ROWS)
    blocks = rows[: whole * ROWS].reshape(whole, ROWS, rows.shape[1])
    stack[:whole] = blocks.transpose(0, 2, 1)
    if rest:
        stack[whole, :, :rest] = rows[whole * ROWS :].T
        stack[whole, :, rest:] = 0


def unfill(stack: Float32Array, count: int) -> Float32Array:
    """The first ``count`` rows of (blocks, k, ROWS) as (count, k)."""
    blocks, width, _ = stack.shape
    return stack.transpose(0, 2, 1).reshape(blocks * ROWS, width)[:count]
