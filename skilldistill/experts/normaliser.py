"""Observation statistics of ``VecNormalize``, from plain arrays only."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors

from skilldistill.errors import CorruptFile, UnsafeFile, excerpt
from skilldistill.experts.archive import Archive, Limits
from skilldistill.experts.network import Normaliser
from skilldistill.regular import read_regular

MAX_BYTES = 2**20
_LIMITS = Limits(members=16, member_bytes=MAX_BYTES, total_bytes=MAX_BYTES)
_VERSIONS = ((1, 0), (2, 0), (3, 0))
_NAMES = ("mean", "var", "epsilon", "clip_obs", "clip")
_HINT = (
    "write plain arrays: np.savez('vecnormalize.npz', mean=env.obs_rms.mean, var=env.obs_rms.var, "
    "epsilon=env.epsilon, clip_obs=env.clip_obs)"
)


def read_normaliser(path: Path) -> Normaliser:
    """Read arrays ``mean``, ``var`` (d,) and the numbers ``epsilon`` (1e-8), ``clip_obs`` (10).

    Args:
        path: an ``.npz`` or ``.safetensors`` file.

    Raises:
        NotFound: there is no such file.
        UnsafeFile: a pickle, or one of these arrays holds pickled objects.
        CorruptFile: anything else that is not such a file. Other entries are not looked at.
    """
    if path.suffix not in (".npz", ".safetensors"):
        raise UnsafeFile(f"{path} is neither .npz nor .safetensors and is not read", hint=_HINT)
    data = read_regular(path, MAX_BYTES, hint=_HINT)
    arrays = _safetensors(data, path) if path.suffix == ".safetensors" else _npz(data, path)
    missing = {"mean", "var"} - set(arrays)
    if missing:
        raise CorruptFile(f"{path} has no array {' and '.join(sorted(missing))}", hint=_HINT)
    return Normaliser(
        mean=_vector(arrays["mean"], path),
        var=_vector(arrays["var"], path),
        epsilon=_number(arrays.get("epsilon"), Normaliser.epsilon, path),
        clip=_number(arrays.get("clip_obs", arrays.get("clip")), Normaliser.clip, path),
    )


def _safetensors(data: bytes, path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        arrays: Mapping[str, NDArray[Any]] = parse_safetensors(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise CorruptFile(f"{path} is not a safetensors file: {excerpt(str(error))}") from error
    return arrays


def _npz(data: bytes, path: Path) -> Mapping[str, NDArray[Any]]:
    archive = Archive(io.BytesIO(data), path.name, _LIMITS)
    return {
        name: _npy(archive.read(f"{name}.npy"), path)
        for name in _NAMES
        if f"{name}.npy" in archive.names
    }


def _npy(data: bytes, path: Path) -> NDArray[Any]:
    """One array; its header is checked against the bytes there are before anything is made."""
    stream = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd headers; they are judged below
            version = npy.read_magic(stream)
            if version not in _VERSIONS:
                raise ValueError(f"format version {version}")
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(stream)
    except Exception as error:  # it is parsed as Python, which fails in many ways
        reason = excerpt(str(error)) or type(error).__name__
        raise CorruptFile(f"{path} holds something that is no array: {reason}") from error
    if dtype.hasobject:
        raise UnsafeFile(f"{path} holds pickled objects and is not read", hint=_HINT)
    body = data[stream.tell() :]
    count = shape[0] if shape else 1
    plain = len(shape) <= 1 and type(count) is int and dtype.kind in "fiu"
    if not plain or len(body) != dtype.itemsize * count:
        raise CorruptFile(
            f"{path}: an array of shape {excerpt(shape)}, type {excerpt(str(dtype))}, "
            f"in {len(body)} bytes"
        )
    return np.frombuffer(body, dtype=dtype).reshape(shape)


def _vector(array: NDArray[Any], path: Path) -> NDArray[np.float64]:
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise CorruptFile(f"{path}: expected a row of numbers, found {array.shape} {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.float64)


def _number(array: NDArray[Any] | None, default: float, path: Path) -> float:
    if array is None:
        return default
    if array.size != 1:
        raise CorruptFile(f"{path}: expected one number, found {array.shape}")
    return float(array.reshape(()))
