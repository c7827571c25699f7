"""Experts acting together: each sees its own observation and drives its own action dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from skilldistill.domain import ActionDim, Domain, View
from skilldistill.errors import ConfigurationError
from skilldistill.experts.network import Expert

Float32Array = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

SAMPLING_STREAM = 1
"""Stream of :meth:`View.uniform` that experts sample their actions from."""


class CompositePolicy:
    """Plays any number of experts at once, one per skill at most.

    Action dimensions of skills without an expert stay at 0 (or the nearest bound) and are not
    labelled.

    Args:
        domain: what the experts were made for.
        experts: by skill.
        stochastic: sample actions instead of taking the likeliest.

    Raises:
        ConfigurationError: an expert of another domain or skill, or two that drive the same
            dimension.
        CorruptFile: an expert that does not fit its skill.
    """

    def __init__(
        self, domain: Domain, experts: Mapping[str, Expert], *, stochastic: bool = False
    ) -> None:
        self.domain = domain
        self.experts = dict(experts)
        self.stochastic = stochastic
        self._columns: dict[str, list[int]] = {}
        taken: dict[int, str] = {}
        for skill, expert in self.experts.items():
            if (expert.skill, expert.domain) != (skill, domain.name):
                raise ConfigurationError(
                    f"expert {expert.name!r} plays {expert.skill!r} of {expert.domain!r}, "
                    f"not {skill!r} of {domain.name!r}"
                )
            expert.check(domain)
            columns = list(domain.columns(domain.skill(skill).head))
            for column in columns:
                if column in taken:
                    raise ConfigurationError(
                        f"skills {taken[column]!r} and {skill!r} both drive "
                        f"{domain.action_names[column]!r}"
                    )
                taken[column] = skill
            self._columns[skill] = columns
        self._labelled = np.zeros(domain.action_dim, dtype=bool)
        self._labelled[list(taken)] = True

    def label(self, view: View) -> tuple[Float32Array, Float32Array, BoolArray]:
        """What the experts would do at the current tick.

        Returns:
            (n, action_dim) targets and standard deviations as in
            :class:`~skilldistill.experts.network.ActionTargets`, and which of them an expert
            gave; the others are 0.
        """
        parts = {
            skill: expert.distribution(view.native(skill)) for skill, expert in self.experts.items()
        }
        rows = len(next(iter(parts.values())).mean) if parts else len(view.unified())
        targets = np.zeros((rows, self.domain.action_dim), dtype=np.float32)
        std = np.zeros_like(targets)
        for skill, part in parts.items():
            targets[:, self._columns[skill]] = part.mean
            std[:, self._columns[skill]] = part.std
        return targets, std, np.tile(self._labelled, (rows, 1))

    def act(self, view: View) -> Float32Array:
        """(n, action_dim) actions in environment units: binary dimensions are 0 or 1."""
        targets, std, _ = self.label(view)
        return self.choose(view, targets, std)

    def choose(self, view: View, targets: Float32Array, std: Float32Array) -> Float32Array:
        """Turn what :meth:`label` returned into actions, so that nothing is computed twice."""
        draws = None
        if self.stochastic:
            draws = view.uniform(SAMPLING_STREAM, 2 * self.domain.action_dim)
        return sample(self.domain.actions, targets, std, draws)


def sample(
    actions: Sequence[ActionDim],
    targets: Float32Array,
    std: Float32Array,
    draws: NDArray[np.float64] | None = None,
) -> Float32Array:
    """Turn targets into legal actions.

    Args:
        actions: the A dimensions.
        targets: (n, A) probability for binary dimensions, mean for continuous ones.
        std: (n, A) standard deviation of the continuous dimensions.
        draws: (n, 2 A) numbers in [0, 1) to sample with; None takes the likeliest action.
            Continuous dimensions use the Box-Muller transform of columns i and A + i.

    Returns:
        (n, A) float32: binary dimensions 0 or 1, continuous ones within their bounds.
    """
    size = len(actions)
    binary = np.array([dim.kind == "binary" for dim in actions])
    low = np.array([dim.low for dim in actions], dtype=np.float32)
    high = np.array([dim.high for dim in actions], dtype=np.float32)
    if draws is None:
        pressed, moved = targets > 0.5, targets
    else:
        first, second = draws[:, :size], draws[:, size:]
        pressed = first < targets
        noise = np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second)
        moved = (targets + std * noise).astype(np.float32)
    result: Float32Array = np.where(binary, pressed.astype(np.float32), np.clip(moved, low, high))
    return result
