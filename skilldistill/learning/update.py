"""What a minibatch of PPO teaches actor and critic, worked out by hand.

A network of this size is done with 512 rows in two milliseconds; a graph of the loss's sixty
small operations would take as long again. So everything that depends on a row alone is worked
out once per rollout, the slopes of the loss are written down, and they go backwards through
:class:`~skilldistill.policy.mlp.Backprop`.

The loss is PPO's clipped surrogate (Schulman et al., "Proximal policy optimization algorithms",
2017, equation 7), plus ``vf_coef`` times the values' mean squared error, minus ``ent_coef`` times
the entropy, plus each head's KL(student || reference) times its weight, on the rollout's states
and on those of a rehearsal, where the standard deviations are not held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from skilldistill.policy.heads import LOG_2PI
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.sb3 import DistilledPolicy


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

    def at(self, chosen: Tensor | slice) -> Rows:
        """Some of the rows, by number."""
        return Rows(*(getattr(self, field.name)[chosen] for field in fields(self)))


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


@dataclass(frozen=True)
class Terms:
    """Weights of the loss's terms, and what they look at."""

    clip: float
    """The ratio of probabilities may leave 1 by this much."""
    vf_coef: float
    ent_coef: float
    kl_coefs: Tensor | None = None
    """(heads,)"""
    reference: DistilledPolicyNetwork | None = None
    rehearsal: Rehearsal | None = None


@dataclass(frozen=True)
class Minibatch:
    """Rows that make a step together."""

    rows: Tensor
    """(n,) their numbers in the rollout."""
    observations: Tensor
    """(n, obs_dim) normalised."""
    returns: Tensor
    """(n,)"""
    columns: Tensor
    """(n, ...) what the actor's loss needs of each row; without columns if the actor rests."""
    practice: tuple[Tensor, ...] | None
    """Normalised observations (k, obs_dim) of the rehearsal, where the tie pulls there
    (k, action_dim), and how strongly (k, action_dim)."""


