"""``skilldistill init``: make a workspace, or repair the manifest of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from skilldistill.config import InitConfig
from skilldistill.errors import NotFound
from skilldistill.progress import ProgressCallback, StopCheck, never, silent
from skilldistill.workspace.store import DEFAULT_FOLDER, Workspace


@dataclass(frozen=True)
class InitResult:
    """A workspace that is ready."""

    schema: ClassVar[str] = "skilldistill.init/1"

    root: str
    created: bool
    """False if it was there before."""
    repaired: str
    """What was wrong with its manifest, which the previous one has replaced; empty if nothing."""


def init(
    workspace: Workspace | str | Path | None = None,
    config: InitConfig | None = None,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> InitResult:
    """Make a workspace of a directory. One that is there already stays as it is, or is repaired.

    Args:
        workspace: the directory; None takes ``config.path``, or else ``./workspace``.
        config: settings.
        progress, stop, command: as every stage takes them; not needed here.

    Raises:
        ConfigurationError: the path is a file.
        CorruptFile: the directory's ``manifest.json`` is another program's, or cannot be repaired.
        DiskProblem: the directory cannot be written.
    """
    path = place_of(workspace, config)
    try:
        found = Workspace.open(path)
    except NotFound:
        return InitResult(str(Workspace.create(path).root), created=True, repaired="")
    return InitResult(str(found.root), created=False, repaired=found.repair())


def place_of(workspace: Workspace | str | Path | None, config: InitConfig | None) -> Path:
    """The directory that `init` makes a workspace of; arguments as :func:`init` takes them."""
    path = workspace.root if isinstance(workspace, Workspace) else workspace
    path = path or (config.path if config else "") or Path.cwd() / DEFAULT_FOLDER
    return Path(path).expanduser().absolute()
