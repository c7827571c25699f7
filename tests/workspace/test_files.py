import errno
import hashlib
from pathlib import Path

import pytest

from skilldistill.errors import DiskProblem, Locked, NotFound, UnsafeFile
from skilldistill.workspace.files import (
    acquire,
    aside,
    delete,
    digest,
    disk,
    lock_file,
    plain_files,
    remove_asides,
    replace_file,
    tidy,
)


def test_a_lock_keeps_others_out_until_it_is_released(tmp_path: Path) -> None:
    with acquire(tmp_path / "lock"), pytest.raises(Locked, match=r"more than 0\.05 s"):
        acquire(tmp_path / "lock", timeout=0.05)
    acquire(tmp_path / "lock").release()


def test_all_files_of_a_draft_share_its_lock() -> None:
    names = (".draft-1f", ".draft-1f.h5", ".draft-1f.h5.tmp", ".draft-1f.lock")
    assert {lock_file(Path("a", name)) for name in names} == {Path("a/.draft-1f.lock")}


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskProblem, match="the disk is full"):
        replace_file(path, b"newest")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_half_written_files_are_told_from_others_by_their_name(tmp_path: Path) -> None:
    kept = [
        tmp_path / name for name in ("state", ".state", ".state.0123", "state.0123abcd", ".b.h5")
    ]
    half = [aside(tmp_path / "state"), aside(tmp_path / "metrics.jsonl")]
    for path in (*kept, *half):
        path.touch()
    remove_asides(tmp_path, {"state"})
    assert sorted(tmp_path.iterdir()) == sorted([*kept, half[1]])
    remove_asides(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_the_systems_errors_become_ours(tmp_path: Path) -> None:
    with pytest.raises(DiskProblem, match="missing: No such file"), disk(tmp_path):
        (tmp_path / "missing").read_bytes()
    with pytest.raises(DiskProblem, match="the disk is full") as caught, disk(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "skilldistill rm" in caught.value.hint  # `gc` may have nothing to remove
    with pytest.raises(DiskProblem, match="grew larger") as caught, disk(tmp_path / "big"):
        raise OSError(errno.EFBIG, "File too large")
    assert str(tmp_path / "big") in caught.value.message
    assert "ulimit -f" in caught.value.hint
    with pytest.raises(NotFound), disk(tmp_path):
        raise NotFound("ours stay")
    with pytest.raises(KeyError), disk(tmp_path):
        raise KeyError


def test_deleting_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    delete(tmp_path / "link")
    assert (tmp_path / "folder" / "file").exists()
    delete(tmp_path / "folder")
    delete(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_only_empty_folders_are_removed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "kind" / name).mkdir(parents=True)
    (tmp_path / "kind" / "b" / "file").touch()
    for name in ("a", "b", "a"):
        tidy(tmp_path / "kind" / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["kind", "b", "file"]
    (tmp_path / "kind" / "b" / "file").unlink()
    tidy(tmp_path / "kind" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_digest_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc" * 100_000)
    assert digest(tmp_path / "file") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_plain_files_are_listed_in_order_and_links_are_refused(tmp_path: Path) -> None:
    for name in ("b", "a/2", "a/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert plain_files(tmp_path) == [tmp_path / name for name in ("a/1", "a/2", "b")]
    (tmp_path / "a" / "dangling").symlink_to("nowhere")
    with pytest.raises(UnsafeFile, match="dangling"):
        plain_files(tmp_path)
