"""What the network's raw outputs mean: one distribution per action head.

A raw output ``z`` of a binary dimension is the log-odds of pressing. Of a continuous dimension
it gives the mean ``centre + scale * tanh(z)``, where ``centre`` and ``scale`` are the middle and
the half-width of the dimension's range; the standard deviation is ``scale * exp(log_std)`` and
does not depend on the observation. Continuous samples are not squashed and may leave the range:
whoever plays them clips, as Stable-Baselines3 does, and log-probabilities are those of the
unclipped sample.

Both distributions answer per dimension; :class:`ActionDistribution` puts them side by side in
the unified order, so that the heads of a domain can be summed with :func:`per_head`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from skilldistill.domain import Domain

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Bernoulli:
    """Independent buttons. ``logits`` is (n, k): the log-odds of pressing each."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """(n, k) probability of pressing."""
        return torch.sigmoid(self.logits)

    def mode(self) -> Tensor:
        """(n, k) the likeliest action: 1 where pressing is likelier than not, else 0."""
        return (self.logits > 0).to(self.logits.dtype)

    def sample(self, uniform: Tensor | None = None) -> Tensor:
        """(n, k) random presses, from ``uniform`` numbers in [0, 1) of that shape if given."""
        drawn = torch.rand_like(self.logits) if uniform is None else uniform
        return (drawn < self.mean).to(self.logits.dtype)

    def log_prob(self, actions: Tensor) -> Tensor:
        """(n, k) log-probability of 0/1 ``actions``; anything above 0.5 counts as a press."""
        pressed = (actions > 0.5).to(self.logits.dtype)
        return -functional.binary_cross_entropy_with_logits(self.logits, pressed, reduction="none")

    def entropy(self) -> Tensor:
        """(n, k) in nats."""
        return functional.softplus(self.logits) - self.logits * self.mean

    def kl(self, other: Bernoulli) -> Tensor:
        """(n, k) divergence of ``other`` from this one, KL(self || other), in nats."""
        p = self.mean
        # log p - log q and log(1 - p) - log(1 - q), both without taking a logarithm of a
        # probability: exact where a button is all but certain.
        pressed = functional.softplus(-other.logits) - functional.softplus(-self.logits)
        released = functional.softplus(other.logits) - functional.softplus(self.logits)
        return p * pressed + (1 - p) * released


@dataclass(frozen=True)
class Gaussian:
    """Independent normals. ``mean`` is (n, k), ``std`` (k,) or (n, k), environment units."""

    mean: Tensor
    std: Tensor

    def mode(self) -> Tensor:
        """(n, k) the mean."""
        return self.mean

    def sample(self, uniform: Tensor | None = None) -> Tensor:
        """(n, k) random actions, not clipped, from ``uniform`` numbers in [0, 1) if given."""
        if uniform is None:
            return self.mean + self.std * torch.randn_like(self.mean)
        # ndtri(0) is -inf; half the spacing of the draws stands for the interval above 0
        normal: Tensor = torch.special.ndtri(uniform.double().clamp_min(2.0**-54))
        return self.mean + self.std * normal.to(self.mean.dtype)

    def log_prob(self, actions: Tensor) -> Tensor:
        """(n, k) log-density of ``actions``."""
        return -0.5 * (((actions - self.mean) / self.std) ** 2 + LOG_2PI) - self.std.log()

    def entropy(self) -> Tensor:
        """(n, k) in nats."""
        return (0.5 + 0.5 * LOG_2PI + self.std.log()).expand_as(self.mean)

    def kl(self, other: Gaussian) -> Tensor:
        """(n, k) divergence of ``other`` from this one, KL(self || other), in nats."""
        ratio = (self.std / other.std) ** 2
        distance = ((self.mean - other.mean) / other.std) ** 2
        return 0.5 * (ratio + distance - 1 - ratio.log())


class ActionLayout:
    """Where each dimension stands in the unified action, and its range, as tensors.

    Columns that follow one another are held as a slice: a view instead of a copy.
    """

    def __init__(self, domain: Domain) -> None:
        self.action_dim = domain.action_dim
        self.binary = _columns([i for i, d in enumerate(domain.actions) if d.kind == "binary"])
        self.continuous = _columns(
            [i for i, d in enumerate(domain.actions) if d.kind == "continuous"]
        )
        self.low = torch.tensor([d.low for d in domain.actions], dtype=torch.float32)
        self.high = torch.tensor([d.high for d in domain.actions], dtype=torch.float32)
        self.centre = (self.high + self.low) / 2
        self.scale = (self.high - self.low) / 2
        self.is_binary = torch.tensor([d.kind == "binary" for d in domain.actions])
        self.membership = torch.zeros(domain.action_dim, len(domain.heads))
        """(action_dim, heads): 1 where the dimension belongs to the head."""
        for column, head in enumerate(domain.heads):
            self.membership[list(domain.columns(head.name)), column] = 1

    def to(self, device: torch.device | str) -> ActionLayout:
        """The same layout with its tensors on ``device``."""
        moved = object.__new__(ActionLayout)
        for name, value in vars(self).items():
            setattr(moved, name, value.to(device) if isinstance(value, Tensor) else value)
        return moved

    def join(self, binary: Tensor, continuous: Tensor) -> Tensor:
        """(n, action_dim) from the binary (n, b) and the continuous (n, c) dimensions."""
        if binary.shape[-1] == 0:
            return continuous
        if continuous.shape[-1] == 0:
            return binary
        joined = binary.new_empty((*binary.shape[:-1], self.action_dim))
        joined[..., self.binary] = binary
        joined[..., self.continuous] = continuous
        return joined


@dataclass(frozen=True)
class ActionDistribution:
    """The distribution over unified actions that a network's outputs stand for.

    Attributes:
        bernoulli: over the binary dimensions.
        gaussian: over the continuous dimensions, environment units.
        layout: where they stand in the unified action.
    """

    bernoulli: Bernoulli
    gaussian: Gaussian
    layout: ActionLayout

    @classmethod
    def from_logits(
        cls, logits: Tensor, log_std: Tensor, layout: ActionLayout
    ) -> ActionDistribution:
        """Read raw outputs (n, action_dim) and ``log_std`` (c,), relative to the half-width."""
        scale, centre = layout.scale[layout.continuous], layout.centre[layout.continuous]
        mean = centre + scale * torch.tanh(logits[..., layout.continuous])
        return cls(
            Bernoulli(logits[..., layout.binary]), Gaussian(mean, scale * log_std.exp()), layout
        )

    def mean(self) -> Tensor:
        """(n, action_dim) probabilities and means."""
        return self.layout.join(self.bernoulli.mean, self.gaussian.mean)

    def mode(self) -> Tensor:
        """(n, action_dim) the likeliest action: 0/1 and means."""
        return self.layout.join(self.bernoulli.mode(), self.gaussian.mode())

    def sample(self, uniform: Tensor | None = None) -> Tensor:
        """(n, action_dim) a random action, continuous dimensions not clipped.

        Args:
            uniform: (n, action_dim) numbers in [0, 1) to use instead of torch's generator.
        """
        first = second = None
        if uniform is not None:
            first, second = uniform[..., self.layout.binary], uniform[..., self.layout.continuous]
        return self.layout.join(self.bernoulli.sample(first), self.gaussian.sample(second))

    def log_prob(self, actions: Tensor) -> Tensor:
        """(n, action_dim) log-probability or log-density per dimension; sum for the joint."""
        return self.layout.join(
            self.bernoulli.log_prob(actions[..., self.layout.binary]),
            self.gaussian.log_prob(actions[..., self.layout.continuous]),
        )

    def entropy(self) -> Tensor:
        """(n, action_dim) entropy per dimension in nats; sum for the joint."""
        return self.layout.join(self.bernoulli.entropy(), self.gaussian.entropy())

    def kl(self, other: ActionDistribution) -> Tensor:
        """(n, action_dim) KL(self || other) per dimension in nats; sum for the joint."""
        return self.layout.join(
            self.bernoulli.kl(other.bernoulli), self.gaussian.kl(other.gaussian)
        )


def per_head(values: Tensor, layout: ActionLayout) -> Tensor:
    """Sum (n, action_dim) over the dimensions of each head: (n, heads), the domain's order."""
    return values @ layout.membership


def _columns(indices: list[int]) -> slice | list[int]:
    if not indices:
        return slice(0, 0)
    first, end = indices[0], indices[0] + len(indices)
    return slice(first, end) if indices == list(range(first, end)) else indices
