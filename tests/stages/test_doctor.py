from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from skilldistill.config import DoctorConfig
from skilldistill.domain import Domain
from skilldistill.errors import NotFound
from skilldistill.stages import expert_references
from skilldistill.stages.doctor import Check, DoctorResult, doctor
from skilldistill.workspace.store import Workspace
from tests.tiny_workspace import add_experts
from tests.workspace.making import make


def by_name(result: DoctorResult) -> Mapping[str, Check]:
    return {check.name: check for check in result.checks}


def test_a_broken_library_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def broken(name: str, *args: Any) -> Any:
        if name == "h5py":
            raise ImportError("libhdf5.so: cannot open shared object file\nmore")
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", broken)
    result = doctor()
    found = by_name(result)["h5py"]
    assert not result.ok
    assert found.status == "error"
    assert found.detail == "ImportError: libhdf5.so: cannot open shared object file"
    assert "--force-reinstall h5py" in found.hint
    assert by_name(result)["numpy"].status == "ok"


def test_missing_experts_are_found_with_what_the_error_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(workspace: Workspace | None, domain: Domain) -> Any:
        raise NotFound("no expert for skill 'x'", hint="run `train`")

    monkeypatch.setattr(expert_references, "find_experts", none)
    found = by_name(doctor())["experts"]
    assert (found.status, found.detail, found.hint) == (
        "error",
        "no expert for skill 'x'",
        "run `train`",
    )


def test_the_domain_plays(tmp_path: Path) -> None:
    found = by_name(doctor(Workspace.create(tmp_path)))
    assert found["domain"].status == "ok"
    assert found["domain"].detail.startswith("duel plays")
    assert found["workspace"].detail == f"{tmp_path}: 0 artefacts"


def test_a_nearly_full_disk_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("skilldistill.stages.doctor")
    monkeypatch.setattr(module, "MINIMUM_FREE", 1 << 62)
    found = by_name(doctor())["disk"]
    assert found.status == "warning"
    assert "skilldistill gc" in found.hint


@pytest.fixture
def damaged(tmp_path: Path) -> Workspace:
    """A workspace of which neither manifest can be read."""
    workspace = Workspace.create(tmp_path / "ws")
    make(workspace)
    (workspace.root / "manifest.json").write_text("{")
    (workspace.root / "manifest.json.previous").write_text("{bad")
    return Workspace.open(workspace.root)


def test_a_manifest_beyond_repair_is_damage(damaged: Workspace) -> None:
    result = doctor(damaged)
    found = by_name(result)["workspace"]
    assert (found.status, found.damaged) == ("error", True)
    assert "manifest.json.previous" in found.detail
    assert "backup" in found.hint
    failure = result.failure()
    assert failure is not None
    assert failure.exit_code == 3
    assert "backup" in failure.hint


def test_a_manifest_that_can_be_repaired_is_a_warning_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = Workspace.create(tmp_path / "ws")
    make(workspace)
    (workspace.root / "manifest.json").write_text("{")
    result = doctor(Workspace.open(workspace.root))
    found = by_name(result)["workspace"]
    assert found.status == "warning"
    assert found.detail.count(str(workspace.root)) == 1
    assert found.detail.count("is no JSON") == 1
    assert "skilldistill init" in found.hint
    assert caplog.records == []
    assert result.failure() is None


def test_the_experts_of_another_domain_are_checked(tmp_path: Path) -> None:
    made = Workspace.create(tmp_path)
    add_experts(made)
    found = by_name(doctor(made, DoctorConfig(domain="tiny")))
    assert found["domain"].detail.startswith("tiny plays")
    assert found["experts"].detail == "steer expert:steer@1, ring expert:ring@1"


def test_a_workspace_of_another_domain_is_noticed(tmp_path: Path) -> None:
    made = Workspace.create(tmp_path)
    add_experts(made)
    found = by_name(doctor(made))["workspace"]
    assert (found.status, found.hint) == (
        "ok",
        "`skilldistill doctor --domain tiny` looks at the experts of this workspace",
    )
    assert by_name(doctor(made, DoctorConfig(domain="tiny")))["workspace"].hint == ""
