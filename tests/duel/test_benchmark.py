"""The benchmark runs, so that it does not rot between measurements."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "duel.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_of_the_duel", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_figure_can_be_measured(benchmark: Any) -> None:
    assert benchmark.batch_speed("movement", 8, 0.001, 1) > 1000
    assert benchmark.alone_speed("aiming", 0.001, 1) > 100
    found = benchmark.phase_shares("clicking", 8, 0.001, 1)
    assert found["whole step"] > 0
    assert all(value >= 0 for value in found.values())


def test_a_short_soak_finds_nothing_impossible(benchmark: Any) -> None:
    found = benchmark.soak("combined", 4 * 2048)
    assert found["arena-ticks"] == 4 * 2048
    assert found["lowest feet, blocks"] == 0
    assert 0 < found["fastest, blocks per tick"] < 2
