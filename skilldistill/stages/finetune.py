"""``skilldistill finetune``: improve a distilled policy by playing, publish the result."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from skilldistill import domain as domains
from skilldistill.config import FinetuneConfig
from skilldistill.domain import Domain, Policy
from skilldistill.errors import ConfigurationError, Interrupted
from skilldistill.evaluation.rollout import play
from skilldistill.learning.device import pick_device
from skilldistill.learning.finetune import FinetuneOutcome
from skilldistill.learning.finetune import finetune as learn
from skilldistill.learning.guard import Scores
from skilldistill.learning.journal import write_records
from skilldistill.learning.keeper import Evaluate
from skilldistill.learning.selfplay import Versus
from skilldistill.learning.sparring import SELF, START, Opponents, check_arenas, expand
from skilldistill.policy import checkpoint
from skilldistill.policy.checkpoint import Checkpoint
from skilldistill.progress import ProgressCallback, StopCheck, never, silent
from skilldistill.settings import check_config
from skilldistill.stages.expert_references import is_zip
from skilldistill.stages.policy_zip import read_policy_zip
from skilldistill.stages.references import check_policy_name, load_opponent
from skilldistill.stages.sources import Source, find_checkpoint
from skilldistill.stages.unfinished import keep_board, put_away_if_not_begun, unfinished
from skilldistill.training_state import STATE_FILE
from skilldistill.workspace.manifest import Artefact
from skilldistill.workspace.store import Workspace

ZIP_FILE = "ppo.zip"
GUARD_EPISODES_FROM = 1_000_000
"""Index of the first episode the guard plays: `evaluate` plays none of these."""
MATCH_EPISODES = 16
"""Episodes per side and match for the ratings of self-play."""


@dataclass(frozen=True)
class FinetuneResult:
    """The checkpoint that was published."""

    schema: ClassVar[str] = "skilldistill.finetune/1"
    workspace: str
    domain: str
    id: str
    ref: str
    path: str
    start: str
    """Reference of the checkpoint it started from."""
    opponent: str
    metrics: Mapping[str, Any]
    """``before`` and ``after``: mean main metric by task; ``collapse_worst`` and
    ``collapse_depth``; ``kl_raises``, ``rollbacks``, ``steps``, ``steps_per_second``;
    ``unchanged``: whether the policy is still the start's, as nothing better was found."""


