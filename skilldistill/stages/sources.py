"""Datasets that a stage reads: artefacts of the workspace, or files outside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skilldistill.workspace.manifest import Artefact
from skilldistill.workspace.store import Workspace


@dataclass(frozen=True)
class Source:
    """A dataset that was found."""

    path: Path
    ref: str
    """Its reference; of a file outside the workspace, its path as given."""
    artefact: Artefact | None
    """None for a file outside the workspace."""


def find_dataset(workspace: Workspace, ref: str) -> Source:
    """A dataset by reference or path.

    Raises:
        NotFound: there is none.
    """
    outside = Path(ref)
    if outside.is_file() and not outside.resolve().is_relative_to(workspace.root.resolve()):
        return Source(outside, ref, None)
    artefact = workspace.resolve(ref, "dataset")
    return Source(workspace.path(artefact), artefact.ref, artefact)
