"""``skilldistill run``: collect, merge, distil, fine-tune, evaluate, and say what came of it.

How much work a step does is up to :mod:`skilldistill.stages.presets`. What ties the steps together
is the run's own: which skills, which dataset, which checkpoint.

A step whose artefact is there already is not done again. It is there if the workspace holds a
complete artefact of the step's name that records the same settings, was made from the same
parents, and whose files are as they were published; since every step names its parents, a change
early on is felt by all that follow. Where a learning step was interrupted, it goes on from where
it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from skilldistill import domain as domains
from skilldistill.config import BaseConfig, CollectConfig, DistillConfig, FinetuneConfig, RunConfig
from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError, CorruptFile, Interrupted, NotFound
from skilldistill.evaluation.report import EvaluationReport, Score
from skilldistill.progress import Progress, ProgressCallback, StopCheck, never, silent
from skilldistill.settings import STEPS
from skilldistill.stages.expert_references import find_experts
from skilldistill.stages.presets import step_configs
from skilldistill.stages.unfinished import NO_MATTER
from skilldistill.workspace.drafts import PARTIAL
from skilldistill.workspace.manifest import KIND_FOLDERS, Artefact
from skilldistill.workspace.store import Workspace
from skilldistill.workspace.verify import check_usable

QUESTION = "Fine-tune the distilled policy with {timesteps:,} steps of PPO?"

_GOES_ON = "the same command goes on from here"
"""What to do after an interruption."""


@dataclass(frozen=True)
class RunStep:
    """What a step made, or found already made."""

    name: str
    id: str
    ref: str
    reused: bool
    """It was there already: same settings, same parents, complete and undamaged."""
    seconds: float


@dataclass(frozen=True)
class RunResult:
    """What ``run`` made."""

    schema: ClassVar[str] = "skilldistill.run/1"
    workspace: str
    preset: str
    steps: tuple[RunStep, ...]
    path: str
    """Folder of the report."""
    report: EvaluationReport

    @property
    def table(self) -> list[tuple[str, list[Score | None]]]:
        """Per policy (random, composite, distilled, finetuned) its main figure in each task."""
        return self.report.table()

    def as_dict(self) -> dict[str, Any]:
        """JSON-able values; ``table`` holds one record per policy, keyed by task."""
        content = self.report.as_dict()
        content.pop("schema")
        scores = {(s["policy"], s["task"], s["metric"]): s for s in content["scores"]}
        table = [
            {
                "policy": policy.label,
                **{
                    task.name: scores.get((policy.label, task.name, task.main_metric))
                    for task in self.report.tasks
                },
            }
            for policy in self.report.policies
        ]
        return {
            "schema": self.schema,
            "workspace": self.workspace,
            "preset": self.preset,
            "steps": [asdict(step) for step in self.steps],
            "path": self.path,
            "table": table,
            "report": content,
        }


def run(
    workspace: Workspace,
    config: RunConfig,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
    confirm: Callable[[str], bool] | None = None,
) -> RunResult:
    """Do the whole pipeline, leaving out what is done already.

    Args:
        workspace: where everything is kept.
        config: which preset, and what goes before it.
        progress: told before each step, and by the steps themselves.
        stop: asked by the steps, and between them.
        command: recorded with every artefact.
        confirm: asked before the optional fine-tuning, unless ``config.yes``; None agrees.

    Raises:
        ConfigurationError: no such preset, or settings of a step that cannot be used.
        DiskProblem: what is there already cannot be read, or the disk is full.
        Interrupted: asked to stop; the same call goes on from there.
    """
    pipeline = _Pipeline(
        workspace,
        domains.find(config.domain),
        config,
        progress=progress,
        stop=stop,
        command=command or "skilldistill run (python)",
    )
    return pipeline.run(confirm)


def there_already(workspace: Workspace, config: RunConfig) -> list[Artefact | None]:
    """What a run would find made, if it fine-tunes; None where it would work. Writes nothing.

    Returns:
        One entry per artefact: the datasets in the order of the skills, the merged one, the
        distilled and the fine-tuned policy, the report.

    Raises:
        ConfigurationError: no such preset, or settings of a step that cannot be used.
        NotFound: a skill has no expert.
    """
    return _Pipeline(
        workspace, domains.find(config.domain), config, progress=silent, stop=never, command=""
    ).there_already()


@dataclass(frozen=True)
class _Step:
    """Something a run makes, unless it is there."""

    name: str
    """The command's."""
    kind: str
    artefact: str
    """Its name, of that kind."""
    config: BaseConfig
    """The settings that the command is given."""
    parents: Sequence[str] | None
    """Ids the artefact must have been made from; None if it cannot be there yet."""
    make: Callable[[], str]
    """Makes it and returns its id."""
    free: Sequence[str] = ()
    """Settings that the stage records otherwise than it was given them."""


