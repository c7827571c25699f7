"""Compare what lies on disk with the manifest, and remove what nobody needs.

Damage is what contradicts the manifest: a file that is missing, changed, or not listed. Leftovers
(of a process that was killed) and partial work (that can be taken up again) contradict nothing;
they only take room, until :func:`collect_garbage` removes them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Literal

from skilldistill.config import GcConfig
from skilldistill.errors import (
    ConfigurationError,
    CorruptFile,
    DiskProblem,
    Interrupted,
    Locked,
    NotFound,
    UnsafeFile,
)
from skilldistill.progress import Progress, ProgressCallback, StopCheck, never, silent
from skilldistill.workspace import manifest as manifests
from skilldistill.workspace.drafts import (
    DRAFT,
    PARTIAL,
    Beginning,
    discard,
    give_back,
    held_here,
    unclaim,
)
from skilldistill.workspace.files import acquire, delete, digest, disk, lock_file, tidy
from skilldistill.workspace.manifest import KIND_FOLDERS, Artefact, FileEntry, Manifest
from skilldistill.workspace.store import Workspace

Problem = Literal["manifest", "missing", "changed", "unreadable", "extra", "leftover", "partial"]
DAMAGE: tuple[Problem, ...] = ("manifest", "missing", "changed", "unreadable", "extra")
QUICK_BYTES = 1 << 24
"""Where it has to be quick, only files up to this size are read."""


@dataclass(frozen=True)
class Finding:
    """Something on disk that the manifest does not say, or the other way round."""

    problem: Problem
    path: str
    """Relative to the workspace's root."""
    detail: str
    artefact: str = ""
    """Reference of the artefact it belongs to, if any."""
    bytes: int = 0
    """Room it takes."""

    @property
    def damage(self) -> bool:
        """Whether it contradicts the manifest, rather than only taking room."""
        return self.problem in DAMAGE


@dataclass(frozen=True)
class Removal:
    """Something that :func:`collect_garbage` may remove."""

    path: str
    """Relative to the workspace's root."""
    reason: str
    bytes: int
    artefact: str = ""
    """Id of the artefact it is, if it is one."""


def check_artefacts(
    workspace: Workspace,
    artefacts: Sequence[Artefact],
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
) -> list[Finding]:
    """Read every file of the artefacts again and compare sizes and SHA-256 sums.

    Raises:
        Interrupted: ``stop`` asked for it.
    """
    total = sum(artefact.bytes for artefact in artefacts)
    done = 0
    findings = []
    for artefact in artefacts:
        for entry in artefact.files:
            if signum := stop():
                raise Interrupted(
                    "verification was stopped",
                    signum=signum,
                    hint="name artefacts to verify only those",
                )
            problem, detail = _check_file(workspace, entry)
            if detail:
                findings.append(Finding(problem, entry.path, detail, artefact.ref))
            done += entry.bytes
            progress(Progress("verify", done, total, "byte", {"artefact": artefact.ref}))
        findings += _unlisted(workspace, artefact)
    return findings


def check_usable(workspace: Workspace, artefact: Artefact, *, quick: bool = False) -> None:
    """Hold that all files of an artefact are those that were published.

    Args:
        workspace: where it lies.
        artefact: which. What else lies in its directory does not matter.
        quick: compare only the sizes of files above :data:`QUICK_BYTES`.

    Raises:
        CorruptFile: a file is missing or another one.
        DiskProblem: a file cannot be read.
    """
    for entry in artefact.files:
        problem, detail = _check_file(
            workspace, entry, read=not quick or entry.bytes <= QUICK_BYTES
        )
        if not detail:
            continue
        what = f"{artefact.ref}: {entry.path} {detail}"
        if problem == "unreadable":
            raise DiskProblem(what, hint="check the disk and the permissions there")
        raise CorruptFile(
            what, hint=f"`skilldistill verify {artefact.ref}` says how to make it again"
        )


def check_surroundings(workspace: Workspace) -> list[Finding]:
    """Find damage to the manifest, leftovers, partial work, and files that nobody published."""
    findings = []
    if notice := workspace.notice:
        detail = notice.removeprefix(manifests.FILENAME).lstrip(": ")  # the path stands before it
        findings.append(Finding("manifest", manifests.FILENAME, detail))
    if (workspace.root / manifests.DAMAGED).exists():
        detail = "a manifest was damaged or lost; delete this when nothing is missed"
        findings.append(Finding("leftover", manifests.DAMAGED, detail))
    with disk(workspace.root):
        scanned = list(_scan(workspace, workspace.manifest()))
        # A commit that ended meanwhile made of a leftover an artefact.
        recorded = {artefact.place for artefact in workspace.manifest().artefacts}
    return findings + [
        finding
        for finding in scanned
        if finding.path not in recorded and os.path.lexists(workspace.root / finding.path)
    ]


