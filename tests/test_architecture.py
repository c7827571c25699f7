"""Holds the import direction and the weight of imports that the design asks for.

The files are parsed, not imported: what stands in a function or under TYPE_CHECKING has a
direction too, but weighs nothing when the module is loaded.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import skilldistill

ROOT = Path(skilldistill.__file__).parent
FLOORS = (
    {
        *("errors", "config", "domain", "contract", "progress", "randomness", "regular"),
        *("settings", "palette", "single", "threads", "training_state"),
    },
    {"duel", "workspace", "data"},
    {"experts", "policy"},
    {"learning", "evaluation"},
    {"stages"},
    {"cli"},
)
BELOW = (
    ("skilldistill.learning.losses", "skilldistill.learning.measures"),
    ("skilldistill.learning.rows", "skilldistill.learning.measures"),
    ("skilldistill.stages.expert_references", "skilldistill.stages.references"),
)
"""Pairs on one floor of which the second imports the first, never the other way round."""
TOP = {"skilldistill", "skilldistill.__main__"}
"""Above every floor; only the version may be taken from the package itself."""

TORCH = frozenset({"torch", "stable_baselines3"})
HEAVY = TORCH | {"gymnasium", "h5py", "numpy", "numba", "matplotlib"}
CORE = ("skilldistill.duel", "skilldistill.workspace", "skilldistill.data")
LIGHT_OF_TORCH = (
    *CORE,
    "skilldistill.evaluation",
    "skilldistill.experts.sb3_zip",
    "skilldistill.experts.network",
    "skilldistill.experts.composite",
    "skilldistill.learning.collect",
)
WEIGHTLESS = (
    "skilldistill.workspace",
    "skilldistill.cli",
    "skilldistill.config",
    "skilldistill.settings",
    "skilldistill.errors",
    "skilldistill.progress",
    "skilldistill.domain",
    "skilldistill.stages.references",
    "skilldistill.stages.expert_references",
)


@dataclass(frozen=True)
class Import:
    """One imported module, and whether loading the importing file loads it."""

    module: str
    eager: bool
    line: int


def module_name(path: Path) -> str:
    parts = ("skilldistill", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
SOURCES = sorted(MODULES)


@cache
def imports(module: str) -> tuple[Import, ...]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    return tuple(_walk(tree, eager=True))


def _walk(node: ast.AST, *, eager: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, eager, child.lineno)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"relative import in line {child.lineno}"
            assert child.module is not None
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                yield Import(inner if inner in MODULES else child.module, eager, child.lineno)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _walk(child, eager=False)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from _walk(ast.Module([part], []), eager=False)
            for part in child.orelse:
                yield from _walk(ast.Module([part], []), eager=eager)
        else:
            yield from _walk(child, eager=eager)


def floor(module: str) -> int:
    package = module.split(".")[1]
    for number, names in enumerate(FLOORS):
        if package in names:
            return number
    raise AssertionError(f"{module} stands on no floor")


@cache
def loads(module: str) -> frozenset[str]:
    """Top-level packages from outside that loading a module of ours loads, directly or not."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if current not in MODULES:
            found.add(current.split(".")[0])
            continue
        package, _, _ = current.rpartition(".")
        waiting += [package] if package else []
        waiting += [entry.module for entry in imports(current) if entry.eager]
    return frozenset(found)


def under(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


@pytest.mark.parametrize("module", [name for name in SOURCES if name not in TOP])
def test_a_file_imports_only_from_floors_below(module: str) -> None:
    here, package = floor(module), module.split(".")[1]
    for entry in imports(module):
        if not entry.module.startswith("skilldistill."):
            continue
        other = entry.module.split(".")[1]
        where = f"{MODULES[module]}:{entry.line} imports {entry.module}"
        assert entry.module not in TOP, where
        if other != package:
            there = floor(entry.module)
            assert there < here or there == here == 0, where


@pytest.mark.parametrize(("module", "above"), BELOW)
def test_a_file_does_not_name_what_stands_on_it(module: str, above: str) -> None:
    assert above not in {entry.module for entry in imports(module)}
    assert module in {entry.module for entry in imports(above)}


@pytest.mark.parametrize("module", [name for name in SOURCES if under(name, LIGHT_OF_TORCH)])
def test_these_load_neither_torch_nor_stable_baselines3(module: str) -> None:
    assert not loads(module) & TORCH


@pytest.mark.parametrize("module", [name for name in SOURCES if under(name, CORE)])
def test_the_core_does_not_name_torch_even_lazily(module: str) -> None:
    named = {entry.module.split(".")[0] for entry in imports(module)}
    assert not named & TORCH


@pytest.mark.parametrize("module", [name for name in SOURCES if under(name, WEIGHTLESS)])
def test_these_load_nothing_heavy(module: str) -> None:
    assert not loads(module) & HEAVY


@pytest.mark.parametrize(
    "module", [name for name, path in MODULES.items() if path.name == "__init__.py"]
)
def test_a_package_loads_nothing_heavy_by_itself(module: str) -> None:
    assert not loads(module) & HEAVY


def test_every_file_says_what_it_is_for() -> None:
    for module, path in MODULES.items():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), module


def test_there_is_no_drawer() -> None:
    assert not [name for name in SOURCES if name.endswith((".utils", ".helpers", ".common"))]


def test_the_pipeline_does_not_name_the_built_in_domain() -> None:
    """It finds it by name. Only the package itself does: it registers Gymnasium's ids."""
    for module in SOURCES:
        if module in TOP or under(module, ("skilldistill.duel",)):
            continue
        for entry in imports(module):
            assert not entry.module.startswith("skilldistill.duel"), f"{module}:{entry.line}"


def test_the_parser_sees_lazy_and_typing_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the guard: each kind of import is found, and weighed."""
    code = (
        "import a\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b\n"
        "else:\n    import c\ndef f():\n    import d\ntry:\n    import e\n"
        "except ImportError:\n    pass\nclass K:\n    import g\n"
    )
    found = {entry.module: entry.eager for entry in _walk(ast.parse(code), eager=True)}
    assert found == {
        "a": True,
        "typing": True,
        "b": False,
        "c": True,
        "d": False,
        "e": True,
        "g": True,
    }
