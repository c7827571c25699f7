"""PPO from a distilled policy, with a guard that keeps it from falling on the way.

The order of things: the critic learns alone until it explains the returns; then the actor
joins, from the rollout at hand on, its learning rate rising from nothing, tied to the distilled
policy by a KL term that fades. Every few rollouts the policy plays fixed episodes of every task;
where it has fallen behind the distilled one, the tie is tightened, and if that does not help, the
last good weights come back, at half the learning rate. A run that falls again and again ends with
them.

A run's state is taken at every rollout boundary and holds everything that changes. An
interrupted run saves the latest one, so that going on repeats the unfinished rollout exactly.
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skilldistill.config import FinetuneConfig
from skilldistill.domain import Policy
from skilldistill.errors import Interrupted
from skilldistill.learning.device import pick_device, product_dtype, threads_to_learn
from skilldistill.learning.journal import Journal
from skilldistill.learning.keeper import Evaluate, Keeper
from skilldistill.learning.pace import Pace
from skilldistill.learning.ppo import FinetunePPO
from skilldistill.learning.selfplay import FrozenSelf, Member, Pool, Versus
from skilldistill.learning.sparring import (
    SELF,
    Opponents,
    expand,
    make_arenas,
    rehearse,
    shape,
    stagger,
)
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.player import NetworkPolicy
from skilldistill.policy.sb3 import DistilledPolicy
from skilldistill.progress import Progress, ProgressCallback, StopCheck, never, silent
from skilldistill.randomness import global_generators_kept
from skilldistill.training_state import (
    STATE_FILE,
    TENSORBOARD_FOLDER,
    packed,
    read_state,
    strange_state,
)
from skilldistill.workspace.files import replace_file

WARMUP_UPDATES = 5
"""Most updates of the critic alone on one rollout, in case it never explains enough."""
STATE_VERSION = 2
SAVE_SECONDS = 15.0


@dataclass
class FinetuneOutcome:
    """What a run made."""

    model: FinetunePPO
    records: list[dict[str, Any]]
    """What ``metrics.jsonl`` holds: rollouts, guard evaluations, ratings."""
    summary: dict[str, Any]
    """Figures for the checkpoint and the report."""
    interrupted: int = 0
    """Signal that ended the run early; 0 if it came to its end."""

    @property
    def network(self) -> DistilledPolicyNetwork:
        """The fine-tuned network, on the device it was trained on."""
        return self.model.policy.network


@global_generators_kept()
def finetune(
    start: DistilledPolicyNetwork,
    config: FinetuneConfig,
    *,
    directory: Path,
    opponents: Sequence[str | Policy | None] | None = None,
    evaluate: Evaluate | None = None,
    versus: Versus | None = None,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
) -> FinetuneOutcome:
    """Improve a distilled policy on the domain's combined task.

    Args:
        start: the distilled network; it is not changed.
        config: settings; ``opponent`` is looked at only where ``opponents`` is not given.
        directory: an existing directory for ``training_state`` and ``metrics.jsonl``. With
            ``config.resume``, a state found there is gone on from.
        opponents: who to play against, each in its share of the arenas: names of the domain's,
            policies, ``"self"``, ``"start"``, or None for the domain's default.
        evaluate: plays tasks for the guard; None turns the guard off.
        versus: plays matches for the ratings in self-play; None leaves them out.
        progress: told after every rollout.
        stop: asked at every tick, minibatch and evaluation.

    Raises:
        ConfigurationError: settings that do not fit together.
        CorruptFile: the state to go on from is damaged or of another format.
        Interrupted: before there was anything to save.
    """
    chosen = expand(config.opponent, start.domain) if opponents is None else tuple(opponents)
    with threads_to_learn(config.batch_size, config.bf16, pick_device(config.device)):
        run = _Run(start, config, chosen, evaluate, versus, stop)
        with closing(run.env):
            signum = _complete(run, directory, progress)
    return FinetuneOutcome(run.model, run.records, run.summary(), signum)


def _complete(run: _Run, directory: Path, progress: ProgressCallback) -> int:
    """Begin or take up, and go on to the end. Returns the signal if asked to stop, else 0."""
    if run.config.resume and (directory / STATE_FILE).exists():
        run.take_up(directory / STATE_FILE)
    shutil.rmtree(directory / TENSORBOARD_FOLDER, ignore_errors=True)  # the records come again
    with Journal(directory, tensorboard=run.config.tensorboard) as journal:
        run.journal = journal.write
        for record in run.records:
            journal.write(record)
        return _iterate(run, directory, progress)


def _iterate(run: _Run, directory: Path, progress: ProgressCallback) -> int:
    """All iterations that are left. Returns the signal if asked to stop, else 0.

    Raises:
        Interrupted: before there was anything to save.
    """
    saved = time.monotonic()
    boundary = run.state()
    try:
        if not run.records:
            run.keeper.begin()
        while run.steps < run.config.timesteps and not run.keeper.given_up:
            boundary = run.state()
            if time.monotonic() - saved > SAVE_SECONDS:
                _save(boundary, directory)
                saved = time.monotonic()
            run.iterate()
            progress(run.report())
        boundary = run.state()
        run.finish()
    except Interrupted as error:
        run.restore(boundary)
        _save(boundary, directory)
        return error.signum
    return 0


def _save(state: Mapping[str, Any], directory: Path) -> None:
    plain = {**state, "records": json.dumps(state["records"])}
    replace_file(directory / STATE_FILE, packed(plain, version=STATE_VERSION))


@dataclass
class _Clock:
    """Seconds spent, for the figures at the end; never part of a run's state."""

    learning: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    steps: int = 0