def plan_garbage(workspace: Workspace, *, days: float = GcConfig().days) -> list[Removal]:
    """What can be removed without loss.

    Leftovers; partial work whose command has been finished since, or that nobody touched for
    ``days``; interrupted artefacts that a complete version has overtaken and that nothing was
    made from. Whatever a living process works on stays.

    Raises:
        CorruptFile: the manifest is damaged, so that nothing may be called a leftover.
    """
    if notice := workspace.notice:
        raise CorruptFile(
            f"{workspace.root}: {notice}",
            hint=f"repair it with `skilldistill init {workspace.root}`",
        )
    manifest = workspace.manifest()
    damaged = workspace.root / manifests.DAMAGED
    if damaged.exists():
        raise CorruptFile(
            f"{damaged} says that a manifest was damaged or lost, and what only it listed looks "
            "like a leftover now",
            hint="look at `skilldistill verify`, save what you need, then delete that file",
        )
    removals = []
    for finding in check_surroundings(workspace):
        if finding.problem == "leftover":
            removals.append(Removal(finding.path, finding.detail, finding.bytes))
        elif finding.problem == "partial":
            reason = ""
            with contextlib.suppress(FileNotFoundError):  # gone while we looked
                reason = _stale(workspace.root / finding.path, manifest, days)
            if reason:
                removals.append(Removal(finding.path, reason, finding.bytes))
    parents = {parent for artefact in manifest.artefacts for parent in artefact.parents}
    for artefact in manifest.artefacts:
        later = _complete_after(manifest, artefact.kind, artefact.name, artefact.version)
        if artefact.status == "interrupted" and later and artefact.id not in parents:
            reason = f"interrupted, and {later.ref} is complete"
            removals.append(Removal(artefact.place, reason, artefact.bytes, artefact.id))
    return removals


def collect_garbage(workspace: Workspace, removals: Sequence[Removal]) -> list[Removal]:
    """Carry out a plan, leaving out what has come into use since.

    Returns:
        What was removed.

    Raises:
        Locked: another process's commit did not end in time.
        DiskProblem: something could not be deleted.
    """
    done = []
    for removal in removals:
        *folder, name = removal.path.split("/")
        # Of a link, what it leads to stays.
        path = (workspace.locate("/".join(folder)) if folder else workspace.root) / name
        with disk(path):
            if _remove(workspace, removal, path):
                done.append(removal)
            if path.parent != workspace.root:
                tidy(path.parent)
    return done


def _remove(workspace: Workspace, removal: Removal, path: Path) -> bool:
    """Remove one thing; answers whether it was there and nobody needs it."""
    if removal.artefact:
        try:
            workspace.remove([removal.artefact])
        except (NotFound, ConfigurationError):  # gone, or a parent by now
            return False
        return True
    if path.name.startswith((DRAFT, PARTIAL)):
        return _delete_unless_claimed(path)
    # Under the commit lock: whoever renames also records before he lets go of it.
    with acquire(workspace.root / manifests.LOCK_FILE, workspace.lock_timeout):
        places = {artefact.place for artefact in workspace.manifest().artefacts}
        if removal.path in places or not os.path.lexists(path):
            return False
        delete(path)
    return True


def _check_file(
    workspace: Workspace, entry: FileEntry, *, read: bool = True
) -> tuple[Problem, str]:
    """What is wrong with a published file; an empty text if nothing is."""
    try:
        path = workspace.locate(entry.path)
        if not path.exists():
            return "missing", "is not there"
        if path.is_symlink() or not path.is_file():
            return "changed", "is no plain file"
        if path.stat().st_size != entry.bytes:
            return "changed", f"has {path.stat().st_size:,} bytes instead of {entry.bytes:,}"
        if read and digest(path) != entry.sha256:
            return "changed", "has another content than was published"
    except UnsafeFile as error:
        return "changed", error.message
    except OSError as error:  # a bad sector in one file must not hide what is wrong with others
        return "unreadable", f"cannot be read: {error.strerror or error}"
    return "changed", ""


def _unlisted(workspace: Workspace, artefact: Artefact) -> Iterator[Finding]:
    """Files inside an artefact's directory that the manifest does not list."""
    listed = {entry.path for entry in artefact.files}
    root = workspace.root
    for path in _below(root / artefact.place):
        relative = path.relative_to(root).as_posix()
        if relative not in listed and (path.is_symlink() or not path.is_dir()):
            detail = "lies in a published artefact, which does not list it"
            yield Finding("extra", relative, detail, artefact.ref, path.lstat().st_size)


