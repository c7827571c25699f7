import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skilldistill.errors import ConfigurationError, CorruptFile, DiskProblem, UnsafeFile
from skilldistill.workspace import drafts
from skilldistill.workspace.files import acquire, lock_file
from skilldistill.workspace.store import Workspace
from tests.workspace.making import make, tree


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_a_draft_that_is_not_committed_vanishes(workspace: Workspace) -> None:
    before = tree(workspace.root)
    with workspace.draft("dataset", "aiming") as draft:
        draft.path.write_bytes(b"half")
        draft.path.with_name(draft.path.name + ".tmp").write_bytes(b"beside")
    with contextlib.suppress(KeyError), workspace.draft("expert", "aiming") as draft:
        (draft.path / "half").write_bytes(b"half")
        raise KeyError
    assert tree(workspace.root) == before


def test_a_draft_is_seen_by_no_reader(workspace: Workspace) -> None:
    with workspace.draft("checkpoint", "distilled") as draft:
        (draft.path / "policy.json").write_text("{}")
        assert workspace.artefacts() == []


@pytest.mark.parametrize("status", ["", "done"])
def test_an_unknown_status_is_refused(workspace: Workspace, status: str) -> None:
    with pytest.raises(ConfigurationError, match="no status"):
        make(workspace, status=status)


def test_parents_are_a_list_of_ids_and_not_one_text(workspace: Workspace) -> None:
    parent = make(workspace)
    with pytest.raises(ConfigurationError, match="a list of ids is needed"):
        make(workspace, "expert", parents=parent.id)
    assert workspace.artefacts() == [parent]


def test_an_empty_draft_and_a_second_commit_are_refused(workspace: Workspace) -> None:
    empty = pytest.raises(CorruptFile, match="nothing was written")
    with workspace.draft("expert", "aiming") as draft, empty:
        draft.commit(command="", config={}, seed=0)
    with workspace.draft("dataset", "aiming") as draft:
        with pytest.raises(CorruptFile, match="nothing was written"):
            draft.commit(command="", config={}, seed=0)
        draft.path.write_bytes(b"1")
        draft.commit(command="", config={}, seed=0)
        with pytest.raises(ConfigurationError, match="committed before"):
            draft.commit(command="", config={}, seed=0)
    assert len(workspace.artefacts()) == 1


