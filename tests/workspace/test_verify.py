import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from skilldistill.errors import CorruptFile, DiskProblem, Interrupted
from skilldistill.progress import Progress
from skilldistill.workspace import drafts, verify
from skilldistill.workspace.files import acquire, lock_file
from skilldistill.workspace.store import Workspace
from skilldistill.workspace.verify import (
    Finding,
    Removal,
    check_artefacts,
    check_surroundings,
    check_usable,
    collect_garbage,
    plan_garbage,
)
from tests.workspace.making import make, tree

KILLED = """
import os, sys
from skilldistill.workspace import manifest as manifests, store
from tests.workspace.making import make

def die(*_, **__):
    os._exit(9)

workspace = store.Workspace.open(sys.argv[1])
if sys.argv[2] == "writing":
    with workspace.draft(sys.argv[3], "killed") as draft:
        (draft.path if sys.argv[3] == "dataset" else draft.path / "half").write_bytes(b"half")
        die()
if sys.argv[2] == "renamed":
    manifests.save = die
if sys.argv[2] == "saving":
    manifests._copy_over = die
make(workspace, sys.argv[3], "killed")
"""


def kill(workspace: Workspace, moment: str, kind: str = "dataset") -> None:
    """Let another process die in the middle of publishing."""
    arguments = [str(workspace.root), moment, kind]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert done.returncode == 9


def findings(workspace: Workspace) -> list[tuple[str, str]]:
    found = check_surroundings(workspace) + check_artefacts(workspace, workspace.artefacts())
    return [(finding.problem, finding.path) for finding in found]


def age(path: Path, days: float) -> None:
    then = time.time() - days * 86_400
    for file in [*path.rglob("*"), path]:
        os.utime(file, (then, then))


def collect(workspace: Workspace, days: float = 30) -> list[Removal]:
    return collect_garbage(workspace, plan_garbage(workspace, days=days))


# --- finding ---------------------------------------------------------------------------------


def test_a_sound_workspace_has_no_findings(workspace: Workspace) -> None:
    assert findings(workspace) == []
    for kind in ("expert", "dataset", "checkpoint", "report"):
        make(workspace, kind)
        make(workspace, kind, status="interrupted")
    assert findings(workspace) == []


def test_missing_changed_and_extra_files_are_found(workspace: Workspace) -> None:
    dataset, expert = make(workspace), make(workspace, "expert")
    report = make(workspace, "report")
    path = workspace.path(expert)
    (path / "main.bin").write_bytes(b"CONTENT")
    (path / "sub" / "more.json").unlink()
    (path / "sub" / "notes.txt").touch()
    workspace.path(dataset).write_bytes(b"shorter")
    (workspace.path(report) / "main.bin").unlink()
    (workspace.path(report) / "main.bin").mkdir()
    (workspace.root / "experts" / "stray.txt").touch()
    (workspace.root / "datasets" / "aiming" / "README").touch()
    (workspace.root / "datasets" / "aiming" / "2").touch()
    found = check_surroundings(workspace) + check_artefacts(workspace, workspace.artefacts())
    assert all(finding.damage for finding in found)
    assert sorted((f.problem, f.path, f.artefact) for f in found) == [
        ("changed", "datasets/aiming/1.h5", "dataset:aiming@1"),
        ("changed", "experts/aiming/1/main.bin", "expert:aiming@1"),
        ("changed", "reports/aiming/1/main.bin", "report:aiming@1"),
        ("extra", "datasets/aiming/2", ""),
        ("extra", "datasets/aiming/README", ""),
        ("extra", "experts/aiming/1/sub/notes.txt", "expert:aiming@1"),
        ("extra", "experts/stray.txt", ""),
        ("missing", "experts/aiming/1/sub/more.json", "expert:aiming@1"),
    ]


def test_a_byte_flipped_without_a_trace_is_found(workspace: Workspace) -> None:
    path = workspace.path(make(workspace))
    before = path.stat()
    path.write_bytes(b"contenu")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert findings(workspace) == [("changed", "datasets/aiming/1.h5")]


def test_a_link_in_place_of_a_file_is_found_even_with_the_same_content(
    workspace: Workspace, tmp_path: Path
) -> None:
    inside, outside = make(workspace), make(workspace)
    target = workspace.root / "datasets" / "aiming" / ".partial-0"
    workspace.path(inside).rename(target)
    (workspace.root / inside.place).symlink_to(target)
    workspace.path(outside).rename(tmp_path / "elsewhere")
    (workspace.root / outside.place).symlink_to(tmp_path / "elsewhere")
    found = check_artefacts(workspace, workspace.artefacts())
    assert [(finding.problem, finding.path) for finding in found] == [
        ("changed", inside.place),
        ("changed", outside.place),
    ]


