"""What a policy is fine-tuned on: who stands opposite, how many arenas, what is rehearsed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from skilldistill.config import FinetuneConfig
from skilldistill.contract import CheckedArenas
from skilldistill.domain import Domain, Policy
from skilldistill.errors import ConfigurationError
from skilldistill.learning.domain_env import CheckedVectorEnv
from skilldistill.learning.selfplay import FrozenSelf
from skilldistill.learning.update import Rehearsal
from skilldistill.learning.vecenv import SB3VecEnv
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.player import NetworkPolicy

SELF, START = "self", "start"
"""Opponents made here: earlier selves, and the policy the run starts from."""
SELVES = 2
"""Groups of arenas in self-play, each against a member of the pool of its own."""
ARENAS = 64
"""Most arenas where their number is not given: enough to share a tick's fixed costs."""
LESSON = 200
"""Most ticks of an episode of a skill's task whose states are rehearsed."""
STAGGER = 4
"""Groups of arenas that stand at different points of their episodes at the start."""

Opponents = tuple[str | Policy | None, ...]


def expand(opponent: str, domain: Domain) -> tuple[str | None, ...]:
    """The opponents that a name stands for.

    ``mix`` is every script worth sparring with, and the distilled policy itself; ``self`` is a
    few earlier selves. An empty name is the domain's default.
    """
    if opponent == SELF:
        return (SELF,) * SELVES
    if opponent == "mix":
        return (*(domain.sparring or domain.opponents), START)
    return (opponent or None,)


def shape(config: FinetuneConfig) -> tuple[int, int]:
    """Arenas, and ticks each of them plays per rollout.

    Without ``envs``, the rows of four arenas are spread over more of them.

    Raises:
        ConfigurationError: a single row, of which advantages have no spread.
    """
    if config.envs:
        if config.envs * config.n_steps < 2:
            raise ConfigurationError(
                "a rollout needs at least 2 rows", hint="use --n-steps 2 or more, or more --envs"
            )
        return config.envs, config.n_steps
    rows = 4 * config.n_steps
    arenas = next(n for n in range(min(ARENAS, rows), 0, -1) if rows % n == 0)
    return arenas, rows // arenas


def check_arenas(config: FinetuneConfig, opponents: Opponents) -> None:
    """Refuse a rollout that cannot be played or learnt from.

    Raises:
        ConfigurationError: a single row, or fewer arenas than opponents.
    """
    if (count := shape(config)[0]) < len(opponents):
        raise ConfigurationError(
            f"{count} arenas are too few for {len(opponents)} opponents",
            hint=f"use --envs {len(opponents)} or more",
        )


def make_arenas(
    config: FinetuneConfig,
    opponents: Opponents,
    start: DistilledPolicyNetwork,
    selves: Sequence[FrozenSelf],
) -> SB3VecEnv:
    """Arenas in equal shares per opponent, in groups that :func:`stagger` can tell apart.

    Args:
        config: how many.
        opponents: see :func:`skilldistill.learning.finetune.finetune`.
        start: who :data:`START` is.
        selves: who the occurrences of :data:`SELF` are, in turn.

    Raises:
        ConfigurationError: more opponents than arenas.
    """
    check_arenas(config, opponents)
    count, domain = shape(config)[0], start.domain
    remaining = iter(selves)
    envs = []
    for opponent, share in zip(opponents, split(count, len(opponents)), strict=True):
        rival: str | Policy | None = opponent
        if opponent == SELF:
            rival = next(remaining)
        elif opponent == START:
            rival = NetworkPolicy(start)
        groups = max(1, min(STAGGER // len(opponents), share))
        envs += [
            CheckedVectorEnv(domain, domain.combined, size, seed=config.seed, opponent=rival)
            for size in split(share, groups)
        ]
    return SB3VecEnv(envs)


def stagger(
    env: SB3VecEnv, observations: np.ndarray, network: DistilledPolicyNetwork
) -> np.ndarray:
    """Play the groups of arenas ahead, each further than the one before.

    Arenas that all begin an episode at once would fill a rollout with openings only, the next
    one with what follows, and so on: no two rollouts would be about the same thing.

    Args:
        env: freshly reset.
        observations: (n, obs_dim) what the reset gave.
        network: who plays.

    Returns:
        (n, obs_dim) what is seen now.
    """
    player, domain = NetworkPolicy(network), network.domain
    horizon, groups = domain.task(domain.combined).horizon, len(env.envs)
    views = np.split(observations, np.cumsum([part.num_envs for part in env.envs])[:-1])
    for number in range(groups):
        for _ in range(number * horizon // groups):
            views[number] = env.advance(number, player.predict(views[number]))
    return np.concatenate(views)


def skill_states(
    network: DistilledPolicyNetwork, *, seed: int, rows: int = 2048
) -> dict[str, np.ndarray]:
    """What a policy sees in the skills' own tasks, which the combined one seldom shows it.

    Args:
        network: who plays.
        seed: of the episodes.
        rows: observations per skill, spread evenly over the ticks of episodes that last.

    Returns:
        (rows, obs_dim) unified observations by skill.
    """
    player, domain = NetworkPolicy(network), network.domain
    found = {}
    for skill in domain.skill_names:
        length = min(LESSON, domain.task(skill).horizon)
        count = -(-rows // length)
        arenas = CheckedArenas(domain, skill, count, seed=seed)
        seen: list[np.ndarray] = []
        for begun in itertools.count(0, count):
            if sum(map(len, seen)) >= rows:
                break
            arenas.start(np.arange(begun, begun + count))
            for _ in range(length):
                if not (active := arenas.active).any():
                    break
                view = arenas.view.unified()
                seen.append(view[active])
                arenas.step(player.predict(view))
        found[skill] = np.concatenate(seen)[:rows]
    return found


@torch.no_grad()
def rehearse(
    reference: DistilledPolicyNetwork, *, weight: float, rows: int, seed: int
) -> Rehearsal | None:
    """States of the skills' tasks, where each skill's own head is held, and no other.

    Args:
        reference: who plays there, and what the heads are held to; the result is on its device.
        weight: of the divergence.
        rows: how many of the states join each minibatch.
        seed: of the episodes.

    Returns:
        None where there is nothing to hold.
    """
    if not rows or not weight:
        return None
    domain, device = reference.domain, reference.log_std.device
    states = skill_states(reference, seed=seed)
    weights = []
    for skill, seen in states.items():
        held = torch.zeros(domain.action_dim)
        held[list(domain.columns(domain.skill(skill).head))] = weight
        weights.append(held.expand(len(seen), -1))
    observations = torch.from_numpy(np.concatenate(list(states.values()))).to(device)
    outputs = reference.logits(observations)
    return Rehearsal(observations, outputs, torch.cat(weights).to(device), rows)


def split(count: int, parts: int) -> list[int]:
    """``count`` in ``parts`` sizes as equal as possible, the larger ones first."""
    return [count // parts + (number < count % parts) for number in range(parts)]