def test_links_are_not_published(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with workspace.draft("expert", "aiming") as draft:
        (draft.path / "weights").symlink_to(tmp_path / "secret")
        with pytest.raises(UnsafeFile, match="no plain file"):
            draft.commit(command="", config={}, seed=0)
    assert workspace.artefacts() == []
    assert (tmp_path / "secret").read_text() == "secret"


def test_the_check_sees_the_closed_draft_and_can_stop_it(workspace: Workspace) -> None:
    def refuse(path: Path) -> None:
        raise CorruptFile(path.read_text())

    with workspace.draft("dataset", "aiming") as draft:
        draft.path.write_text("what was written")
        with pytest.raises(CorruptFile, match="what was written"):
            draft.commit(command="", config={}, seed=0, check=refuse)
    assert workspace.artefacts() == []
    assert not (workspace.root / "datasets" / "aiming").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_while_writing_is_a_disk_problem(workspace: Workspace, number: int) -> None:
    before = tree(workspace.root)
    full = OSError(number, os.strerror(number))
    writing = workspace.draft("expert", "a")
    (writing.__enter__().path / "half").write_bytes(b"half")
    with pytest.raises(DiskProblem, match="full") as caught:
        writing.__exit__(type(full), full, None)
    assert caught.value.exit_code == 6
    assert "gc" in caught.value.hint
    assert tree(workspace.root) == before


def test_other_errors_while_writing_stay_what_they_are(workspace: Workspace) -> None:
    with pytest.raises(FileNotFoundError), workspace.draft("expert", "a") as draft:
        (draft.path / "missing").read_bytes()


def test_partial_work_survives_and_can_be_taken_up_again(workspace: Workspace) -> None:
    path = workspace.partial("checkpoint", "distilled", "0a1b")
    assert path == workspace.root / "checkpoints/distilled/.partial-0a1b"
    (path / "training_state").write_bytes(b"state")
    again = Workspace.open(workspace.root).partial("checkpoint", "distilled", "0a1b")
    assert (again / "training_state").read_bytes() == b"state"
    assert workspace.artefacts() == []
    workspace.discard_partial(path)
    assert not (workspace.root / "checkpoints/distilled").exists()
    assert tree(workspace.partial("checkpoint", "distilled", "0a1b")) == []


def test_only_one_process_works_on_the_same_partial(workspace: Workspace) -> None:
    path = workspace.partial("checkpoint", "distilled", "0a1b")
    code = (
        "import sys; from skilldistill.workspace.store import Workspace\n"
        "from skilldistill.errors import Locked\n"
        "try: Workspace.open(sys.argv[1]).partial('checkpoint', 'distilled', '0a1b')\n"
        "except Locked as error: sys.exit(error.exit_code)"
    )
    assert run_python(code, str(workspace.root)).returncode == 5
    workspace.discard_partial(path)
    assert run_python(code, str(workspace.root)).returncode == 0
    assert lock_file(path).exists()
    assert workspace.partial("checkpoint", "distilled", "0a1b") == path


def test_taking_up_partial_work_removes_what_a_killed_process_left_half_written(
    workspace: Workspace,
) -> None:
    code = (
        "import os, sys; from skilldistill.workspace.store import Workspace\n"
        "path = Workspace.open(sys.argv[1]).partial('checkpoint', 'distilled', '0a1b')\n"
        "(path / 'training_state').touch()\n"
        "(path / '.training_state.0123abcd').touch()\n"
        "os.kill(os.getpid(), 9)"
    )
    assert run_python(code, str(workspace.root)).returncode == -9
    path = workspace.partial("checkpoint", "distilled", "0a1b")
    assert tree(path) == ["training_state"]
    (path / ".training_state.0123abcd").touch()  # one that we are writing
    assert workspace.partial("checkpoint", "distilled", "0a1b") == path
    assert tree(path) == [".training_state.0123abcd", "training_state"]


def test_only_partial_work_can_be_discarded(workspace: Workspace, tmp_path: Path) -> None:
    artefact = make(workspace, "checkpoint")
    for path in (workspace.path(artefact), tmp_path, workspace.root):
        with pytest.raises(ConfigurationError, match="no partial work"):
            workspace.discard_partial(path)
    with pytest.raises(ConfigurationError, match="key"):
        workspace.partial("checkpoint", "distilled", "../up")


def test_a_lock_file_removed_before_it_was_ours_is_made_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []

    def robbed(path: Path) -> object:
        """Take the lock of a file that another process's cleaning has just unlinked."""
        lock = acquire(path)
        taken.append(path)
        if len(taken) == 1:
            path.unlink()
            path.parent.rmdir()
        return lock

    monkeypatch.setattr(drafts, "acquire", robbed)
    with workspace.draft("expert", "aiming") as draft:
        assert lock_file(draft.path).exists()
        assert draft.path.is_dir()
    assert len(taken) == 2


def test_a_folder_that_goes_while_it_is_made_is_made_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, left = Path.mkdir, iter([FileExistsError, FileNotFoundError])

    def goes(path: Path, *arguments: int, **more: bool) -> None:
        if path.name == "aiming" and (error := next(left, None)):
            raise error(str(path))
        mkdir(path, *arguments, **more)

    monkeypatch.setattr(Path, "mkdir", goes)
    assert make(workspace).ref == "dataset:aiming@1"
    (workspace.root / "datasets/clicking").touch()
    with pytest.raises(DiskProblem, match="exists"):
        make(workspace, name="clicking")
