"""``skilldistill gc``: remove what nobody needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from skilldistill.config import GcConfig
from skilldistill.progress import ProgressCallback, StopCheck, never, silent
from skilldistill.settings import check_config
from skilldistill.workspace.store import Workspace
from skilldistill.workspace.verify import Removal, collect_garbage, plan_garbage


@dataclass(frozen=True)
class GcResult:
    """What was removed, or would be."""

    schema: ClassVar[str] = "skilldistill.gc/1"

    workspace: str
    removed: tuple[Removal, ...]
    bytes: int
    """Room they took."""
    dry_run: bool


def gc(
    workspace: Workspace,
    config: GcConfig | None = None,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> GcResult:
    """Remove leftovers, interrupted artefacts that were overtaken, and old partial work.

    Args:
        workspace: where.
        config: settings.
        progress, stop, command: as every stage takes them; not needed here.

    Raises:
        ConfigurationError: a setting that cannot be used.
        CorruptFile: the manifest is damaged, so that nothing may be called a leftover.
        Locked: another process's commit did not end in time.
        DiskProblem: something could not be deleted.
    """
    config = config or GcConfig()
    check_config(config)
    removals = plan_garbage(workspace, days=config.days)
    if not config.dry_run:
        removals = collect_garbage(workspace, removals)
    room = sum(removal.bytes for removal in removals)
    return GcResult(str(workspace.root), tuple(removals), room, config.dry_run)
