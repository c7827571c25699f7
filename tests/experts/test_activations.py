"""Activations equal those of torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from skilldistill.experts.activations import (
    ACTIVATIONS,
    DEFAULT_ALPHA,
    TORCH_NAMES,
    erf,
    sigmoid,
)

GRID = np.concatenate([np.linspace(-20, 20, 4001), [-1e4, -200, 200, 1e4]]).astype(np.float32)


@pytest.mark.parametrize("name", TORCH_NAMES)
def test_equals_torch(name: str) -> None:
    found = GRID.copy()
    short = TORCH_NAMES[name]
    ACTIVATIONS[short](found, DEFAULT_ALPHA.get(short, 0.0))
    expected = getattr(torch.nn, name)()(torch.from_numpy(GRID)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-6)


def test_sigmoid_is_accurate_where_it_is_tiny() -> None:
    assert sigmoid(np.array([-50.0], np.float32))[0] == pytest.approx(math.exp(-50), rel=1e-5)
    np.testing.assert_array_equal(sigmoid(np.array([-1e30, 1e30], np.float32)), [0, 1])


def test_erf_is_the_error_function() -> None:
    expected = [math.erf(float(x)) for x in GRID]
    np.testing.assert_allclose(erf(GRID), expected, atol=5e-7)
