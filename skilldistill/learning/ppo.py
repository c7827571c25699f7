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
from collections.abc import Mapping
from dataclasses import dataclass
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

from skilldistill.config import FinetuneConfig
from skilldistill.errors import Interrupted
from skilldistill.learning.flat_adam import flattened
from skilldistill.learning.update import Rehearsal, Rows, Terms, Update
from skilldistill.learning.vecenv import Ended, SB3VecEnv
from skilldistill.policy.heads import ActionDistribution, per_head
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.sb3 import ACTOR, CRITIC, DistilledPolicy
from skilldistill.progress import StopCheck, never
from skilldistill.threads import threads_to_play
from skilldistill.training_state import copied


@dataclass
class Played:
    """What a rollout leaves besides its buffer, so that another critic can judge it again."""

    outputs: Tensor
    """(ticks, arenas, action_dim) raw outputs of the actor."""
    rewards: NDArray[np.float32]
    """(ticks, arenas) as the arenas gave them."""
    observations: NDArray[np.float32]
    """(arenas, obs_dim) after the last tick."""
    dones: NDArray[np.bool_]
    """(arenas,) whether the last tick ended an episode."""
    ends: list[tuple[int, Ended]]
    """Ticks in which episodes ended, and how."""


class FinetunePPO(PPO):
    """PPO for a :class:`DistilledPolicy` over a :class:`SB3VecEnv`.

    Set by whoever drives the training, before each update:

    Attributes:
        train_actor: whether the actor learns.
        actor_lr, critic_lr: learning rates of the two parameter groups.
        kl_coefs: (heads,) weight of KL(student || reference) per head.
        reference: the policy to stay close to; None for no such term.
        rehearsal: states beside the rollout's for the KL; None for none.
        dtype: what an update multiplies hidden layers in.
        generator: where all random numbers of rollouts and updates come from.
        stop: asked before every tick and minibatch; ends the work with :class:`Interrupted`.
        last: figures of the latest rollout and update.
    """

    policy: DistilledPolicy

    def __init__(
        self,
        policy: type[DistilledPolicy],
        env: SB3VecEnv,
        *,
        learning_rate: float = FinetuneConfig().learning_rate,
        critic_lr: float = FinetuneConfig().critic_learning_rate,
        **others: Any,
    ) -> None:
        super().__init__(policy, env, learning_rate, **others)
        self.train_actor = True
        self.actor_lr = learning_rate
        self.critic_lr = critic_lr
        self.kl_coefs: Tensor | None = None
        self.reference: DistilledPolicyNetwork | None = None
        self.rehearsal: Rehearsal | None = None
        self.dtype = torch.float32
        self.generator = torch.Generator().manual_seed(others.get("seed") or 0)
        self.stop: StopCheck = never
        self.last: dict[str, float] = {}
        self._played: Played | None = None

    def _excluded_save_params(self) -> list[str]:
        # a saved zip holds what stable_baselines3.PPO knows, and nothing else
        own = [
            "train_actor",
            "actor_lr",
            "critic_lr",
            "kl_coefs",
            "reference",
            "generator",
            "dtype",
            "rehearsal",
        ]
        transient = [
            "stop",
            "last",
            "_played",
            "_last_obs",
            "_last_episode_starts",
            "_last_original_obs",
        ]
        excluded: list[str] = super()._excluded_save_params()
        return [*excluded, *own, *transient]

    def snapshot(self) -> dict[str, Any]:
        """Copies of all weights and of the optimiser's state, on the CPU."""
        return {
            "policy": copied(self.policy.state_dict()),
            "optimizer": copied(self.policy.optimizer.state_dict()),
        }

    def return_to(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to what :meth:`snapshot` gave."""
        self.policy.load_state_dict(snapshot["policy"])
        self.policy.optimizer.load_state_dict(copied(snapshot["optimizer"]))

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
        with torch.inference_mode(), threads_to_play(env.num_envs):
            for step in range(n_rollout_steps):
                if signum := self.stop():
                    raise Interrupted("training was stopped", signum=signum)
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
        rewards = buffer.rewards.copy()
        self._played = Played(outputs, rewards, observations, starts, ends)
        self._describe(buffer, self._played)
        self.appraise()
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
    def appraise(self) -> None:
        """Values, returns and advantages of the latest rollout, by the critic as it is now."""
        played, buffer = self._played, self.rollout_buffer
        assert played is not None
        final = [ended.observations for _, ended in played.ends]
        flat = buffer.observations.reshape(-1, buffer.observations.shape[-1])
        everything = np.concatenate([flat, played.observations, *final])
        seen = torch.from_numpy(everything).to(self.device)
        values = self.policy.values(seen).squeeze(1).cpu().numpy()
        rows, arenas = len(flat), len(played.observations)
        buffer.values[:] = values[:rows].reshape(buffer.values.shape)
        buffer.rewards[:] = played.rewards
        at = rows + arenas
        for step, ended in played.ends:  # out of time is not over: the last state's value counts
            beyond = values[at : at + len(ended.arenas)]
            buffer.rewards[step, ended.arenas] += self.gamma * beyond * ended.out_of_time
            at += len(ended.arenas)
        buffer.compute_returns_and_advantage(
            last_values=torch.from_numpy(values[rows : rows + arenas]), dones=played.dones
        )
        explained = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        self.last["explained_variance"] = float(explained)

    @torch.no_grad()
    def _describe(self, buffer: RolloutBuffer, played: Played) -> None:
        """Log-probabilities and statistics of a rollout just played."""
        rows = buffer.buffer_size * buffer.n_envs
        distribution = self._distribution(played.outputs.reshape(rows, -1).to(self.device))
        actions = torch.from_numpy(buffer.actions.reshape(rows, -1)).to(self.device)
        log_prob = distribution.log_prob(actions).sum(dim=1)
        buffer.log_probs[:] = log_prob.cpu().numpy().reshape(buffer.log_probs.shape)
        ends = [ended for _, ended in played.ends]
        self.last = {
            "entropy": float(distribution.entropy().sum(dim=1).mean()),
            "episodes": float(sum(len(ended.arenas) for ended in ends)),
        }
        if ends:
            returns = np.concatenate([ended.returns for ended in ends])
            lengths = np.concatenate([ended.lengths for ended in ends])
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

    @torch.no_grad()
    def train(self) -> None:
        """Pass ``n_epochs`` times over the rollout in permuted minibatches."""
        self.policy.set_training_mode(True)
        optimizer = self.policy.optimizer
        assert isinstance(optimizer, torch.optim.Adam)
        optimizer.param_groups[ACTOR]["lr"] = self.actor_lr
        optimizer.param_groups[CRITIC]["lr"] = self.critic_lr
        rows = self._rows()
        with flattened(optimizer, (ACTOR, CRITIC) if self.train_actor else (CRITIC,)) as parts:
            update = self._update(rows)
            for epoch in range(self.n_epochs):
                for batch in update.minibatches(self.batch_size, self.generator):
                    if signum := self.stop():
                        raise Interrupted("training was stopped", signum=signum)
                    update.backward(batch)
                    for part in parts:
                        part.clip(self.max_grad_norm)
                        part.step()
                self._n_updates += 1
                if self._too_far(rows, batch.rows) and epoch + 1 < self.n_epochs:
                    break
        self.policy.set_training_mode(False)
        self._record(rows)

    def _update(self, rows: Rows) -> Update:
        terms = Terms(
            clip=self.clip_range(self._current_progress_remaining),  # type: ignore[operator]
            vf_coef=self.vf_coef,
            ent_coef=self.ent_coef,
            kl_coefs=self.kl_coefs,
            reference=self.reference,
            rehearsal=self.rehearsal,
        )
        return Update(self.policy, rows, terms, train_actor=self.train_actor, dtype=self.dtype)

    @torch.no_grad()
    def _rows(self) -> Rows:
        buffer = self.rollout_buffer
        count = buffer.buffer_size * buffer.n_envs

        def tensor(array: NDArray[np.float32]) -> Tensor:
            return torch.from_numpy(array.reshape(count, *array.shape[2:])).to(self.device)

        observations, actions = tensor(buffer.observations), tensor(buffer.actions)
        advantages = tensor(buffer.advantages)
        if self.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        rows = Rows(
            observations=observations,
            actions=actions,
            log_prob=tensor(buffer.log_probs),
            advantages=advantages,
            returns=tensor(buffer.returns),
            reference=torch.zeros_like(actions),
        )
        if self.reference is not None and self.train_actor:
            rows.reference = self.reference.logits(observations, self.dtype)
        if self.dtype != torch.float32 and self.train_actor:
            # the ratio compares two policies, not two ways of rounding one
            rows.log_prob = self._now(rows).log_prob(actions).sum(dim=1)
        return rows

    def _now(self, rows: Rows) -> ActionDistribution:
        """What the policy as it is would do, multiplied as in the update."""
        return self._distribution(self.policy.network.logits(rows.observations, self.dtype))

    def _too_far(self, rows: Rows, chosen: Tensor) -> bool:
        """Whether the policy has left ``target_kl`` behind; one look per epoch."""
        if self.target_kl is None or not self.train_actor:
            return False
        rows = rows.at(chosen)
        change = self._now(rows).log_prob(rows.actions).sum(dim=1) - rows.log_prob
        return float((change.exp() - 1 - change).mean()) > 1.5 * self.target_kl

    def _record(self, rows: Rows) -> None:
        """Look back at an update, on every fourth of its rows."""
        if not self.train_actor:
            return
        rows = rows.at(slice(None, None, 4))
        network, now = self.policy.network, self._now(rows)
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
