"""Open a workspace, find artefacts in it, add new ones whole or not at all.

Publishing: the work writes a draft in the folder of its final place → every file is synced and
closed → all are reopened, hashed and checked → the draft is renamed → the folder is synced → the
manifest is replaced. The lock is held for the last three steps only. A process killed in between
leaves files that no manifest lists: :mod:`skilldistill.workspace.verify` finds and removes them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from skilldistill.errors import (
    ConfigurationError,
    CorruptFile,
    DiskProblem,
    Locked,
    NotFound,
    SkillDistillError,
    UnsafeFile,
)
from skilldistill.workspace import manifest as manifests
from skilldistill.workspace.drafts import DRAFT, PARTIAL, claim, discard, held, unclaim
from skilldistill.workspace.drafts import Draft as Draft
from skilldistill.workspace.files import (
    DISK,
    NO_SPACE,
    acquire,
    delete,
    disk,
    disk_problem,
    lock_file,
    remove_asides,
    sync_directory,
    tidy,
)
from skilldistill.workspace.manifest import (
    KIND_FOLDERS,
    Artefact,
    Manifest,
)
from skilldistill.workspace.references import find

ENVIRONMENT = "SKILLDISTILL_WORKSPACE"
DEFAULT_FOLDER = "workspace"


class Workspace:
    """A workspace on disk. Knows nothing but its place: every question reads the manifest."""

    lock_timeout: float = 10.0
    """Seconds to wait for another process's commit."""
    commit_timeout: float = 60.0
    """The same for a commit of finished work, which would be lost with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._noticed = ""

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r})"

    # --- opening -------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | Path | None = None) -> Workspace:
        """Open an existing workspace.

        Args:
            path: its directory. None takes ``SKILLDISTILL_WORKSPACE``, then the nearest directory
                upward from the current one that is a workspace or has one called ``workspace``.

        Raises:
            NotFound: there is none.
            CorruptFile: the directory's ``manifest.json`` belongs to another program.
            ConfigurationError: ``path`` is a file, or an empty text.
        """
        root = _given(path)
        if root is None:
            here = Path.cwd()
            for directory in (here, *here.parents):
                for candidate in (directory, directory / DEFAULT_FOLDER):
                    if manifests.looks_like_workspace(candidate):
                        return cls(candidate)
            raise NotFound(
                f"no workspace in {here} or above it",
                hint="make one with `skilldistill init`, or name one with --workspace",
            )
        check_root(root)
        if not _has_manifest(root):
            raise NotFound(
                f"{root} is no workspace", hint=f"make it one with `skilldistill init {root}`"
            )
        return cls(root)

    @classmethod
    def open_or_create(cls, path: str | Path | None = None) -> Workspace:
        """Open a workspace, or make one: at ``path``, or ``./workspace`` where none is found."""
        try:
            return cls.open(path)
        except NotFound:
            return cls.create(_given(path) or Path.cwd() / DEFAULT_FOLDER)

    @classmethod
    def create(cls, path: str | Path) -> Workspace:
        """Make a workspace of a directory, which may exist. One that is there already stays.

        Raises:
            ConfigurationError: ``path`` is a file, or an empty text.
            CorruptFile: the directory's ``manifest.json`` belongs to another program, or is gone
                while artefacts are still there.
            DiskProblem: it cannot be written.
        """
        root = _absolute(path)
        check_root(root)
        workspace = cls(root)
        with disk(root):
            root.mkdir(parents=True, exist_ok=True)
            if not _has_manifest(root):
                _check_nothing_lost(root)
                with workspace._lock():
                    if not _has_manifest(root):  # another process may have been faster
                        manifests.save(root, Manifest())
        return workspace

    def repair(self) -> str:
        """Put a damaged manifest aside and go on from the previous one.

        Returns:
            What was wrong, for the caller to tell: it is not logged. Empty if nothing was.

        Raises:
            CorruptFile: neither copy can be used, or a later skilldistill wrote it.
        """
        with disk(self.root), self._lock():
            manifest, problem = self._read()
            if problem:
                self._save(manifest, problem)
        return problem

    # --- finding -------------------------------------------------------------------------

    def manifest(self) -> Manifest:
        """What the manifest says now. Falls back on the previous one, and logs that, if damaged.

        Raises:
            CorruptFile: neither can be used, or a later skilldistill wrote it.
            NotFound: the workspace has gone.
        """
        return self._load()[0]

    @property
    def notice(self) -> str:
        """What is wrong with the manifest, in a sentence; empty if nothing is.

        Whoever asks tells the user: from then on it is not logged.

        Raises:
            CorruptFile: neither copy can be used, or a later skilldistill wrote it.
            NotFound: the workspace has gone.
        """
        with disk(self.root):
            self._noticed = self._read()[1]
        return self._noticed

    def artefacts(self, kind: str | None = None, name: str | None = None) -> list[Artefact]:
        """The artefacts of a kind and a name, or all, in order of creation.

        Raises:
            ConfigurationError: there is no such kind.
        """
        if kind is not None:
            _check_kind(kind)
        return [
            artefact
            for artefact in self.manifest().artefacts
            if kind in (None, artefact.kind) and name in (None, artefact.name)
        ]

    @property
    def domain(self) -> str:
        """The domain of everything but reports; empty where there are several, or none yet."""
        used = [artefact.config for artefact in self.artefacts() if artefact.kind != "report"]
        found = {str(config["domain"]) for config in used if "domain" in config}
        return found.pop() if len(found) == 1 else ""

    def resolve(self, ref: str, kind: str | None = None) -> Artefact:
        """The artefact that a reference means.

        Args:
            ref: ``name`` (its latest complete version), ``name@3``, ``kind:name@3``, an
                artefact's id, or a path in the workspace. Interrupted artefacts are meant only
                by version, id or path.
            kind: the only kind that will do; None takes any.

        Raises:
            NotFound: there is none; names what comes near.
            ConfigurationError: it is no reference, means two kinds, or another than ``kind``.
        """
        return find(ref, kind, self.manifest().artefacts, self.root)

    def path(self, artefact: Artefact) -> Path:
        """Where an artefact lies: a dataset's file, any other kind's directory.

        Raises:
            CorruptFile: it is not there.
            UnsafeFile: a link leads out of the workspace.
        """
        path = self.locate(artefact.place)
        if not path.exists():
            raise CorruptFile(
                f"{artefact.ref}: {path} is missing",
                hint="`skilldistill verify` lists what is damaged",
            )
        return path

    def locate(self, relative: str) -> Path:
        """The path of a place that the manifest names, which may not exist.

        Raises:
            UnsafeFile: it is absolute or climbs, or a link leads out of the workspace.
        """
        try:
            path = self.root / manifests.check_path(relative)
        except ValueError as error:
            raise UnsafeFile(f"{self.root}: {error}") from None
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise UnsafeFile(
                f"{path} leads out of the workspace",
                hint="replace the symbolic link by what it points to",
            )
        return path

    # --- adding --------------------------------------------------------------------------

    @contextlib.contextmanager
    def draft(self, kind: str, name: str) -> Iterator[Draft]:
        """A place to write a new artefact to. What is not committed is removed at the end.

        Raises:
            ConfigurationError: no such kind, or a name that cannot be used.
            DiskProblem: the disk is full or fails, also while the caller writes.
        """
        folder = self._folder(kind, name)
        suffix = ".h5" if kind == "dataset" else ""
        path = folder / f"{DRAFT}{os.urandom(6).hex()}{suffix}"
        with disk(path):
            lock = claim(path)
            if kind != "dataset":
                path.mkdir()
        try:
            yield Draft(self._publish, kind, name, path)
        except OSError as error:
            if error.errno in DISK and not isinstance(error, SkillDistillError):
                raise disk_problem(error, path) from error
            raise
        finally:
            with contextlib.suppress(OSError):  # what cannot be deleted is a leftover
                for written in folder.glob(f"{lock_file(path).stem}*"):
                    if written != lock_file(path):
                        delete(written)
            unclaim(path, lock)

    def partial(self, kind: str, name: str, key: str) -> Path:
        """A directory for unfinished work that can be taken up again; survives kills.

        It stays locked against other processes until it is discarded or this process ends.

        Args:
            kind: kind of the artefact that the work will become.
            name: its name.
            key: digest of what the work depends on; letters and digits.

        Raises:
            Locked: another process does the same work.
        """
        if not key.isalnum():
            raise ConfigurationError(f"{key!r} cannot be the key of partial work")
        path = self._folder(kind, name) / f"{PARTIAL}{key}"
        with disk(path):
            if path not in held:
                try:
                    held[path] = claim(path)
                except Locked:
                    raise Locked(
                        f"another process is working on {kind} {name!r} with the same settings",
                        hint="wait for it, or choose another --name",
                    ) from None
                path.mkdir(parents=True, exist_ok=True)
                remove_asides(path)
            path.mkdir(parents=True, exist_ok=True)
        return path

    def discard_partial(self, path: Path) -> None:
        """Remove a directory that :meth:`partial` gave, and its lock.

        Raises:
            ConfigurationError: it is none of this workspace's.
        """
        inside = path.parent.parent.parent == self.root and path.name.startswith(PARTIAL)
        if not inside:
            raise ConfigurationError(f"{path} is no partial work of {self.root}")
        with disk(path):
            discard(path)
        unclaim(path, held.pop(path, None))

    # --- removing ------------------------------------------------------------------------

    def remove(self, artefact_ids: Iterable[str], *, force: bool = False) -> list[Artefact]:
        """Take artefacts out of the manifest, then delete their files.

        On a full disk it is the other way round: the files make room for the manifest.

        Args:
            artefact_ids: which.
            force: even if artefacts that stay were made from them.

        Returns:
            What was removed, in order of creation.

        Raises:
            NotFound: an id is unknown.
            ConfigurationError: others have one of them as a parent, and no ``force``.
            DiskProblem: the disk fails, or is full whatever is deleted.
        """
        ids = set(artefact_ids)
        with disk(self.root), self._lock():
            manifest, problem = self._load()
            gone = [artefact for artefact in manifest.artefacts if artefact.id in ids]
            unknown = ids - {artefact.id for artefact in gone}
            if unknown:
                raise NotFound(f"no artefact has the id {', '.join(sorted(unknown))}")
            if not force:
                check_unused(gone, manifest.artefacts)
            kept = tuple(artefact for artefact in manifest.artefacts if artefact.id not in ids)
            following = replace(manifest, artefacts=kept)
            try:
                self._save(following, problem)
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                self._save_in_place_of(gone, following, problem)
        # After the manifest: whatever a crash leaves from here on is a leftover, not a loss.
        self._delete(gone)
        return gone

    # --- inside --------------------------------------------------------------------------

    def _folder(self, kind: str, name: str) -> Path:
        _check_kind(kind)
        return self.locate(f"{KIND_FOLDERS[kind]}/{manifests.check_name(name)}")

    def _lock(self, timeout: float | None = None) -> contextlib.AbstractContextManager[object]:
        wait = self.lock_timeout if timeout is None else timeout
        return acquire(self.root / manifests.LOCK_FILE, wait)

    def _load(self) -> tuple[Manifest, str]:
        with disk(self.root):
            manifest, problem = self._read()
        if problem and problem != self._noticed:
            import logging  # not needed, nor paid for, on ordinary days

            logger = logging.getLogger("skilldistill.workspace")
            logger.warning("%s; `skilldistill init %s` repairs this", problem, self.root)
        self._noticed = problem
        return manifest, problem

    def _read(self) -> tuple[Manifest, str]:
        try:
            return manifests.load(self.root)
        except NotFound:
            raise NotFound(
                f"{self.root} holds no workspace any more",
                hint=f"restore it, or make a new one with `skilldistill init {self.root}`",
            ) from None

    def _save(self, manifest: Manifest, problem: str) -> None:
        # The damaged manifest probably had the next generation: go past it.
        step = 2 if problem else 1
        following = replace(manifest, generation=manifest.generation + step)
        manifests.save(self.root, following, keep=not problem)

    def _save_in_place_of(self, gone: Iterable[Artefact], manifest: Manifest, problem: str) -> None:
        """Save a manifest in the room that artefacts take which it does not list.

        A crash in between leaves them listed, but missing, as ``verify`` says.
        """
        self._delete(gone)
        try:
            self._save(manifest, problem)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            refs = ", ".join(artefact.ref for artefact in gone)
            raise DiskProblem(
                f"the disk is full: {self.root}; the files of {refs} are gone, but still recorded",
                hint="free space outside of the workspace, then run the same command again",
            ) from error

    def _delete(self, gone: Iterable[Artefact]) -> None:
        with disk(self.root):
            for artefact in gone:
                path = self.root / artefact.place
                if path.parent.resolve().is_relative_to(self.root.resolve()):
                    delete(path)
                    tidy(path.parent)

    def _publish(self, draft: Draft, artefact: Artefact) -> Artefact:
        """Rename a checked draft to the next free version and record it."""
        with disk(draft.path), self._lock(self.commit_timeout):
            manifest, problem = self._load()
            key = f"{draft.kind}:{draft.name}"
            version = manifest.highest(draft.kind, draft.name) + 1
            while os.path.lexists(self.root / manifests.place(draft.kind, draft.name, version)):
                version += 1  # a commit that was cut off left this one; `gc` removes it
            place = manifests.place(draft.kind, draft.name, version)
            files = tuple(
                replace(entry, path=f"{place}/{entry.path}" if entry.path else place)
                for entry in artefact.files
            )
            artefact = replace(
                artefact,
                id=manifests.artefact_id(draft.kind, draft.name, version, files, artefact.parents),
                version=version,
                files=files,
                created=datetime.now(UTC).isoformat(timespec="microseconds"),
            )
            following = Manifest(
                generation=manifest.generation,
                artefacts=(*manifest.artefacts, artefact),
                versions={**manifest.versions, key: version},
            )
            target = self.root / place
            try:
                draft.path.rename(target)
                sync_directory(target.parent)
                self._save(following, problem)
            except BaseException:
                # Take the rename back, unless the error came after the manifest was replaced.
                with contextlib.suppress(SkillDistillError, OSError):
                    if all(a.id != artefact.id for a in self._load()[0].artefacts):
                        target.rename(draft.path)
                raise
        return artefact


def check_root(root: Path) -> None:
    """Hold that a workspace may be made of a path.

    Raises:
        ConfigurationError: it is a file.
    """
    if root.exists() and not root.is_dir():
        raise ConfigurationError(
            f"{root} is a file, not a directory", hint="name another place for the workspace"
        )


def check_unused(gone: Iterable[Artefact], known: Iterable[Artefact]) -> None:
    """Hold that nothing which stays was made from what goes.

    Raises:
        ConfigurationError: something was; names it.
    """
    going = {artefact.id: artefact for artefact in gone}
    users: dict[str, list[str]] = {}
    for artefact in known:
        for parent in artefact.parents:
            if parent in going and artefact.id not in going:
                users.setdefault(going[parent].ref, []).append(artefact.ref)
    if users:
        text = "; ".join(f"{ref} is a parent of {', '.join(by)}" for ref, by in users.items())
        raise ConfigurationError(
            text, hint="remove those first, or use --force and lose where they came from"
        )


def _check_kind(kind: str) -> None:
    if kind not in KIND_FOLDERS:
        raise ConfigurationError(f"no kind {kind!r}", hint=f"choose from {', '.join(KIND_FOLDERS)}")


def _given(path: str | Path | None) -> Path | None:
    given = path if path is not None else os.environ.get(ENVIRONMENT) or None
    return None if given is None else _absolute(given)


def _absolute(path: str | Path) -> Path:
    if path == "":  # an unset variable of a script, which hardly means the current directory
        raise ConfigurationError(
            "an empty path names no workspace", hint="write `.` for the current directory"
        )
    return Path(path).expanduser().absolute()


def _check_nothing_lost(root: Path) -> None:
    # With a new manifest, all that an old one listed would be garbage.
    for folder in KIND_FOLDERS.values():
        for path in sorted(root.glob(f"{folder}/*/*")):
            if manifests.VERSION_PLACE.fullmatch(path.name) and not _has_manifest(root):
                raise CorruptFile(
                    f"{root} has no manifest, but what looks like artefacts: "
                    f"{path.relative_to(root).as_posix()}",
                    hint=f"restore {manifests.FILENAME} from a backup, or choose another place "
                    "with --workspace; what lies here can be named by its path",
                )


def _has_manifest(root: Path) -> bool:
    exists = any((root / name).exists() for name in (manifests.FILENAME, manifests.PREVIOUS))
    if exists and not manifests.looks_like_workspace(root):
        raise CorruptFile(
            f"{root / manifests.FILENAME} is no manifest of skilldistill",
            hint="choose another directory with --workspace",
        )
    return exists
