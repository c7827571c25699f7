"""SB3's PPO with a lean rollout, a lean update, and a tie to the policy it starts from.

What differs from :class:`stable_baselines3.PPO`, whose buffers, advantage estimation,
checkpoints and hyperparameters are used as they are:

* a rollout asks the actor only for its outputs, tick by tick; random numbers are drawn before,
  values and log-probabilities computed after it, for all rows at once;
* an update runs on permuted contiguous rows, with the loss written out for Bernoulli and
  Gaussian dimensions, and without a look at any number until it is over;
* actor and critic have separate learning rates and gradient clips, and while
  ``train_actor`` is off only the critic learns: no bit of the actor changes;
* the loss holds a KL divergence to ``reference`` per head, on the states the student visits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.nn import functional

from skilldistill.learning.vecenv import Ended, SB3VecEnv
from skilldistill.policy.heads import LOG_2PI, ActionDistribution, per_head
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.sb3 import ACTOR, CRITIC, DistilledPolicy
from skilldistill.progress import StopCheck, never


class Stopped(Exception):
    """Somebody asked the work to end, in the middle of a rollout or an update."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@dataclass
class Rows:
    """A finished rollout as tensors, r = ticks x arenas rows, tick by tick."""

    observations: Tensor
    """(r, obs_dim)"""
    actions: Tensor
    """(r, action_dim) as drawn, not clipped."""
    log_prob: Tensor
    """(r,) under the policy that acted."""
    advantages: Tensor
    """(r,)"""
    returns: Tensor
    """(r,)"""
    reference: Tensor
    """(r, action_dim) the reference's raw outputs."""

    def thinned(self, factor: int) -> Rows:
        """Every ``factor``-th row."""
        return Rows(*(getattr(self, field.name)[::factor] for field in fields(self)))

    @property
    def packed(self) -> Tensor:
        """All columns in one matrix, so that one gather permutes everything."""
        narrow = torch.stack([self.log_prob, self.advantages, self.returns], dim=1)
        return torch.cat([self.observations, self.actions, self.reference, narrow], dim=1)


@dataclass(frozen=True)
class Rehearsal:
    """States of the skills' own tasks, on which the actor is held to the reference."""

    observations: Tensor
    """(m, obs_dim)"""
    reference: Tensor
    """(m, action_dim) the reference's raw outputs there."""
    weights: Tensor
    """(m, action_dim) weight of each dimension's KL; 0 where the task's skill has no say."""
    rows: int
    """How many of them join each minibatch."""


