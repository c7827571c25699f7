"""Small artefacts for the tests of the workspace and of the stages that look after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skilldistill.workspace.manifest import Artefact
from skilldistill.workspace.store import Workspace


def make(
    workspace: Workspace,
    kind: str = "dataset",
    name: str = "aiming",
    *,
    content: bytes = b"content",
    parents: Sequence[str] = (),
    metrics: Mapping[str, Any] | None = None,
    status: str = "complete",
) -> Artefact:
    """Publish an artefact: one file for a dataset, else a directory with two."""
    with workspace.draft(kind, name) as draft:
        if kind == "dataset":
            draft.path.write_bytes(content)
        else:
            (draft.path / "main.bin").write_bytes(content)
            (draft.path / "sub").mkdir()
            (draft.path / "sub" / "more.json").write_text("{}")
        return draft.commit(
            command=f"skilldistill make {name}",
            config={"size": len(content)},
            seed=7,
            parents=parents,
            metrics=metrics,
            status=status,
        )


def tree(root: Path) -> list[str]:
    """Relative paths of everything that lies below a directory."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))
