"""``--dry-run``: what a command would read and write, and with which settings. Writes nothing."""

from __future__ import annotations

from collections import Counter
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
    InitConfig,
    MergeConfig,
    RunConfig,
    TrainConfig,
)
from skilldistill.data.reader import DatasetReader
from skilldistill.domain import Domain
from skilldistill.errors import NotFound
from skilldistill.stages import references
from skilldistill.stages.expert_references import ResolvedExpert, find_experts
from skilldistill.stages.init import place_of
from skilldistill.stages.presets import step_configs
from skilldistill.stages.sources import find_checkpoint, find_dataset
from skilldistill.workspace.manifest import FILENAME, check_name
from skilldistill.workspace.store import Workspace, check_root


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
    if isinstance(config, FinetuneConfig):
        from skilldistill.stages.finetune import with_opponent

        config = with_opponent(config, domains.find(config.domain))
    inputs, outputs = _PLANS[command](config, workspace)
    return PlanResult(
        command=command,
        workspace=str(workspace.root if workspace else place_of(path, None)),
        creates_workspace=workspace is None,
        inputs=tuple(inputs),
        outputs=_numbered(workspace, outputs),
        config=_effective(config),
    )


def plan_init(workspace: str | Path | None = None, config: InitConfig | None = None) -> PlanResult:
    """What `init` would do; arguments and errors are those of :func:`stages.init`."""
    config = config or InitConfig()
    path = place_of(workspace, config)
    try:
        found: Workspace | None = Workspace.open(path)
    except NotFound:
        check_root(path)
        found = None
    outputs = [PlanEntry(FILENAME)]
    if found is not None:
        outputs = [PlanEntry(FILENAME, f"repaired: {found.notice}")] if found.notice else []
    return PlanResult("init", str(path), found is None, (), tuple(outputs), asdict(config))


def _effective(config: Any) -> Mapping[str, Any]:
    """The settings in force; for a run, those of each of its steps, too."""
    if not isinstance(config, RunConfig):
        return asdict(config)
    steps = step_configs(config, domains.find(config.domain)).settings()
    return {**asdict(config), "steps": steps}


_Plan = tuple[Iterable[PlanEntry], Iterable[tuple[str, str]]]
"""What would be read, and (kind, name) of what would be written."""


def _numbered(
    workspace: Workspace | None, outputs: Iterable[tuple[str, str]]
) -> tuple[PlanEntry, ...]:
    """The references that outputs of these kinds and names will get, in their order."""
    versions = Counter(workspace.manifest().versions if workspace else {})
    entries = []
    for kind, name in outputs:
        key = f"{kind}:{check_name(name)}"
        versions[key] += 1
        entries.append(PlanEntry(f"{key}@{versions[key]}"))
    return tuple(entries)


def _train(config: TrainConfig, workspace: Workspace | None) -> _Plan:
    domain = domains.find(config.domain)
    name = references.check_policy_name(config.name or domain.skill(config.skill).name, domain)
    return [], [("expert", name)]


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
    experts = find_experts(workspace, domain, overrides, skills=skills)
    outputs = [
        *_recorded(workspace, domain, experts),
        *(("dataset", dataset_name(domain, task, config)) for task in tasks),
    ]
    return _entries(experts), outputs


def _merge(config: MergeConfig, workspace: Workspace | None) -> _Plan:
    from skilldistill.stages.merge import sources_of

    domain = domains.find(config.domain)
    sources = sources_of(_needed(workspace), domain, config)
    return [PlanEntry(source.ref) for source, _ in sources], [("dataset", config.name)]


def _distill(config: DistillConfig, workspace: Workspace | None) -> _Plan:
    from skilldistill.learning.distill import check_settings  # loads torch, as the next one does
    from skilldistill.stages.distill import labellers

    domain, path = domains.find(config.domain), Path(config.dataset)
    check_settings(domain, config)
    references.check_policy_name(config.name, domain)
    ref = config.dataset
    if workspace is not None or not path.is_file():
        source = find_dataset(_needed(workspace), config.dataset)
        path, ref = source.path, source.ref
    inputs = [PlanEntry(ref)]
    with DatasetReader(path, domain=domain) as reader:
        if config.rounds:
            inputs += _entries(labellers(workspace, domain, reader.info))
    return inputs, _taught(config)


def _taught(config: DistillConfig) -> list[tuple[str, str]]:
    """What distilling publishes: the dataset of each round, then the student."""
    outputs = [("checkpoint", config.name)]
    if config.rounds:
        from skilldistill.stages.distill import rounds_name  # loads torch

        outputs = [("dataset", rounds_name(config))] * config.rounds + outputs
    return outputs


def _finetune(config: FinetuneConfig, workspace: Workspace | None) -> _Plan:
    from skilldistill.learning.device import pick_device  # loads torch, as the next one does
    from skilldistill.learning.sparring import check_arenas
    from skilldistill.stages.finetune import load_start, opponents_of

    domain = domains.find(config.domain)
    references.check_policy_name(config.name, domain)
    pick_device(config.device)
    source = find_checkpoint(_needed(workspace), config.start)
    load_start(source, domain)
    start = PlanEntry(source.ref)
    check_arenas(config, opponents_of(config, workspace, domain)[0])
    rival = [PlanEntry(config.opponent, "opponent")] if config.opponent else []
    return [start, *rival], [("checkpoint", config.name)]


def _evaluate(config: EvaluateConfig, workspace: Workspace | None) -> _Plan:
    from skilldistill.stages.evaluate import default_refs, policies_of, tasks_of

    domain = domains.find(config.domain)
    tasks = tasks_of(domain, config)
    references.load_opponent(config.opponent, workspace, domain)
    chosen = config.policies or default_refs(_needed(workspace), domain)
    found = policies_of(chosen, tasks, workspace, domain, baselines=config.baselines)
    return [PlanEntry(policy.ref) for policy in found], [("report", config.name)]


def _run(config: RunConfig, workspace: Workspace | None) -> _Plan:
    from skilldistill.stages.run import dataset_of, there_already

    domain = domains.find(config.domain)
    steps = step_configs(config, domain)
    experts = find_experts(workspace, domain)
    inputs = _entries(experts)
    outputs = _recorded(workspace, domain, experts)
    artefacts = [
        *([("dataset", dataset_of(steps.collect, skill))] for skill in domain.skill_names),
        [("dataset", steps.merge.name)],
        _taught(steps.distill),
        [("checkpoint", steps.finetune.name)],
        [("report", steps.evaluate.name)],
    ]
    made = there_already(workspace, config) if workspace else [None] * len(artefacts)
    for step, found in zip(artefacts, made, strict=True):
        if found:
            inputs.append(PlanEntry(found.ref, "is there already"))
        else:
            outputs += step
    return inputs, outputs


def _entries(experts: Mapping[str, ResolvedExpert]) -> list[PlanEntry]:
    return [PlanEntry(expert.ref, f"expert for {skill}") for skill, expert in experts.items()]


def _recorded(
    workspace: Workspace | None, domain: Domain, experts: Mapping[str, ResolvedExpert]
) -> list[tuple[str, str]]:
    """The experts that collecting copies into the workspace first."""
    from skilldistill.stages.collect import name_to_record

    names = [name_to_record(workspace, found, domain) for found in experts.values()]
    return [("expert", name) for name in names if name]


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
