import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skilldistill import stages
from skilldistill.config import ExportConfig
from skilldistill.errors import (
    ConfigurationError,
    CorruptFile,
    DiskProblem,
    Interrupted,
    Locked,
)
from skilldistill.progress import Progress
from skilldistill.stages.export import ExportResult
from skilldistill.workspace.files import digest
from skilldistill.workspace.store import Workspace
from tests.workspace.making import make, tree


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    return Workspace.create(tmp_path / "ws")


def export(workspace: Workspace, reference: str, output: str = "", **more: bool) -> ExportResult:
    return stages.export(workspace, ExportConfig(reference=reference, output=output, **more))


def test_a_directory_is_exported_with_where_it_came_from(
    workspace: Workspace, tmp_path: Path
) -> None:
    dataset = make(workspace)
    checkpoint = make(workspace, "checkpoint", "distilled", parents=[dataset.id])
    result = export(workspace, "distilled")
    output = tmp_path / "out" / "distilled-1"
    assert result.output == str(output)
    assert tree(output) == ["main.bin", "provenance.json", "sub", "sub/more.json"]
    provenance = json.loads((output / "provenance.json").read_text())
    assert provenance["artefact"]["id"] == checkpoint.id
    assert provenance["artefact"]["config"] == {"size": 7}
    assert provenance["lineage"][0]["ref"] == "dataset:aiming@1"
    for entry in provenance["files"]:
        assert digest(output / entry["path"]) == entry["sha256"]
    assert result.files[-1] == str(output / "provenance.json")


@pytest.mark.parametrize(
    ("output", "file"),
    [
        ("", "aiming-1.h5"),
        ("data.h5", "data.h5"),
        ("new/", "new/aiming-1.h5"),
        (".", "aiming-1.h5"),
    ],
)
def test_a_dataset_is_exported_as_a_file(
    workspace: Workspace, tmp_path: Path, output: str, file: str
) -> None:
    make(workspace)
    result = export(workspace, "aiming", output)
    assert result.files == tuple(
        str(tmp_path / "out" / name) for name in (file, f"{file}.provenance.json")
    )
    assert Path(file).read_bytes() == b"content"
    assert json.loads(Path(f"{file}.provenance.json").read_text())["files"][0]["path"] == (
        Path(file).name
    )


def test_what_is_there_is_written_over_only_by_force(workspace: Workspace) -> None:
    make(workspace, "expert")
    Path("aiming").mkdir()
    Path("aiming/main.bin").write_text("mine")
    Path("aiming/other").write_text("mine")
    with pytest.raises(ConfigurationError, match="is there already") as caught:
        export(workspace, "aiming", "aiming")
    assert "--force" in caught.value.hint
    assert tree(Path("aiming")) == ["main.bin", "other"]
    export(workspace, "aiming", "aiming", force=True)
    assert Path("aiming/main.bin").read_bytes() == b"content"
    assert Path("aiming/other").read_text() == "mine"


def test_a_link_in_the_way_is_replaced_and_not_followed(workspace: Workspace) -> None:
    make(workspace)
    Path("precious").write_text("mine")
    Path("data.h5").symlink_to("precious")
    export(workspace, "aiming", "data.h5", force=True)
    assert Path("precious").read_text() == "mine"
    assert not Path("data.h5").is_symlink()


def test_the_output_must_be_usable_and_outside(workspace: Workspace) -> None:
    make(workspace, "expert")
    with pytest.raises(ConfigurationError, match="lies in the workspace"):
        export(workspace, "aiming", str(workspace.root / "experts" / "copy"))
    Path("link").symlink_to(workspace.root / "experts")
    with pytest.raises(ConfigurationError, match="lies in the workspace"):
        export(workspace, "aiming", "link/copy")
    Path("file").touch()
    with pytest.raises(ConfigurationError, match="is a file"):
        export(workspace, "aiming", "file")


