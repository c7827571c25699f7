"""How fast a fine-tuning learns, and how tightly it is held to where it began.

A function of the steps played, of when the actor was released, and of what the guard made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skilldistill.config import FinetuneConfig

EARLY = 0.1
"""Share of the steps, counted again from the actor's release, in which a collapse would show."""
RAISE = 4.0
"""Factor by which the guard tightens the tie; it fades again by a tenth per rollout."""
TIGHTEST = 1000.0
"""Largest product of such factors."""
LEAST_HOLD = 0.01
"""Share of its first weight below which a tightened tie never counts."""
CALM = 0.9
CAUTION = 0.5
"""Factor on both learning rates with each rollback: the same step would fall the same way."""


@dataclass
class Pace:
    """Learning rates and the tie's weights at any step.

    Args:
        config: the settings they follow.
        rows: steps of a rollout.
        heads: how many heads are tied.
    """

    config: FinetuneConfig
    rows: int
    heads: int
    released: int = -1
    """Steps at which the actor began to learn; -1 during the warm-up."""
    caution: float = 1.0
    """Factor on both learning rates."""
    boosts: list[float] = field(default_factory=list)
    """(heads,) factors on the tie's weight."""

    def __post_init__(self) -> None:
        self.boosts = self.boosts or [1.0] * self.heads

    @property
    def warming_up(self) -> bool:
        """Whether the critic learns alone."""
        return self.released < 0

    @property
    def warmup_limit(self) -> float:
        """Steps that the warm-up may last."""
        return self.config.warmup_fraction * self.config.timesteps

    def is_early(self, steps: int) -> bool:
        """Whether a collapse right after the actor's release would show by now."""
        return steps - self.released <= max(EARLY * self.config.timesteps, self.rows)

    def progress(self, steps: int) -> float:
        """Share of the run that is over, up to 1."""
        return min(steps / self.config.timesteps, 1.0)

    def critic_lr(self, steps: int) -> float:
        """Learning rate of the critic for the update of a rollout begun at ``steps``."""
        return self.config.critic_learning_rate * self._fall(steps)

    def actor_lr(self, steps: int) -> float:
        """Learning rate of the actor, which rises over the ramp, for the same update."""
        since = steps - self.released + self.rows  # the first update counts as one rollout in
        rise = min(1.0, since / max(self.config.ramp * self.config.timesteps, 1.0))
        return self.config.learning_rate * self._fall(steps) * rise

    def _fall(self, steps: int) -> float:
        fall = 1 - 0.9 * self.progress(steps) if self.config.decay else 1.0
        return fall * self.caution

    def kl_coefs(self, steps: int) -> list[float]:
        """Weight per head: geometric decay from ``kl_coef`` to ``kl_floor``, times the boosts."""
        config = self.config
        high, floor = config.kl_coef, min(config.kl_floor, config.kl_coef)
        since = (steps - max(self.released, 0)) / max(config.kl_decay * config.timesteps, 1.0)
        low = max(floor, 1e-6 * high)  # a geometric decay never reaches nothing
        weight = floor if since >= 1 or high == 0 else high * (low / high) ** max(since, 0.0)
        least = LEAST_HOLD * high  # a boost needs something to multiply
        return [
            boost * max(weight, least) if boost > 1 else weight * boost for boost in self.boosts
        ]

    def calm(self) -> None:
        """Let what the guard tightened fade by one rollout."""
        self.boosts = [max(1.0, boost * CALM) for boost in self.boosts]

    def tighten(self, heads: Iterable[int]) -> None:
        """Hold some heads, by number, more tightly."""
        for head in heads:
            self.boosts[head] = min(RAISE * self.boosts[head], TIGHTEST)

    def begin_again(self, heads: Iterable[int]) -> None:
        """After a rollback: learn more slowly, and hold only these heads more tightly."""
        self.caution *= CAUTION
        self.boosts = [1.0] * self.heads
        self.tighten(heads)

    def state(self) -> dict[str, Any]:
        """What changes during a run."""
        return {
            "released": self.released,
            "caution": self.caution,
            "boosts": list(self.boosts),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what :meth:`state` gave, among other things perhaps."""
        self.released, self.caution = state["released"], state["caution"]
        self.boosts = list(state["boosts"])