class _Run:
    """Everything a run consists of, and the stages of one iteration."""

    def __init__(
        self,
        start: DistilledPolicyNetwork,
        config: FinetuneConfig,
        opponents: Opponents,
        evaluate: Evaluate | None,
        versus: Versus | None,
        stop: StopCheck,
    ) -> None:
        self.config = config
        self.domain = start.domain
        self.stop = stop
        self.versus = versus
        self.journal: Callable[[dict[str, Any]], None] = lambda record: None
        self.reference = start.twin()
        _lower_std(self.reference, config.initial_std)
        self.reference.sharpen(config.binary_temperature)
        self.selves = [FrozenSelf(self.reference) for name in opponents if name == SELF]
        self.pool = Pool()
        self.env = make_arenas(config, opponents, self.reference, self.selves)
        self.model = self._model()
        self.records: list[dict[str, Any]] = []
        self.rollouts = 0
        self.pace = Pace(config, self.model.n_steps * self.model.n_envs, len(self.domain.heads))
        self.keeper = Keeper(self.model, config, self.pace, evaluate, self._note)
        self.clock = _Clock()
        if self.selves:
            self.pool.add(self.model.policy.network, 0)

    # building --------------------------------------------------------------------------------

    def _model(self) -> FinetunePPO:
        config, (arenas, ticks) = self.config, shape(self.config)
        device = pick_device(config.device)
        with warnings.catch_warnings():
            # uneven minibatches are evened out by the update itself
            warnings.filterwarnings("ignore", message="You have specified a mini-batch size")
            model = FinetunePPO(
                DistilledPolicy,
                self.env,
                n_steps=ticks,
                batch_size=min(config.batch_size, arenas * ticks),
                n_epochs=config.n_epochs,
                learning_rate=config.learning_rate,
                critic_lr=config.critic_learning_rate,
                gamma=config.gamma,
                gae_lambda=config.gae_lambda,
                clip_range=config.clip_range,
                target_kl=config.target_kl or None,
                max_grad_norm=config.max_grad_norm,
                ent_coef=config.ent_coef,
                policy_kwargs={
                    "hidden_dim": self.reference.hidden_dim,
                    "domain": self.domain.name,
                },
                seed=config.seed % 2**32,  # what NumPy's global generator takes
                device=device,
            )
        model.policy.network.load_state_dict(self.reference.state_dict())
        self.reference.to(model.device)
        model.reference = self.reference
        model.rehearsal = rehearse(
            self.reference,
            weight=config.kl_coef,
            rows=round(config.rehearsal * model.batch_size),
            seed=_training_seed(config.seed),
        )
        model.dtype = product_dtype(config.bf16, model.device)
        model.stop = self.stop
        self._begin_episodes(model, _training_seed(config.seed))
        return model

    def _begin_episodes(self, model: FinetunePPO, seed: int) -> None:
        self.env.seed(seed)
        model._last_obs = stagger(self.env, self.env.reset(), self.reference)
        model._last_episode_starts = np.ones(self.env.num_envs, dtype=bool)

    # one iteration ---------------------------------------------------------------------------

    def iterate(self) -> None:
        """One rollout, one update, and what the guard has to say."""
        began = time.perf_counter()
        model = self.model
        for rival in self.selves:
            rival.become(self.pool.draw(model.generator))
        before = self.steps
        model.collect_rollouts(self.env, _QUIET, model.rollout_buffer, model.n_steps)
        self.rollouts += 1
        alone = self._warm_up(before) if self.pace.warming_up else 0
        if not self.pace.warming_up:
            self._schedule(before)
            model.train()
        self.keeper.recover_if_broken()
        self.clock.learning += time.perf_counter() - began
        self.clock.steps += self.steps - before
        self._note(
            "rollout",
            phase="actor" if model.train_actor else "critic",
            actor_lr=model.actor_lr if model.train_actor else 0.0,
            kl_coefs=self.pace.kl_coefs(before),
            critic_updates=alone,
            **model.last,
        )
        self.pace.calm()
        if self.pace.warming_up:
            return  # the actor is the distilled policy, to the bit
        regular = self.rollouts % (self.config.guard_every or FinetuneConfig().guard_every) == 0
        self.keeper.look(regular=regular)
        if regular and self.selves:
            self._rate()

    def _warm_up(self, begun: int) -> int:
        """Let the critic learn alone from a rollout; answers how many updates it took.

        The actor does not change meanwhile, so a rollout is not used up by that: judged anew by
        the critic that knows it, it is the first the actor learns from.
        """
        model, limit = self.model, self.pace.warmup_limit
        self._schedule(begun)
        updates = 0
        while not (begun >= limit or self._explained) and updates < WARMUP_UPDATES:
            model.train()
            model.appraise()
            updates += 1
        if self.steps > limit or self._explained:
            self.pace.released = begun
            self.keeper.keep()  # the distilled actor, with a critic that knows it
        return updates

    @property
    def _explained(self) -> bool:
        known = self.model.last["explained_variance"]
        return known >= self.config.warmup_explained_variance

    def _schedule(self, steps: int) -> None:
        """Set learning rates and KL weights for the update of a rollout begun at ``steps``."""
        model, pace = self.model, self.pace
        model.train_actor = not pace.warming_up
        model._current_progress_remaining = 1 - pace.progress(steps)
        model.critic_lr, model.actor_lr = pace.critic_lr(steps), pace.actor_lr(steps)
        model.kl_coefs = torch.tensor(pace.kl_coefs(steps), device=model.device)

    def _rate(self) -> None:
        generator = self.model.generator
        if self.versus is not None:
            rivals = self.pool.rivals(3, generator)
            player = NetworkPolicy(self.model.policy.network)
            self.pool.rate(player, self.selves[0], rivals, self.versus)
        self.pool.add(self.model.policy.network, self.steps)
        self._note(
            "ratings",
            elo=self.pool.rating,
            pool=[{"steps": member.steps, "elo": member.rating} for member in self.pool.members],
        )

    def finish(self) -> None:
        """Make the last good weights the result if the end result has fallen."""
        if not self.pace.warming_up:
            kinds = ("rollout", "guard")
            self.keeper.finish(next(r for r in reversed(self.records) if r["kind"] in kinds))

    # state -----------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Environment steps played."""
        return int(self.model.num_timesteps)

    def state(self) -> dict[str, Any]:
        """Everything that changes, as copies: tensors, numbers and strings in plain containers."""
        model = self.model
        saves = all(hasattr(env, "get_state") for env in self.env.envs)
        arenas = self.env.get_state() if saves else {}
        return {
            "weights": model.snapshot(),
            "generator": model.generator.get_state(),
            "arenas": {key: torch.from_numpy(value) for key, value in arenas.items()},
            "last_obs": torch.from_numpy(np.array(model._last_obs)),
            "last_starts": torch.from_numpy(np.array(model._last_episode_starts)),
            "pool": [(m.steps, m.weights, m.rating) for m in self.pool.members],
            "elo": self.pool.rating,
            **self.keeper.state(),
            **self.pace.state(),
            "steps": self.steps,
            "updates": int(model._n_updates),
            "rollouts": self.rollouts,
            "records": list(self.records),
        }

    def take_up(self, path: Path) -> None:
        """Go on from a saved state.

        Raises:
            CorruptFile: it is damaged, or of another run or version.
        """
        state = read_state(path, version=STATE_VERSION)
        try:
            self.restore({**state, "records": json.loads(state["records"])})
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise strange_state(path, error) from error
        if not state["arenas"]:  # the domain's cannot be saved: begin episodes not played yet
            self._begin_episodes(self.model, _training_seed(self.config.seed, self.steps))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what :meth:`state` gave."""
        model = self.model
        model.return_to(state["weights"])
        model.generator.set_state(state["generator"])
        if state["arenas"]:
            self.env.set_state({key: value.numpy() for key, value in state["arenas"].items()})
            model._last_obs = state["last_obs"].numpy().copy()
            model._last_episode_starts = state["last_starts"].numpy().copy()
        self.pool.members = [Member(*member) for member in state["pool"]]
        self.pool.rating = state["elo"]
        self.keeper.restore(state)
        self.pace.restore(state)
        model.num_timesteps = state["steps"]
        model._n_updates = state["updates"]
        self.rollouts = state["rollouts"]
        self.records = list(state["records"])

    # reporting -------------------------------------------------------------------------------

    def _note(self, kind: str, **values: Any) -> None:
        record = copy.deepcopy({"kind": kind, "steps": self.steps, **values})
        self.records.append(record)
        self.journal(record)

    def report(self) -> Progress:
        """What a person would like to watch."""
        values: dict[str, float | str] = {
            "phase": "actor" if self.model.train_actor else "critic",
            **{
                name: round(self.model.last[name], 3)
                for name in ("explained_variance", "episode_return")
                if name in self.model.last
            },
        }
        if latest := self.keeper.latest:
            task = self.domain.combined
            values[self.domain.task(task).main_metric] = round(latest[task], 3)
        rows = self.model.n_steps * self.model.n_envs
        total = -(-self.config.timesteps // rows) * rows  # rollouts are played to their end
        return Progress("finetune", self.steps, total, "step", values)

    @property
    def _unchanged(self) -> bool:
        """Whether the policy is the one that the run began with."""
        own = self.model.policy.network.state_dict()
        return all(torch.equal(own[name], old) for name, old in self.reference.state_dict().items())

    def summary(self) -> dict[str, Any]:
        """Scores before and after, what the guard did, and how fast it went."""
        rated = any(record["kind"] == "ratings" for record in self.records)
        return {
            "steps": self.steps,
            "warmup_steps": self.steps if self.pace.warming_up else self.pace.released,
            "warmup_updates": sum(record.get("critic_updates", 0) for record in self.records),
            **self.keeper.summary(),
            "unchanged": self._unchanged,
            "elo": self.pool.rating if self.versus is not None and rated else None,
            "steps_per_second": round(self.clock.steps / max(self.clock.learning, 1e-9)),
            "seconds": round(time.perf_counter() - self.clock.began, 3),
        }


class _Quiet:
    """A callback that does nothing: the loop above sees to everything itself."""

    def on_rollout_start(self) -> None:
        """Nothing."""

    def on_rollout_end(self) -> None:
        """Nothing."""


_QUIET: Any = _Quiet()


@torch.no_grad()
def _lower_std(network: DistilledPolicyNetwork, largest: float) -> None:
    if largest:
        network.log_std.clamp_(max=math.log(largest))


def _training_seed(seed: int, *steps: int) -> int:
    """Episodes of their own: never those a policy is scored on, which belong to ``seed``.

    Args:
        seed: the run's.
        steps: how many were taken before, where episodes are begun in the middle of a run.
    """
    return int(np.random.SeedSequence([seed, 0xF17E, *steps]).generate_state(1)[0])
