"""Student-driven rounds: the student plays, every expert says what it would have done.

A student that learnt only from the experts' own games has not seen the states its own small
errors lead to. In a round it plays, and the experts label the states it meets (DAgger: Ross,
Gordon and Bagnell, "A reduction of imitation learning and structured prediction to no-regret
online learning", AISTATS 2011).

*Who acts* is decided once per episode: with chance ``beta`` the experts, else the student. Mixed
tick by tick, neither the student's own errors nor the experts' own games would be seen as they
are.

*What is labelled.* In the combined task every head. In a single-skill task only the heads that
the task hands to its player: the environment plays the others itself, so their labels would be
for states the combined task never shows and no expert was trained for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skilldistill.contract import CheckedArenas
from skilldistill.data.schema import DatasetInfo, Episode, ExpertRef
from skilldistill.data.writer import DatasetWriter
from skilldistill.domain import Domain, Policy
from skilldistill.errors import Interrupted
from skilldistill.experts.composite import CompositePolicy
from skilldistill.progress import Progress, ProgressCallback, StopCheck, never, silent
from skilldistill.randomness import uniform

MAX_ARENAS = 256
"""Arenas played at once."""
FIRST_EPISODE = 1 << 32
"""Round r plays episodes from r times this number on: none that ``collect`` or ``evaluate``
plays with the same seed."""
_WHO_ACTS = 41
"""Stream of the draw that decides who acts in an episode."""


def schedule(domain: Domain, episodes: int) -> dict[str, int]:
    """How many episodes of each task a round plays.

    The combined task is what the student is for. A quarter as many of each skill's own task keep
    the student's behaviour there in the data: those states look different.
    """
    alone = [task.name for task in domain.tasks if task.name in domain.skill_names]
    return {domain.combined: episodes, **{name: max(1, episodes // 4) for name in alone}}


def beta_of(round_number: int, beta: float) -> float:
    """Chance that the experts act in round 1, 2, …: ``beta``, halved from round to round."""
    return float(beta * 0.5 ** (round_number - 1))


def write_round(
    path: Path,
    domain: Domain,
    student: Policy,
    experts: CompositePolicy,
    refs: Sequence[ExpertRef],
    *,
    round_number: int,
    episodes: int,
    seed: int,
    beta: float,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
) -> DatasetInfo:
    """Play one round and write what was labelled as a dataset.

    Args:
        path: the file to write; it appears only when it is complete.
        domain: what is played.
        student: who acts, mostly.
        experts: who label, and act in some episodes.
        refs: which experts these are.
        round_number: 1, 2, …; recorded as the dataset's ``rounds``.
        episodes: episodes of the combined task; see :func:`schedule` for the others.
        seed: of the episodes.
        beta: chance that the experts act in an episode of round 1.
        progress: told before the first task and after each.
        stop: asked at every tick.

    Raises:
        Interrupted: ``stop`` answered with a signal; nothing was written.
    """
    plan = schedule(domain, episodes)
    tasks = [task for task in domain.tasks if task.name in plan]
    info = DatasetInfo(
        domain=domain.name,
        skills=tuple(task.name for task in tasks),
        env_id=",".join(task.env_id for task in tasks),
        experts=tuple(refs),
        observation_names=domain.observation_names,
        action_names=domain.action_names,
        seed=seed,
        config={"round": round_number, "beta": beta_of(round_number, beta), "episodes": plan},
        rounds=round_number,
    )
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)  # a kill may have left one

    def tell(done: int, task: str) -> None:
        stage = f"distill, round {round_number}: play"
        progress(Progress(stage, done, sum(plan.values()), "episode", {"task": task}))

    tell(0, tasks[0].name)
    with DatasetWriter(temporary, info) as writer:
        for number, task in enumerate(tasks):
            writer.append_many(
                play_labelled(
                    domain,
                    task.name,
                    student,
                    experts,
                    episodes=plan[task.name],
                    first_episode=round_number * FIRST_EPISODE,
                    seed=seed,
                    beta=beta_of(round_number, beta),
                    skill=number,
                    stop=stop,
                )
            )
            tell(sum(plan[played.name] for played in tasks[: number + 1]), task.name)
    temporary.replace(path)
    return info


def play_labelled(
    domain: Domain,
    task: str,
    student: Policy,
    experts: CompositePolicy,
    *,
    episodes: int,
    first_episode: int,
    seed: int,
    beta: float,
    skill: int = 0,
    stop: StopCheck = never,
) -> Iterator[Episode]:
    """Episodes of one task, acted by the student or the experts and labelled by the experts.

    Args:
        domain: what is played.
        task: name of the task.
        student: who acts in most episodes.
        experts: who label every tick, and act in the other episodes.
        episodes: how many.
        first_episode: index of the first.
        seed: of the episodes and of who acts in them.
        beta: chance that the experts act in an episode.
        skill: what the rows' ``skill`` says.
        stop: asked at every tick.

    Raises:
        Interrupted: ``stop`` answered with a signal.
        DomainFailed: the domain raises, or breaks what ``domain.py`` asks of it.
    """
    labelled = labelled_dimensions(domain, task)
    for begin in range(0, episodes, MAX_ARENAS):
        count = min(MAX_ARENAS, episodes - begin)
        index = np.arange(count, dtype=np.int64) + (first_episode + begin)
        arenas = CheckedArenas(domain, task, count, seed=seed)
        arenas.start(index)
        zero = np.zeros(count, dtype=np.int64)
        guided = uniform(seed, index, zero, _WHO_ACTS, 1)[:, 0] < beta
        ticks: list[dict[str, NDArray[np.generic]]] = []
        while (active := arenas.active.copy()).any():
            if signum := stop():
                raise Interrupted(f"stopped while the student played {task}", signum=signum)
            view = arenas.view
            observations = view.unified().copy()
            targets, std, mask = experts.label(view)
            actions = student.act(view)
            if guided.any():
                chosen = experts.choose(view, targets, std)
                actions = np.where(guided[:, None], chosen, actions)
            mask = mask & labelled
            step = arenas.step(actions)
            ticks.append(
                {
                    "active": active,
                    "observations": observations,
                    "actions": actions,
                    "targets": np.where(mask, targets, np.float32(0)),
                    "target_std": np.where(mask, std, np.float32(0)),
                    "action_mask": mask,
                    "rewards": step.rewards.astype(np.float32),
                    "terminated": step.terminated.copy(),
                    "truncated": step.truncated.copy(),
                }
            )
        yield from _cut(ticks, index, skill)


def labelled_dimensions(domain: Domain, task: str) -> NDArray[np.bool_]:
    """(action_dim,) whether the player of a task controls the dimension, and so learns from it."""
    mask = np.zeros(domain.action_dim, dtype=bool)
    for head in domain.task(task).heads:
        mask[list(domain.columns(head))] = True
    return mask


def _cut(
    ticks: Sequence[Mapping[str, NDArray[np.generic]]], index: NDArray[np.int64], skill: int
) -> Iterator[Episode]:
    """One episode per arena, without the ticks after its end."""
    columns = {name: np.stack([tick[name] for tick in ticks], axis=1) for name in ticks[0]}
    lengths = columns.pop("active").sum(axis=1)
    for arena, length in enumerate(lengths.tolist()):
        rows = {name: np.ascontiguousarray(c[arena, :length]) for name, c in columns.items()}
        yield Episode(
            **rows,
            skill=np.full(length, skill, dtype=np.uint8),
            native_observations=None,
            seed=int(index[arena]),
        )