def test_a_dry_run_writes_nothing(workspace: Workspace) -> None:
    make(workspace, "expert")
    told = export(workspace, "aiming", dry_run=True)
    assert told.dry_run
    assert tree(Path.cwd()) == []
    assert export(workspace, "aiming").files == told.files


def test_a_damaged_file_is_not_exported(workspace: Workspace) -> None:
    artefact = make(workspace)
    workspace.path(artefact).write_bytes(b"changed")
    with pytest.raises(CorruptFile, match="another content"):
        export(workspace, "aiming")
    workspace.path(artefact).unlink()
    with pytest.raises(CorruptFile, match="is missing"):
        export(workspace, "aiming")
    assert tree(Path.cwd()) == []


def test_a_full_disk_and_a_stop_leave_no_half_file(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(workspace, content=b"x" * 3_000_000)
    told: list[Progress] = []
    with pytest.raises(Interrupted) as caught:
        stages.export(
            workspace,
            ExportConfig(reference="aiming"),
            progress=told.append,
            stop=lambda: 2 if told else 0,
        )
    assert caught.value.exit_code == 130
    assert told[0].done == 1 << 20
    assert tree(Path.cwd()) == []

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskProblem, match="full") as caught_full:
        export(workspace, "aiming")
    assert str(Path.cwd() / "aiming-1.h5") in caught_full.value.message
    assert str(workspace.root) not in caught_full.value.message
    assert tree(Path.cwd()) == []


def test_a_source_that_cannot_be_read_is_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = workspace.path(make(workspace))
    opened = Path.open

    class BadSector(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def open_(path: Path, mode: str = "r", **more: Any) -> Any:
        return BadSector() if path == source and "b" in mode else opened(path, mode, **more)

    monkeypatch.setattr(Path, "open", open_)
    with pytest.raises(DiskProblem, match="Input/output") as caught:
        export(workspace, "aiming")
    assert str(source) in caught.value.message
    assert tree(Path.cwd()) == []


_KILLED = """
import os, signal, sys
from skilldistill import Workspace, stages
from skilldistill.config import ExportConfig

def fsync(_):
    os.kill(os.getpid(), signal.SIGKILL)

os.fsync = fsync
stages.export(Workspace.open(sys.argv[1]), ExportConfig(reference="aiming", force=True))
"""


@pytest.mark.parametrize("kind", ["dataset", "expert"])
def test_the_next_export_removes_what_a_killed_one_left(workspace: Workspace, kind: str) -> None:
    make(workspace, kind)
    for _ in range(2):
        words = [sys.executable, "-c", _KILLED, str(workspace.root)]
        assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    left = {path for path in Path.cwd().rglob(".*") if path.is_file()}
    assert len(left) == 2  # the file of the second, and its lock: that of the first went
    mine = Path.cwd() / ".notes.h5.0123abcd"
    mine.touch()  # named alike, but for nothing that is exported
    whole = export(workspace, "aiming", force=True)
    assert {path for path in Path.cwd().rglob("*") if path.is_file()} == {
        mine,
        *map(Path, whole.files),
    }


def test_two_exports_do_not_write_to_one_place(workspace: Workspace) -> None:
    make(workspace, "expert")
    make(workspace)
    with_another: list[str] = []

    def another(report: Progress) -> None:
        with pytest.raises(Locked, match="another process exports"):
            export(workspace, "expert:aiming", "out", force=True)
        export(workspace, "dataset:aiming", "out", force=True)  # beside it
        with_another.append(report.stage)

    stages.export(
        workspace, ExportConfig(reference="expert:aiming", output="out"), progress=another
    )
    assert with_another


def test_where_nothing_can_be_locked_an_export_does_without(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(workspace)

    def unsupported(path: Path) -> None:
        raise NotImplementedError("no flock")

    monkeypatch.setattr(sys.modules[stages.export.__module__], "claim", unsupported)
    export(workspace, "aiming")
    assert tree(Path.cwd()) == ["aiming-1.h5", "aiming-1.h5.provenance.json"]