def test_an_unreadable_file_is_damage_and_does_not_hide_other_damage(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make(workspace), make(workspace)
    workspace.path(second).unlink()

    def fail(_: Path) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(verify, "digest", fail)
    found = check_artefacts(workspace, [first, second])
    assert [(f.problem, f.detail) for f in found] == [
        ("unreadable", "cannot be read: Input/output error"),
        ("missing", "is not there"),
    ]


def test_what_is_used_again_has_the_files_that_were_published(workspace: Workspace) -> None:
    artefact = make(workspace, "expert")
    path = workspace.path(artefact)
    (path / "notes.txt").touch()  # damage to the workspace, but not to the expert
    check_usable(workspace, artefact)
    (path / "sub" / "more.json").unlink()
    with pytest.raises(CorruptFile, match=r"expert:aiming@1: .*more\.json is not there") as caught:
        check_usable(workspace, artefact, quick=True)
    assert "skilldistill verify expert:aiming@1" in caught.value.hint


def test_a_quick_look_reads_small_files_and_measures_large_ones(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = make(workspace, content=b"content")
    path = workspace.path(artefact)
    path.write_bytes(b"contenu")
    with pytest.raises(CorruptFile, match="another content"):
        check_usable(workspace, artefact, quick=True)
    monkeypatch.setattr(verify, "QUICK_BYTES", 6)
    check_usable(workspace, artefact, quick=True)
    with pytest.raises(CorruptFile, match="another content"):
        check_usable(workspace, artefact)
    path.write_bytes(b"contents")
    with pytest.raises(CorruptFile, match="8 bytes instead of 7"):
        check_usable(workspace, artefact, quick=True)


def test_what_cannot_be_read_is_not_called_damaged(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> str:
        raise PermissionError(13, "Permission denied")

    artefact = make(workspace)
    monkeypatch.setattr(verify, "digest", refuse)
    with pytest.raises(DiskProblem, match="cannot be read: Permission denied"):
        check_usable(workspace, artefact)


def test_a_folder_behind_a_link_is_reported_and_left_alone(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "outside" / "aiming" / "7").mkdir(parents=True)
    (workspace.root / "experts").symlink_to(tmp_path / "outside")
    assert findings(workspace) == [("extra", "experts")]
    assert collect(workspace, days=0) == []
    assert (tmp_path / "outside" / "aiming" / "7").exists()


def test_files_beside_the_folders_of_artefacts_are_the_users_own(workspace: Workspace) -> None:
    (workspace.root / "notes.md").touch()
    (workspace.root / "plots").mkdir()
    assert findings(workspace) == []


def test_damage_to_the_manifest_is_found(workspace: Workspace) -> None:
    make(workspace), make(workspace)
    (workspace.root / "manifest.json").write_bytes(b"damaged")
    found = check_surroundings(workspace)
    assert [(finding.problem, finding.path) for finding in found] == [
        ("manifest", "manifest.json"),
        ("leftover", "datasets/aiming/2.h5"),
    ]
    assert found[0].damage


def test_verifying_says_how_far_it_is_and_can_be_stopped(workspace: Workspace) -> None:
    made = [make(workspace, content=b"12345"), make(workspace, content=b"123")]
    told: list[Progress] = []
    check_artefacts(workspace, made, progress=told.append)
    assert [(report.done, report.total, report.unit) for report in told] == [
        (5, 8, "byte"),
        (8, 8, "byte"),
    ]
    with pytest.raises(Interrupted) as caught:
        check_artefacts(workspace, made, stop=lambda: 15)
    assert caught.value.exit_code == 143


# --- leftovers -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dataset", "checkpoint"])
def test_a_crash_between_rename_and_manifest_leaves_what_verify_reports_and_gc_removes(
    workspace: Workspace, kind: str
) -> None:
    kept = make(workspace, kind)
    before = tree(workspace.root)
    kill(workspace, "renamed", kind)
    place = "datasets/killed/1.h5" if kind == "dataset" else "checkpoints/killed/1"
    found = {path: problem for problem, path in findings(workspace)}
    assert found.pop(place) == "leftover"
    assert set(found.values()) <= {"leftover"}
    assert not any(finding.damage for finding in check_surroundings(workspace))
    collect(workspace)
    assert findings(workspace) == []
    assert workspace.artefacts() == [kept]
    assert tree(workspace.root) == before


@pytest.mark.parametrize("moment", ["writing", "saving"])
@pytest.mark.parametrize("kind", ["dataset", "checkpoint"])
def test_whenever_a_process_is_killed_gc_restores_the_workspace(
    workspace: Workspace, moment: str, kind: str
) -> None:
    make(workspace)
    before = tree(workspace.root)
    kill(workspace, moment, kind)
    assert {problem for problem, _ in findings(workspace)} == {"leftover"}
    collect(workspace)
    assert tree(workspace.root) == before


def test_the_draft_of_a_living_process_is_no_leftover(workspace: Workspace) -> None:
    with workspace.draft("dataset", "aiming") as draft:
        draft.path.write_bytes(b"half")
        draft.path.with_name(f"{draft.path.name}.journal").write_bytes(b"half")
        assert findings(workspace) == []
        assert collect(workspace, days=0) == []
        plan = [Removal(draft.path.relative_to(workspace.root).as_posix(), "stale plan", 4)]
        assert collect_garbage(workspace, plan) == []
        assert draft.path.exists()


def test_a_lock_alone_is_a_leftover_once_nobody_holds_it(workspace: Workspace) -> None:
    lock = workspace.root / "datasets" / "aiming" / ".draft-0a1b.lock"
    lock.parent.mkdir(parents=True)
    with acquire(lock):  # whoever holds it is about to make the draft
        assert findings(workspace) == []
    lock.touch()
    assert findings(workspace) == [("leftover", "datasets/aiming/.draft-0a1b.lock")]


def test_a_leftover_that_was_recorded_since_the_plan_stays(workspace: Workspace) -> None:
    artefact = make(workspace)
    assert collect_garbage(workspace, [Removal(artefact.place, "stale plan", 7)]) == []
    assert workspace.path(artefact).exists()


def test_strange_files_are_reported_but_never_removed(workspace: Workspace) -> None:
    make(workspace)
    stray = workspace.root / "datasets" / "aiming" / "my notes.txt"
    stray.touch()
    assert findings(workspace) == [("extra", "datasets/aiming/my notes.txt")]
    assert collect(workspace, days=0) == []
    assert stray.exists()


# --- partial and interrupted work ------------------------------------------------------------


def partial(workspace: Workspace, name: str = "distilled") -> Path:
    """Partial work left by a process that has gone."""
    path = workspace.root / "checkpoints" / name / ".partial-0a1b"
    path.mkdir(parents=True)
    (path / "training_state").write_bytes(b"state")
    lock_file(path).touch()
    return path


def test_partial_work_is_reported_and_kept_while_it_is_young(workspace: Workspace) -> None:
    path = partial(workspace)
    assert findings(workspace) == [("partial", "checkpoints/distilled/.partial-0a1b")]
    assert not any(finding.damage for finding in check_surroundings(workspace))
    age(path, days=29)
    assert collect(workspace) == []
    age(path, days=31)
    (path / "training_state").touch()  # of which the folder's own time says nothing
    assert collect(workspace) == []
    age(path, days=31)
    (removal,) = collect(workspace)
    assert (removal.bytes, removal.reason) == (5, "unfinished work, untouched for 31 days")
    assert not (workspace.root / "checkpoints").exists()


def test_partial_work_goes_once_it_is_overtaken(workspace: Workspace) -> None:
    path = partial(workspace)
    make(workspace, "dataset", "distilled")
    make(workspace, "checkpoint", "other")
    make(workspace, "checkpoint", "distilled", status="interrupted")
    age(path, days=1)
    assert collect(workspace) == []
    make(workspace, "checkpoint", "distilled")
    age(path, days=-1)
    interrupted = "interrupted, and checkpoint:distilled@2 is complete"
    assert [removal.reason for removal in plan_garbage(workspace)] == [interrupted]
    age(path, days=1)
    assert [removal.reason for removal in collect(workspace)] == [
        "unfinished work, overtaken by checkpoint:distilled@2",
        interrupted,
    ]
    assert tree(workspace.root / "checkpoints" / "distilled")[0] == "2"


def test_a_file_called_like_partial_work_goes_by_its_age_too(workspace: Workspace) -> None:
    make(workspace, "checkpoint", "distilled")
    path = workspace.root / "checkpoints" / "distilled" / ".partial-0a1b"
    path.write_bytes(b"state")
    assert collect(workspace) == []
    age(path, days=31)
    assert len(collect(workspace)) == 1


def test_partial_work_of_a_living_process_stays(workspace: Workspace) -> None:
    code = (
        "import sys; from skilldistill.workspace.store import Workspace\n"
        "path = Workspace.open(sys.argv[1]).partial('checkpoint', 'distilled', '0a1b')\n"
        "print(path, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(workspace.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        path = Path(process.stdout.readline().strip())
        age(path, days=99)
        plan = [Removal(path.relative_to(workspace.root).as_posix(), "stale plan", 0)]
        assert collect(workspace) == []
        assert collect_garbage(workspace, plan) == []
        process.communicate()
    assert len(collect(workspace)) == 1
    assert not path.exists()


def test_partial_work_of_this_process_can_go(workspace: Workspace) -> None:
    path = workspace.partial("checkpoint", "distilled", "0a1b")
    assert len(collect(workspace, days=0)) == 1
    assert not path.exists()
    assert workspace.partial("checkpoint", "distilled", "0a1b").is_dir()


@pytest.mark.parametrize("by", ["its stage", "gc"])
def test_of_work_that_was_being_discarded_nothing_can_be_taken_up_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    class Killed(BaseException):
        pass

    def die(_: Path) -> None:
        raise Killed

    before = tree(workspace.root)
    path = partial(workspace)
    with monkeypatch.context() as patch:
        patch.setattr(drafts, "delete", die)
        with pytest.raises(Killed):
            workspace.discard_partial(path) if by == "its stage" else collect(workspace, days=0)
    assert {problem for problem, _ in findings(workspace)} == {"leftover"}
    collect(workspace)
    assert tree(workspace.root) == before


def test_an_interrupted_artefact_stays_while_it_is_the_latest_or_a_parent(
    workspace: Workspace,
) -> None:
    used = make(workspace, "checkpoint", status="interrupted")
    overtaken = make(workspace, "checkpoint", status="interrupted")
    make(workspace, "report", parents=[used.id])
    assert collect(workspace) == []
    make(workspace, "checkpoint")
    latest = make(workspace, "checkpoint", status="interrupted")
    (removal,) = plan_garbage(workspace)
    assert removal.artefact == overtaken.id
    assert removal.path == overtaken.place
    child = make(workspace, "report", parents=[overtaken.id])
    assert collect_garbage(workspace, [removal]) == []
    workspace.remove([child.id])
    assert collect_garbage(workspace, [removal, removal]) == [removal]
    left = [artefact.ref for artefact in workspace.artefacts("checkpoint")]
    assert left == [used.ref, "checkpoint:aiming@3", latest.ref]


# --- damage makes gc careful -----------------------------------------------------------------


def test_gc_refuses_while_records_may_be_lost(workspace: Workspace) -> None:
    make(workspace), make(workspace, content=b"its record is lost")
    (workspace.root / "manifest.json").write_bytes(b"damaged")
    with pytest.raises(CorruptFile, match=r"using manifest\.json\.previous") as caught:
        plan_garbage(workspace)
    assert "skilldistill init" in caught.value.hint
    workspace.repair()
    with pytest.raises(CorruptFile, match="looks like a leftover") as caught:
        plan_garbage(workspace)
    assert ("leftover", "manifest.json.damaged") in findings(workspace)
    (workspace.root / "manifest.json.damaged").unlink()
    assert [removal.path for removal in plan_garbage(workspace)] == ["datasets/aiming/2.h5"]


def test_gc_refuses_after_a_lost_manifest_was_replaced(workspace: Workspace) -> None:
    make(workspace), make(workspace, content=b"its record is lost")
    (workspace.root / "manifest.json").unlink()
    workspace.repair()
    with pytest.raises(CorruptFile, match="damaged or lost, and what only it listed"):
        plan_garbage(workspace)
    (workspace.root / "manifest.json.damaged").unlink()
    assert [removal.path for removal in plan_garbage(workspace)] == ["datasets/aiming/2.h5"]


def test_what_a_disk_writes_in_other_letters_is_no_leftover(workspace: Workspace) -> None:
    make(workspace, name="Aiming")  # where there is a folder `aiming`, some disks take that
    (workspace.root / "datasets/Aiming").rename(workspace.root / "datasets/aiming")
    assert check_surroundings(workspace) == []


def test_a_commit_during_the_scan_is_no_leftover(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(workspace, "renamed")
    scan = verify._scan

    def committing(*arguments: object) -> list:
        found = list(scan(*arguments))
        manifest = workspace.manifest()
        place = "datasets/killed/1.h5"
        recorded = type("Recorded", (), {"place": place})()
        monkeypatch.setattr(
            workspace, "manifest", lambda: type("M", (), {"artefacts": (recorded,)})()
        )
        assert manifest.artefacts == ()
        return found

    monkeypatch.setattr(verify, "_scan", committing)
    assert "datasets/killed/1.h5" not in [f.path for f in check_surroundings(workspace)]


def test_what_goes_during_the_scan_is_not_reported(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(workspace)
    gone, stays = (workspace.root / "datasets" / "aiming" / name for name in ("gone", "stays"))
    gone.touch()
    stays.symlink_to("nowhere")
    scan = verify._scan

    def removing(*arguments: Any) -> list[Finding]:
        found = list(scan(*arguments))
        gone.unlink()
        return found

    monkeypatch.setattr(verify, "_scan", removing)
    assert findings(workspace) == [("extra", "datasets/aiming/stays")]


def clutter(workspace: Workspace) -> None:
    """One leftover of each kind, and old partial work."""
    for folder in ("datasets/a", "checkpoints/a/.draft-2", "reports/a/1"):
        (workspace.root / folder).mkdir(parents=True)
    (workspace.root / "datasets/a/.draft-1.h5").touch()
    (workspace.root / "datasets/a/.draft-1.lock").touch()
    (workspace.root / "checkpoints/a/.draft-2/half").touch()
    (workspace.root / "experts/a/.partial-3").mkdir(parents=True)
    (workspace.root / "experts/a/.partial-3.lock").touch()
    age(workspace.root / "experts/a/.partial-3", days=100)
    (workspace.root / ".manifest-0123").touch()


def test_what_another_gc_removed_counts_as_gone(workspace: Workspace) -> None:
    before = tree(workspace.root)
    clutter(workspace)
    first, second = plan_garbage(workspace), plan_garbage(workspace)
    assert len(first) == 5
    assert collect_garbage(workspace, first) == first
    assert collect_garbage(workspace, second) == []
    assert tree(workspace.root) == before


@pytest.mark.parametrize("error", [FileNotFoundError, FileExistsError])
def test_a_folder_that_another_gc_removes_while_we_lock_is_no_problem(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    clutter(workspace)
    removals = [r for r in plan_garbage(workspace) if "/." in r.path]

    def acquire_too_late(path: Path) -> None:
        shutil.rmtree(path.parent)
        raise error(str(path))

    monkeypatch.setattr(verify, "acquire", acquire_too_late)
    assert collect_garbage(workspace, removals) == []


def test_looking_whether_vanished_work_is_claimed_does_not_bring_its_folder_back(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    clutter(workspace)

    def acquire_too_late(path: Path) -> Any:
        shutil.rmtree(path.parent)
        return acquire(path)

    with monkeypatch.context() as patch:
        patch.setattr(verify, "acquire", acquire_too_late)
        plan_garbage(workspace)
    assert not (workspace.root / "datasets").exists()
    assert not (workspace.root / "experts").exists()


def test_partial_work_that_goes_while_its_age_is_looked_at_is_not_planned(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    clutter(workspace)

    def gone(path: Path, *_: Any) -> str:
        raise FileNotFoundError(str(path))

    monkeypatch.setattr(verify, "_stale", gone)
    assert "experts/a/.partial-3" not in {r.path for r in plan_garbage(workspace)}


def test_of_a_link_named_like_a_leftover_only_the_link_goes(
    workspace: Workspace, tmp_path: Path
) -> None:
    before = tree(workspace.root)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x" * 100_000)
    folder = workspace.root / "experts/a"
    folder.mkdir(parents=True)
    (folder / ".draft-1").symlink_to(outside)
    (folder / ".draft-2").symlink_to("nowhere")
    (folder / "3").symlink_to(outside)
    removals = plan_garbage(workspace)
    assert [removal.path for removal in removals] == [
        "experts/a/.draft-1",
        "experts/a/.draft-2",
        "experts/a/3",
    ]
    assert sum(removal.bytes for removal in removals) < 1000
    assert collect_garbage(workspace, removals) == removals
    assert tree(workspace.root) == before
    assert (outside / "precious").exists()