def finetune(
    workspace: Workspace,
    config: FinetuneConfig,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> FinetuneResult:
    """Fine-tune ``config.start`` with PPO on the combined task, and publish the checkpoint.

    Raises:
        NotFound: the checkpoint or opponent is not there; or nothing to resume.
        ConfigurationError: settings that do not fit together, a checkpoint of another domain, or
            an opponent in a domain without any.
        CorruptFile: the checkpoint or the state to resume is damaged.
        Interrupted: asked to stop; the policy so far is published as ``interrupted``, and the
            same command with ``--resume`` goes on.
    """
    check_config(config)
    domain = domains.find(config.domain)
    config = with_opponent(config, domain)
    check_policy_name(config.name, domain)
    start = find_checkpoint(workspace, config.start)
    loaded = load_start(start, domain)
    pick_device(config.device)  # what cannot be done leaves no unfinished work behind
    opponents, rivals = opponents_of(config, workspace, domain)
    check_arenas(config, opponents)
    own = [start.artefact.id] if start.artefact else []
    parents = list(dict.fromkeys([*own, *rivals]))
    directory = unfinished(
        workspace,
        config,
        "checkpoint",
        config.name,
        further=[loaded.sha256, *parents],
    )
    with put_away_if_not_begun(workspace, directory):
        outcome = learn(
            loaded.network,
            config,
            directory=directory,
            opponents=opponents,
            evaluate=_evaluator(domain, config, opponents, stop),
            versus=_match(domain, config, stop) if SELF in opponents else None,
            progress=progress,
            stop=stop,
        )
    artefact = _publish(workspace, config, outcome, directory, parents, command)
    if outcome.interrupted:
        raise Interrupted(
            f"fine-tuning stopped after {outcome.summary['steps']} of {config.timesteps} steps; "
            f"what was learned is {artefact.ref}",
            signum=outcome.interrupted,
            hint="go on with the same command and --resume",
        )
    workspace.discard_partial(directory)
    return FinetuneResult(
        workspace=str(workspace.root),
        domain=config.domain,
        id=artefact.id,
        ref=artefact.ref,
        path=str(workspace.path(artefact)),
        start=start.ref,
        opponent=config.opponent,
        metrics=outcome.summary,
    )


def load_start(start: Source, domain: Domain) -> Checkpoint:
    """The policy to begin with.

    Raises:
        ConfigurationError: it plays in another domain.
        CorruptFile: it is damaged.
    """
    loaded = read_policy_zip(start.path) if is_zip(start.path) else checkpoint.load(start.path)
    if loaded.domain.name != domain.name:
        raise ConfigurationError(
            f"{start.ref} plays in domain {loaded.domain.name!r}, not in {domain.name!r}",
            hint=f"add `--domain {loaded.domain.name}`",
        )
    return loaded


def with_opponent(config: FinetuneConfig, domain: Domain) -> FinetuneConfig:
    """Settings that name who is played against, also where that is the domain's default.

    Raises:
        ConfigurationError: somebody is, in a domain without opponents.
    """
    return replace(config, opponent=domain.opponent(config.opponent))


def opponents_of(
    config: FinetuneConfig, workspace: Workspace | None, domain: Domain
) -> tuple[Opponents, list[str]]:
    """Who to play against, and the ids of the artefacts among them.

    Raises:
        NotFound: an opponent is not there.
        ConfigurationError, CorruptFile: it plays in another domain, or is damaged.
    """
    found: list[str | Policy | None] = []
    parents: list[str] = []
    for rival in expand(config.opponent, domain):
        if rival in (SELF, START, None):
            found.append(rival)
            continue
        loaded, ids = load_opponent(str(rival), workspace, domain)
        found.append(loaded)
        parents += ids
    return tuple(found), parents


def _evaluator(
    domain: Domain,
    config: FinetuneConfig,
    opponents: Opponents,
    stop: StopCheck,
) -> Evaluate:
    """Play tasks for the guard, the combined one against the first opponent that never changes."""
    steady = [rival for rival in opponents if rival not in (SELF, START)]
    opponent = steady[0] if steady else None

    def evaluate(policy: Policy, tasks: Sequence[str]) -> Scores:
        scores = {}
        for name in tasks:
            task = domain.task(name)
            rollout = play(
                domain,
                name,
                policy,
                episodes=config.guard_episodes,
                seed=config.seed,
                opponent=opponent if name == domain.combined else None,
                first_episode=GUARD_EPISODES_FROM,
                stop=stop,
            )
            scores[name] = rollout.metrics[task.main_metric]
        return scores

    return evaluate


def _match(domain: Domain, config: FinetuneConfig, stop: StopCheck) -> Versus:
    """Let two policies meet, each in the other's place as well: the score is fair to both.

    It is the share of episodes in which the first does better in a place than the second does
    there, ties counting half, so that it lies in [0, 1] whatever the metric's unit.
    """
    metric = domain.task(domain.combined).main_metric

    def side(player: Policy, rival: Policy) -> np.ndarray:
        rollout = play(
            domain,
            domain.combined,
            player,
            episodes=MATCH_EPISODES,
            seed=config.seed,
            opponent=rival,
            first_episode=GUARD_EPISODES_FROM,
            stop=stop,
        )
        return rollout.metrics[metric]

    def score(player: Policy, rival: Policy) -> float:
        better = np.sign(side(player, rival) - side(rival, player))
        return float(0.5 + 0.5 * np.nan_to_num(better).mean())

    return score


def _publish(
    workspace: Workspace,
    config: FinetuneConfig,
    outcome: FinetuneOutcome,
    directory: Path,
    parents: Sequence[str],
    command: str,
) -> Artefact:
    settings = asdict(config)
    with workspace.draft("checkpoint", config.name) as draft:
        checkpoint.save(draft.path, outcome.network, config=settings, metrics=outcome.summary)
        outcome.model.save(draft.path / ZIP_FILE)
        write_records(outcome.records, draft.path)
        if outcome.interrupted:
            shutil.copyfile(directory / STATE_FILE, draft.path / STATE_FILE)
        keep_board(directory, draft.path)
        return draft.commit(
            command=command or "skilldistill finetune (python)",
            config=settings,
            seed=config.seed,
            parents=parents,
            metrics=outcome.summary,
            status="interrupted" if outcome.interrupted else "complete",
            check=checkpoint.load,
        )
