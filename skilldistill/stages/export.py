"""``skilldistill export``: copy an artefact out of the workspace, with where it came from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from skilldistill import __version__
from skilldistill.config import ExportConfig
from skilldistill.errors import ConfigurationError, CorruptFile, Interrupted, Locked
from skilldistill.progress import Progress, ProgressCallback, StopCheck, never, silent
from skilldistill.stages.ls import listings
from skilldistill.stages.show import lineage
from skilldistill.workspace.drafts import claim, give_back
from skilldistill.workspace.files import aside, disk, remove_asides, replace_file, sync_directory
from skilldistill.workspace.manifest import Artefact, FileEntry
from skilldistill.workspace.store import Workspace

PROVENANCE = "provenance.json"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class ExportResult:
    """What was written, or would be."""

    schema: ClassVar[str] = "skilldistill.export/1"

    artefact: str
    """Reference."""
    output: str
    """The file, or the directory."""
    files: tuple[str, ...]
    """Absolute paths, the provenance last."""
    bytes: int
    dry_run: bool


def export(
    workspace: Workspace,
    config: ExportConfig,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> ExportResult:
    """Copy an artefact's files, checking them, and write beside them where they came from.

    A dataset goes to the file named, or into the directory named; other kinds go into a
    directory. Files appear one by one, each whole; the provenance comes last.

    Args:
        workspace: where it lies.
        config: what, and where to.
        progress: told the bytes that were copied.
        stop: asked between blocks of a megabyte.
        command: as every stage takes it; not needed here.

    Raises:
        NotFound: there is no such artefact.
        ConfigurationError: files are there already, and no ``force``; or the output lies in the
            workspace.
        CorruptFile: a file does not have the content that was published.
        DiskProblem: the disk is full or fails.
        Locked: another export is at work in the same place.
        Interrupted: ``stop`` asked for it.
    """
    artefact = workspace.resolve(config.reference)
    output, targets = _targets(workspace, artefact, config.output)
    provenance = output / PROVENANCE
    if artefact.kind == "dataset":
        target = targets[artefact.files[0]]
        provenance = target.with_name(f"{target.name}.{PROVENANCE}")
    files = [*targets.values(), provenance]
    there = [path for path in files if os.path.lexists(path)]
    if there and not config.force:
        raise ConfigurationError(
            f"{there[0]} is there already",
            hint="choose another --output, or write over it with --force",
        )
    if not config.dry_run:
        with _alone(files):
            _export(workspace, artefact, targets, provenance, progress, stop)
    return ExportResult(
        artefact=artefact.ref,
        output=str(output),
        files=tuple(str(path) for path in files),
        bytes=artefact.bytes,
        dry_run=config.dry_run,
    )


def _export(
    workspace: Workspace,
    artefact: Artefact,
    targets: dict[FileEntry, Path],
    provenance: Path,
    progress: ProgressCallback,
    stop: StopCheck,
) -> None:
    done = 0
    for entry, target in targets.items():
        source = workspace.locate(entry.path)
        with disk(source):
            there_is_one = source.is_file()
        if not there_is_one:
            raise CorruptFile(
                f"{source} is missing", hint="`skilldistill verify` lists what is damaged"
            )
        for block in _copy(source, target, entry):
            if signum := stop():
                raise Interrupted(
                    f"the export of {artefact.ref} was stopped",
                    signum=signum,
                    hint="the same command with --force does all of it",
                )
            done += block
            progress(Progress("export", done, artefact.bytes, "byte"))
    with disk(provenance):
        _write(provenance, _provenance(workspace, artefact, targets, provenance.parent))


@contextmanager
def _alone(files: Sequence[Path]) -> Iterator[None]:
    """Keep other exports to the same place away, and remove what a killed one left half written.

    Raises:
        Locked: another export is at work there.
    """
    folder = files[-1].parent
    # Datasets may lie beside one another.
    own = f"-{files[0].name}" if files[-1].name != PROVENANCE else ""
    place = folder / f".skilldistill-export{own}"
    try:
        lock = claim(place)
    except Locked:
        raise Locked(
            f"another process exports to {folder}", hint="wait until it has ended"
        ) from None
    except (OSError, NotImplementedError):  # nothing can be locked there, or nothing be written
        yield
        return
    try:
        for inside in {file.parent for file in files}:
            with suppress(OSError):  # what cannot be deleted is in nobody's way
                remove_asides(inside, {file.name for file in files})
        yield
    finally:
        give_back(place, lock)


def _targets(
    workspace: Workspace, artefact: Artefact, text: str
) -> tuple[Path, dict[FileEntry, Path]]:
    """Where the export goes, and where each file of the artefact goes."""
    default = f"{artefact.name}-{artefact.version}"
    dataset = artefact.kind == "dataset"
    output = Path(text or (f"{default}.h5" if dataset else default)).expanduser().absolute()
    if output.resolve().is_relative_to(workspace.root.resolve()):
        raise ConfigurationError(
            f"{output} lies in the workspace", hint="choose an --output outside of it"
        )
    if dataset:
        if output.is_dir() or text.endswith(("/", os.sep)):
            output /= f"{default}.h5"
        return output, {artefact.files[0]: output}
    if output.exists() and not output.is_dir():
        raise ConfigurationError(
            f"{output} is a file; a directory is needed for a {artefact.kind}",
            hint="choose another --output",
        )
    return output, {
        entry: output / entry.path.removeprefix(f"{artefact.place}/") for entry in artefact.files
    }


def _copy(source: Path, target: Path, entry: FileEntry) -> Iterator[int]:
    """Copy a file aside, check it, move it into place; give the size of each block on the way.

    Raises:
        CorruptFile: the source has another content than the entry says.
        DiskProblem: one of the two could not be read or written; names which.
    """
    temporary = aside(target)
    sha256 = hashlib.sha256()
    with disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _opened(source) as reading, temporary.open("xb") as writing:
                while block := _read(reading, source):
                    sha256.update(block)
                    writing.write(block)
                    yield len(block)
                writing.flush()
                os.fsync(writing.fileno())
            if sha256.hexdigest() != entry.sha256:
                raise CorruptFile(
                    f"{source} has another content than was published",
                    hint="`skilldistill verify` lists what is damaged",
                )
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(target.parent)


def _opened(source: Path) -> BinaryIO:
    with disk(source):
        return source.open("rb")


def _read(reading: BinaryIO, source: Path) -> bytes:
    with disk(source):
        return reading.read(_BLOCK)


def _provenance(
    workspace: Workspace, artefact: Artefact, targets: dict[FileEntry, Path], base: Path
) -> dict[str, Any]:
    known = workspace.artefacts()
    return {
        "schema": "skilldistill.provenance/1",
        "skilldistill": __version__,
        "artefact": asdict(listings([artefact], known)[0]) | {"config": artefact.config},
        "files": [
            {
                "path": target.relative_to(base).as_posix(),
                "sha256": entry.sha256,
                "bytes": entry.bytes,
            }
            for entry, target in targets.items()
        ],
        "lineage": [asdict(ancestor) for ancestor in lineage(artefact, known)],
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    replace_file(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
