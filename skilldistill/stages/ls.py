"""``skilldistill ls``: what a workspace holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from skilldistill.config import LsConfig
from skilldistill.progress import ProgressCallback, StopCheck, never, silent
from skilldistill.workspace.manifest import Artefact
from skilldistill.workspace.store import Workspace


@dataclass(frozen=True)
class Listing:
    """One artefact, as a list shows it."""

    id: str
    ref: str
    kind: str
    name: str
    version: int
    status: str
    created: str
    """UTC, ISO 8601."""
    path: str
    """Relative to the workspace's root."""
    bytes: int
    files: int
    seed: int
    parents: tuple[str, ...]
    """Ids."""
    parent_refs: tuple[str, ...]
    """References of the parents; the id of one that was removed."""
    metrics: Mapping[str, Any]
    command: str


@dataclass(frozen=True)
class LsResult:
    """The artefacts, in order of creation."""

    schema: ClassVar[str] = "skilldistill.ls/1"

    workspace: str
    artefacts: tuple[Listing, ...]
    notice: str
    """What is wrong with the manifest; empty if nothing is."""
    total: int
    """Artefacts in the workspace, listed or not."""


def ls(
    workspace: Workspace,
    config: LsConfig | None = None,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> LsResult:
    """List artefacts.

    Args:
        workspace: where.
        config: which.
        progress, stop, command: as every stage takes them; not needed here.

    Raises:
        ConfigurationError: an unknown kind.
        CorruptFile: the manifest cannot be read.
    """
    config = config or LsConfig()
    notice = notice_of(workspace)  # first: what the result tells is not logged, too
    known = workspace.artefacts()
    chosen = workspace.artefacts(config.kind or None, config.name or None)
    if config.latest:
        chosen = list({(a.kind, a.name): a for a in chosen}.values())
    return LsResult(str(workspace.root), listings(chosen, known), notice, len(known))


def notice_of(workspace: Workspace) -> str:
    """What is wrong with the manifest, and what repairs it; empty if nothing is.

    Raises:
        CorruptFile: the manifest cannot be read.
    """
    notice = workspace.notice
    return notice and f"{notice}; `skilldistill init {workspace.root}` repairs this"


def listings(chosen: Iterable[Artefact], known: Iterable[Artefact]) -> tuple[Listing, ...]:
    """Describe the chosen ones of the known artefacts."""
    refs = {artefact.id: artefact.ref for artefact in known}
    return tuple(
        Listing(
            id=artefact.id,
            ref=artefact.ref,
            kind=artefact.kind,
            name=artefact.name,
            version=artefact.version,
            status=artefact.status,
            created=artefact.created,
            path=artefact.place,
            bytes=artefact.bytes,
            files=len(artefact.files),
            seed=artefact.seed,
            parents=artefact.parents,
            parent_refs=tuple(refs.get(parent, parent) for parent in artefact.parents),
            metrics=artefact.metrics,
            command=artefact.command,
        )
        for artefact in chosen
    )
