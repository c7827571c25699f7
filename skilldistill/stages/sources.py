"""What a stage begins with: an artefact of the workspace, or a file or folder outside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skilldistill.stages.expert_references import is_zip
from skilldistill.stages.references import CHECKPOINT_FILE
from skilldistill.workspace.manifest import Artefact
from skilldistill.workspace.store import Workspace


@dataclass(frozen=True)
class Source:
    """A dataset or checkpoint that was found."""

    path: Path
    ref: str
    """Its reference; of what lies outside the workspace, its path as given."""
    artefact: Artefact | None
    """None for what lies outside the workspace."""


def find_dataset(workspace: Workspace, ref: str) -> Source:
    """A dataset by reference or path.

    Raises:
        NotFound: there is none.
    """
    outside = Path(ref)
    if outside.is_file() and not _within(outside, workspace):
        return Source(outside, ref, None)
    artefact = workspace.resolve(ref, "dataset")
    return Source(workspace.path(artefact), artefact.ref, artefact)


def find_checkpoint(workspace: Workspace, ref: str) -> Source:
    """A checkpoint by reference, or by path its folder or a zip of it. Names go first.

    Raises:
        NotFound: there is none.
    """
    outside = Path(ref)
    is_one = is_zip(outside) or (outside / CHECKPOINT_FILE).is_file()
    if is_one and not _within(outside, workspace) and not workspace.artefacts("checkpoint", ref):
        return Source(outside, ref, None)
    artefact = workspace.resolve(ref, "checkpoint")
    return Source(workspace.path(artefact), artefact.ref, artefact)


def _within(path: Path, workspace: Workspace) -> bool:
    return path.resolve().is_relative_to(workspace.root.resolve())
