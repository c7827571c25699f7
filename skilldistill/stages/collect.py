"""``skilldistill collect``: play experts, write a dataset per skill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from skilldistill import domain as domains
from skilldistill.config import CollectConfig
from skilldistill.data.reader import DatasetReader
from skilldistill.data.schema import DatasetInfo, ExpertRef
from skilldistill.data.writer import DatasetWriter
from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError, CorruptFile, Interrupted, NotFound
from skilldistill.experts.composite import CompositePolicy
from skilldistill.experts.network import Expert
from skilldistill.learning import collect as collecting
from skilldistill.progress import ProgressCallback, StopCheck, never, silent
from skilldistill.settings import check_config
from skilldistill.stages.expert_references import ResolvedExpert, find_experts, has_expert
from skilldistill.stages.merge import latest
from skilldistill.stages.references import check_policy_name
from skilldistill.workspace.manifest import Artefact
from skilldistill.workspace.store import Workspace

COMBINED = "combined"
"""What ``--skill`` calls the task that needs every skill, whatever the domain calls it."""
COMBINED_NAME = "composite"
"""Default name of its dataset: ``combined`` is the merged one's, which `distill` looks for."""


@dataclass(frozen=True)
class UsedExpert:
    """An expert that acted and labelled."""

    skill: str
    id: str
    ref: str
    sha256: str
    source: str
    """Where it was found: a workspace reference, ``shipped:SKILL``, or a path."""
    registered: bool
    """True if it was copied into the workspace by this command."""


@dataclass(frozen=True)
class CollectedDataset:
    """One dataset that was published."""

    id: str
    ref: str
    path: str
    sha256: str
    skill: str
    episodes: int
    rows: int
    mean_return: float
    metrics: Mapping[str, float | None]
    rows_per_second: float
    experts: tuple[UsedExpert, ...]


@dataclass(frozen=True)
class CollectResult:
    """What ``collect`` made."""

    schema: ClassVar[str] = "skilldistill.collect/1"
    workspace: str
    domain: str
    datasets: tuple[CollectedDataset, ...]
    missing: tuple[str, ...]
    """Skills without a dataset, which `merge` looks for where none is named."""
    without_expert: tuple[str, ...]
    """Those of them that have no expert either."""


