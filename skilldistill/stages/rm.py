"""``skilldistill rm``: remove artefacts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from skilldistill.config import RmConfig
from skilldistill.errors import ConfigurationError
from skilldistill.progress import ProgressCallback, StopCheck, never, silent
from skilldistill.stages.ls import Listing, listings
from skilldistill.workspace.store import Workspace, check_unused


@dataclass(frozen=True)
class RmResult:
    """What was removed, or would be."""

    schema: ClassVar[str] = "skilldistill.rm/1"

    workspace: str
    removed: tuple[Listing, ...]
    bytes: int
    """Room they took."""
    dry_run: bool


def rm(
    workspace: Workspace,
    config: RmConfig,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> RmResult:
    """Remove artefacts and their files. Their version numbers are not given again.

    Args:
        workspace: where.
        config: which.
        progress, stop, command: as every stage takes them; not needed here.

    Raises:
        NotFound: a reference means nothing.
        ConfigurationError: nothing was named, or what stays was made from it, and no ``force``.
        Locked: another process's commit did not end in time.
        DiskProblem: a file could not be deleted.
    """
    if not config.references:
        raise ConfigurationError(
            "nothing to remove was named", hint="`skilldistill ls` lists what is there"
        )
    known = workspace.artefacts()
    chosen = {}
    for reference in config.references:
        artefact = workspace.resolve(reference)
        same = [a for a in known if (a.kind, a.name) == (artefact.kind, artefact.name)]
        chosen.update({a.id: a for a in (same if config.all_versions else [artefact])})
    if not config.force:
        check_unused(chosen.values(), known)
    if not config.dry_run:
        workspace.remove(chosen, force=config.force)
    removed = listings(chosen.values(), known)
    room = sum(listing.bytes for listing in removed)
    return RmResult(str(workspace.root), removed, room, config.dry_run)
