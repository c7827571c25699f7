"""What a fine-tuning keeps: the scores it began with, and the best weights it has had since.

The guard's side of a run. It has the policy play fixed episodes, holds it more tightly where it
falls behind the one it started from, and brings the last good weights back where that is no help.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from skilldistill.config import FinetuneConfig
from skilldistill.domain import Policy
from skilldistill.learning.guard import (
    LAST_RESORT,
    PATIENCE,
    Scores,
    Watch,
    falling,
    interval,
    margin,
    means,
)
from skilldistill.learning.pace import Pace
from skilldistill.learning.ppo import FinetunePPO
from skilldistill.policy.player import NetworkPolicy

Evaluate = Callable[[Policy, Sequence[str]], Scores]
"""Plays the named tasks on seeds that are the same at every call."""


class Keeper:
    """Compares a policy in training with the one it began as, and keeps the best of it.

    Args:
        model: what learns.
        config: settings of the run.
        pace: what is slowed down and tightened.
        evaluate: plays tasks; None turns the guard off.
        note: writes a record of a kind.

    Attributes:
        initial: scores of the policy the run began with, by task.
        latest: mean scores as last measured, by task.
        watch: what the comparisons came to so far.
    """

    def __init__(
        self,
        model: FinetunePPO,
        config: FinetuneConfig,
        pace: Pace,
        evaluate: Evaluate | None,
        note: Callable[..., None],
    ) -> None:
        self._model, self._config, self._pace = model, config, pace
        self._domain = model.policy.network.domain
        self._evaluate = evaluate if config.guard_every else None
        self._note = note
        self._player = NetworkPolicy(model.policy.network)
        self.watch = Watch()
        self.initial: Scores = {}
        self.latest: dict[str, float] = {}
        self._good: dict[str, Any] = {}
        self._best = -math.inf
        """Highest mean score in the combined task of weights that were kept."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The combined task first, then the skills."""
        return (self._domain.combined, *self._domain.skill_names)

    @property
    def given_up(self) -> bool:
        """Whether going on has proved fruitless; the weights are the last good ones then."""
        return self.watch.fruitless >= LAST_RESORT

    def begin(self) -> None:
        """Score the distilled policy, which everything later is compared with."""
        if self._evaluate is not None:
            self.initial = self._evaluate(self._player, self.tasks)
            self.latest = means(self.initial)
            self.watch.see(self.latest, early=False)
            self._best = self.latest[self._domain.combined]
            self._note("baseline", scores=self.latest)
        self.keep()

    def keep(self) -> None:
        """Take the weights as they are for the last good ones."""
        self._good = self._model.snapshot()

    def look(self, *, regular: bool) -> None:
        """Have the policy judged where that is due.

        Within the early window every rollout is scored, in the combined task alone to be quick.

        Args:
            regular: whether it is the rollout's turn.
        """
        early = self._pace.is_early(self._model.num_timesteps)
        if self._evaluate is not None and (regular or early or self.watch.strikes):
            tasks = self.tasks if regular or self.watch.strikes else self.tasks[:1]
            self._judge(self._evaluate(self._player, tasks), early=early)

    def recover_if_broken(self) -> None:
        """Leave weights that cannot even be judged."""
        if self._finite():
            return
        self.watch.roll_back()
        why = ["weights are not finite"]
        self._note("guard", scores={}, intervals={}, falling=why, action="rollback")
        self._go_back(())

    def finish(self, last: Mapping[str, Any]) -> None:
        """Score the end result; if it has fallen, the last good weights are the result.

        Args:
            last: the latest record that tells of a rollout or of its judgement.
        """
        if self._evaluate is None:
            return
        judged = last["kind"] == "guard" and set(self.tasks) == set(last["scores"])
        verdict = "rollback" if self.given_up else str(last["action"]) if judged else ""
        if verdict != "good" and not self.given_up:
            scores = self._evaluate(self._player, self.tasks)
            if falling(scores, self.initial):
                self.watch.strikes = PATIENCE - 1  # no rollout is left to recover in
            early = self._pace.is_early(self._model.num_timesteps)
            verdict = self._judge(scores, early=early)
        if verdict == "good" and self._worse_than_best:
            self._model.return_to(self._good)
            verdict = "rollback"
        if verdict == "rollback":
            self.latest = means(self._evaluate(self._player, self.tasks))
            self._note("final", scores=self.latest)

    def _judge(self, scores: Scores, *, early: bool) -> str:
        below = falling(scores, self.initial)
        self.latest |= means(scores)
        self.watch.see(means(scores), early=early)
        verdict = self.watch.judge(below, tied=self._config.kl_coef > 0)
        if verdict == "good":
            if len(scores) == len(self.tasks) and not self._worse_than_best:
                self.keep()
                self._best = max(self._best, self.latest[self._domain.combined])
        elif verdict == "raise":
            self._pace.tighten(self._heads_of(below))
        self._note(
            "guard",
            scores=means(scores),
            intervals={
                task: [interval(values).low, interval(values).high]
                for task, values in scores.items()
            },
            falling=list(below),
            action=verdict,
            kl_boosts=self._pace.boosts,
        )
        if verdict == "rollback":
            self._go_back(below)
        return verdict

    @property
    def _worse_than_best(self) -> bool:
        task = self._domain.combined
        return self.latest[task] < self._best - margin(self.initial[task])

    def _heads_of(self, tasks: Sequence[str]) -> list[int]:
        """Numbers of the heads that act in any of the tasks."""
        acting = {name for task in tasks for name in self._domain.task(task).heads}
        return [number for number, head in enumerate(self._domain.heads) if head.name in acting]

    def _go_back(self, below: Sequence[str]) -> None:
        """Go on from the last good weights, more carefully than before."""
        self._model.return_to(self._good)
        self._pace.begin_again(self._heads_of(below))

    def _finite(self) -> bool:
        """Whether the policy can still act: its weights and outputs are numbers."""
        model = self._model
        with torch.inference_mode():
            seen = torch.from_numpy(np.asarray(model._last_obs)).to(model.device)
            outputs = [model.policy.network.logits(seen), model.policy.values(seen)]
            everything = [*outputs, *model.policy.parameters()]
            return all(bool(torch.isfinite(values).all()) for values in everything)

    def state(self) -> dict[str, Any]:
        """What changes during a run."""
        return {
            "good": self._good,
            "best": self._best,
            "initial": {task: torch.from_numpy(np.array(v)) for task, v in self.initial.items()},
            "latest": dict(self.latest),
            "watch": asdict(self.watch),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what :meth:`state` gave, among other things perhaps."""
        self._good, self._best = state["good"], state["best"]
        self.initial = {task: values.numpy() for task, values in state["initial"].items()}
        self.latest = dict(state["latest"])
        self.watch = Watch(**copy.deepcopy(state["watch"]))

    def summary(self) -> dict[str, Any]:
        """Scores before and after, and what was done about falls."""
        task, before, watch = self._domain.combined, means(self.initial), self.watch
        depths = {name: max(0.0, before[name] - low) for name, low in watch.early_worst.items()}
        return {
            "before": before,
            "after": dict(self.latest),
            "metric": {name: self._domain.task(name).main_metric for name in before},
            "collapse_worst": watch.early_worst.get(task),
            "collapse_depth": depths.get(task),
            "collapse_depths": depths,
            "worst": watch.worst.get(task),
            "kl_raises": watch.raises,
            "rollbacks": watch.rollbacks,
            "given_up": self.given_up,
        }
