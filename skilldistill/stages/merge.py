"""``skilldistill merge``: join datasets into one that a student can learn from."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from skilldistill import domain as domains
from skilldistill.config import MergeConfig
from skilldistill.data import merge as merging
from skilldistill.data.reader import DatasetReader
from skilldistill.domain import Domain
from skilldistill.errors import NotFound
from skilldistill.progress import ProgressCallback, StopCheck, never, silent
from skilldistill.settings import check_config
from skilldistill.stages.sources import find_dataset
from skilldistill.workspace.manifest import Artefact
from skilldistill.workspace.store import Workspace


@dataclass(frozen=True)
class MergeSource:
    """One dataset that was joined."""

    id: str
    """In the workspace; empty for a file outside it."""
    ref: str
    """Reference, or the path of a file outside the workspace."""


@dataclass(frozen=True)
class MergeResult:
    """The dataset that was published."""

    schema: ClassVar[str] = "skilldistill.merge/1"
    workspace: str
    domain: str
    id: str
    ref: str
    path: str
    sha256: str
    skills: tuple[str, ...]
    episodes: int
    rows: int
    rows_per_skill: dict[str, int]
    sources: tuple[MergeSource, ...]
    rows_per_second: float


def merge(
    workspace: Workspace,
    config: MergeConfig,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> MergeResult:
    """Join datasets of one domain and publish the result.

    Raises:
        NotFound: a dataset is not there; without arguments, a skill that has none.
        ConfigurationError: one given twice, another domain, or an episode found in two of them.
        CorruptFile: a dataset is damaged, or empty.
        Interrupted: asked to stop; nothing was published.
    """
    check_config(config)
    domain = domains.find(config.domain)
    chosen = sources_of(workspace, domain, config)
    sources = tuple(source for source, _ in chosen)
    began = time.perf_counter()
    with workspace.draft("dataset", config.name) as draft:
        info = merging.merge(
            [path for _, path in chosen],
            draft.path,
            domain=domain,
            seed=config.seed,
            names=[source.ref for source in sources],
            progress=progress,
            stop=stop,
        )
        seconds = time.perf_counter() - began
        with DatasetReader(draft.path, domain=domain) as merged:
            merged.check()
            per_skill = {name: entry["rows"] for name, entry in merged.summary()["skills"].items()}
            rows, episodes = merged.num_rows, merged.num_episodes
        speed = rows / max(seconds, 1e-9)
        artefact = draft.commit(
            command=command or "skilldistill merge (python)",
            config={**asdict(config), "datasets": [source.ref for source in sources]},
            seed=config.seed,
            parents=[source.id for source in sources if source.id],
            metrics={
                "skills": list(info.skills),
                "episodes": episodes,
                "rows": rows,
                "rows_per_skill": per_skill,
                "rows_per_second": round(speed),
            },
        )
    return MergeResult(
        workspace=str(workspace.root),
        domain=config.domain,
        id=artefact.id,
        ref=artefact.ref,
        path=str(workspace.path(artefact)),
        sha256=artefact.files[0].sha256,
        skills=info.skills,
        episodes=episodes,
        rows=rows,
        rows_per_skill=per_skill,
        sources=sources,
        rows_per_second=speed,
    )


def sources_of(
    workspace: Workspace, domain: Domain, config: MergeConfig
) -> list[tuple[MergeSource, Path]]:
    """The datasets to join and where they lie: those given, or the latest of every skill.

    Raises:
        NotFound: one is not there, or a skill has none.
        ConfigurationError: one is given twice.
    """
    if config.datasets:
        found = [find_dataset(workspace, ref) for ref in config.datasets]
        merging.refuse_repeats([source.path for source in found], [source.ref for source in found])
        return [
            (MergeSource(source.artefact.id if source.artefact else "", source.ref), source.path)
            for source in found
        ]
    return _of_every_skill(workspace, domain)


def latest(workspace: Workspace, domain: Domain) -> dict[str, Artefact]:
    """The latest complete dataset of each skill that has one, collected from experts alone."""
    found: dict[str, Artefact] = {}
    for artefact in workspace.artefacts("dataset"):
        # Only `collect` has a setting called skill: merged data and a student's rounds do not.
        skill = artefact.config.get("skill")
        if (
            artefact.status == "complete"
            and artefact.config.get("domain") == domain.name
            and skill in domain.skill_names
        ):
            found[skill] = artefact
    return found


def _of_every_skill(workspace: Workspace, domain: Domain) -> list[tuple[MergeSource, Path]]:
    found = latest(workspace, domain)
    missing = [skill for skill in domain.skill_names if skill not in found]
    if missing:
        which = missing[0] if len(missing) == 1 else "all"
        raise NotFound(
            f"{workspace.root} has no dataset of {' and '.join(missing)}",
            hint=f"run `skilldistill collect --skill {which}`, or name the datasets to merge",
        )
    chosen = [found[skill] for skill in domain.skill_names]
    return [(MergeSource(a.id, a.ref), workspace.path(a)) for a in chosen]
