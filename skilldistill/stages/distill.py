"""``skilldistill distill``: teach one policy from a merged dataset."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from skilldistill import domain as domains
from skilldistill.config import DistillConfig
from skilldistill.data.reader import DatasetReader
from skilldistill.data.schema import DatasetInfo, ExpertRef
from skilldistill.domain import Domain
from skilldistill.errors import CorruptFile, Interrupted
from skilldistill.experts.composite import CompositePolicy
from skilldistill.learning import distill as loop
from skilldistill.learning import onpolicy, pictures
from skilldistill.learning.journal import write_records
from skilldistill.policy import checkpoint
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.player import NetworkPolicy
from skilldistill.progress import ProgressCallback, StopCheck, never, silent
from skilldistill.settings import check_config
from skilldistill.stages.expert_references import ResolvedExpert, find_experts
from skilldistill.stages.references import check_policy_name
from skilldistill.stages.sources import find_dataset
from skilldistill.stages.unfinished import deciding, keep_board, unfinished
from skilldistill.training_state import AFRESH, STATE_FILE
from skilldistill.workspace.files import digest
from skilldistill.workspace.manifest import Artefact, check_name
from skilldistill.workspace.store import Workspace
from skilldistill.workspace.verify import check_usable


@dataclass(frozen=True)
class DistillResult:
    """The checkpoint that was published."""

    schema: ClassVar[str] = "skilldistill.distill/1"
    workspace: str
    domain: str
    id: str
    ref: str
    path: str
    sha256: str
    """Of ``policy.safetensors``: the same command and seed give the same."""
    status: str
    dataset: str
    """Reference or path of what was learnt from."""
    untaught: tuple[str, ...]
    """Skills that nothing in the data teaches."""
    rounds: tuple[str, ...]
    """References of the rounds' datasets."""
    experts: Mapping[str, str]
    """Who labelled the rounds, by skill; empty without rounds."""
    metrics: Mapping[str, float]
    """Held-out figures, see :func:`skilldistill.learning.measures.metrics`, and speed."""