def _scan(workspace: Workspace, manifest: Manifest) -> Iterator[Finding]:
    """Leftovers, partial work, and strange files outside the published artefacts."""
    root = workspace.root
    # Some disks give back a name in the letters it was first written with.
    published = {artefact.place.casefold() for artefact in manifest.artefacts}
    for path in sorted(root.glob(f"{manifests.TEMPORARY}*")):
        yield _found(root, path, "leftover", "a manifest that was never finished")
    for folder in KIND_FOLDERS.values():
        if (root / folder).is_symlink():
            yield _found(root, root / folder, "extra", "is a symbolic link")
            continue
        for named in _entries(root / folder):
            if named.is_symlink() or not named.is_dir():
                yield _found(root, named, "extra", "is no folder of artefacts")
                continue
            for path in _entries(named):
                if path.relative_to(root).as_posix().casefold() not in published:
                    yield from _classify(root, path, folder)


def _classify(root: Path, path: Path, folder: str) -> Iterator[Finding]:
    version = manifests.VERSION_PLACE.fullmatch(path.name)
    if path.name.startswith((DRAFT, PARTIAL)):
        if path.name.endswith(".lock"):
            alone = [e.name for e in _entries(path.parent) if e.name.startswith(path.stem)]
            if alone == [path.name] and not _claimed(path):
                yield _found(root, path, "leftover", "the lock of work that has gone")
        elif path.name.startswith(PARTIAL):
            yield _found(root, path, "partial", "unfinished work; --resume takes it up again")
        elif not _claimed(path):
            yield _found(root, path, "leftover", "a draft whose process was killed")
    elif version and bool(version[2]) == (folder == KIND_FOLDERS["dataset"]):
        yield _found(root, path, "leftover", "was put in place, but never recorded")
    else:
        yield _found(root, path, "extra", "belongs to no artefact")


def _found(root: Path, path: Path, problem: Problem, detail: str) -> Finding:
    return Finding(problem, path.relative_to(root).as_posix(), detail, bytes=_size(path))


def _entries(folder: Path) -> list[Path]:
    # It may go while we look: another process removed its last artefact.
    with contextlib.suppress(FileNotFoundError):
        return sorted(folder.iterdir())
    return []


def _size(path: Path) -> int:
    size = 0
    for file in [path] if path.is_symlink() else [path, *_below(path)]:
        with contextlib.suppress(FileNotFoundError):
            if file.is_symlink() or not file.is_dir():
                size += file.lstat().st_size
    return size


def _below(path: Path) -> list[Path]:
    """All in and below a directory, sorted; whatever goes while we look is not there."""
    walked = os.walk(path)
    return sorted(Path(folder, name) for folder, *names in walked for name in chain(*names))


def _claimed(path: Path) -> bool:
    """Whether a living process other than this one works on a draft or partial directory."""
    if held_here(path) or not lock_file(path).exists():
        return False
    try:
        lock = acquire(lock_file(path))
    except Locked:
        return True
    except OSError:  # a disk on which nothing can be locked: nobody works there
        return False
    if os.path.lexists(path):
        lock.release()
    else:  # it went meanwhile, and taking the lock made its folder anew
        unclaim(path, lock)
    return False


def _delete_unless_claimed(path: Path) -> bool:
    """Delete a draft or partial work; answers whether it was there and nobody works on it."""
    if not os.path.lexists(path):
        return False
    remove = discard if path.name.startswith(PARTIAL) else delete
    if held_here(path):
        remove(path)
        return True
    try:
        lock = acquire(lock_file(path))
    except Locked:
        return False
    except (FileNotFoundError, FileExistsError):  # another process removed it and its folder
        return False
    there = os.path.lexists(path)
    remove(path)
    give_back(path, lock)
    return there


def _stale(path: Path, manifest: Manifest, days: float) -> str:
    """Why partial work can go; empty if it cannot."""
    if _claimed(path):
        return ""
    touched = max((file.lstat().st_mtime for file in [path, *path.rglob("*")]), default=0.0)
    kind = next(kind for kind, name in KIND_FOLDERS.items() if name == path.parent.parent.name)
    began = Beginning.read(path)
    for artefact in manifest.artefacts:
        if (artefact.kind, artefact.name) != (kind, path.parent.name):
            continue
        if began.overtaken_by(artefact) if began else _finished_after(artefact, touched):
            return f"unfinished work, overtaken by {artefact.ref}"
    age = (time.time() - touched) / 86_400
    return f"unfinished work, untouched for {age:.0f} days" if age >= days else ""


def _finished_after(artefact: Artefact, touched: float) -> bool:
    """Whether it was completed after a time; all there is to go by in work of older versions."""
    finished = datetime.fromisoformat(artefact.created).timestamp()
    return artefact.status == "complete" and finished > touched


def _complete_after(manifest: Manifest, kind: str, name: str, version: int) -> Artefact | None:
    for artefact in manifest.artefacts:
        same = (artefact.kind, artefact.name, artefact.status) == (kind, name, "complete")
        if same and artefact.version > version:
            return artefact
    return None
