from __future__ import annotations

import subprocess
import sys

import pytest

import skilldistill

HEAVY = ("torch", "stable_baselines3", "gymnasium", "h5py", "numpy", "numba", "matplotlib")


def loaded_after(statement: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after a statement."""
    code = f"import sys; {statement}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


def test_the_public_names_are_these() -> None:
    assert skilldistill.__all__ == [
        "DistillationModel",
        "DistilledPolicyNetwork",
        "Workspace",
        "__version__",
        "load_policy",
        "stages",
    ]


@pytest.mark.parametrize("name", skilldistill.__all__)
def test_every_public_name_can_be_had_and_is_listed(name: str) -> None:
    assert getattr(skilldistill, name) is not None
    assert name in dir(skilldistill)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        skilldistill.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import skilldistill", set()),
        ("from skilldistill import stages", set()),
        ("from skilldistill import Workspace", set()),
        ("import skilldistill.config, skilldistill.domain, skilldistill.errors", set()),
        ("from skilldistill import load_policy", set()),
        ("from skilldistill.evaluation import rollout, statistics, report, page", {"numpy"}),
        ("from skilldistill import DistillationModel", {"numpy"}),
        ("from skilldistill.stages import evaluate", {"numpy"}),
    ],
)
def test_imports_load_no_more_than_they_need(statement: str, allowed: set[str]) -> None:
    assert loaded_after(statement) <= allowed
