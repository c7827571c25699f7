"""``skilldistill train``: an expert for one skill."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from skilldistill import domain as domains
from skilldistill.config import TrainConfig
from skilldistill.domain import Domain, Skill, Task
from skilldistill.errors import ConfigurationError, Interrupted
from skilldistill.evaluation.rollout import play
from skilldistill.evaluation.statistics import mean_interval
from skilldistill.experts import train as loop
from skilldistill.experts.composite import CompositePolicy
from skilldistill.experts.network import Expert
from skilldistill.learning.domain_env import CheckedVectorEnv
from skilldistill.learning.vecenv import SB3VecEnv
from skilldistill.progress import ProgressCallback, StopCheck, never, silent
from skilldistill.settings import check_config
from skilldistill.stages.references import check_policy_name
from skilldistill.stages.unfinished import keep_board, put_away_if_not_begun, unfinished
from skilldistill.workspace.manifest import Artefact
from skilldistill.workspace.store import Workspace

FINAL_EPISODES = 512
"""Episodes on which the finished expert is scored, other than those that chose it."""
PICTURE = "learning_curve.png"
_CHOOSING, _FINAL = 2_000_000, 3_000_000
"""Added to the seed: learning, choosing, and the final score use different episodes."""


@dataclass(frozen=True)
class Figure:
    """A metric's mean over the final episodes, with its 95 % interval."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class TrainResult:
    """The expert that was published."""

    schema: ClassVar[str] = "skilldistill.train/1"
    workspace: str
    domain: str
    id: str
    ref: str
    path: str
    sha256: str
    """Of what the expert does, as in ``expert.json``."""
    status: str
    skill: str
    timesteps: int
    best_timesteps: int
    """When the expert that was kept was scored."""
    seconds: float
    main_metric: str
    metrics: Mapping[str, Figure]
    curve: tuple[Mapping[str, float | None], ...]
    """Scorings during training: ``timesteps``, ``reward``, and the task's metrics."""


