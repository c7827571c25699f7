"""``--dry-run``: what a command would read and write, and with which settings. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from skilldistill import domain as domains
from skilldistill.config import (
    BaseConfig,
    CollectConfig,
    DistillConfig,
    EvaluateConfig,
    ExpertsAddConfig,
    FinetuneConfig,
    MergeConfig,
    RunConfig,
    TrainConfig,
)
from skilldistill.errors import NotFound
from skilldistill.stages import references
from skilldistill.workspace.manifest import check_name
from skilldistill.workspace.store import DEFAULT_FOLDER, Workspace


@dataclass(frozen=True)
class PlanEntry:
    """Something that would be read or written."""

    ref: str
    """Reference, path, or name of a built-in policy."""
    note: str = ""


@dataclass(frozen=True)
class PlanResult:
    """What a command would do."""

    schema: ClassVar[str] = "skilldistill.plan/1"

    command: str
    workspace: str
    creates_workspace: bool
    inputs: tuple[PlanEntry, ...]
    outputs: tuple[PlanEntry, ...]
    config: Mapping[str, Any]


def plan(
    command: str,
    config: BaseConfig | ExpertsAddConfig,
    workspace: Workspace | None,
    path: str | Path | None = None,
) -> PlanResult:
    """Resolve what a command would read, and name what it would write.

    Args:
        command: name of the command, ``"collect"`` for example.
        config: what it would be given.
        workspace: where; None if there is none yet.
        path: where it would be made; None makes ``./workspace``.

    Raises:
        NotFound: an input is not there.
        ConfigurationError: a setting cannot be used.
    """
    inputs, outputs = _PLANS[command](config, workspace)
    root = workspace.root if workspace else Path(path or Path.cwd() / DEFAULT_FOLDER).absolute()
    return PlanResult(
        command=command,
        workspace=str(root),
        creates_workspace=workspace is None,
        inputs=tuple(inputs),
        outputs=tuple(_next(workspace, kind, name) for kind, name in outputs),
        config=asdict(config),
    )


_Plan = tuple[Iterable[PlanEntry], Iterable[tuple[str, str]]]
"""What would be read, and (kind, name) of what would be written."""


def _next(workspace: Workspace | None, kind: str, name: str) -> PlanEntry:
    known = workspace.manifest().versions if workspace else {}
    return PlanEntry(f"{kind}:{check_name(name)}@{known.get(f'{kind}:{name}', 0) + 1}")


def _train(config: TrainConfig, workspace: Workspace | None) -> _Plan:
    skill = domains.find(config.domain).skill(config.skill).name
    return [], [("expert", config.name or skill)]


def _experts_add(config: ExpertsAddConfig, workspace: Workspace | None) -> _Plan:
    from skilldistill.stages.experts_add import read_expert, skill_of

    domain = domains.find(config.domain)
    skill = skill_of(domain, config)
    # Trusting a file runs its code, which a command that does nothing must not.
    if not config.trust_pickle:
        read_expert(domain, skill, config)
    return [PlanEntry(config.path, f"expert for {skill.name}")], [("expert", config.name)]


def _collect(config: CollectConfig, workspace: Workspace | None) -> _Plan:
    from skilldistill.stages.collect import dataset_name, tasks_of

    domain = domains.find(config.domain)
    tasks = tasks_of(domain, config)
    skills = domain.skill_names if domain.combined in tasks else tasks
    overrides = {config.skill: config.expert} if config.expert else {}
    return (
        _experts(workspace, config, skills, overrides),
        [("dataset", dataset_name(domain, task, config)) for task in tasks],
    )


def _merge(config: MergeConfig, workspace: Workspace | None) -> _Plan:
    from skilldistill.stages.merge import sources_of

    domain = domains.find(config.domain)
    sources = sources_of(_needed(workspace), domain, config)
    return [PlanEntry(source.ref) for source, _ in sources], [("dataset", config.name)]


def _distill(config: DistillConfig, workspace: Workspace | None) -> _Plan:
    inputs = [_file_or_artefact(workspace, config.dataset, "dataset")]
    if config.rounds:
        inputs += _experts(workspace, config, domains.find(config.domain).skill_names, {})
    return inputs, [("checkpoint", config.name)]


def _finetune(config: FinetuneConfig, workspace: Workspace | None) -> _Plan:
    start = PlanEntry(_needed(workspace).resolve(config.start, "checkpoint").ref)
    return [start, PlanEntry(config.opponent, "opponent")], [("checkpoint", config.name)]


def _evaluate(config: EvaluateConfig, workspace: Workspace | None) -> _Plan:
    from skilldistill.stages.evaluate import default_refs

    domain = domains.find(config.domain)
    chosen = config.policies or default_refs(_needed(workspace), domain)
    given = [references.resolve_policy(ref, workspace, domain).ref for ref in chosen]
    baselines = [references.RANDOM, references.COMPOSITE] if config.baselines else []
    refs = dict.fromkeys([*baselines, *given])
    return [PlanEntry(ref) for ref in refs], [("report", config.name)]


def _run(config: RunConfig, workspace: Workspace | None) -> _Plan:
    domain = domains.find(config.domain)
    outputs = [
        *(("dataset", skill) for skill in domain.skill_names),
        ("dataset", MergeConfig().name),
        ("checkpoint", DistillConfig().name),
        ("checkpoint", FinetuneConfig().name),
        ("report", EvaluateConfig().name),
    ]
    return _experts(workspace, config, domain.skill_names, {}), outputs


def _experts(
    workspace: Workspace | None,
    config: BaseConfig,
    skills: Iterable[str],
    overrides: Mapping[str, str],
) -> list[PlanEntry]:
    domain = domains.find(config.domain)
    found = references.find_experts(workspace, domain, overrides, skills=skills)
    return [PlanEntry(expert.ref, f"expert for {skill}") for skill, expert in found.items()]


def _file_or_artefact(workspace: Workspace | None, ref: str, kind: str) -> PlanEntry:
    if Path(ref).is_file():
        return PlanEntry(ref)
    return PlanEntry(_needed(workspace).resolve(ref, kind).ref)


def _needed(workspace: Workspace | None) -> Workspace:
    if workspace is None:
        raise NotFound(
            "there is no workspace yet to read from",
            hint="run `skilldistill collect --skill all` first, or name one with --workspace",
        )
    return workspace


_PLANS: Mapping[str, Callable[[Any, Workspace | None], _Plan]] = {
    "train": _train,
    "experts_add": _experts_add,
    "collect": _collect,
    "merge": _merge,
    "distill": _distill,
    "finetune": _finetune,
    "evaluate": _evaluate,
    "run": _run,
}
