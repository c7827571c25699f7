"""``import skilldistill`` registers the environments without loading Gymnasium itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

MADE = "env = gymnasium.make('skilldistill/Aiming-v0'); print(env.reset(seed=0)[0].shape)"


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        f"import skilldistill, gymnasium; {MADE}",
        f"import gymnasium, skilldistill; {MADE}",
        f"import skilldistill; import gymnasium.vector; {MADE}",
        "import skilldistill; from importlib.util import find_spec; found = find_spec('gymnasium');"
        f"assert found.loader.path == found.origin; import gymnasium; {MADE}",
        "import gymnasium; env = gymnasium.make('skilldistill:skilldistill/Aiming-v0');"
        "print(env.reset(seed=0)[0].shape)",
    ],
    ids=[
        "skilldistill first",
        "gymnasium first",
        "a submodule of it",
        "asked for first",
        "named in the id",
    ],
)
def test_environments_are_made_in_either_order_of_imports(code: str) -> None:
    assert run(code) == "(5,)"


def test_importing_skilldistill_loads_nothing_heavy() -> None:
    heavy = "{'gymnasium', 'numpy', 'numba', 'torch', 'stable_baselines3', 'h5py'}"
    assert run(f"import sys, skilldistill; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_all_four_ids_are_registered_once_with_a_vector_entry_point() -> None:
    code = """
import skilldistill, gymnasium
from skilldistill.duel.registration import register_envs, register_when_loaded
register_when_loaded(); register_envs()
ids = sorted(k for k in gymnasium.registry if k.startswith("skilldistill/"))
print(*ids, all(gymnasium.registry[k].vector_entry_point for k in ids))
"""
    assert run(code) == (
        "skilldistill/Aiming-v0 skilldistill/Clicking-v0 skilldistill/Combined-v0 "
        "skilldistill/Movement-v0 True"
    )


def test_gymnasium_looks_as_if_nobody_had_waited_for_it() -> None:
    code = """
import skilldistill, sys, importlib
import gymnasium
waiting = [f for f in sys.meta_path if type(f).__module__.startswith("skilldistill")]
print(waiting, type(gymnasium.__spec__.loader).__name__, type(gymnasium.__loader__).__name__)
importlib.reload(gymnasium)
"""
    assert run(code) == "[] SourceFileLoader SourceFileLoader"


def test_without_gymnasium_the_package_still_imports() -> None:
    code = """
import sys
sys.modules["gymnasium"] = None
import skilldistill
try:
    import gymnasium
except ImportError as error:
    print(type(error).__name__)
"""
    assert run(code) == "ModuleNotFoundError"