def train(
    workspace: Workspace,
    config: TrainConfig,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> TrainResult:
    """Train an expert with PPO and publish the best one.

    Raises:
        ConfigurationError: no such skill, or settings that cannot be used.
        NotFound: nothing to resume.
        CorruptFile: the saved state is damaged.
        Interrupted: asked to stop. The best expert so far is published with the status
            ``interrupted``, and the same command with ``--resume`` goes on.
    """
    check_config(config)
    domain = domains.find(config.domain)
    if not config.skill:
        raise ConfigurationError(
            "no skill given", hint=f"choose one: --skill {' or --skill '.join(domain.skill_names)}"
        )
    skill, task = domain.skill(config.skill), domain.task(config.skill)
    name = check_policy_name(config.name or skill.name, domain)
    settings = loop.TrainSettings.of(skill, config)
    folder = unfinished(
        workspace,
        config,
        "expert",
        name,
        further=_plain(asdict(settings)),
    )
    with put_away_if_not_begun(workspace, folder):
        vec_env = SB3VecEnv(
            CheckedVectorEnv(
                domain,
                task.name,
                settings.envs,
                seed=loop.training_seed(config.seed),
                opponent=settings.opponent,
            )
        )
        with closing(vec_env):
            outcome = loop.train(
                vec_env,
                skill,
                config,
                main_metric=task.main_metric,
                evaluate=lambda expert: _score(domain, task, expert, config),
                directory=folder,
                progress=progress,
                stop=stop,
            )
    publish = _Publisher(workspace, domain, skill, task, name, config, settings, command)
    if outcome.stopped:
        saved = ""
        if outcome.expert is not None:
            artefact, _ = publish(outcome, outcome.expert, folder, "interrupted")
            saved = f"; {artefact.ref} is the best so far"
        raise Interrupted(
            f"stopped after {outcome.timesteps} of {settings.timesteps} steps{saved}",
            signum=outcome.stopped,
            hint="the same command with --resume goes on",
        )
    assert outcome.expert is not None  # the last rollout ends with a scoring
    artefact, figures = publish(outcome, outcome.expert, folder, "complete")
    workspace.discard_partial(folder)
    return TrainResult(
        workspace=str(workspace.root),
        domain=config.domain,
        id=artefact.id,
        ref=artefact.ref,
        path=str(workspace.path(artefact)),
        sha256=outcome.expert.sha256,
        status=artefact.status,
        skill=skill.name,
        timesteps=outcome.timesteps,
        best_timesteps=outcome.best_timesteps,
        seconds=outcome.seconds,
        main_metric=task.main_metric,
        metrics=figures,
        curve=_plain_curve(outcome.curve),
    )


def _score(domain: Domain, task: Task, expert: Expert, config: TrainConfig) -> dict[str, float]:
    """Means of the task's metrics over the episodes that choose the best expert."""
    policy = CompositePolicy(domain, {expert.skill: expert})
    done = play(
        domain, task.name, policy, episodes=config.eval_episodes, seed=config.seed + _CHOOSING
    )
    means = {}
    for name, values in done.metrics.items():
        measured = values[~np.isnan(values)]
        means[name] = float(measured.mean()) if len(measured) else math.nan
    return means


def _final_figures(
    domain: Domain, task: Task, expert: Expert, config: TrainConfig
) -> dict[str, Figure]:
    policy = CompositePolicy(domain, {expert.skill: expert})
    done = play(domain, task.name, policy, episodes=FINAL_EPISODES, seed=config.seed + _FINAL)
    figures = {}
    for name, values in done.metrics.items():
        found = mean_interval(values, seed=config.seed)
        figures[name] = Figure(
            mean=_finite(found.mean), low=_finite(found.low), high=_finite(found.high), n=found.n
        )
    return figures


@dataclass(frozen=True)
class _Publisher:
    """Scores an expert once more and puts it into the workspace."""

    workspace: Workspace
    domain: Domain
    skill: Skill
    task: Task
    name: str
    config: TrainConfig
    settings: loop.TrainSettings
    command: str

    def __call__(
        self, outcome: loop.TrainOutcome, expert: Expert, folder: Path, status: str
    ) -> tuple[Artefact, dict[str, Figure]]:
        figures = _final_figures(self.domain, self.task, expert, self.config)
        command = self.command or "skilldistill train (python)"
        metrics = {
            "skill": self.skill.name,
            "sha256": expert.sha256,
            "source": "train",
            **{name: figure.mean for name, figure in figures.items()},
            "intervals": {name: asdict(figure) for name, figure in figures.items()},
            "timesteps": outcome.timesteps,
            "best_timesteps": outcome.best_timesteps,
            "seconds": round(outcome.seconds, 1),
            "curve": list(_plain_curve(outcome.curve)),
        }
        source = {
            "kind": "train",
            "command": command,
            "seed": self.config.seed,
            "settings": _plain(asdict(self.settings)),
            "timesteps": outcome.best_timesteps,
            "episodes": FINAL_EPISODES,
            "figures": metrics["intervals"],
            "versions": {
                package: version(package)
                for package in ("skilldistill", "stable-baselines3", "torch", "gymnasium", "numpy")
            },
        }
        with self.workspace.draft("expert", self.name) as draft:
            replace(expert, name=self.name, source=source).save(draft.path)
            draw_curve(outcome, self.task, draft.path / PICTURE)
            keep_board(folder, draft.path)
            artefact = draft.commit(
                command=command,
                config=asdict(self.config),
                seed=self.config.seed,
                metrics=metrics,
                status=status,
                check=Expert.load,
            )
        return artefact, figures


def draw_curve(outcome: loop.TrainOutcome, task: Task, path: Path) -> bool:
    """Draw metrics and return over the steps, where matplotlib is installed (extra ``plots``).

    One panel each: a share and an angle on one axis would make a flat line of the share.

    Returns:
        Whether there is a picture now.
    """
    try:
        from matplotlib.figure import Figure as Sheet
    except ImportError:
        return False
    curves = {
        name: [(point.timesteps, point.metrics[name]) for point in outcome.curve]
        for name in task.metrics
    }
    rewards = [(point.timesteps, point.reward) for point in outcome.curve]
    panels = [*curves.items(), ("return, exploring", rewards)]
    sheet = Sheet(figsize=(8, 1 + 2 * len(panels)), layout="constrained", dpi=120)
    rows = sheet.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, points) in zip(rows, panels, strict=True):
        # A scoring without a value must not break the line between its neighbours.
        known = [point for point in points if math.isfinite(point[1])]
        color = "0.4" if points is rewards else "C0"
        axes.plot([step for step, _ in known], [value for _, value in known], "o-", color=color)
        axes.axvline(outcome.best_timesteps, color="0.6", linestyle=":", label="kept")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    rows[0].legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    rows[0].set_title(f"{task.name}: scored without exploring", loc="left")
    rows[-1].set_xlabel("steps")
    sheet.savefig(path)
    return True


def _plain_curve(curve: Sequence[loop.CurvePoint]) -> tuple[dict[str, float | None], ...]:
    return tuple(
        {
            "timesteps": point.timesteps,
            "reward": _finite(point.reward),
            **{name: _finite(value) for name, value in point.metrics.items()},
        }
        for point in curve
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """The same as JSON can hold it; what it cannot becomes its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else str(value)
