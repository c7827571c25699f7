"""``skilldistill experts ls``: which experts there are, and which one each skill uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from skilldistill import domain as domains
from skilldistill.config import ExpertsLsConfig
from skilldistill.domain import Domain
from skilldistill.errors import SkillDistillError
from skilldistill.experts.card import CARD_FILE
from skilldistill.experts.network import Expert
from skilldistill.progress import ProgressCallback, StopCheck, never, silent
from skilldistill.stages.expert_references import by_precedence
from skilldistill.workspace.manifest import Artefact
from skilldistill.workspace.store import Workspace


@dataclass(frozen=True)
class ListedExpert:
    """One expert."""

    skill: str
    ref: str
    """``expert:NAME@VERSION``, or ``shipped:SKILL``."""
    id: str | None
    """In the workspace; None for shipped ones."""
    used: bool
    """True for the one that ``collect`` and ``composite`` take for the skill. Where that one is
    damaged they fail, rather than pass it over in silence."""
    status: str
    """``complete``, ``interrupted``, ``shipped``, or ``damaged`` (published complete)."""
    layers: tuple[int, ...]
    head: str
    sha256: str
    source: str
    """Where it came from: ``train``, a file, ``shipped:SKILL``."""
    problem: str = ""
    """Why it cannot be read, and what to do about one that is used; empty if it can."""


@dataclass(frozen=True)
class ExpertsLsResult:
    """Experts by skill, in the order of the skills; the latest first."""

    schema: ClassVar[str] = "skilldistill.experts_ls/1"
    workspace: str
    """Empty where there is none: then only shipped experts are listed."""
    experts: tuple[ListedExpert, ...]
    elsewhere: Mapping[str, int]
    """How many experts the workspace holds of each other domain; they are not listed."""


def experts_ls(
    workspace: Workspace | None,
    config: ExpertsLsConfig,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> ExpertsLsResult:
    """List the experts of the workspace and those that ship with the domain.

    Raises:
        NotFound: no such domain.
    """
    domain = domains.find(config.domain)
    found = [] if workspace is None else _of_workspace(workspace, domain)
    found += _shipped(domain)
    order = {name: place for place, name in enumerate(domain.skill_names)}
    found.sort(key=lambda entry: order.get(entry.skill, len(order)))
    used: set[str] = set()
    listed = []
    for entry in found:
        taken = entry.status != "interrupted" and entry.skill not in used
        if taken:
            used.add(entry.skill)
        listed.append(_marked(entry) if taken else entry)
    held = () if workspace is None else workspace.artefacts("expert")
    others = Counter(str(artefact.config.get("domain", domain.name)) for artefact in held)
    del others[domain.name]
    return ExpertsLsResult(
        workspace=str(workspace.root) if workspace else "",
        experts=tuple(listed),
        elsewhere=dict(others),
    )


def _marked(entry: ListedExpert) -> ListedExpert:
    """The entry as the one that its skill uses."""
    advice = f"; `skilldistill rm --force {entry.ref}` goes back to the one before"
    problem = entry.problem and entry.problem + advice
    return replace(entry, used=True, problem=problem)


def _of_workspace(workspace: Workspace, domain: Domain) -> list[ListedExpert]:
    listed = []
    for artefact in by_precedence(workspace.artefacts("expert")):
        source = str(artefact.metrics.get("source", ""))
        try:
            expert = Expert.load(workspace.path(artefact))
        except SkillDistillError as error:
            if artefact.config.get("domain", domain.name) == domain.name:
                listed.append(_broken(artefact, source, error.message))
            continue
        if expert.domain == domain.name:
            listed.append(_entry(expert, artefact.ref, artefact.id, artefact.status, source))
    return listed


def _broken(artefact: Artefact, source: str, problem: str) -> ListedExpert:
    """An expert of which only the manifest can tell."""
    return ListedExpert(
        skill=str(artefact.metrics.get("skill") or artefact.config.get("skill") or ""),
        ref=artefact.ref,
        id=artefact.id,
        used=False,
        status="damaged" if artefact.status == "complete" else artefact.status,
        layers=(),
        head="",
        sha256="",
        source=source,
        problem=problem,
    )


def _shipped(domain: Domain) -> list[ListedExpert]:
    folder: Path | None = domain.shipped_experts
    if folder is None:
        return []
    return [
        _entry(
            Expert.load(folder / name, domain=domain), f"shipped:{name}", None, "shipped", "train"
        )
        for name in domain.skill_names
        if (folder / name / CARD_FILE).is_file()
    ]


def _entry(
    expert: Expert, ref: str, identity: str | None, status: str, source: str
) -> ListedExpert:
    return ListedExpert(
        skill=expert.skill,
        ref=ref,
        id=identity,
        used=False,
        status=status,
        layers=(expert.obs_dim, *(layer.weight.shape[1] for layer in expert.layers)),
        head=expert.head,
        sha256=expert.sha256,
        source=source,
    )
