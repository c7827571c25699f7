"""The manifest: one JSON file that says which artefacts a workspace holds.

A manifest is trusted only as far as it was checked: its checksum must match its content, every
field must have its type, and every file must lie inside the folder of the artefact that lists
it. It is replaced atomically; the one before stays beside it as ``manifest.json.previous``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from skilldistill.errors import ConfigurationError, CorruptFile, NewerFormat, NotFound, excerpt
from skilldistill.regular import open_regular
from skilldistill.workspace.files import sync_directory

FORMAT = "skilldistill.workspace"
FORMAT_VERSION = 1
FILENAME = "manifest.json"
PREVIOUS = "manifest.json.previous"
DAMAGED = "manifest.json.damaged"
"""While it is there, nothing that the manifest does not list may be called a leftover."""
_LOST = f"{FILENAME} was gone, and {PREVIOUS} has taken its place.\n"
LOCK_FILE = ".skilldistill.lock"
TEMPORARY = ".manifest-"
"""How the name of a manifest that is being written begins."""

KIND_FOLDERS: Mapping[str, str] = {
    "expert": "experts",
    "dataset": "datasets",
    "checkpoint": "checkpoints",
    "report": "reports",
}
STATUSES = ("complete", "interrupted")

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
MAX_COUNT = 2**63 - 1
"""Of versions, bytes and generations."""
VERSION = re.compile(r"[1-9][0-9]{0,8}")
VERSION_PLACE = re.compile(rf"({VERSION.pattern})(\.h5)?")
"""What an artefact's version is called in the folder of its name."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class FileEntry:
    """One file of an artefact."""

    path: str
    """Relative to the workspace's root, with forward slashes."""
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Artefact:
    """One published thing. It never changes; a better one gets the next version."""

    id: str
    """16 hexadecimal digits, a function of kind, name, version, parents and content."""
    kind: str
    name: str
    version: int
    files: tuple[FileEntry, ...]
    created: str
    """UTC, ISO 8601."""
    command: str
    config: Mapping[str, Any]
    seed: int
    parents: tuple[str, ...]
    """Ids of the artefacts it was made from. A parent may have been removed since."""
    metrics: Mapping[str, Any]
    status: str
    """``complete`` or ``interrupted``."""

    @property
    def ref(self) -> str:
        """``kind:name@version``, which names this artefact and no other."""
        return f"{self.kind}:{self.name}@{self.version}"

    @property
    def place(self) -> str:
        """Where it lies, relative to the root: a dataset's file, any other kind's directory."""
        return place(self.kind, self.name, self.version)

    @property
    def bytes(self) -> int:
        """Size of its files together."""
        return sum(entry.bytes for entry in self.files)

    def records(self, settings: Mapping[str, Any]) -> bool:
        """Whether these settings made it, and whatever others."""
        return all(self.config.get(key) == value for key, value in plain(settings).items())


@dataclass(frozen=True)
class Manifest:
    """Everything the manifest file says."""

    generation: int = 0
    """Counts the manifests that were written here."""
    artefacts: tuple[Artefact, ...] = ()
    """In order of creation."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """Highest version ever given, by ``kind:name``: a removed version's number is not reused."""

    def highest(self, kind: str, name: str) -> int:
        """The highest version ever given to artefacts of a kind and a name; 0 if none was."""
        same = [a.version for a in self.artefacts if (a.kind, a.name) == (kind, name)]
        return max([self.versions.get(f"{kind}:{name}", 0), *same])


def check_name(name: str) -> str:
    """Return ``name`` if an artefact may be called so.

    Raises:
        ConfigurationError: it may not.
    """
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be a name",
            hint="use up to 64 letters, digits, '-', '_' and '.', with a letter or digit first",
        )
    return name


def place(kind: str, name: str, version: int) -> str:
    """Path of an artefact relative to the root: a file for datasets, else a directory."""
    return f"{KIND_FOLDERS[kind]}/{name}/{version}" + (".h5" if kind == "dataset" else "")


def artefact_id(
    kind: str, name: str, version: int, files: Sequence[FileEntry], parents: Sequence[str]
) -> str:
    """The id of an artefact: the same content in the same place has the same id everywhere."""
    content = [kind, name, version, [dataclasses.astuple(f) for f in files], list(parents)]
    return _digest(content)[:16]