class FinetunePPO(PPO):
    """PPO for a :class:`DistilledPolicy` over a :class:`SB3VecEnv`.

    Set by whoever drives the training, before each update:

    Attributes:
        train_actor: whether the actor learns.
        actor_lr, critic_lr: learning rates of the two parameter groups.
        kl_coefs: (heads,) weight of KL(student || reference) per head.
        reference: the policy to stay close to; None for no such term.
        rehearsal: states beside the rollout's for the KL; None for none.
        bf16: round what an update's hidden layers multiply to bfloat16.
        generator: where all random numbers of rollouts and updates come from.
        stop: asked before every tick and minibatch; ends the work with :class:`Stopped`.
        last: figures of the latest rollout and update.
    """

    policy: DistilledPolicy

    def __init__(self, *args: Any, critic_lr: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.train_actor = True
        self.actor_lr = kwargs.get("learning_rate", 3e-4)
        self.critic_lr = critic_lr
        self.kl_coefs: Tensor | None = None
        self.reference: DistilledPolicyNetwork | None = None
        self.rehearsal: Rehearsal | None = None
        self.bf16 = False
        self.generator = torch.Generator().manual_seed(kwargs.get("seed") or 0)
        self.stop: StopCheck = never
        self.last: dict[str, float] = {}

    def _excluded_save_params(self) -> list[str]:
        # a saved zip holds what stable_baselines3.PPO knows, and nothing else
        own = [
            "train_actor",
            "actor_lr",
            "critic_lr",
            "kl_coefs",
            "reference",
            "generator",
            "bf16",
            "rehearsal",
        ]
        transient = ["stop", "last", "_last_obs", "_last_episode_starts", "_last_original_obs"]
        excluded: list[str] = super()._excluded_save_params()
        return [*excluded, *own, *transient]

    # rollout ---------------------------------------------------------------------------------

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Play ``n_rollout_steps`` ticks in every arena and fill ``rollout_buffer``.

        ``callback`` hears of the rollout's start and end, not of its ticks.
        """
        assert isinstance(env, SB3VecEnv)
        assert self._last_obs is not None
        self.policy.set_training_mode(False)
        callback.on_rollout_start()
        rollout_buffer.reset()
        buffer, network = rollout_buffer, self.policy.network
        layout, low, high = network.layout, self.action_space.low, self.action_space.high  # type: ignore[attr-defined]
        noise = self._noise(n_rollout_steps, env.num_envs)
        outputs = torch.empty(n_rollout_steps, env.num_envs, layout.action_dim)
        binary = layout.is_binary.cpu().numpy()
        centre, scale = layout.centre.cpu().numpy(), layout.scale.cpu().numpy()
        ends: list[tuple[int, Ended]] = []
        observations = cast(NDArray[np.float32], self._last_obs)
        starts = cast(NDArray[np.bool_], self._last_episode_starts)
        with torch.inference_mode():
            for step in range(n_rollout_steps):
                if signum := self.stop():
                    raise Stopped(signum)
                raw = network.logits(torch.from_numpy(observations).to(self.device)).cpu()
                outputs[step] = raw
                values = raw.numpy()
                drawn = np.where(
                    binary, values + noise[step] > 0, centre + scale * np.tanh(values) + noise[step]
                )
                tick = env.step_arrays(np.clip(drawn, low, high))
                buffer.observations[step], buffer.actions[step] = observations, drawn
                buffer.rewards[step], buffer.episode_starts[step] = tick.rewards, starts
                observations = tick.observations
                starts = tick.terminated | tick.truncated
                if tick.ended is not None:
                    ends.append((step, tick.ended))
        buffer.pos, buffer.full = n_rollout_steps, True
        self._last_obs, self._last_episode_starts = observations, starts
        self.num_timesteps += n_rollout_steps * env.num_envs
        self._finish(buffer, outputs, observations, starts, ends)
        callback.on_rollout_end()
        return True

    def _noise(self, ticks: int, arenas: int) -> NDArray[np.float32]:
        """(ticks, arenas, action_dim): logistic for buttons, scaled normal for the others.

        A button is pressed where log-odds plus a standard logistic number exceed 0: that
        happens with probability sigmoid(log-odds).
        """
        network = self.policy.network
        layout = network.layout
        shape = (ticks, arenas, layout.action_dim)
        noise = torch.empty(shape).normal_(generator=self.generator)
        noise[..., layout.continuous] *= network.std.detach().cpu()
        tiny = torch.finfo(torch.float32).eps
        uniform = torch.rand(shape, generator=self.generator).clamp_(tiny, 1 - tiny)
        noise = torch.where(layout.is_binary.cpu(), uniform.logit(), noise)
        return noise.numpy()

    @torch.no_grad()
    def _finish(
        self,
        buffer: RolloutBuffer,
        outputs: Tensor,
        last_obs: NDArray[np.float32],
        dones: NDArray[np.bool_],
        ends: list[tuple[int, Ended]],
    ) -> None:
        """Values, log-probabilities, advantages and statistics of a rollout just played."""
        final = [ended.observations for _, ended in ends]
        flat = buffer.observations.reshape(-1, buffer.observations.shape[-1])
        everything = torch.from_numpy(np.concatenate([flat, last_obs, *final])).to(self.device)
        values = self.policy.values(everything).squeeze(1).cpu().numpy()
        rows, arenas = len(flat), len(last_obs)
        buffer.values[:] = values[:rows].reshape(buffer.values.shape)
        at = rows + arenas
        for step, ended in ends:  # out of time is not over: the last state's value counts
            beyond = values[at : at + len(ended.arenas)]
            buffer.rewards[step, ended.arenas] += self.gamma * beyond * ended.out_of_time
            at += len(ended.arenas)
        distribution = self._distribution(outputs.reshape(rows, -1).to(self.device))
        actions = torch.from_numpy(buffer.actions.reshape(rows, -1)).to(self.device)
        log_prob = distribution.log_prob(actions).sum(dim=1)
        buffer.log_probs[:] = log_prob.cpu().numpy().reshape(buffer.log_probs.shape)
        buffer.compute_returns_and_advantage(
            last_values=torch.from_numpy(values[rows : rows + arenas]), dones=dones
        )
        self.last = {
            "explained_variance": float(
                explained_variance(buffer.values.flatten(), buffer.returns.flatten())
            ),
            "entropy": float(distribution.entropy().sum(dim=1).mean()),
            "episodes": float(sum(len(ended.arenas) for _, ended in ends)),
        }
        if ends:
            returns = np.concatenate([ended.returns for _, ended in ends])
            lengths = np.concatenate([ended.lengths for _, ended in ends])
            self.last["episode_return"] = float(returns.mean())
            self.last["episode_length"] = float(lengths.mean())
            if self.ep_info_buffer is not None:
                self.ep_info_buffer.extend(
                    {"r": r, "l": n, "t": 0.0}
                    for r, n in zip(returns.tolist(), lengths.tolist(), strict=True)
                )

    def _distribution(self, outputs: Tensor) -> ActionDistribution:
        network = self.policy.network
        return ActionDistribution.from_logits(outputs, network.log_std, network.layout)

    # update ----------------------------------------------------------------------------------

    def train(self) -> None:
        """Pass ``n_epochs`` times over the rollout in permuted minibatches."""
        self.policy.set_training_mode(True)
        optimizer = self.policy.optimizer
        optimizer.param_groups[ACTOR]["lr"] = self.actor_lr
        optimizer.param_groups[CRITIC]["lr"] = self.critic_lr
        rows = self._rows()
        packed = rows.packed
        total = len(packed)
        batches = -(-total // self.batch_size)
        actor = list(self.policy.network.parameters())
        critic = list(self.policy.critic.parameters())
        for epoch in range(self.n_epochs):
            order = torch.randperm(total, generator=self.generator).to(self.device)
            shuffled = packed[order]
            for batch, practice in zip(
                shuffled.tensor_split(batches), self._practice(batches), strict=True
            ):
                if signum := self.stop():
                    raise Stopped(signum)
                optimizer.zero_grad(set_to_none=True)
                self._backward(batch, practice)
                if self.train_actor:
                    torch.nn.utils.clip_grad_norm_(actor, self.max_grad_norm)
                torch.nn.utils.clip_grad_norm_(critic, self.max_grad_norm)
                optimizer.step()
            self._n_updates += 1
            if self._too_far(batch) and epoch + 1 < self.n_epochs:
                break
        self.policy.set_training_mode(False)
        self._record(rows)

    def _rows(self) -> Rows:
        buffer = self.rollout_buffer
        count = buffer.buffer_size * buffer.n_envs

        def tensor(array: NDArray[np.float32]) -> Tensor:
            return torch.from_numpy(array.reshape(count, *array.shape[2:])).to(self.device)

        observations, actions = tensor(buffer.observations), tensor(buffer.actions)
        advantages = tensor(buffer.advantages)
        if self.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        reference = torch.zeros_like(actions)
        if self.reference is not None and self.train_actor:
            with torch.inference_mode():
                reference = self.reference.logits(observations, self._dtype)
            reference = reference.clone()  # no longer an inference tensor
        log_prob = tensor(buffer.log_probs)
        if self.bf16 and self.train_actor:
            # the ratio compares two policies, not two ways of rounding one
            with torch.no_grad():
                log_prob = self._distribution(self._logits(observations)).log_prob(actions).sum(1)
        return Rows(
            observations=observations,
            actions=actions,
            log_prob=log_prob,
            advantages=advantages,
            returns=tensor(buffer.returns),
            reference=reference,
        )

    def _practice(self, batches: int) -> Sequence[Tensor | None]:
        """Rows of the rehearsal for each minibatch of an epoch."""
        if self.rehearsal is None or not self.train_actor:
            return [None] * batches
        size = (batches, self.rehearsal.rows)
        known = len(self.rehearsal.observations)
        picked = torch.randint(known, size, generator=self.generator)
        return list(picked.to(self.device))

    def _backward(self, batch: Tensor, practice: Tensor | None = None) -> None:
        """Leave the gradients of one minibatch's loss.

        The loss is PPO's clipped surrogate, ``vf_coef`` times the values' squared error, minus
        ``ent_coef`` times the entropy, plus each head's KL(student || reference) times its weight,
        on the minibatch and on the rehearsal.

        Args:
            batch: (n, ...) columns of :attr:`Rows.packed`.
            practice: indices into the rehearsal.
        """
        obs_dim = batch.shape[1] - 2 * self.action_space.shape[0] - 3  # type: ignore[index]
        observations = batch[:, :obs_dim]
        values = self._values(observations)
        errors = (2 * self.vf_coef / len(batch)) * (values.detach() - batch[:, -1])
        if not self.train_actor:
            values.backward(errors)  # type: ignore[no-untyped-call]
            return
        if practice is not None:
            assert self.rehearsal is not None
            observations = torch.cat([observations, self.rehearsal.observations[practice]])
        outputs = self._logits(observations)
        known = outputs.detach()
        slopes, log_std_slope = self._slopes(known[: len(batch)], batch[:, obs_dim:])
        if practice is not None:
            slopes = torch.cat([slopes, self._practice_slopes(known[len(batch) :], practice)])
        torch.autograd.backward([values, outputs], [errors, slopes])
        log_std = self.policy.network.log_std
        log_std.grad = log_std_slope

    @torch.no_grad()
    def _slopes(self, outputs: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the actor's loss, worked out by hand: autograd would take thrice as long.

        Args:
            outputs: (n, action_dim) raw outputs.
            rest: (n, ...) what follows the observations in :attr:`Rows.packed`.

        Returns:
            By the outputs (n, action_dim), and by ``log_std`` (c,).
        """
        network, rows = self.policy.network, len(outputs)
        layout, log_std = network.layout, network.log_std
        width = layout.action_dim
        actions, reference, narrow = rest[:, :width], rest[:, width : 2 * width], rest[:, -3:]
        buttons, turns = layout.binary, layout.continuous
        scale = layout.scale[turns]

        logits, bent = outputs[:, buttons], outputs[:, turns].tanh()
        pressed, chance = actions[:, buttons], logits.sigmoid()
        std = scale * log_std.exp()
        distance = (actions[:, turns] - layout.centre[turns] - scale * bent) / std
        log_prob = (
            (pressed * logits - functional.softplus(logits)).sum(dim=1)
            - 0.5 * distance.square().sum(dim=1)
            - (std.log().sum() + 0.5 * LOG_2PI * len(std))
        )
        advantages = narrow[:, 1]
        ratio = (log_prob - narrow[:, 0]).exp()
        clip = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        # the clipped side of the minimum is flat
        flat = torch.where(advantages > 0, ratio > 1 + clip, ratio < 1 - clip)
        pull = (advantages * ratio).masked_fill_(flat, 0.0).div_(-rows).unsqueeze(1)

        by_logit = pull * (pressed - chance)
        by_mean = pull * distance / std
        by_log_std = (pull * (distance.square() - 1)).sum(dim=0)
        if self.ent_coef:
            by_logit += (self.ent_coef / rows) * logits * chance * (1 - chance)
            by_log_std -= self.ent_coef
        if self.reference is not None and self.kl_coefs is not None:
            weights = (layout.membership @ self.kl_coefs) / rows
            towards = self._tie(logits, chance, bent, reference, weights)
            by_logit += towards[0]
            by_mean += towards[1]
            by_log_std += (
                rows * weights[turns] * ((2 * (log_std - self.reference.log_std)).exp() - 1)
            )
        slopes = torch.empty_like(outputs)
        slopes[:, buttons] = by_logit
        slopes[:, turns] = by_mean * scale * (1 - bent.square())
        return slopes, by_log_std

    @torch.no_grad()
    def _practice_slopes(self, outputs: Tensor, practice: Tensor) -> Tensor:
        """(k, action_dim) gradient of the rehearsal's KL by the outputs there (k, action_dim)."""
        assert self.rehearsal is not None
        layout, more = self.policy.network.layout, self.rehearsal
        logits, bent = outputs[:, layout.binary], outputs[:, layout.continuous].tanh()
        weights = more.weights[practice] / len(outputs)
        by_logit, by_mean = self._tie(
            logits, logits.sigmoid(), bent, more.reference[practice], weights
        )
        slopes = torch.empty_like(outputs)
        slopes[:, layout.binary] = by_logit
        slopes[:, layout.continuous] = (
            by_mean * layout.scale[layout.continuous] * (1 - bent.square())
        )
        return slopes

    def _tie(
        self, logits: Tensor, chance: Tensor, bent: Tensor, reference: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the weighted KL to the reference by log-odds (n, b) and by means (n, c).

        Args:
            logits: (n, b) log-odds.
            chance: (n, b) their sigmoids.
            bent: (n, c) tanh of the other outputs.
            reference: (n, action_dim) the reference's raw outputs.
            weights: (action_dim,) or (n, action_dim).
        """
        assert self.reference is not None
        layout = self.reference.layout
        scale = layout.scale[layout.continuous]
        apart = logits - reference[:, layout.binary]
        offset = scale * (bent - reference[:, layout.continuous].tanh())
        return (
            weights[..., layout.binary] * chance * (1 - chance) * apart,
            weights[..., layout.continuous] * offset / self.reference.std.square(),
        )

    def _values(self, obs: Tensor) -> Tensor:
        """(n,) the critic's values."""
        return self.policy.values(obs, self._dtype).squeeze(1)

    def _logits(self, obs: Tensor) -> Tensor:
        """(n, action_dim) the actor's raw outputs."""
        return self.policy.network.logits(obs, self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.bf16 else torch.float32

    @torch.no_grad()
    def _too_far(self, batch: Tensor) -> bool:
        """Whether the policy has left ``target_kl`` behind; one look per epoch."""
        if self.target_kl is None or not self.train_actor:
            return False
        layout = self.policy.network.layout
        obs_dim = batch.shape[1] - 2 * layout.action_dim - 3
        distribution = self._distribution(self._logits(batch[:, :obs_dim]))
        actions = batch[:, obs_dim : obs_dim + layout.action_dim]
        change = distribution.log_prob(actions).sum(dim=1) - batch[:, -3]
        return float((change.exp() - 1 - change).mean()) > 1.5 * self.target_kl

    @torch.no_grad()
    def _record(self, rows: Rows) -> None:
        """Look back at an update, on every fourth of its rows."""
        if not self.train_actor:
            return
        rows = rows.thinned(4)
        network = self.policy.network
        now = self._distribution(self._logits(rows.observations))
        change = now.log_prob(rows.actions).sum(dim=1) - rows.log_prob
        clip = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        self.last |= {
            "approx_kl": float((change.exp() - 1 - change).mean()),
            "clip_fraction": float(((change.exp() - 1).abs() > clip).float().mean()),
            "std": float(network.log_std.exp().mean()) if len(network.log_std) else math.nan,
        }
        if self.reference is not None:
            other = self._reference_distribution(rows)
            kl = per_head(now.kl(other), network.layout).mean(dim=0)
            for head, value in zip(network.domain.heads, kl.tolist(), strict=True):
                self.last[f"kl_{head.name}"] = value

    def _reference_distribution(self, rows: Rows) -> ActionDistribution:
        assert self.reference is not None
        reference = self.reference
        return ActionDistribution.from_logits(rows.reference, reference.log_std, reference.layout)
