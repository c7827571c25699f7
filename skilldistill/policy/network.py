"""The student's network: a shared encoder and one small head per group of dimensions."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from skilldistill import domain as domains
from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError
from skilldistill.policy.heads import ActionDistribution, ActionLayout
from skilldistill.policy.mlp import Backprop, Layer, mlp
from skilldistill.randomness import global_generators_kept

LARGEST_INPUT = 10.0
"""Normalised observations are clipped to this, as ``VecNormalize`` does."""
SMALLEST_SCALE = 0.02
"""So that a dimension that hardly moved in the data does not shout when it moves later."""
INITIAL_LOG_STD = math.log(0.1)
"""A tenth of the action's half-width before anything was learned."""


class DistilledPolicyNetwork(nn.Module):
    """Encoder hidden → hidden → hidden/2 with ReLU, then per head hidden/2 → h → dimensions.

    The heads lie side by side in two matrices, because three small products cost three times
    the call of one: ``head_hidden`` holds the heads' hidden layers one below the other, and
    ``head_output`` is block-diagonal. Entries outside the blocks are zero from the start and
    get exactly zero gradient, so no head ever sees another's hidden units.

    Args:
        obs_dim: unified observation dimensions.
        action_dim: unified action dimensions.
        hidden_dim: width of the encoder, at least 2.
        domain: what the dimensions mean; None takes the duel.

    Raises:
        ConfigurationError: the numbers of dimensions are not the domain's.
    """

    output_blocks: Tensor
    obs_mean: Tensor
    """(obs_dim,) what is subtracted from observations; learnt from data, then frozen."""
    obs_scale: Tensor
    """(obs_dim,) what they are divided by after that."""

    def __init__(
        self,
        obs_dim: int = 20,
        action_dim: int = 9,
        hidden_dim: int = 256,
        *,
        domain: Domain | None = None,
    ) -> None:
        super().__init__()
        self.domain = domains.find("duel") if domain is None else domain
        expected = (self.domain.obs_dim, self.domain.action_dim)
        if (obs_dim, action_dim) != expected:
            raise ConfigurationError(
                f"domain {self.domain.name!r} has {expected[0]} observations and {expected[1]} "
                f"actions, not {obs_dim} and {action_dim}",
                hint="use DistilledPolicyNetwork.for_domain(domain)",
            )
        if hidden_dim < 2:
            raise ConfigurationError(f"hidden_dim must be at least 2, not {hidden_dim}")
        self.hidden_dim = hidden_dim
        half, heads = hidden_dim // 2, self.domain.heads
        width = sum(head.hidden for head in heads)
        sizes = ((obs_dim, hidden_dim), (hidden_dim, hidden_dim), (hidden_dim, half))
        self.encoder = nn.ModuleList(nn.Linear(*size) for size in sizes)
        self.head_hidden = nn.Linear(half, width)
        self.head_output = nn.Linear(width, action_dim)
        self.layout = ActionLayout(self.domain)
        continuous = sum(dim.kind == "continuous" for dim in self.domain.actions)
        self.log_std = nn.Parameter(torch.full((continuous,), INITIAL_LOG_STD))
        """(c,) log of the standard deviation relative to each continuous dimension's half-width."""
        self.register_buffer("output_blocks", self._blocks(width), persistent=False)
        self.register_buffer("obs_mean", torch.zeros(obs_dim))
        self.register_buffer("obs_scale", torch.ones(obs_dim))
        self._initialise()

    @classmethod
    def for_domain(cls, domain: Domain, hidden_dim: int = 256) -> DistilledPolicyNetwork:
        """A network with the dimensions of ``domain``."""
        return cls(domain.obs_dim, domain.action_dim, hidden_dim, domain=domain)

    def twin(self) -> DistilledPolicyNetwork:
        """A frozen network of its own with the same weights, on the CPU."""
        with global_generators_kept():
            twin = DistilledPolicyNetwork.for_domain(self.domain, self.hidden_dim)
        twin.load_state_dict(self.state_dict())
        return twin.requires_grad_(False)

    def logits(self, obs: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """(n, action_dim) raw head outputs in unified order; see :mod:`.heads` for their meaning.

        Args:
            obs: (n, obs_dim) unified observations.
            dtype: what hidden layers are multiplied in.
        """
        *hidden, (weight, bias) = self._layers
        return mlp(self.normalised(obs), [*hidden, (weight * self.output_blocks, bias)], dtype)

    def backprop(self, dtype: torch.dtype = torch.float32) -> Backprop:
        """From :meth:`normalised` observations to raw head outputs, and gradients back.

        Parameters must have a ``grad`` by then.

        Args:
            dtype: what hidden layers are multiplied in.
        """
        return Backprop(self._layers, dtype, self.output_blocks)

    def normalised(self, obs: Tensor) -> Tensor:
        """(n, obs_dim) observations centred and scaled, in float32, clipped to ±10.

        What decides a click is a hundredth of a distance: unscaled, it is below what bfloat16
        tells apart, and needs weights that take long to grow.
        """
        return ((obs - self.obs_mean) / self.obs_scale).clamp_(-LARGEST_INPUT, LARGEST_INPUT)

    @torch.no_grad()
    def fit_inputs(self, obs: Tensor) -> None:
        """Centre and scale by the statistics of (n, obs_dim) observations, from now on."""
        self.obs_mean.copy_(obs.mean(dim=0))
        self.obs_scale.copy_(obs.std(dim=0, correction=0).clamp_min(SMALLEST_SCALE))

    @torch.no_grad()
    def shift(self, column: int, by: float) -> None:
        """Add to the raw output of one action dimension, whatever is seen."""
        self.head_output.bias[column] += by

    @torch.no_grad()
    def sharpen(self, temperature: float) -> None:
        """Divide the log-odds of all buttons by ``temperature``, whatever is seen."""
        buttons = self.layout.is_binary
        self.head_output.weight[buttons] /= temperature
        self.head_output.bias[buttons] /= temperature

    def distribution(self, obs: Tensor) -> ActionDistribution:
        """The distribution over unified actions for observations (n, obs_dim)."""
        return ActionDistribution.from_logits(self.logits(obs), self.log_std, self.layout)

    def forward(self, obs: Tensor) -> Tensor:
        """(n, action_dim) probabilities and means in environment units."""
        return self.distribution(obs).mean()

    @property
    def _layers(self) -> list[Layer]:
        linear = [cast(nn.Linear, layer) for layer in self.encoder]
        linear += [self.head_hidden, self.head_output]
        return [(layer.weight, layer.bias) for layer in linear]

    @property
    def std(self) -> Tensor:
        """(c,) standard deviation of each continuous dimension, environment units."""
        scale: Tensor = self.layout.scale[self.layout.continuous]
        return scale * self.log_std.exp()

    def num_parameters(self) -> int:
        """Weights that can differ from zero: the block-diagonal layer counts only its blocks."""
        stored = sum(parameter.numel() for parameter in self.parameters())
        return stored - self.output_blocks.numel() + int(self.output_blocks.sum())

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        # .to(device) moves parameters and buffers through here; the layout's tensors go along
        result = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.layout = self.layout.to(self.log_std.device)
        return result

    def _blocks(self, width: int) -> Tensor:
        """(action_dim, width) 1 where an output may see a hidden unit."""
        blocks = torch.zeros(self.domain.action_dim, width)
        start = 0
        for head in self.domain.heads:
            blocks[list(self.domain.columns(head.name)), start : start + head.hidden] = 1
            start += head.hidden
        return blocks

    @torch.no_grad()
    def _initialise(self) -> None:
        """Give each block of the output layer the range that its own fan-in calls for.

        The same rule as ``nn.Linear``: uniform within 1/sqrt(fan-in).
        """
        bound = self.output_blocks / self.output_blocks.sum(dim=1, keepdim=True).sqrt()
        weight = self.head_output.weight
        weight.copy_((2 * torch.rand_like(weight) - 1) * bound)
        self.head_output.bias.copy_(
            (2 * torch.rand_like(self.head_output.bias) - 1) * bound.amax(dim=1)
        )