def plain(value: Any) -> Any:
    """``value`` as JSON holds it: str, int, float, bool, None, lists and dicts with str keys.

    Numbers that are not finite become None, since JSON has none of them. Paths become text, and
    array scalars and arrays what their ``tolist`` gives.

    Raises:
        TypeError: something has no JSON form.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [plain(item) for item in items]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no form in JSON: {value!r}")


def encode(manifest: Manifest) -> bytes:
    """The file's content, checksum included."""
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "generation": manifest.generation,
        "artefacts": [dataclasses.asdict(artefact) for artefact in manifest.artefacts],
        "versions": dict(manifest.versions),
    }
    text = json.dumps(content | {"checksum": _digest(content)}, indent=1, allow_nan=False)
    return (text + "\n").encode()


def decode(data: bytes, source: str = FILENAME) -> Manifest:
    """Read a manifest file's content, checking all of it.

    Raises:
        NewerFormat: a later skilldistill wrote it.
        CorruptFile: it is damaged, or no manifest of ours.
    """
    try:
        content = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{source} is no JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CorruptFile(f"{source} is no manifest of skilldistill")
    version = content.get("version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise NewerFormat(
            f"{source} has format version {version}; this skilldistill reads {FORMAT_VERSION}",
            hint="upgrade with `pip install --upgrade skilldistill`",
        )
    try:
        checksum = content.pop("checksum", None)
        if checksum != _digest(content):
            raise ValueError("does not match its own checksum")
        return _manifest(content)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CorruptFile(f"{source}: {error}") from None


def load(root: Path) -> tuple[Manifest, str]:
    """Read a workspace's manifest, or the previous one where the current one is damaged.

    Returns:
        The manifest, and a sentence on what was wrong with the current file (empty if nothing),
        which names the file, but not the workspace.

    Raises:
        NewerFormat: a later skilldistill wrote it.
        CorruptFile: neither file can be used.
        NotFound: there is no manifest at all.
    """
    current, previous = root / FILENAME, root / PREVIOUS
    try:
        return _read(current), ""
    except NewerFormat:
        raise
    except NotFound as error:
        if not previous.exists():
            raise
        problem: Exception = error
        text = f"{current} is missing"
    except CorruptFile as error:
        problem, text = error, error.message
    try:
        manifest = _read(previous)
    except (CorruptFile, NotFound) as error:
        raise CorruptFile(
            f"{text}, and {previous} cannot be used either",
            hint=f"restore one of the two from a backup. Without one, move {root} aside and begin "
            "anew: what lies in it is untouched and can be named by its path, as in "
            "`skilldistill merge PATH/1.h5`",
        ) from (error if isinstance(problem, NotFound) else problem)
    # Whoever tells of it names the workspace, too.
    text = text.replace(str(current), FILENAME)
    return manifest, f"{text}; using {PREVIOUS}, generation {manifest.generation}"


def _read(path: Path) -> Manifest:
    with open_regular(path) as file:
        return decode(file.read(), str(path))


def save(root: Path, manifest: Manifest, *, keep: bool = True) -> None:
    """Replace the manifest atomically and durably. The caller holds the workspace's lock.

    Args:
        root: the workspace.
        manifest: what to write.
        keep: whether the current file is sound and becomes the previous one; a damaged one is
            put aside as ``manifest.json.damaged`` instead, where of one that is gone a note stays.
    """
    current = root / FILENAME
    temporary = root / f"{TEMPORARY}{os.urandom(4).hex()}"
    try:
        with temporary.open("xb") as file:
            file.write(encode(manifest))
            file.flush()
            os.fsync(file.fileno())
        decode(temporary.read_bytes(), str(temporary))
        if current.is_file():
            _copy_over(current, root / (PREVIOUS if keep else DAMAGED))
        elif os.path.lexists(current):  # such as a directory, which no file can replace
            current.rename(_free(root / DAMAGED))
        elif not keep:
            (root / DAMAGED).write_text(_LOST, encoding="utf-8")
        temporary.replace(current)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(root)


def looks_like_workspace(directory: Path) -> bool:
    """Whether a directory holds a manifest of ours, sound or not, and not another program's."""
    for name in (FILENAME, PREVIOUS):
        unreadable = (OSError, CorruptFile, NotFound)
        with contextlib.suppress(*unreadable), open_regular(directory / name) as file:
            if FORMAT.encode() in file.read(4096):
                return True
    # Both copies may be damaged beyond recognition; what only we put beside a manifest is not.
    signs = (directory / name for name in (PREVIOUS, LOCK_FILE, DAMAGED))
    there = (directory / FILENAME).exists() or (directory / PREVIOUS).exists()
    return there and any(sign.exists() for sign in signs)


def _free(path: Path) -> Path:
    """A path where nothing lies: this one, or else one that begins like it."""
    return path.with_name(f"{path.name}-{os.urandom(4).hex()}") if os.path.lexists(path) else path


