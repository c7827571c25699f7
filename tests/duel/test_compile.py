"""Compiled code is kept on disk under a name that says which sources it was made from."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from skilldistill.duel import compile as compiling


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's shape: two sources and the random numbers beside them."""
    folder = tmp_path / "skilldistill" / "duel"
    folder.mkdir(parents=True)
    (folder / "compile.py").write_text("one = 1\n")
    (folder / "rules.py").write_text("reach = 3.0\n")
    (folder.parent / "randomness.py").write_text("golden = 1\n")
    monkeypatch.setattr(compiling, "__file__", str(folder / "compile.py"))
    return folder


def folder_for(configured: str = "") -> Path:
    """As if the process had just begun."""
    return compiling._folder.__wrapped__(configured)


def test_the_same_sources_share_a_folder(package: Path) -> None:
    first = folder_for()
    assert first.parent == package / "__pycache__"
    assert folder_for() == first


@pytest.mark.parametrize("name", ["rules.py", "compile.py", "../randomness.py"])
def test_changing_a_source_changes_the_folder(package: Path, name: str) -> None:
    before = folder_for()
    (package / name).write_text("reach = 3.1\n")
    assert folder_for() != before


def test_adding_a_source_changes_the_folder(package: Path) -> None:
    before = folder_for()
    (package / "armour.py").write_text("weight = 1\n")
    assert folder_for() != before


def test_old_versions_compiled_code_is_thrown_away(package: Path) -> None:
    old = folder_for()
    old.mkdir(parents=True)
    (old / "kernel.nbc").write_text("code")
    assert folder_for() == old
    (package / "rules.py").write_text("reach = 3.1\n")
    new = folder_for()
    assert old.exists()  # somebody may still be using it
    long_ago = time.time() - 30 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    new.mkdir()
    os.utime(new, (long_ago, long_ago))
    assert folder_for() == new
    assert (old.exists(), new.exists()) == (False, True)


def test_a_source_further_down_changes_the_folder(package: Path) -> None:
    before = folder_for()
    (package / "drawing").mkdir()
    (package / "drawing" / "files.py").write_text("colours = 256\n")
    assert folder_for() != before


def test_another_process_may_throw_the_same_away(package: Path) -> None:
    base = folder_for().parent
    base.mkdir(parents=True, exist_ok=True)
    (base / "kernels-0000").symlink_to(base / "gone")
    assert folder_for().parent == base


def test_a_configured_folder_is_used(package: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "cache"
    assert folder_for(str(elsewhere)).parent == elsewhere / "skilldistill"


def test_where_the_package_cannot_be_written_the_users_cache_is_used(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling.os, "access", lambda path, mode: False)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "home" / name)
    assert folder_for().parent == tmp_path / "home" / "skilldistill"


def test_division_by_zero_gives_infinity_as_in_numpy() -> None:
    @compiling.kernel
    def divide(a: float, b: float) -> float:
        return a / b

    assert divide(1.0, 0.0) == np.inf
    assert np.isnan(divide(0.0, 0.0))