class Update:
    """One pass after another over a rollout.

    Args:
        policy: whose parameters' ``grad`` is filled; those that learn have one already.
        rows: the rollout.
        terms: the loss.
        train_actor: whether the actor learns too.
        dtype: what hidden layers are multiplied in.
    """

    def __init__(
        self,
        policy: DistilledPolicy,
        rows: Rows,
        terms: Terms,
        *,
        train_actor: bool,
        dtype: torch.dtype,
    ) -> None:
        network = policy.network
        self._critic = policy.critic_backprop(dtype)
        self._terms, self._returns = terms, rows.returns
        self._observations = network.normalised(rows.observations).to(dtype)
        self._columns = rows.actions[:, :0]
        self._actor: _Actor | None = None
        self._practice: tuple[Tensor, ...] | None = None
        if train_actor:
            self._actor = _Actor(network, terms, dtype)
            self._columns = self._actor.columns(rows)
            if (more := terms.rehearsal) is not None:
                self._practice = (
                    network.normalised(more.observations).to(dtype),
                    self._actor.held(more.reference),
                    self._actor.strength(more.weights) / more.rows,
                )

    def minibatches(self, size: int, generator: torch.Generator) -> Iterator[Minibatch]:
        """All rows once, in random order.

        Args:
            size: most rows of a minibatch; all have the same, give or take one.
            generator: where the order comes from.
        """
        total, device = len(self._returns), self._returns.device
        order = torch.randperm(total, generator=generator).to(device)
        count = -(-total // size)
        shuffled = (
            values.index_select(0, order).tensor_split(count)
            for values in (self._observations, self._returns, self._columns)
        )
        practice: list[tuple[Tensor, ...] | None] = [None] * count
        if self._practice is not None:
            assert self._terms.rehearsal is not None
            known, rows = len(self._practice[0]), self._terms.rehearsal.rows
            picked = torch.randint(known, (count, rows), generator=generator).to(device)
            practice = list(zip(*(values[picked] for values in self._practice), strict=True))
        for parts in zip(order.tensor_split(count), *shuffled, practice, strict=True):
            yield Minibatch(*parts)

    def backward(self, batch: Minibatch) -> None:
        """Set the gradients of one minibatch's loss."""
        values = self._critic.forward(batch.observations)
        errors = values - batch.returns.unsqueeze(1)
        self._critic.backward(errors.mul_(2 * self._terms.vf_coef / len(errors)))
        if self._actor is not None:
            self._actor.backward(batch)


class _Actor:
    """The actor's side of the loss.

    Buttons and turns are written alike: with ``bent`` the tanh of a turn's output, or of half a
    button's log-odds, ``centre + scale * bent`` is the turn's mean and the button's probability.
    """

    def __init__(self, network: DistilledPolicyNetwork, terms: Terms, dtype: torch.dtype) -> None:
        self._network, self._terms = network, terms
        self._layout = layout = network.layout
        self._backprop = network.backprop(dtype)
        self._log_std = network.log_std.detach()
        self._range = layout.scale[layout.continuous]
        self._gain = torch.where(layout.is_binary, 0.5, 1.0)
        self._kl: Tensor | None = None
        if terms.reference is not None and terms.kl_coefs is not None:
            weights = layout.membership @ terms.kl_coefs
            self._kl, self._std_kl = self.strength(weights), weights[layout.continuous]

    def columns(self, rows: Rows) -> Tensor:
        """(r, 2 action_dim + 4 + buttons) what the loss needs of each row."""
        layout = self._layout
        # whatever of the log-density does not change with the policy
        constant = self._range.log().sum() + 0.5 * LOG_2PI * len(self._range)
        side = rows.advantages.sign()
        narrow = [rows.log_prob + constant, rows.advantages, side, side + self._terms.clip]
        released = 1 - 2 * rows.actions[:, layout.binary]  # 1 if a button was not pressed, else -1
        return torch.cat(
            [rows.actions, self.held(rows.reference), torch.stack(narrow, dim=1), released], dim=1
        )

    def held(self, reference: Tensor) -> Tensor:
        """(n, action_dim) where the tie pulls: the reference's log-odds, and its tanh of turns."""
        return torch.where(self._layout.is_binary, reference, reference.tanh())

    def strength(self, weights: Tensor) -> Tensor:
        """(..., action_dim) how strongly the tie pulls per distance, but for the tanh's slope.

        Args:
            weights: (..., action_dim) of each dimension's divergence.
        """
        assert self._terms.reference is not None
        std = self._terms.reference.std
        factor = torch.full_like(self._layout.scale, 0.25)  # p(1 - p) is (1 - bent²) / 4
        factor[self._layout.continuous] = self._range.square() / std.square()
        return weights * factor

    def backward(self, batch: Minibatch) -> None:
        """Set the gradients of the actor's side of one minibatch's loss."""
        if batch.practice is None:
            outputs = self._backprop.forward(batch.observations)
            slopes, by_log_std = self._slopes(outputs, batch.columns)
        else:
            observations, held, strength = batch.practice
            outputs = self._backprop.forward(torch.cat([batch.observations, observations]))
            outputs, more = outputs.tensor_split((len(batch.rows),))
            slopes, by_log_std = self._slopes(outputs, batch.columns)
            bent = torch.tanh(more * self._gain)
            pull = self._distance(more, bent, held).mul_(strength)
            slopes = torch.cat([slopes, pull.mul_(torch.sub(1, bent.square()))])
        self._backprop.backward(slopes)
        assert self._network.log_std.grad is not None
        self._network.log_std.grad.copy_(by_log_std)

    def _slopes(self, outputs: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients by the outputs (n, action_dim), and by ``log_std`` (c,)."""
        layout, log_std, rows = self._layout, self._log_std, len(outputs)
        width, buttons, turns = layout.action_dim, layout.binary, layout.continuous
        actions, held, narrow, released = columns.tensor_split((width, 2 * width, 2 * width + 4), 1)
        known, advantages, side, bound = narrow.unbind(1)

        bent = torch.tanh(outputs * self._gain)
        off = torch.addcmul(layout.centre, layout.scale, bent).sub_(actions)
        std = self._range * log_std.exp()
        squares = (off[:, turns] / std).square_()
        surprise = functional.softplus(outputs[:, buttons] * released).sum(dim=1)
        surprise.add_(squares.sum(dim=1), alpha=0.5).add_(known).add_(log_std.sum())
        ratio = surprise.neg_().exp_()  # of probabilities, now and when the row was played
        lift = (advantages * ratio).div_(rows)
        # the clipped side of the minimum is flat
        lift.masked_fill_(ratio.mul_(side) > bound, 0.0)

        by_log_std = lift.sum() - lift @ squares
        slopes = off.mul_(lift.unsqueeze(1))
        bend = torch.sub(1, bent.square())
        slopes[:, turns] *= bend[:, turns] * (self._range / std.square())
        if self._kl is not None:
            pull = self._distance(outputs, bent, held).mul_(bend)
            slopes.addcmul_(pull, self._kl / rows)
            assert self._terms.reference is not None
            apart = log_std - self._terms.reference.log_std
            by_log_std.add_(torch.expm1(2 * apart).mul_(self._std_kl))
        if self._terms.ent_coef:
            share = self._terms.ent_coef / (4 * rows)
            slopes[:, buttons] += outputs[:, buttons] * bend[:, buttons] * share
            by_log_std -= self._terms.ent_coef
        return slopes, by_log_std

    def _distance(self, outputs: Tensor, bent: Tensor, held: Tensor) -> Tensor:
        """(n, action_dim) how far outputs are from where the tie pulls."""
        return torch.where(self._layout.is_binary, outputs, bent).sub_(held)