def distill(
    workspace: Workspace,
    config: DistillConfig,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> DistillResult:
    """Train a student and publish it as a checkpoint; each round's rows become a dataset.

    Raises:
        NotFound: no such dataset; no expert to label the rounds; nothing to resume.
        ConfigurationError: settings that cannot be used together, or data of another domain.
        CorruptFile: the dataset or the saved training state is damaged.
        Interrupted: asked to stop. What was learnt until then is published with the status
            ``interrupted``, and the same command with ``--resume`` goes on.
    """
    check_config(config)
    domain = domains.find(config.domain)
    check_policy_name(config.name, domain)
    check_name(rounds_name(config))
    loop.check_settings(domain, config)  # what cannot be done leaves no unfinished work behind
    work = _Work.prepare(workspace, domain, config)
    folder = unfinished(
        workspace,
        config,
        "checkpoint",
        config.name,
        further=work.content(),
    )
    with DatasetReader(work.dataset, domain=domain) as reader:
        outcome = loop.distill(
            reader,
            domain,
            config,
            directory=folder,
            relabel=_labeller(domain, config, work.experts, folder, progress, stop),
            progress=progress,
            stop=stop,
        )
    command = command or "skilldistill distill (python)"
    if outcome.stopped:
        saved = ""
        if outcome.history:
            published = work.publish(outcome, folder, (), command, "interrupted")
            saved = f"; {published.ref} holds the best weights so far"
        raise Interrupted(
            f"stopped after {len(outcome.history)} epochs{saved}",
            signum=outcome.stopped,
            hint="the same command with --resume goes on",
        )
    rounds = tuple(
        work.publish_round(_round_file(folder, number), number, command)
        for number in range(1, config.rounds + 1)
    )
    artefact = work.publish(outcome, folder, rounds, command, "complete")
    workspace.discard_partial(folder)
    return DistillResult(
        workspace=str(workspace.root),
        domain=config.domain,
        id=artefact.id,
        ref=artefact.ref,
        path=str(workspace.path(artefact)),
        sha256=next(f.sha256 for f in artefact.files if f.path.endswith(checkpoint.WEIGHTS)),
        status=artefact.status,
        dataset=work.dataset_ref,
        untaught=() if rounds else untaught(domain, work.info.skills),
        rounds=tuple(part.ref for part in rounds),
        experts={skill: found.ref for skill, found in work.experts.items()},
        metrics=outcome.metrics,
    )


def untaught(domain: Domain, tasks: Sequence[str]) -> tuple[str, ...]:
    """Skills that are neither played in ``tasks`` nor part of one of them."""
    wider = [domain.task(name) for name in tasks if name not in domain.skill_names]
    return tuple(
        skill.name
        for skill in domain.skills
        if skill.name not in tasks and not any(skill.head in task.heads for task in wider)
    )


def rounds_name(config: DistillConfig) -> str:
    """Name under which the rounds' datasets are published."""
    return f"{config.name}-rounds" if config.rounds else config.name


@dataclass(frozen=True)
class _Work:
    """What is learnt from, who labels, and how results are recorded."""

    workspace: Workspace
    domain: Domain
    config: DistillConfig
    dataset: Path
    dataset_ref: str
    info: DatasetInfo
    experts: Mapping[str, ResolvedExpert]
    parents: tuple[str, ...]

    @classmethod
    def prepare(cls, workspace: Workspace, domain: Domain, config: DistillConfig) -> _Work:
        source, parents = find_dataset(workspace, config.dataset), []
        if source.artefact is not None:
            # all bytes: columns that training skips may be damaged as well
            check_usable(workspace, source.artefact)
            parents.append(source.artefact.id)
        with DatasetReader(source.path, domain=domain) as reader:
            info = reader.info
        experts: dict[str, ResolvedExpert] = {}
        if config.rounds:
            experts = labellers(workspace, domain, info)
            parents += [found.artefact for found in experts.values() if found.artefact]
        return cls(
            workspace, domain, config, source.path, source.ref, info, experts, tuple(parents)
        )

    def content(self) -> list[Any]:
        """Everything beside the settings that decides the weights."""
        experts = sorted(found.expert.sha256 for found in self.experts.values())
        return [self.info.digest(), self.parents, experts]

    def publish(
        self,
        outcome: loop.DistillOutcome,
        folder: Path,
        rounds: tuple[Artefact, ...],
        command: str,
        status: str,
    ) -> Artefact:
        """Publish the checkpoint."""
        with self.workspace.draft("checkpoint", self.config.name) as draft:
            checkpoint.save(
                draft.path, outcome.network, config=asdict(self.config), metrics=outcome.metrics
            )
            write_records(outcome.history, draft.path)
            pictures.draw(outcome.history, outcome.sums, self.domain, draft.path)
            if status == "interrupted":
                shutil.copyfile(folder / STATE_FILE, draft.path / STATE_FILE)
            keep_board(folder, draft.path)
            return draft.commit(
                command=command,
                config=asdict(self.config),
                seed=self.config.seed,
                parents=[*self.parents, *(part.id for part in rounds)],
                metrics=outcome.metrics,
                status=status,
                check=checkpoint.load,
            )

    def publish_round(self, file: Path, number: int, command: str) -> Artefact:
        """Publish one round's rows, unless that was done before a stop."""
        if published := self._left_alone(file):
            return published
        with self.workspace.draft("dataset", rounds_name(self.config)) as draft:
            shutil.copyfile(file, draft.path)
            with DatasetReader(draft.path, domain=self.domain) as reader:
                reader.check()
                figures = {
                    "skills": list(reader.info.skills),
                    "round": number,
                    "episodes": reader.num_episodes,
                    "rows": reader.num_rows,
                }
            return draft.commit(
                command=command,
                config=asdict(self.config),
                seed=self.config.seed,
                parents=self.parents,
                metrics=figures,
            )

    def _left_alone(self, file: Path) -> Artefact | None:
        """The dataset of these rows whose checkpoint did not follow, since a stop came between."""
        known, content = self.workspace.artefacts(), digest(file)
        used = {parent for artefact in known for parent in artefact.parents}
        for artefact in known:
            same = (
                (artefact.kind, artefact.name) == ("dataset", rounds_name(self.config))
                and artefact.files[0].sha256 == content
                and artefact.parents == self.parents
                and artefact.records(deciding(self.config))
            )
            if same and artefact.id not in used:
                with suppress(CorruptFile):  # published again
                    check_usable(self.workspace, artefact)
                    return artefact
        return None


def _labeller(
    domain: Domain,
    config: DistillConfig,
    experts: Mapping[str, ResolvedExpert],
    folder: Path,
    progress: ProgressCallback,
    stop: StopCheck,
) -> loop.Relabel:
    """Plays a round, unless an earlier run of the same work has played it."""
    refs = [ExpertRef(found.ref, found.expert.sha256) for found in experts.values()]

    def relabel(network: DistilledPolicyNetwork, number: int, learnt: bool) -> DatasetReader:
        path = _round_file(folder, number)
        if learnt and not path.exists():  # the student of today would meet other states
            raise CorruptFile(f"{path} is missing, though it was learnt from", hint=AFRESH)
        if not path.exists():
            onpolicy.write_round(
                path,
                domain,
                NetworkPolicy(network),
                CompositePolicy(domain, {s: found.expert for s, found in experts.items()}),
                refs,
                round_number=number,
                episodes=config.round_episodes,
                seed=config.seed,
                beta=config.beta,
                progress=progress,
                stop=stop,
            )
        return DatasetReader(path, domain=domain)

    return relabel


def _round_file(folder: Path, number: int) -> Path:
    return folder / f"round-{number:02}.h5"


def labellers(
    workspace: Workspace | None, domain: Domain, info: DatasetInfo
) -> dict[str, ResolvedExpert]:
    """Who labels the rounds, by skill: the experts that made the data, where they still are.

    Raises:
        NotFound: a skill has no expert at all.
    """
    made = {expert.sha256 for expert in info.experts}
    same = {
        str(artefact.metrics["skill"]): artefact.ref
        for artefact in (workspace.artefacts("expert") if workspace else ())
        if artefact.metrics.get("sha256") in made and artefact.metrics.get("skill")
    }
    return find_experts(workspace, domain, same)
