"""What the shell offers for references: what the workspace holds. Reads the manifest only."""

from __future__ import annotations

from skilldistill.errors import SkillDistillError


def complete_artefact(incomplete: str) -> list[str]:
    """References to artefacts of any kind."""
    return _references(incomplete, ("expert", "dataset", "checkpoint", "report"))


def complete_dataset(incomplete: str) -> list[str]:
    """References to datasets."""
    return _references(incomplete, ("dataset",))


def complete_policy(incomplete: str) -> list[str]:
    """References to policies."""
    built_in = [name for name in ("composite", "random") if name.startswith(incomplete)]
    return built_in + _references(incomplete, ("checkpoint", "expert"))


def _references(incomplete: str, kinds: tuple[str, ...]) -> list[str]:
    from skilldistill.settings import Settings
    from skilldistill.workspace.store import Workspace

    try:
        artefacts = Workspace.open(Settings.load().workspace()[0]).artefacts()
    except (SkillDistillError, OSError):
        return []  # pressing Tab is no place for errors
    names = [a.name for a in artefacts if a.kind in kinds]
    versions = [f"{a.name}@{a.version}" for a in artefacts if a.kind in kinds]
    words = dict.fromkeys([*names, *(versions if "@" in incomplete else [])])
    return [word for word in words if word.startswith(incomplete)]
