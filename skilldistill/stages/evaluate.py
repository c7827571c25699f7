"""``skilldistill evaluate``: score policies on the same episodes, publish a report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from skilldistill import domain as domains
from skilldistill.config import DistillConfig, EvaluateConfig, FinetuneConfig
from skilldistill.domain import Domain, Policy
from skilldistill.errors import ConfigurationError, Interrupted, NotFound
from skilldistill.evaluation import page, pictures, report
from skilldistill.evaluation.report import EvaluationReport, PolicyEntry
from skilldistill.evaluation.rollout import Rollout, play
from skilldistill.progress import Progress, ProgressCallback, StopCheck, never, silent
from skilldistill.settings import check_config
from skilldistill.stages import references
from skilldistill.stages.references import COMPOSITE, RANDOM, ResolvedPolicy
from skilldistill.workspace.files import disk
from skilldistill.workspace.store import Workspace

DEFAULT_POLICIES = (DistillConfig().name, FinetuneConfig().name)
"""Names of the checkpoints that are scored where none is named, as far as they exist."""

FIRST_EPISODE = 1_000_000_000
"""Evaluation plays episodes from here on, which no expert was recorded in and no training plays: a
policy shall not be examined on its own lessons."""


@dataclass(frozen=True)
class EvaluateResult:
    """The report that was published."""

    schema: ClassVar[str] = EvaluationReport.schema
    workspace: str
    id: str
    ref: str
    path: str
    """Folder of ``report.html``, ``report.json``, ``episodes.csv`` and the pictures."""
    report: EvaluationReport

    def as_dict(self) -> dict[str, Any]:
        """JSON-able values: where the report lies, and all of it."""
        place = {name: getattr(self, name) for name in ("workspace", "id", "ref", "path")}
        content = self.report.as_dict()
        return {"schema": content.pop("schema"), **place, **content}


def evaluate(
    workspace: Workspace,
    config: EvaluateConfig,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> EvaluateResult:
    """Play every policy on the same episodes of every task, and publish what came of it.

    ``composite`` plays a skill's task with that skill's expert alone, and the combined task with
    all of them. A policy that is an expert plays its own task only.

    Raises:
        NotFound: a policy is not there; without arguments, no checkpoint is.
        ConfigurationError: no such task, a policy of another domain, or a drawing or an opponent
            asked of a domain that has none.
        DiskProblem: the disk is full or fails; nothing was published.
        Interrupted: asked to stop; nothing was published.
    """
    command = command or "skilldistill evaluate (python)"
    check_config(config)
    domain = domains.find(config.domain)
    tasks = tasks_of(domain, config)
    if config.render and domain.render_episode is None:
        raise ConfigurationError(
            f"domain {domain.name!r} cannot draw its episodes", hint="leave out `--render`"
        )
    refs = list(config.policies) or default_refs(workspace, domain)
    policies = policies_of(refs, tasks, workspace, domain, baselines=config.baselines)
    opponent, opponent_parents = references.load_opponent(config.opponent, workspace, domain)
    players = {
        (found.label, task): policy
        for found in policies
        for task in tasks
        if (policy := player(found, task)) is not None
    }
    if not players:
        raise ConfigurationError(
            f"none of the policies can play {', '.join(tasks)}",
            hint="an expert plays its own skill's task",
        )
    with workspace.draft("report", config.name) as draft:  # a full disk shows before the playing
        try:
            rollouts = _play_all(domain, players, opponent, config, progress, stop)
        except Interrupted as error:
            raise Interrupted(
                f"{error.message}; nothing was written",
                signum=error.signum,
                hint="the same command begins again; fewer --episodes take less time",
            ) from error
        given = [found.label for found in policies if found.ref not in (RANDOM, COMPOSITE)]
        found_out = report.assemble(
            domain,
            [_entry(found, workspace) for found in policies],
            rollouts,
            versus=given[0] if given else policies[0].label,
            opponent=domain.opponent(config.opponent),
        )
        parents = [parent for found in policies for parent in found.parents]
        drawings = (
            _draw_episodes(domain, players, policies, opponent, config, draft.path)
            if config.render
            else {}
        )
        write(found_out, rollouts, draft.path, command=command, drawings=drawings)
        artefact = draft.commit(
            command=command,
            config=asdict(config),
            seed=config.seed,
            parents=list(dict.fromkeys([*parents, *opponent_parents])),
            metrics={
                "episodes": config.episodes,
                "opponent": found_out.opponent,
                "means": {found.label: found_out.means(found.label) for found in policies},
            },
        )
    return EvaluateResult(
        workspace=str(workspace.root),
        id=artefact.id,
        ref=artefact.ref,
        path=str(workspace.path(artefact)),
        report=found_out,
    )


def write(
    content: EvaluationReport,
    rollouts: Mapping[tuple[str, str], Rollout],
    folder: Path,
    *,
    command: str,
    drawings: Mapping[str, Path],
) -> None:
    """Write a report's files into a folder.

    Raises:
        DiskProblem: one of the texts could not be written; names it.
        OSError: a picture could not be written.
    """
    texts = {
        "report.json": content.to_json(),
        "episodes.csv": report.episodes_csv(rollouts),
        "report.html": page.render(content, command=command, drawings=drawings),
    }
    for name, text in texts.items():
        with disk(folder / name):  # a write that fails does not say to which file
            # A path in the command line or in a label need not be UTF-8.
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    pictures.draw(content, folder)


def tasks_of(domain: Domain, config: EvaluateConfig) -> list[str]:
    """Names of the tasks to play, all checked."""
    if config.task == "all":
        return [task.name for task in domain.tasks]
    return [domain.task(config.task).name]


def policies_of(
    refs: Sequence[str],
    tasks: Sequence[str],
    workspace: Workspace | None,
    domain: Domain,
    *,
    baselines: bool,
) -> list[ResolvedPolicy]:
    """Who plays, in the report's order, each once and with a label of its own.

    ``composite`` is made of the experts that the tasks need.

    Raises:
        NotFound: one is not there, or a skill that is needed has no expert.
        ConfigurationError: one of another domain, or a domain that nothing there is of.
    """
    check_domain(workspace, domain, refs)
    skills = tasks if set(tasks) <= set(domain.skill_names) else None

    def resolve(ref: str) -> ResolvedPolicy:
        return references.resolve_policy(ref, workspace, domain, skills=skills)

    try:
        found = [resolve(ref) for ref in (RANDOM, COMPOSITE)] if baselines else []
    except NotFound as error:
        if COMPOSITE in refs:  # asked for by name, too
            raise
        raise NotFound(
            error.message, hint=f"{error.hint}, or leave {COMPOSITE} out with `--no-baselines`"
        ) from error
    found += [resolve(ref) for ref in refs]
    unique = list({policy.ref: policy for policy in found}.values())
    labels = [policy.label for policy in unique]
    return [
        replace(policy, label=_longer(policy)) if labels.count(policy.label) > 1 else policy
        for policy in unique
    ]


def check_domain(workspace: Workspace | None, domain: Domain, refs: Sequence[str]) -> None:
    """Refuse to score baselines alone in a domain that the workspace holds nothing of.

    Any other policy has a domain of its own, which is compared when it is loaded.

    Raises:
        ConfigurationError: it holds only things of other domains.
    """
    if all(ref in (RANDOM, COMPOSITE) for ref in refs):
        references.check_at_home(domain, workspace)


def default_refs(workspace: Workspace, domain: Domain) -> list[str]:
    """The checkpoints that are scored where none is named.

    Raises:
        NotFound: there is none.
    """
    plays_in = {
        (artefact.name, artefact.config.get("domain"))
        for artefact in workspace.artefacts("checkpoint")
        if artefact.status == "complete" and artefact.name in DEFAULT_POLICIES
    }
    refs = [f"checkpoint:{name}" for name in DEFAULT_POLICIES if (name, domain.name) in plays_in]
    if not refs:
        hint = "run `skilldistill distill`, or name a policy: `skilldistill evaluate composite`"
        if others := sorted(str(other) for _, other in plays_in):
            hint = f"add `--domain {others[0]}`"
        raise NotFound(
            f"{workspace.root} has no checkpoint called {' or '.join(DEFAULT_POLICIES)} "
            f"that plays in domain {domain.name!r}",
            hint=hint,
        )
    return refs


def _longer(policy: ResolvedPolicy) -> str:
    """A label that tells versions, and kinds of the same name, apart."""
    return policy.ref.removeprefix("checkpoint:")


def player(found: ResolvedPolicy, task: str) -> Policy | None:
    """What plays a task for a policy; None if it has nothing to say there."""
    if found.skill is not None:
        return found.policy if task == found.skill else None
    if found.kind == "scripted":  # an opponent of the combined task, in the other seat
        return found.policy if task == found.domain.combined else None
    if found.by_skill and task in found.by_skill:
        return found.by_skill[task]
    return found.policy


def _play_all(
    domain: Domain,
    players: Mapping[tuple[str, str], Policy],
    opponent: str | Policy | None,
    config: EvaluateConfig,
    progress: ProgressCallback,
    stop: StopCheck,
) -> dict[tuple[str, str], Rollout]:
    rollouts: dict[tuple[str, str], Rollout] = {}
    total = len(players) * config.episodes
    for (label, task), policy in players.items():
        before = len(rollouts) * config.episodes

        def tell(done: int, before: int = before, label: str = label, task: str = task) -> None:
            values = {"policy": label, "task": task}
            progress(Progress("evaluate", before + done, total, "episode", values))

        tell(0)
        rollouts[label, task] = play(
            domain,
            task,
            policy,
            episodes=config.episodes,
            seed=config.seed,
            first_episode=FIRST_EPISODE,
            opponent=opponent if task == domain.combined else None,
            on_episodes=tell,
            stop=stop,
        )
    return rollouts


def _draw_episodes(
    domain: Domain,
    players: Mapping[tuple[str, str], Policy],
    policies: Sequence[ResolvedPolicy],
    opponent: str | Policy | None,
    config: EvaluateConfig,
    folder: Path,
) -> dict[str, Path]:
    """The first episode of each policy: of the combined task if it plays it, else of its own."""
    assert domain.render_episode is not None
    drawings: dict[str, Path] = {}
    for found in policies:
        own = [task for label, task in players if label == found.label]
        if not own:
            continue
        task = domain.combined if domain.combined in own else own[0]
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{found.label}-{task}")
        if (folder / f"{name}.gif").exists():  # another label, spelt alike without its signs
            name = f"{len(drawings) + 1}-{name}"
        drawings[f"{found.label}: {task}"] = domain.render_episode(
            task,
            players[found.label, task],
            episode=FIRST_EPISODE,
            seed=config.seed,
            opponent=opponent if task == domain.combined else None,
            path=folder / f"{name}.gif",
        )
    return drawings


def _entry(found: ResolvedPolicy, workspace: Workspace) -> PolicyEntry:
    known = workspace.resolve(found.ref).metrics if found.artefact else {}
    return PolicyEntry(
        label=found.label,
        ref=found.ref,
        kind=found.kind,
        artefact=found.artefact,
        skill=found.skill,
        experts=dict(found.experts or {}),
        finetuning=dict(known) if "collapse_depth" in known else {},
    )