class _Pipeline:
    """One call of :func:`run`: what its steps share."""

    def __init__(
        self,
        workspace: Workspace,
        domain: Domain,
        config: RunConfig,
        *,
        progress: ProgressCallback,
        stop: StopCheck,
        command: str,
    ) -> None:
        self.workspace = workspace
        self.domain = domain
        self.config = config
        self.configs = step_configs(config, domain)
        self.progress = progress
        self.stop = stop
        self.command = command
        self.steps: list[RunStep] = []

    def run(self, confirm: Callable[[str], bool] | None) -> RunResult:
        """Every step in order; each line's parents are the lines above it."""
        datasets = [self._done(self._collect(skill)) for skill in self.domain.skill_names]
        combined = self._done(self._merge(datasets))
        distilled = self._done(self._distill(combined))
        students = [distilled]
        question = QUESTION.format(timesteps=self.configs.finetune.timesteps)
        if self.config.yes or confirm is None or confirm(question):
            students.append(self._done(self._finetune(distilled)))
        report = self._done(self._evaluate(students))
        folder = self.workspace.path(report)
        file = folder / "report.json"
        self._tell("done", len(STEPS))
        return RunResult(
            workspace=str(self.workspace.root),
            preset=self.config.preset,
            steps=tuple(self.steps),
            path=str(folder),
            report=EvaluationReport.from_json(file.read_bytes(), str(file)),
        )

    def there_already(self) -> list[Artefact | None]:
        """What each step of a run with fine-tuning would find made; see :func:`there_already`."""
        datasets = [self._found(self._collect(skill)) for skill in self.domain.skill_names]
        found = [dataset for dataset in datasets if dataset]
        combined = self._found(self._merge(found)) if len(found) == len(datasets) else None
        distilled = combined and self._found(self._distill(combined))
        finetuned = distilled and self._found(self._finetune(distilled))
        students = [distilled, finetuned] if distilled and finetuned else []
        report = self._found(self._evaluate(students)) if students else None
        return [*datasets, combined, distilled, finetuned, report]

    def _collect(self, skill: str) -> _Step:
        name = dataset_of(self.configs.collect, skill)
        config = replace(self.configs.collect, skill=skill, name=name if name != skill else "")
        expert = find_experts(self.workspace, self.domain, skills=[skill])[skill]
        # A shipped expert has no id before it is first used; then there is no dataset of it either.
        parents = [expert.artefact] if expert.artefact else None

        def make() -> str:
            from skilldistill.stages.collect import collect

            return collect(self.workspace, config, **self._calls()).datasets[0].id

        return _Step("collect", "dataset", name, config, parents, make, free=("expert",))

    def _merge(self, datasets: Sequence[Artefact]) -> _Step:
        refs = tuple(found.ref for found in datasets)
        config = replace(self.configs.merge, datasets=refs)

        def make() -> str:
            from skilldistill.stages.merge import merge

            return merge(self.workspace, config, **self._calls()).id

        parents = [found.id for found in datasets]
        return _Step("merge", "dataset", config.name, config, parents, make)

    def _distill(self, dataset: Artefact) -> _Step:
        config = replace(self.configs.distill, dataset=dataset.ref)

        def make() -> str:
            from skilldistill.stages.distill import distill

            return self._resuming(distill, config)

        return _Step("distill", "checkpoint", config.name, config, [dataset.id], make)

    def _finetune(self, distilled: Artefact) -> _Step:
        config = replace(self.configs.finetune, start=distilled.ref)

        def make() -> str:
            from skilldistill.stages.finetune import finetune

            return self._resuming(finetune, config)

        return _Step("finetune", "checkpoint", config.name, config, [distilled.id], make)

    def _evaluate(self, students: Sequence[Artefact]) -> _Step:
        refs = tuple(student.ref for student in students)
        config = replace(self.configs.evaluate, policies=refs)
        parents = [student.id for student in students]
        if config.baselines:  # the experts play as `composite`
            experts = find_experts(self.workspace, self.domain)
            parents += [expert.artefact for expert in experts.values() if expert.artefact]

        def make() -> str:
            from skilldistill.stages.evaluate import evaluate

            return evaluate(self.workspace, config, **self._calls()).id

        return _Step("evaluate", "report", config.name, config, parents, make)

    def _found(self, step: _Step) -> Artefact | None:
        """The artefact of a step that is there already, if it is."""
        if step.parents is None:
            return None
        ignored = NO_MATTER | {*step.free}
        return already_made(
            self.workspace, step.kind, step.artefact, step.config, step.parents, ignored=ignored
        )

    def _done(self, step: _Step) -> Artefact:
        """The artefact of a step: the one that is there, or the one it makes."""
        if signum := self.stop():
            raise Interrupted(f"stopped before {step.name}", signum=signum, hint=_GOES_ON)
        self._tell(step.name, STEPS.index(step.name))
        began = time.perf_counter()
        result = self._found(step)
        reused = result is not None
        if result is None:
            try:
                made = step.make()
            except Interrupted as error:  # the step's own hint may name a flag that `run` lacks
                raise Interrupted(error.message, signum=error.signum, hint=_GOES_ON) from error
            known = self.workspace.artefacts(step.kind)
            result = next(artefact for artefact in known if artefact.id == made)
        seconds = time.perf_counter() - began
        self.steps.append(RunStep(step.name, result.id, result.ref, reused, seconds))
        return result

    def _resuming(self, stage: Callable[..., Any], config: DistillConfig | FinetuneConfig) -> str:
        """Run a learning stage, from where it was interrupted if it was."""
        folder = self.workspace.root / KIND_FOLDERS["checkpoint"] / config.name
        if any(folder.glob(f"{PARTIAL}*")):
            try:
                made: str = stage(self.workspace, replace(config, resume=True), **self._calls()).id
                return made
            except (NotFound, ConfigurationError, CorruptFile):
                pass  # another run, or nothing to go on from; anything else fails again below
        fresh: str = stage(self.workspace, config, **self._calls()).id
        return fresh

    def _calls(self) -> dict[str, Any]:
        return {"progress": self.progress, "stop": self.stop, "command": self.command}

    def _tell(self, step: str, done: int) -> None:
        self.progress(Progress("run", done, len(STEPS), "step", {"step": step}))


