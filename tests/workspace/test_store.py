import errno
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from skilldistill.errors import (
    ConfigurationError,
    CorruptFile,
    DiskProblem,
    Locked,
    NotFound,
    UnsafeFile,
)
from skilldistill.workspace import manifest as manifests
from skilldistill.workspace import store
from skilldistill.workspace.drafts import DRAFT
from skilldistill.workspace.files import acquire, digest
from skilldistill.workspace.store import Workspace
from skilldistill.workspace.verify import check_artefacts
from tests.workspace.making import make, tree


def commit_many(root: str, count: int) -> None:
    """What each process of the concurrency test does."""
    workspace = Workspace.open(root)
    for number in range(count):
        make(workspace, content=f"{os.getpid()} {number}".encode())


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


# --- opening ---------------------------------------------------------------------------------


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(store.ENVIRONMENT, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_workspace_is_found_upward(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Workspace.create(nowhere / "project" / "workspace")
    deep = nowhere / "project" / "notebooks" / "deep"
    deep.mkdir(parents=True)
    for place in (deep, nowhere / "project", nowhere / "project" / "workspace"):
        monkeypatch.chdir(place)
        assert Workspace.open().root == nowhere / "project" / "workspace"


def test_no_workspace_is_not_found_with_the_command_that_makes_one(nowhere: Path) -> None:
    with pytest.raises(NotFound, match="no workspace") as caught:
        Workspace.open()
    assert "skilldistill init" in caught.value.hint
    with pytest.raises(NotFound, match="is no workspace"):
        Workspace.open(nowhere / "other")
    assert tree(nowhere) == []


def test_an_empty_path_does_not_mean_the_current_directory(nowhere: Path) -> None:
    for attempt in (Workspace.open, Workspace.open_or_create, Workspace.create):
        with pytest.raises(ConfigurationError, match="empty path"):
            attempt("")
    assert tree(nowhere) == []


def test_the_environment_names_a_workspace(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Workspace.create(nowhere / "workspace")
    Workspace.create(nowhere / "named")
    monkeypatch.setenv(store.ENVIRONMENT, "named")
    assert Workspace.open().root == nowhere / "named"
    assert Workspace.open("workspace").root == nowhere / "workspace"
    monkeypatch.setenv(store.ENVIRONMENT, "missing")
    with pytest.raises(NotFound):
        Workspace.open()
    assert Workspace.open_or_create().root == nowhere / "missing"


def test_the_first_command_that_writes_makes_one(nowhere: Path) -> None:
    assert Workspace.open_or_create().root == nowhere / "workspace"
    assert Workspace.open_or_create().root == nowhere / "workspace"
    assert Workspace.open().artefacts() == []


def test_creating_leaves_an_existing_workspace_alone(workspace: Workspace) -> None:
    artefact = make(workspace)
    assert Workspace.create(workspace.root).artefacts() == [artefact]


def test_another_programs_manifest_is_left_alone(nowhere: Path) -> None:
    (nowhere / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(NotFound):
        Workspace.open()
    for attempt in (Workspace.open, Workspace.create):
        with pytest.raises(CorruptFile, match="no manifest of skilldistill"):
            attempt(nowhere)
    assert (nowhere / "manifest.json").read_text() == '{"name": "a web page"}'


def test_a_workspace_whose_manifests_are_both_damaged_is_found_and_kept(nowhere: Path) -> None:
    workspace = Workspace.create(nowhere / "workspace")
    make(workspace)
    (workspace.root / "manifest.json").write_text("{")
    (workspace.root / "manifest.json.previous").write_text("{bad")
    before = tree(nowhere)
    for found in (Workspace.open(), Workspace.open_or_create(), Workspace.create("workspace")):
        assert found.root == workspace.root
        for look in (found.artefacts, found.repair, lambda found=found: make(found)):
            with pytest.raises(CorruptFile, match=r"manifest\.json\.previous") as caught:
                look()
            assert caught.value.hint
    assert tree(nowhere) == before


def test_a_file_cannot_become_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="is a file"):
        Workspace.create(tmp_path / "file")


# --- publishing ------------------------------------------------------------------------------


def test_what_is_committed_is_recorded_with_its_hashes(workspace: Workspace) -> None:
    dataset = make(workspace, metrics={"episodes": 100, "bad": float("nan")})
    expert = make(workspace, "expert", parents=[dataset.id])
    assert workspace.artefacts() == [dataset, expert]
    assert workspace.artefacts("expert") == [expert]
    assert workspace.artefacts(name="other") == []
    assert workspace.path(dataset) == workspace.root / "datasets" / "aiming" / "1.h5"
    assert workspace.path(expert) == workspace.root / "experts" / "aiming" / "1"
    assert [entry.path for entry in expert.files] == [
        "experts/aiming/1/main.bin",
        "experts/aiming/1/sub/more.json",
    ]
    for entry in (*dataset.files, *expert.files):
        assert digest(workspace.root / entry.path) == entry.sha256
        assert (workspace.root / entry.path).stat().st_size == entry.bytes
    assert dataset.metrics == {"episodes": 100, "bad": None}
    assert expert.parents == (dataset.id,)
    assert (expert.ref, expert.seed, expert.status) == ("expert:aiming@1", 7, "complete")


def test_nothing_but_the_artefact_stays_behind(workspace: Workspace) -> None:
    make(workspace)
    make(workspace, "report")
    assert [path for path in tree(workspace.root) if not path.startswith(".")] == [
        "datasets",
        "datasets/aiming",
        "datasets/aiming/1.h5",
        "manifest.json",
        "manifest.json.previous",
        "reports",
        "reports/aiming",
        "reports/aiming/1",
        "reports/aiming/1/main.bin",
        "reports/aiming/1/sub",
        "reports/aiming/1/sub/more.json",
    ]


def test_the_same_work_in_two_workspaces_has_the_same_id(tmp_path: Path) -> None:
    first, second = Workspace.create(tmp_path / "a"), Workspace.create(tmp_path / "b")
    assert make(first).id == make(second).id
    assert make(first).id != make(first).id
    assert first.manifest().generation == 3


def test_long_work_holds_no_lock(workspace: Workspace) -> None:
    with workspace.draft("dataset", "slow") as draft:
        draft.path.write_bytes(b"slow")
        fast = make(workspace, name="fast")
        slow = draft.commit(command="", config={}, seed=0)
    assert workspace.artefacts() == [fast, slow]


def test_versions_count_up_and_are_never_given_twice(workspace: Workspace) -> None:
    first, second = make(workspace), make(workspace)
    workspace.remove([second.id])
    third = make(workspace)
    assert [a.version for a in (first, second, third)] == [1, 2, 3]
    assert make(workspace, "expert").version == 1


def test_a_link_that_leads_nowhere_takes_a_version(workspace: Workspace) -> None:
    make(workspace)
    link = workspace.root / "datasets" / "aiming" / "2.h5"
    link.symlink_to("gone.h5")
    assert make(workspace).version == 3
    assert link.readlink() == Path("gone.h5")


@pytest.mark.parametrize(
    ("kind", "name"), [("model", "a"), ("dataset", ""), ("dataset", "../a"), ("expert", ".a")]
)
def test_bad_kinds_and_names_are_refused(workspace: Workspace, kind: str, name: str) -> None:
    with pytest.raises(ConfigurationError), workspace.draft(kind, name):
        pass


def test_a_record_that_could_not_be_read_again_is_never_written(workspace: Workspace) -> None:
    kept = make(workspace)
    before = (workspace.root / "manifest.json").read_bytes(), tree(workspace.root)
    with pytest.raises(CorruptFile, match="a parent is no text"):
        make(workspace, "checkpoint", parents=[7])  # type: ignore[list-item]
    assert ((workspace.root / "manifest.json").read_bytes(), tree(workspace.root)) == before
    assert Workspace.open(workspace.root).artefacts() == [kept]


def test_everything_is_synced_before_the_manifest_changes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync = os.fsync

    def relative(path: str | Path) -> str:
        return Path(path).relative_to(workspace.root).as_posix() if path else "."

    def fsync(descriptor: int) -> None:
        name = relative(Path(f"/proc/self/fd/{descriptor}").readlink())
        steps.append("sync " + ("draft" if DRAFT in name else name.partition("-")[0]))
        sync(descriptor)

    monkeypatch.setattr("os.fsync", fsync)

    def note(word: str, function: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def noting(self: Path, target: Path) -> Path:
            steps.append(f"{word} {relative(target)}")
            return function(self, target)

        return noting

    monkeypatch.setattr(Path, "rename", note("rename to", Path.rename))
    monkeypatch.setattr(Path, "replace", note("replace", Path.replace))
    with workspace.draft("dataset", "aiming") as draft:
        draft.path.write_bytes(b"content")
        draft.commit(command="", config={}, seed=0)
    assert steps == [
        "sync draft",
        "sync datasets/aiming",
        "rename to datasets/aiming/1.h5",
        "sync datasets/aiming",
        "sync .manifest",
        "replace manifest.json.previous",
        "replace manifest.json",
        "sync .",
    ]


# --- failing disks ---------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["manifest", "directory", "rename"])
def test_a_full_disk_while_committing_changes_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    kept = make(workspace)
    before = (workspace.root / "manifest.json").read_bytes(), tree(workspace.root)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if step == "manifest":
            patch.setattr(manifests, "encode", full)
        elif step == "directory":
            patch.setattr(manifests, "sync_directory", lambda _: None)
            patch.setattr(store, "sync_directory", full)
        else:
            patch.setattr(Path, "rename", full)
        with pytest.raises(DiskProblem, match="full"):
            make(workspace)
    assert ((workspace.root / "manifest.json").read_bytes(), tree(workspace.root)) == before
    assert workspace.artefacts() == [kept]
    assert make(workspace).version == 2


def test_an_error_after_the_manifest_was_replaced_loses_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        if path == workspace.root:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(manifests, "sync_directory", fail)
        with pytest.raises(DiskProblem, match="Input/output"):
            make(workspace)
    (artefact,) = workspace.artefacts()
    assert workspace.path(artefact).read_bytes() == b"content"


# --- reading what may have been tampered with -------------------------------------------------


def test_a_missing_artefact_is_corrupt_with_the_command_to_run(workspace: Workspace) -> None:
    artefact = make(workspace)
    workspace.path(artefact).unlink()
    with pytest.raises(CorruptFile, match="is missing") as caught:
        workspace.path(artefact)
    assert "skilldistill verify" in caught.value.hint


def test_a_link_out_of_the_workspace_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    artefact = make(workspace)
    outside = tmp_path / "outside.h5"
    outside.write_bytes(b"content")
    workspace.path(artefact).unlink()
    (workspace.root / artefact.place).symlink_to(outside)
    with pytest.raises(UnsafeFile, match="leads out"):
        workspace.path(artefact)
    (tmp_path / "folder").mkdir()
    (workspace.root / "experts").symlink_to(tmp_path / "folder")
    with pytest.raises(UnsafeFile, match="leads out"):
        make(workspace, "expert")
    with pytest.raises(UnsafeFile, match="refused"):
        workspace.locate("../outside.h5")


def test_a_workspace_may_itself_be_reached_through_a_link(
    workspace: Workspace, tmp_path: Path
) -> None:
    artefact = make(workspace)
    (tmp_path / "link").symlink_to(workspace.root)
    linked = Workspace.open(tmp_path / "link")
    assert linked.path(artefact).read_bytes() == b"content"
    assert make(linked).version == 2


def test_a_damaged_manifest_is_read_from_the_previous_and_said_once(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = make(workspace), make(workspace)
    (workspace.root / "manifest.json").write_bytes(b'{"format": "skilldistill.workspace"')
    with caplog.at_level(logging.WARNING):
        assert workspace.artefacts() == [first]
        assert workspace.artefacts() == [first]
    (record,) = caplog.records
    assert "using manifest.json.previous, generation 1" in record.getMessage()
    assert "skilldistill init" in record.getMessage()
    assert "using manifest.json.previous" in workspace.notice


def test_committing_past_a_damaged_manifest_overwrites_neither_it_nor_its_artefacts(
    workspace: Workspace,
) -> None:
    first, _lost = make(workspace), make(workspace, content=b"lost record")
    (workspace.root / "manifest.json").write_bytes(b"damaged")
    third = make(workspace)
    assert third.version == 3
    assert workspace.artefacts() == [first, third]
    assert workspace.manifest().generation == 3
    assert workspace.notice == ""
    assert (workspace.root / "datasets/aiming/2.h5").read_bytes() == b"lost record"
    assert (workspace.root / "manifest.json.damaged").read_bytes() == b"damaged"


def test_repairing_goes_on_from_the_previous_manifest(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = make(workspace), make(workspace)
    assert workspace.repair() == ""
    (workspace.root / "manifest.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert "is missing" in workspace.repair()
    assert caplog.records == []  # what is returned is not logged, too
    assert workspace.notice == ""
    assert workspace.artefacts() == [first]
    assert "was gone" in (workspace.root / "manifest.json.damaged").read_text()


def test_artefacts_without_any_manifest_are_not_made_garbage(workspace: Workspace) -> None:
    artefact = make(workspace)
    for name in ("manifest.json", "manifest.json.previous"):
        (workspace.root / name).unlink(missing_ok=True)
    with pytest.raises(CorruptFile, match=r"no manifest, but .* datasets/aiming/1\.h5") as caught:
        Workspace.open_or_create(workspace.root)
    assert "backup" in caught.value.hint
    assert not (workspace.root / "manifest.json").exists()
    (workspace.root / artefact.place).rename(workspace.root / "datasets/aiming/notes.h5")
    assert Workspace.create(workspace.root).artefacts() == []


def test_readers_need_no_lock_and_write_nothing(workspace: Workspace) -> None:
    artefact = make(workspace)
    lock = workspace.root / manifests.LOCK_FILE
    with acquire(lock):
        assert workspace.resolve("aiming") == artefact
    lock.unlink()
    before = tree(workspace.root)
    Workspace.open(workspace.root).artefacts()
    assert tree(workspace.root) == before


# --- several processes -----------------------------------------------------------------------


def test_a_lock_that_is_held_too_long_is_an_error(workspace: Workspace) -> None:
    workspace.lock_timeout = workspace.commit_timeout = 0.1
    before = tree(workspace.root)
    with acquire(workspace.root / manifests.LOCK_FILE):
        with pytest.raises(Locked, match=r"holds .*lock") as caught:
            make(workspace)
        with pytest.raises(Locked):
            workspace.remove([])
    assert caught.value.exit_code == 5
    assert tree(workspace.root) == before
    assert make(workspace).version == 1


def test_finished_work_waits_longer_for_the_lock_than_other_changes(workspace: Workspace) -> None:
    assert Workspace.commit_timeout == 60.0
    workspace.lock_timeout, workspace.commit_timeout = 0.01, 30.0
    lock = acquire(workspace.root / manifests.LOCK_FILE)
    with pytest.raises(Locked):
        workspace.repair()
    release = threading.Timer(0.3, lock.release)
    release.start()
    assert make(workspace).version == 1
    release.join()


def test_commits_of_several_processes_all_land(workspace: Workspace) -> None:
    processes = [
        multiprocessing.get_context("spawn").Process(
            target=commit_many, args=(str(workspace.root), 8)
        )
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    made = workspace.artefacts()
    assert sorted(artefact.version for artefact in made) == list(range(1, 17))
    assert len({workspace.path(artefact).read_bytes() for artefact in made}) == 16
    assert workspace.manifest().generation == 16


def test_commits_of_several_threads_all_land(workspace: Workspace) -> None:
    threads = [
        threading.Thread(target=commit_many, args=(str(workspace.root), 5)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(a.version for a in workspace.artefacts()) == list(range(1, 16))


KILLED = """
import os, sys
from skilldistill.workspace import manifest as manifests, store
from tests.workspace.making import make

def die(*_, **__):
    os._exit(9)

workspace = store.Workspace.open(sys.argv[1])
if sys.argv[2] == "writing":
    with workspace.draft("checkpoint", "aiming") as draft:
        (draft.path / "half").write_bytes(b"half")
        die()
if sys.argv[2] == "renamed":
    manifests.save = die
if sys.argv[2] == "saving":
    manifests._copy_over = die
make(workspace, "checkpoint")
"""


@pytest.mark.parametrize("moment", ["writing", "renamed", "saving"])
def test_a_killed_process_harms_nothing(workspace: Workspace, moment: str) -> None:
    kept = make(workspace, "checkpoint")
    before = (workspace.root / "manifest.json").read_bytes()
    assert run_python(KILLED, str(workspace.root), moment).returncode == 9
    assert (workspace.root / "manifest.json").read_bytes() == before
    assert workspace.artefacts() == [kept]
    # The place after a rename that was not recorded is taken: the next version goes past it.
    assert make(workspace, "checkpoint").version == (2 if moment == "writing" else 3)


# --- removing --------------------------------------------------------------------------------


def test_removing_takes_the_record_and_the_files(workspace: Workspace) -> None:
    first, second = make(workspace), make(workspace, "expert")
    assert workspace.remove([first.id, second.id]) == [first, second]
    assert workspace.artefacts() == []
    assert not [path for path in tree(workspace.root) if "aiming" in path]


def test_parents_are_kept_unless_forced(workspace: Workspace) -> None:
    parent = make(workspace)
    child = make(workspace, "checkpoint", parents=[parent.id])
    with pytest.raises(ConfigurationError, match="parent of checkpoint:aiming@1") as caught:
        workspace.remove([parent.id])
    assert "--force" in caught.value.hint
    assert workspace.path(parent).exists()
    workspace.remove([parent.id], force=True)
    assert workspace.artefacts() == [child]
    assert child.parents == (parent.id,)


def test_parents_go_together_with_their_children(workspace: Workspace) -> None:
    parent = make(workspace)
    child = make(workspace, "checkpoint", parents=[parent.id])
    workspace.remove([parent.id, child.id])
    assert workspace.artefacts() == []


def test_removing_what_is_not_there_is_not_found(workspace: Workspace) -> None:
    artefact = make(workspace)
    with pytest.raises(NotFound, match="f00f"):
        workspace.remove([artefact.id, "f00f"])
    assert workspace.artefacts() == [artefact]


def test_removing_never_deletes_through_a_link(workspace: Workspace, tmp_path: Path) -> None:
    artefact = make(workspace, "expert")
    outside = tmp_path / "outside"
    (workspace.root / "experts").rename(outside)
    (workspace.root / "experts").symlink_to(outside)
    workspace.remove([artefact.id])
    assert (outside / "aiming/1/main.bin").exists()


def without_room(until: Path | None = None) -> Callable[[manifests.Manifest], bytes]:
    """In place of ``encode``: no room for a manifest until a path is gone, or not even then."""
    encode = manifests.encode

    def full(manifest: manifests.Manifest) -> bytes:
        if until is None or until.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return encode(manifest)

    return full


def test_on_a_full_disk_what_is_removed_makes_room_for_the_manifest(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = make(workspace, "expert"), make(workspace)
    monkeypatch.setattr(manifests, "encode", without_room(until=workspace.path(gone)))
    assert workspace.remove([gone.id]) == [gone]
    assert workspace.artefacts() == [kept]
    assert not (workspace.root / "datasets").exists()
    assert make(workspace).version == 2


def test_what_could_not_be_recorded_as_removed_is_missing_and_can_be_removed_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = make(workspace, "expert"), make(workspace)
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "encode", without_room())
        with pytest.raises(DiskProblem, match="dataset:aiming@1 are gone, but still recorded"):
            workspace.remove([gone.id])
    assert workspace.artefacts() == [kept, gone]
    (finding,) = check_artefacts(workspace, workspace.artefacts())
    assert (finding.problem, finding.artefact) == ("missing", gone.ref)
    assert workspace.remove([gone.id]) == [gone]
    assert workspace.artefacts() == [kept]


def test_another_failure_of_the_disk_removes_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = make(workspace)

    def broken(_: manifests.Manifest) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(manifests, "encode", broken)
    with pytest.raises(DiskProblem, match="Input/output"):
        workspace.remove([artefact.id])
    assert workspace.path(artefact).exists()


# --- what it costs ---------------------------------------------------------------------------


def test_reading_a_workspace_loads_no_heavy_library(workspace: Workspace) -> None:
    make(workspace)
    code = (
        "import sys, json; from skilldistill import stages\n"
        "from skilldistill.workspace.store import Workspace\n"
        "import skilldistill.workspace.verify\n"
        "workspace = Workspace.open(sys.argv[1])\n"
        "assert len(stages.ls(workspace).artefacts) == 1\n"
        "before = set(sys.modules)\n"
        "stages.init(workspace); stages.rm(workspace, stages.RmConfig(references=('aiming',)))\n"
        "heavy = 'torch stable_baselines3 gymnasium h5py numpy'.split()\n"
        "print(json.dumps([sorted(set(heavy) & set(sys.modules)), 'filelock' in before]))"
    )
    done = run_python(code, str(workspace.root))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], False]


def test_the_domain_of_a_workspace_is_that_of_all_that_can_be_worked_with(tmp_path: Path) -> None:
    made = Workspace.create(tmp_path)

    def add(kind: str, name: str, domain: str) -> str:
        with made.draft(kind, name) as draft:
            (draft.path / "main.bin").write_bytes(b"content")
            draft.commit(command="test", config={"domain": domain}, seed=0)
        return made.domain

    assert made.domain == ""
    assert add("expert", "drive", "rover") == "rover"
    assert add("report", "scores", "duel") == "rover"
    assert add("checkpoint", "distilled", "duel") == ""
