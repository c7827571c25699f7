"""Find the experts of a domain: the one asked for, the workspace's latest, the shipped one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError, CorruptFile, NotFound
from skilldistill.workspace.store import Workspace

if TYPE_CHECKING:
    from skilldistill.experts.network import Expert
    from skilldistill.workspace.manifest import Artefact

EXPERT_FILE = "expert.json"


@dataclass(frozen=True)
class ResolvedExpert:
    """An expert, and where it came from."""

    expert: Expert
    ref: str
    """``expert:NAME@VERSION``, ``shipped:SKILL``, or a path."""
    shipped: bool
    artefact: str | None = None
    """Id in the workspace; None for shipped experts and paths."""


def find_experts(
    workspace: Workspace | None,
    domain: Domain,
    overrides: Mapping[str, str] | None = None,
    *,
    skills: Iterable[str] | None = None,
) -> dict[str, ResolvedExpert]:
    """The expert of each skill: the one asked for, the workspace's latest, the shipped one.

    Args:
        workspace: where to look first; None looks at the shipped experts only.
        domain: whose skills.
        overrides: reference or folder by skill, for skills that shall not take the latest.
        skills: which skills; None takes all.

    Raises:
        NotFound: a skill has no expert.
        ConfigurationError: an override's expert has another skill.
        CorruptFile: the file of an expert that would be used is damaged.
    """
    overrides = overrides or {}
    wanted = [domain.skill(name).name for name in (skills or domain.skill_names)]
    result: dict[str, ResolvedExpert] = {}
    for skill in wanted:
        expert = (
            find_expert(overrides[skill], workspace, domain, skill)
            if skill in overrides
            else _workspace_expert(workspace, domain, skill) or shipped_expert(domain, skill)
        )
        if expert is None:
            raise NotFound(
                f"no expert for skill {skill!r}: the workspace has none and domain "
                f"{domain.name!r} ships none",
                hint=f"run `skilldistill train --skill {skill}`, or add yours with "
                f"`skilldistill experts add {skill} policy.zip`",
            )
        result[skill] = expert
    return result


def has_expert(workspace: Workspace | None, domain: Domain, skill: str) -> bool:
    """Whether :func:`find_experts` finds one of a skill, be it a damaged one."""
    try:
        find_experts(workspace, domain, skills=[skill])
    except NotFound:
        return False
    except CorruptFile:
        return True
    return True


def find_expert(
    ref: str, workspace: Workspace | None, domain: Domain, skill: str
) -> ResolvedExpert:
    """The expert that a reference or a folder names, which must have ``skill``.

    Raises:
        NotFound: nothing has that name.
        ConfigurationError: an expert of another skill, or a zip that was not added yet.
        CorruptFile: its file is damaged.
    """
    from skilldistill.experts.network import Expert

    name = ref.removeprefix("shipped:")
    if ref.startswith("shipped:"):
        found = shipped_expert(domain, name)
        if found is None:
            raise NotFound(f"domain {domain.name!r} ships no expert for skill {name!r}")
    elif workspace is not None and (artefact := artefact_named(workspace, ref, "expert")):
        found = ResolvedExpert(
            Expert.load(workspace.path(artefact)), artefact.ref, False, artefact.id
        )
    elif (folder := folder_with(Path(ref), EXPERT_FILE)) is not None:
        found = ResolvedExpert(Expert.load(folder), str(folder), False)
    elif (shipped := shipped_expert(domain, ref.removeprefix("expert:"))) is not None:
        found = shipped
    elif is_zip(Path(ref)):
        raise ConfigurationError(
            f"{ref} is a Stable-Baselines3 zip, not an expert of ours",
            hint=f"`skilldistill experts add {skill} {ref}` makes it one, which is then used",
        )
    else:
        raise NotFound(
            f"no expert {ref!r}",
            hint=f"`skilldistill experts ls` shows them, "
            f"`skilldistill experts add {skill} policy.zip` adds yours",
        )
    check_skill(found.expert, found.ref, domain, skill)
    return found


def _workspace_expert(
    workspace: Workspace | None, domain: Domain, skill: str
) -> ResolvedExpert | None:
    """The workspace's latest complete expert of a skill.

    A copy of the shipped one, which collecting makes, comes after all others: whoever once asked
    for ``shipped:SKILL`` goes on with the expert of his own.

    The manifest says which one that is, and no other is read: an old one that is damaged is
    nobody's concern, and one that would be used must not be passed over in silence.

    Raises:
        CorruptFile: that one is damaged.
    """
    if workspace is None:
        return None
    from skilldistill.experts.network import Expert

    for artefact in by_precedence(workspace.artefacts("expert")):
        if artefact.status != "complete" or not _may_play(artefact, domain, skill):
            continue
        expert = Expert.load(workspace.path(artefact))
        if (expert.domain, expert.skill) == (domain.name, skill):
            return ResolvedExpert(expert, artefact.ref, False, artefact.id)
    return None


def by_precedence(experts: Iterable[Artefact]) -> list[Artefact]:
    """Experts of a workspace, those first that a skill would rather use."""
    latest_first = list(experts)[::-1]
    return sorted(
        latest_first,
        key=lambda artefact: str(artefact.metrics.get("source", "")).startswith("shipped:"),
    )


def _may_play(artefact: Artefact, domain: Domain, skill: str) -> bool:
    """False if the manifest says that an expert is for something else."""
    recorded = artefact.metrics.get("skill") or artefact.config.get("skill") or skill
    return recorded == skill and artefact.config.get("domain", domain.name) == domain.name


def shipped_expert(domain: Domain, skill: str) -> ResolvedExpert | None:
    """The expert that a domain ships for a skill, or None."""
    if domain.shipped_experts is None or skill not in domain.skill_names:
        return None
    folder = domain.shipped_experts / skill
    if not (folder / EXPERT_FILE).is_file():
        return None
    from skilldistill.experts.network import Expert

    return ResolvedExpert(Expert.load(folder), f"shipped:{skill}", True)


def check_skill(expert: Expert, ref: str, domain: Domain, skill: str) -> None:
    """Refuse an expert of another skill, or of another domain.

    Raises:
        ConfigurationError: it is one.
    """
    if (expert.domain, expert.skill) != (domain.name, skill):
        raise ConfigurationError(
            f"{ref} is an expert for {expert.skill!r} in {expert.domain!r}, "
            f"not for {skill!r} in {domain.name!r}",
            hint="`skilldistill experts ls` shows which expert has which skill",
        )


def artefact_named(workspace: Workspace, text: str, kind: str) -> Artefact | None:
    """The artefact, or None if the workspace has none of that kind and name.

    A version that does not exist of a name that does is an error of its own: falling through
    to something else would hide a slip of the finger.
    """
    prefix, colon, rest = text.partition(":")
    if colon and prefix != kind:
        return None
    name = (rest if colon else text).partition("@")[0]
    known = workspace.artefacts(kind)
    if not any(artefact.name == name or artefact.id == text for artefact in known):
        return None
    return workspace.resolve(text, kind)


def folder_with(path: Path, filename: str) -> Path | None:
    """The folder that ``path`` is, or lies in, if it holds ``filename``."""
    folder = path if path.is_dir() else path.parent
    return folder if path.exists() and (folder / filename).is_file() else None


def is_zip(path: Path) -> bool:
    """Whether this is a file that can only be a Stable-Baselines3 zip."""
    return path.suffix == ".zip" and path.exists()