def collect(
    workspace: Workspace,
    config: CollectConfig,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> CollectResult:
    """Play experts and publish one dataset per skill.

    An expert that is not in the workspace (shipped, or given by path) is copied into it first,
    once, so that the dataset's parent is on record.

    Raises:
        ConfigurationError: no such skill, ``expert`` given for more than one, or an expert by
            path whose name means something else.
        NotFound: a skill has no expert.
        Interrupted: asked to stop; datasets finished before stay, the current one is dropped.
    """
    check_config(config)
    domain = domains.find(config.domain)
    tasks = tasks_of(domain, config)
    overrides = {config.skill: config.expert} if config.expert else {}
    needed = domain.skill_names if domain.combined in tasks else tasks
    found = find_experts(workspace, domain, overrides, skills=needed)
    command = command or "skilldistill collect (python)"
    used = {skill: _recorded(workspace, found[skill], domain, command) for skill in needed}
    datasets: list[CollectedDataset] = []
    for task in tasks:
        skills = domain.skill_names if task == domain.combined else (task,)
        experts = {skill: found[skill].expert for skill in skills}
        try:
            made = _collect_one(
                workspace,
                domain,
                task,
                experts,
                [used[skill] for skill in skills],
                config,
                command,
                progress,
                stop,
            )
        except Interrupted as error:
            raise _interrupted(error, config, datasets, tasks[len(datasets) :]) from error
        datasets.append(made)
    known = latest(workspace, domain)
    missing = [skill for skill in domain.skill_names if skill not in known]
    return CollectResult(
        workspace=str(workspace.root),
        domain=domain.name,
        datasets=tuple(datasets),
        missing=tuple(missing),
        without_expert=tuple(s for s in missing if not has_expert(workspace, domain, s)),
    )


def _interrupted(
    error: Interrupted,
    config: CollectConfig,
    kept: Sequence[CollectedDataset],
    left: Sequence[str],
) -> Interrupted:
    """The interruption, with what is kept of a command that makes several datasets."""
    if not kept:
        message = f"stopped while collecting {left[0]}; no dataset was written"
        hint = "the same command plays it again from its first episode"
        return Interrupted(message, signum=error.signum, hint=hint)
    # The last of several flags of one name counts, so that adding is enough.
    added = [
        f"`--skill {task}" + (f" --name {config.name}-{task}`" if config.name else "`")
        for task in left
    ]
    return Interrupted(
        f"stopped while collecting {left[0]}; {' and '.join(one.ref for one in kept)} "
        f"{'is' if len(kept) == 1 else 'are'} kept",
        signum=error.signum,
        hint=f"the same command with {', then with '.join(added)} added makes the rest",
    )


def tasks_of(domain: Domain, config: CollectConfig) -> tuple[str, ...]:
    """The tasks to play, all checked."""
    if config.episodes < 1:
        raise ConfigurationError(f"episodes must be at least 1, got {config.episodes}")
    if config.skill in (COMBINED, domain.combined, "all"):
        if config.expert:
            raise ConfigurationError(
                f"an expert has one skill, but --skill is {config.skill!r}",
                hint=f"name one: --skill {' or --skill '.join(domain.skill_names)}",
            )
        return domain.skill_names if config.skill == "all" else (domain.combined,)
    if config.skill not in domain.skill_names:
        # Lets the domain name the nearest, then says what else the flag takes.
        try:
            domain.skill(config.skill)
        except ConfigurationError as error:
            raise ConfigurationError(
                error.message, hint=f"{error.hint}, {COMBINED}, all"
            ) from error
    return (config.skill,)


def _recorded(
    workspace: Workspace, found: ResolvedExpert, domain: Domain, command: str
) -> UsedExpert:
    """The expert as an artefact of the workspace, copied there if need be."""
    expert, sha256 = found.expert, found.expert.sha256
    if found.artefact is not None:
        return UsedExpert(expert.skill, found.artefact, found.ref, sha256, found.ref, False)
    artefact = _same_expert(workspace, sha256)
    registered = artefact is None
    if artefact is None:
        with workspace.draft("expert", _name_of(found, domain)) as draft:
            expert.save(draft.path)
            artefact = draft.commit(
                command=command,
                config={"skill": expert.skill, "domain": domain.name, "source": found.ref},
                seed=0,
                metrics={"skill": expert.skill, "source": found.ref, "sha256": sha256},
                check=Expert.load,
            )
    return UsedExpert(expert.skill, artefact.id, artefact.ref, sha256, found.ref, registered)


def name_to_record(workspace: Workspace | None, found: ResolvedExpert, domain: Domain) -> str:
    """The name under which an expert will be copied into the workspace; empty if it is there.

    Raises:
        ConfigurationError: an expert by path whose name means something else.
    """
    if found.artefact is not None or (
        workspace is not None and _same_expert(workspace, found.expert.sha256) is not None
    ):
        return ""
    return _name_of(found, domain)


def _name_of(found: ResolvedExpert, domain: Domain) -> str:
    return check_policy_name(found.expert.skill if found.shipped else found.expert.name, domain)


def _same_expert(workspace: Workspace, sha256: str) -> Artefact | None:
    """The latest expert that does the same and can still be read."""
    for artefact in reversed(workspace.artefacts("expert")):
        if artefact.status != "complete" or artefact.metrics.get("sha256", sha256) != sha256:
            continue
        try:
            expert = Expert.load(workspace.path(artefact))
        except (CorruptFile, NotFound):
            continue  # damaged, or of a domain that is not installed: not the one in hand
        if expert.sha256 == sha256:
            return artefact
    return None


def _collect_one(
    workspace: Workspace,
    domain: Domain,
    task: str,
    experts: Mapping[str, Expert],
    used: Sequence[UsedExpert],
    config: CollectConfig,
    command: str,
    progress: ProgressCallback,
    stop: StopCheck,
) -> CollectedDataset:
    single = task in domain.skill_names
    info = DatasetInfo(
        domain=domain.name,
        skills=(task,),
        env_id=domain.task(task).env_id,
        experts=tuple(ExpertRef(expert.ref, expert.sha256) for expert in used),
        observation_names=domain.observation_names,
        action_names=domain.action_names,
        seed=config.seed,
        # What the rows depend on, and nothing else: the name given to them is not in the bytes.
        config={"skill": task, "episodes": config.episodes, "stochastic": config.stochastic},
    )
    native_dim = len(domain.skill(task).native_observations) if single else None
    policy = CompositePolicy(domain, experts, stochastic=config.stochastic)
    with workspace.draft("dataset", dataset_name(domain, task, config)) as draft:
        with DatasetWriter(draft.path, info, native_dim) as writer:
            done = collecting.collect(
                domain,
                task,
                policy,
                writer,
                episodes=config.episodes,
                seed=config.seed,
                progress=progress,
                stop=stop,
            )
        speed = done.rows / max(done.seconds, 1e-9)
        artefact = draft.commit(
            command=command,
            config={**asdict(config), "skill": task, "expert": ",".join(e.ref for e in used)},
            seed=config.seed,
            parents=[expert.id for expert in used],
            metrics={
                **done.metrics,
                "skills": [task],
                "episodes": done.episodes,
                "rows": done.rows,
                "mean_return": done.mean_return,
                "experts": {expert.skill: expert.ref for expert in used},
                "rows_per_second": round(speed),
            },
            check=lambda path: _check(path, domain),
        )
    return CollectedDataset(
        id=artefact.id,
        ref=artefact.ref,
        path=str(workspace.path(artefact)),
        sha256=artefact.files[0].sha256,
        skill=task,
        episodes=done.episodes,
        rows=done.rows,
        mean_return=done.mean_return,
        metrics=done.metrics,
        rows_per_second=speed,
        experts=tuple(used),
    )


def _check(path: Path, domain: Domain) -> None:
    with DatasetReader(path, domain=domain) as reader:
        reader.check()


def dataset_name(domain: Domain, task: str, config: CollectConfig) -> str:
    """What the dataset of a task will be called."""
    if config.skill == "all" and config.name:
        return f"{config.name}-{task}"
    return config.name or (COMBINED_NAME if task == domain.combined else task)