def _copy_over(source: Path, target: Path) -> None:
    # A hard link costs nothing and leaves no moment without `source`; some filesystems have none.
    temporary = target.with_name(f"{TEMPORARY}{os.urandom(4).hex()}")
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _manifest(content: dict[str, Any]) -> Manifest:
    _expect_keys(content, {"format", "version", "generation", "artefacts", "versions"}, "manifest")
    if _integer(content, "version") != FORMAT_VERSION:
        raise ValueError(f"no format version {content['version']}")
    artefacts = tuple(_artefact(record) for record in _typed(content, "artefacts", list))
    for what in ("id", "ref"):
        values = [getattr(artefact, what) for artefact in artefacts]
        if len(set(values)) != len(values):
            raise ValueError(f"two artefacts have the same {what}")
    versions = _typed(content, "versions", dict)
    return Manifest(
        generation=_integer(content, "generation"),
        artefacts=artefacts,
        versions={key: _integer(versions, key) for key in versions},
    )


def _artefact(record: Any) -> Artefact:
    if not isinstance(record, dict):
        raise TypeError("an artefact is no object")
    _expect_keys(record, {f.name for f in dataclasses.fields(Artefact)}, "artefact")
    kind, name = _typed(record, "kind", str), _typed(record, "name", str)
    version = _integer(record, "version")
    if kind not in KIND_FOLDERS:
        raise ValueError(f"no kind {kind!r}")
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an artefact")
    if not VERSION.fullmatch(str(version)):
        raise ValueError(f"{version} is no version")
    if record["status"] not in STATUSES:
        raise ValueError(f"no status {record['status']!r}")
    if not _ID.fullmatch(_typed(record, "id", str)):
        raise ValueError(f"{record['id']!r} is no id")
    datetime.fromisoformat(_typed(record, "created", str))
    parents = _typed(record, "parents", list)
    if not all(isinstance(parent, str) for parent in parents):
        raise TypeError("a parent is no text")
    files = tuple(_file(entry) for entry in _typed(record, "files", list))
    where = place(kind, name, version)
    for entry in files:
        inside = entry.path == where if kind == "dataset" else entry.path.startswith(f"{where}/")
        if not inside:
            raise ValueError(f"file {entry.path!r} lies outside {where}")
    if not files or len({entry.path for entry in files}) != len(files):
        raise ValueError(f"{where} lists no file, or one twice")
    return Artefact(
        id=record["id"],
        kind=kind,
        name=name,
        version=version,
        files=files,
        created=record["created"],
        command=_typed(record, "command", str),
        config=_typed(record, "config", dict),
        seed=_integer(record, "seed", low=None),
        parents=tuple(parents),
        metrics=_typed(record, "metrics", dict),
        status=record["status"],
    )


def _file(entry: Any) -> FileEntry:
    if not isinstance(entry, dict):
        raise TypeError("a file is no object")
    _expect_keys(entry, {"path", "sha256", "bytes"}, "file")
    path = check_path(_typed(entry, "path", str))
    if not _SHA256.fullmatch(_typed(entry, "sha256", str)):
        raise ValueError(f"{path}: {entry['sha256']!r} is no SHA-256")
    return FileEntry(path, entry["sha256"], _integer(entry, "bytes"))


def check_path(path: str) -> str:
    """Return ``path`` if it is a relative path with forward slashes that stays where it starts.

    Raises:
        ValueError: it is absolute, climbs with ``..``, or means something else on another system.
    """
    parts = path.split("/")
    odd = any(ord(sign) < 32 or sign in '\\:"<>|?*' for sign in path)
    if odd or any(part in ("", ".", "..") for part in parts) or PurePosixPath(path).is_absolute():
        raise ValueError(f"path {path!r} is refused")
    return path


def _expect_keys(record: Mapping[str, Any], keys: set[str], what: str) -> None:
    if record.keys() != keys:
        odd = sorted(record.keys() ^ keys)
        raise ValueError(f"{what} lacks, or should not have, {', '.join(odd)}")


def _typed(record: Mapping[str, Any], key: str, kind: type[Any]) -> Any:
    value = record[key]
    if not isinstance(value, kind):
        raise TypeError(f"{key} is {type(value).__name__}, not {kind.__name__}")
    return value


def _integer(record: Mapping[str, Any], key: str, low: int | None = 0) -> int:
    value = record[key]
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or (low is not None and not low <= value <= MAX_COUNT):
        raise TypeError(f"{key} is {excerpt(value)}, not a whole number that fits")
    return int(value)
