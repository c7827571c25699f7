"""The duel's locomotion against the public engine itself, on scripts nobody has seen before.

Skipped where Node or the pinned engine is missing; ``tests/oracle/run.sh`` installs the engine.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.duel import comparing

HERE = Path(__file__).parent
TOLERANCE = 1e-9


def generate(*arguments: str) -> dict:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    if not (HERE / "node_modules" / "prismarine-physics").is_dir():
        pytest.skip("the engine is not installed: run tests/oracle/run.sh")
    done = subprocess.run(
        [node, str(HERE / "generate.js"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return comparing.read(done.stdout)


def test_the_engine_gives_the_stored_fixture_again() -> None:
    """Number for number: our generator drives the engine as the fixture's author did."""
    stored = comparing.read(comparing.FIXTURE.read_text())
    assert generate("--replay", str(comparing.FIXTURE)) == stored


def test_locomotion_matches_the_engine_on_fresh_seeds() -> None:
    seed = int(os.environ.get("SKILLDISTILL_ORACLE_SEED") or secrets.randbelow(2**32))
    fresh = generate("--seed", str(seed), "--scripts", "24", "--ticks", "400")
    assert len(fresh["scripts"]) == 24
    worst = comparing.errors(fresh["scripts"])
    assert max(worst.values()) <= TOLERANCE, f"seed {seed}: {worst}"


def test_scripts_of_a_seed_are_the_same_again_and_others_differ() -> None:
    first, again, other = (
        generate("--seed", seed, "--scripts", "1", "--ticks", "20") for seed in ("5", "5", "6")
    )
    assert first == again
    assert first["scripts"] != other["scripts"]