def dataset_of(config: CollectConfig, skill: str) -> str:
    """What the dataset of a skill is called in a run, as `collect --skill all` would call it."""
    return f"{config.name}-{skill}" if config.name else skill


def already_made(
    workspace: Workspace,
    kind: str,
    name: str,
    config: BaseConfig,
    parents: Sequence[str],
    *,
    ignored: frozenset[str] | set[str] = NO_MATTER,
) -> Artefact | None:
    """The latest complete artefact that records these settings and these parents, if any.

    One whose files are missing or have changed is left out, and that is logged. Of large files
    only the size is looked at, so that this stays quick.

    Args:
        workspace: where to look.
        kind: of the artefact.
        name: of the artefact.
        config: settings, compared field by field with the recorded ones.
        parents: ids that must be among the recorded parents.
        ignored: fields that are not compared.

    Raises:
        DiskProblem: a file cannot be read, which is no reason to make it again.
    """
    wanted = {key: value for key, value in asdict(config).items() if key not in ignored}
    for artefact in reversed(workspace.artefacts(kind, name)):
        if (
            artefact.status == "complete"
            and artefact.records(wanted)
            and set(parents) <= set(artefact.parents)
            and _undamaged(workspace, artefact)
        ):
            return artefact
    return None


def _undamaged(workspace: Workspace, artefact: Artefact) -> bool:
    try:
        check_usable(workspace, artefact, quick=True)
    except CorruptFile as error:
        import logging  # not needed, nor paid for, on ordinary days

        logging.getLogger("skilldistill.run").warning("not reused: %s", error.message)
        return False
    return True
