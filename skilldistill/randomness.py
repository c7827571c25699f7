"""Counter-based random numbers: a draw is a function of where it is used, not of what came before.

A draw is named by (seed, episode, tick, stream, index). No generator is carried along, so an
episode is the same whichever arena plays it and however many play beside it. The mixing
function is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
number generators", OOPSLA 2014), applied once per coordinate.

The functions use only ``^ >> * +`` on unsigned 64-bit values, so that the same source serves
NumPy arrays here and, compiled, scalars in the simulator's kernel.

Libraries that we call draw from global generators, and some seed them. Those belong to the
caller: :func:`global_generators_kept` gives them back as they were.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_ULP = 2.0**-53


def mix(key: Any, coordinate: Any) -> Any:
    """Fold one coordinate into a key. Both uint64, scalars or arrays; wraps modulo 2**64."""
    z = (key + _GOLDEN) ^ (coordinate * _SECOND)
    z = (z ^ (z >> _S30)) * _FIRST
    z = (z ^ (z >> _S27)) * _SECOND
    return z ^ (z >> _S31)


def unit(bits: Any) -> Any:
    """Turn 64 random bits into a float64 in [0, 1) with 53 random bits."""
    return (bits >> _S11) * _ULP


def uniform(
    seed: int, episodes: ArrayLike, ticks: ArrayLike, stream: int, size: int
) -> NDArray[np.float64]:
    """Draw (n, size) numbers in [0, 1) for n arenas.

    Args:
        seed: the run's seed; negative numbers are taken modulo 2**64.
        episodes: (n,) episode index of each arena.
        ticks: (n,) tick within the episode of each arena.
        stream: what the numbers are for; streams are independent.
        size: how many numbers per arena.
    """
    with np.errstate(over="ignore"):
        key = mix(np.uint64(seed % 2**64), np.asarray(episodes).astype(np.uint64))
        key = mix(key, np.asarray(ticks).astype(np.uint64))
        key = mix(key, np.uint64(stream))
        index = np.arange(size, dtype=np.uint64)
        result: NDArray[np.float64] = unit(mix(key[:, None], index[None, :]))
    return result


@contextmanager
def global_generators_kept() -> Iterator[None]:
    """Let Python's, NumPy's and PyTorch's global generators be as they were afterwards."""
    import torch  # which the simulator does without

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
