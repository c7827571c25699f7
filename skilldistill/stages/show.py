"""``skilldistill show``: one artefact, where it came from, and what is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from skilldistill.config import ShowConfig
from skilldistill.errors import CorruptFile
from skilldistill.progress import ProgressCallback, StopCheck, never, silent
from skilldistill.stages.ls import Listing, listings, notice_of
from skilldistill.workspace.manifest import Artefact, FileEntry
from skilldistill.workspace.store import Workspace


@dataclass(frozen=True)
class Ancestor:
    """An artefact that the shown one was made from, directly or not."""

    depth: int
    """1 for a parent, 2 for its parent, …"""
    id: str
    ref: str
    """Empty if it was removed since."""
    command: str
    repeated: bool
    """Whether it stands above already; what it came from is not listed again."""


@dataclass(frozen=True)
class ShowResult:
    """Everything known about one artefact."""

    schema: ClassVar[str] = "skilldistill.show/1"

    artefact: Listing
    path: str
    """Absolute."""
    config: Mapping[str, Any]
    files: tuple[FileEntry, ...]
    lineage: tuple[Ancestor, ...]
    """Depth first: each is followed by what it came from."""
    children: tuple[str, ...]
    """References of the artefacts made directly from it."""
    data: Mapping[str, Any] | None
    """For a dataset: what is in it."""
    damage: str
    """Why it cannot be read; empty if it can. Only `verify` reads all of it."""
    notice: str
    """What is wrong with the manifest; empty if nothing is."""


def show(
    workspace: Workspace,
    config: ShowConfig,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> ShowResult:
    """Describe one artefact.

    Args:
        workspace: where.
        config: which.
        progress, stop, command: as every stage takes them; not needed here.

    Raises:
        NotFound: there is none such.
        ConfigurationError: the reference is none, or means two kinds.
        CorruptFile: the manifest cannot be read.
    """
    notice = notice_of(workspace)  # first: what the result tells is not logged, too
    artefact = workspace.resolve(config.reference)
    known = workspace.artefacts()
    data, damage = None, ""
    try:
        path = workspace.path(artefact)
        if artefact.kind == "dataset":
            data = _summary(path)
    except CorruptFile as error:
        path, damage = workspace.root / artefact.place, error.message
    return ShowResult(
        artefact=listings([artefact], known)[0],
        path=str(path),
        config=artefact.config,
        files=artefact.files,
        lineage=lineage(artefact, known),
        children=tuple(child.ref for child in known if artefact.id in child.parents),
        data=data,
        damage=damage,
        notice=notice,
    )


def lineage(artefact: Artefact, known: Sequence[Artefact]) -> tuple[Ancestor, ...]:
    """What an artefact was made from, and that from, depth first."""
    by_id = {one.id: one for one in known}
    seen: set[str] = set()
    found: list[Ancestor] = []
    waiting = [(1, parent) for parent in reversed(artefact.parents)]
    while waiting:
        depth, parent_id = waiting.pop()
        parent = by_id.get(parent_id)
        repeated = parent_id in seen
        seen.add(parent_id)
        ref, made_by = (parent.ref, parent.command) if parent else ("", "")
        found.append(Ancestor(depth, parent_id, ref, made_by, repeated))
        if parent and not repeated:
            waiting += [(depth + 1, further) for further in reversed(parent.parents)]
    return tuple(found)


def _summary(path: Path) -> Mapping[str, Any]:
    from skilldistill.data.reader import DatasetReader  # h5py, which no other kind needs

    with DatasetReader(path) as reader:
        summary: Mapping[str, Any] = reader.summary()
    return summary
