"""The distilled network as a Stable-Baselines3 policy class.

The actor is the network itself, the critic a trunk of its own on the same observations, so that
learning values never touches what was distilled. Buttons and turns share one distribution over
the ``Box`` of unified actions. Constructor arguments are plain values, hence a saved zip opens
with ``stable_baselines3.PPO.load`` wherever skilldistill is installed.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from skilldistill import domain as domains
from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError
from skilldistill.policy.heads import ActionDistribution, ActionLayout
from skilldistill.policy.mlp import Backprop, Layer, mlp
from skilldistill.policy.network import DistilledPolicyNetwork

ACTOR, CRITIC = 0, 1
"""Positions of the optimiser's parameter groups."""


class MixedDistribution(Distribution):
    """Bernoulli buttons and Gaussian turns as one SB3 distribution.

    Args:
        layout: which dimensions are which.

    Samples and modes of binary dimensions are 0 or 1. Continuous samples are not clipped.
    """

    distribution: ActionDistribution  # type: ignore[assignment]  # SB3 expects torch's classes

    def __init__(self, layout: ActionLayout) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layout = layout

    def proba_distribution_net(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Not used: the network brings its own heads."""
        raise NotImplementedError("the distilled network has its own heads")

    def proba_distribution(self, logits: Tensor, log_std: Tensor) -> MixedDistribution:
        """Take raw network outputs (n, action_dim) and ``log_std`` (c,); returns self."""
        self.distribution = ActionDistribution.from_logits(logits, log_std, self.layout)
        return self

    def log_prob(self, actions: Tensor) -> Tensor:
        """(n,) joint log-probability of actions (n, action_dim)."""
        return self.distribution.log_prob(actions).sum(dim=1)

    def entropy(self) -> Tensor:
        """(n,) joint entropy in nats (differential for the continuous dimensions)."""
        return self.distribution.entropy().sum(dim=1)

    def sample(self) -> Tensor:
        """(n, action_dim) a random action."""
        return self.distribution.sample()

    def mode(self) -> Tensor:
        """(n, action_dim) the likeliest action."""
        return self.distribution.mode()

    def actions_from_params(
        self, logits: Tensor, log_std: Tensor, deterministic: bool = False
    ) -> Tensor:
        """(n, action_dim) actions for raw network outputs."""
        return self.proba_distribution(logits, log_std).get_actions(deterministic=deterministic)

    def log_prob_from_params(self, logits: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (n, action_dim) for raw network outputs, and their log-probability (n,)."""
        actions = self.actions_from_params(logits, log_std)
        return actions, self.log_prob(actions)


class DistilledPolicy(ActorCriticPolicy):
    """An SB3 policy that plays and trains a :class:`DistilledPolicyNetwork`.

    Args:
        observation_space: the domain's unified observations.
        action_space: the domain's unified actions, a ``Box``.
        lr_schedule: as SB3 hands it over.
        hidden_dim: width of the network's encoder.
        domain: name of the domain.
        critic_dims: widths of the critic's hidden layers.
        use_sde: SB3 passes it to every policy; only False is possible here.

    Raises:
        ConfigurationError: the spaces are not the domain's, or gSDE is asked for.

    Attributes:
        network: the actor.
        critic: layers from scaled observations (n, obs_dim) to values (n, 1).
        optimizer: Adam with two groups, the actor's and the critic's parameters.
    """

    action_dist: MixedDistribution

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        hidden_dim: int = 256,
        domain: str = "duel",
        critic_dims: tuple[int, ...] = (128, 128),
        use_sde: bool = False,
        **unused: Any,
    ) -> None:
        found = domains.find(domain)
        _check_spaces(found, observation_space, action_space)
        if use_sde:
            raise ConfigurationError("DistilledPolicy has no state-dependent exploration")
        if unused:
            raise ConfigurationError(f"DistilledPolicy does not take {', '.join(sorted(unused))}")
        self._plain: dict[str, Any] = {
            "hidden_dim": hidden_dim,
            "domain": domain,
            "critic_dims": tuple(critic_dims),
        }
        super().__init__(observation_space, action_space, lr_schedule, net_arch=[])

    def _build(self, lr_schedule: Schedule) -> None:
        # SB3 calls this at the end of its constructor, in place of its own networks
        settings = self._plain
        domain = domains.find(settings["domain"])
        self.network = DistilledPolicyNetwork.for_domain(domain, settings["hidden_dim"])
        self.critic = make_critic(domain.obs_dim, settings["critic_dims"])
        self.action_dist = MixedDistribution(self.network.layout)
        self.optimizer = self.optimizer_class(
            [
                {"params": list(self.network.parameters())},
                {"params": list(self.critic.parameters())},
            ],
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **{**self.optimizer_kwargs, "fused": True},
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            **self._plain,
        }

    @property
    def log_std(self) -> nn.Parameter:  # type: ignore[override]
        """(c,) the network's; SB3 logs it under this name."""
        return self.network.log_std

    def distribution(self, obs: Tensor) -> MixedDistribution:
        """The distribution actions are drawn from, given observations (n, obs_dim)."""
        layout = self.network.layout  # a new object after a move to another device
        distribution = MixedDistribution(layout)
        return distribution.proba_distribution(self.network.logits(obs), self.network.log_std)

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (n, action_dim), values (n, 1) and log-probabilities (n,)."""
        distribution = self.distribution(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self.values(obs), distribution.log_prob(actions)

    def evaluate_actions(
        self, obs: PyTorchObs, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values (n, 1), log-probabilities (n,) and entropies (n,) of given actions."""
        assert isinstance(obs, Tensor)
        distribution = self.distribution(obs)
        return self.values(obs), distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        """The distribution actions are drawn from, given observations (n, obs_dim)."""
        assert isinstance(obs, Tensor)
        return self.distribution(obs)

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """(n, 1) values."""
        assert isinstance(obs, Tensor)
        return self.values(obs)

    def values(self, obs: Tensor) -> Tensor:
        """(n, 1) values of observations (n, obs_dim), which the critic sees as the actor does."""
        return mlp(self.network.normalised(obs), self._critic_layers)

    def critic_backprop(self, dtype: torch.dtype = torch.float32) -> Backprop:
        """The critic's, as :meth:`DistilledPolicyNetwork.backprop` is the actor's."""
        return Backprop(self._critic_layers, dtype)

    @property
    def _critic_layers(self) -> list[Layer]:
        linear = [layer for layer in self.critic if isinstance(layer, nn.Linear)]
        return [(layer.weight, layer.bias) for layer in linear]

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        return self.get_distribution(observation).get_actions(deterministic=deterministic)


