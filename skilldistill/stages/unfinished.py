"""Where a learning stage keeps what it has not finished yet, and whether it goes on with it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from skilldistill.config import DistillConfig, FinetuneConfig, TrainConfig
from skilldistill.errors import ConfigurationError, NotFound, NotInstalled
from skilldistill.training_state import STATE_FILE, TENSORBOARD_FOLDER
from skilldistill.workspace.drafts import Beginning
from skilldistill.workspace.store import Workspace

NO_MATTER = frozenset({"device", "tensorboard", "resume"})
"""Settings that change nothing of what is learned."""


def deciding(config: TrainConfig | DistillConfig | FinetuneConfig) -> dict[str, Any]:
    """The settings that decide what is learned."""
    return {key: value for key, value in asdict(config).items() if key not in NO_MATTER}


def unfinished(
    workspace: Workspace,
    config: TrainConfig | DistillConfig | FinetuneConfig,
    kind: str,
    name: str,
    *,
    further: Any = (),
) -> Path:
    """The folder of a stage's unfinished work: as an earlier run left it, or empty.

    Either way it notes that it was taken up now, for `gc`.

    Args:
        workspace: where it lies.
        config: settings of the command.
        kind: of the artefact that is to come.
        name: of that artefact.
        further: what else decides the result, as JSON can hold it.

    Raises:
        NotFound: a run is to be gone on with, and there is none of these settings.
        NotInstalled: TensorBoard is wanted and not there.
        ConfigurationError: it cannot write to this workspace.
        DiskProblem: the disk is full or fails.
    """
    if config.tensorboard:
        _check_board(workspace)
    content = json.dumps([deciding(config), further], sort_keys=True)
    key = hashlib.sha256(content.encode()).hexdigest()[:12]
    folder = workspace.partial(kind, name, key)
    if config.resume and not (folder / STATE_FILE).exists():
        workspace.discard_partial(folder)
        raise NotFound(
            f"no unfinished work on {kind} {name!r} with these settings: nothing to resume",
            hint="run the same command without --resume",
        )
    if not config.resume and any(folder.iterdir()):
        workspace.discard_partial(folder)
        folder = workspace.partial(kind, name, key)
    Beginning(workspace.manifest().highest(kind, name), deciding(config)).write(folder)
    return folder


def _check_board(workspace: Workspace) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        raise NotInstalled("TensorBoard", "plots")
    try:
        str(workspace.root).encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"TensorBoard cannot write to {workspace.root}: the path is not UTF-8",
            hint="leave out `--tensorboard`, or name another workspace",
        ) from None


@contextmanager
def put_away_if_not_begun(workspace: Workspace, folder: Path) -> Iterator[None]:
    """Work in a folder that :func:`unfinished` gave, and that goes if nothing was saved in it."""
    try:
        yield
    except Exception:
        if not (folder / STATE_FILE).exists():  # there is nothing to go on from
            workspace.discard_partial(folder)
        raise


def keep_board(folder: Path, place: Path) -> None:
    """Copy TensorBoard's files, if there are any, from unfinished work to a result's place."""
    if (folder / TENSORBOARD_FOLDER).is_dir():
        shutil.copytree(folder / TENSORBOARD_FOLDER, place / TENSORBOARD_FOLDER)
