import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from skilldistill import stages
from skilldistill.config import InitConfig
from skilldistill.errors import ConfigurationError, CorruptFile
from skilldistill.stages.init import InitResult
from skilldistill.workspace.store import Workspace
from tests.workspace.making import make, tree


def test_init_makes_a_workspace_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert stages.init() == InitResult(str(tmp_path / "workspace"), created=True, repaired="")
    assert Workspace.open(tmp_path / "workspace").artefacts() == []


def test_init_takes_a_place_from_its_configuration_or_its_argument(tmp_path: Path) -> None:
    assert stages.init(config=InitConfig(path=str(tmp_path / "a"))).created
    assert stages.init(tmp_path / "b" / "c").root == str(tmp_path / "b" / "c")
    assert not stages.init(Workspace(tmp_path / "a")).created


def test_init_twice_changes_nothing(tmp_path: Path) -> None:
    stages.init(tmp_path)
    make(Workspace.open(tmp_path))
    before = (tmp_path / "manifest.json").read_bytes(), tree(tmp_path)
    assert stages.init(tmp_path) == InitResult(str(tmp_path), created=False, repaired="")
    assert ((tmp_path / "manifest.json").read_bytes(), tree(tmp_path)) == before


def test_init_repairs_a_damaged_manifest(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path)
    first, _ = make(workspace), make(workspace)
    (tmp_path / "manifest.json").write_bytes(b"")
    result = stages.init(tmp_path)
    assert not result.created
    assert "using manifest.json.previous" in result.repaired
    assert workspace.notice == ""
    assert workspace.artefacts() == [first]


def test_init_leaves_alone_what_it_cannot_repair_and_says_what_helps(tmp_path: Path) -> None:
    make(Workspace.create(tmp_path))
    (tmp_path / "manifest.json").write_text("{")
    (tmp_path / "manifest.json.previous").write_text("{bad")
    before = tree(tmp_path)
    with pytest.raises(CorruptFile) as caught:
        stages.init(tmp_path)
    for name in ("manifest.json", "manifest.json.previous"):
        assert f"{tmp_path / name} " in caught.value.message
    assert "backup" in caught.value.hint
    assert "--workspace" not in caught.value.hint  # the directory is the right one
    assert tree(tmp_path) == before


def test_init_refuses_a_file_and_another_programs_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(CorruptFile):
        stages.init(tmp_path)
    with pytest.raises(ConfigurationError):
        stages.init(tmp_path / "manifest.json")


# --- the package that holds the stages --------------------------------------------------------


LIGHT = ("init", "ls", "show", "verify", "gc", "rm", "export")


@pytest.mark.parametrize("name", LIGHT)
def test_a_stages_name_means_its_function_however_its_module_was_imported(name: str) -> None:
    for first in ("", f"import skilldistill.stages.{name}; "):
        code = (
            f"{first}from skilldistill import stages; from types import FunctionType\n"
            f"assert isinstance(stages.{name}, FunctionType), stages.{name}\n"
            f"import importlib, skilldistill.stages.{name}\n"
            f"module = importlib.import_module('skilldistill.stages.{name}')\n"
            f"assert stages.{name} is module.{name}\n"
            f"from skilldistill.stages import {name} as imported\n"
            f"assert imported is module.{name}\n"
            f"importlib.reload(module); assert stages.{name} is module.{name}"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_configurations_and_results_are_found_beside_the_stages() -> None:
    assert stages.InitConfig is InitConfig
    assert stages.InitResult is InitResult
    assert stages.CollectConfig.__module__ == "skilldistill.config"
    for name in LIGHT:
        module = importlib.import_module(f"skilldistill.stages.{name}")
        assert getattr(stages, f"{name.title()}Result") is getattr(module, f"{name.title()}Result")


def test_names_that_are_no_stages_are_attribute_errors() -> None:
    for name in ("nothing", "NothingConfig", "Config", "initResult", "__wrapped__"):
        with pytest.raises(AttributeError, match=name):
            getattr(stages, name)
    assert {"collect", "ls", "experts_add"} <= set(dir(stages))


def test_modules_that_are_no_stages_are_found_as_modules() -> None:
    references = importlib.import_module("skilldistill.stages.references")
    assert stages.references is references


def test_importing_the_stages_loads_nothing_heavy() -> None:
    code = (
        "import sys; from skilldistill import stages; stages.CollectConfig; stages.LsResult\n"
        "heavy = 'torch stable_baselines3 gymnasium h5py numpy filelock'.split()\n"
        "assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_stage_can_be_replaced_for_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stages, "ls", len)
        assert stages.ls is len
    assert stages.ls is importlib.import_module("skilldistill.stages.ls").ls