def make_critic(obs_dim: int, hidden: tuple[int, ...]) -> nn.Sequential:
    """A plain network from observations (n, obs_dim) to values (n, 1), initialised as SB3's."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(obs_dim, size), nn.ReLU(inplace=True)]
        obs_dim = size
    critic = nn.Sequential(*layers, nn.Linear(obs_dim, 1))
    critic.apply(partial(ActorCriticPolicy.init_weights, gain=math.sqrt(2)))
    critic[-1].apply(partial(ActorCriticPolicy.init_weights, gain=1.0))
    return critic


def unified_spaces(domain: Domain) -> tuple[spaces.Box, spaces.Box]:
    """The observation and action space a policy of ``domain`` plays in."""
    low = np.array([dim.low for dim in domain.actions], dtype=np.float32)
    high = np.array([dim.high for dim in domain.actions], dtype=np.float32)
    return spaces.Box(-1.0, 1.0, (domain.obs_dim,), np.float32), spaces.Box(low, high)


def _check_spaces(
    domain: Domain, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> None:
    _, actions = unified_spaces(domain)
    if observation_space.shape != (domain.obs_dim,):
        raise ConfigurationError(
            f"domain {domain.name!r} has {domain.obs_dim} observations, not {observation_space}"
        )
    if (
        not isinstance(action_space, spaces.Box)
        or action_space.shape != actions.shape
        or not np.allclose(action_space.low, actions.low, atol=1e-6)
        or not np.allclose(action_space.high, actions.high, atol=1e-6)
    ):
        raise ConfigurationError(
            f"domain {domain.name!r} acts in {actions}, not in {action_space}",
            hint=f"play the task {domain.combined!r}: its actions are the unified ones",
        )
