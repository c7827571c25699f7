"""Take a live Stable-Baselines3 policy apart. Imported only where such a model exists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from skilldistill.errors import UnsupportedExpert
from skilldistill.experts.activations import TORCH_NAMES
from skilldistill.experts.network import Expert, Layer
from skilldistill.experts.sb3_text import PolicyText, Space

_PASSIVE = (nn.Flatten, nn.Identity, nn.Dropout)
"""Modules that change nothing when a policy plays."""


def read_live(
    model: BaseAlgorithm, label: str
) -> tuple[PolicyText, list[Layer], dict[str, NDArray[Any]]]:
    """Settings, hidden layers, and the head's tensors of a PPO or A2C model.

    Raises:
        UnsupportedExpert: no actor-critic policy, or one that is no chain of plain layers.
    """
    policy = model.policy
    if not isinstance(policy, ActorCriticPolicy):
        raise UnsupportedExpert(f"{label} has a {type(policy).__name__}, not that of PPO or A2C")
    if not isinstance(policy.action_net, nn.Linear):
        raise UnsupportedExpert(f"{label} ends in a {type(policy.action_net).__name__}")
    settings = policy.dist_kwargs or {}
    text = PolicyText(
        observation_space=_space(model.observation_space),
        action_space=_space(model.action_space),
        activation="tanh",  # every layer below carries its own
        use_sde=bool(policy.use_sde),
        squash_output=bool(settings.get("squash_output", False)),
        full_std=bool(settings.get("full_std", True)),
        use_expln=bool(settings.get("use_expln", False)),
        widths=None,
        algorithm=type(model).__name__,
    )
    modules = [
        *_leaves(policy.pi_features_extractor),
        *_leaves(policy.mlp_extractor.policy_net),
    ]
    names = ("action_net.weight", "action_net.bias", "log_std")
    tensors = {
        name: tensor.detach().cpu().numpy()
        for name, tensor in policy.state_dict().items()
        if name in names
    }
    return text, _layers(modules, label), tensors


def same_distribution(expert: Expert, model: BaseAlgorithm) -> bool:
    """Whether expert and model give the same distribution on random observations."""
    rng = np.random.default_rng(0)
    observations = rng.uniform(-1, 1, (256, expert.obs_dim)).astype(np.float32)
    outputs, std = expert.parameters(observations)
    mean, deviation = distribution_parameters(model, observations)
    if not np.allclose(outputs, mean, rtol=1e-4, atol=1e-4):
        return False
    return std is None or np.allclose(std, deviation, rtol=1e-4, atol=1e-4)


def distribution_parameters(
    model: BaseAlgorithm, observations: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n, k) logits of pressing, or means before squashing; and standard deviations or zeros."""
    policy = model.policy
    assert isinstance(policy, ActorCriticPolicy)
    policy.set_training_mode(False)
    with torch.no_grad():
        tensor = torch.as_tensor(observations, device=policy.device)
        found: Distribution = policy.get_distribution(tensor)
    inner: Any = found.distribution
    if isinstance(inner, list | torch.distributions.Categorical):
        parts = inner if isinstance(inner, list) else [inner]
        logits = torch.stack([part.logits[:, 1] - part.logits[:, 0] for part in parts], dim=1)
    elif isinstance(inner, torch.distributions.Normal):
        return inner.mean.cpu().numpy(), inner.stddev.cpu().numpy()
    else:
        logits = inner.logits
    values: NDArray[np.float32] = logits.cpu().numpy()
    return values, np.zeros_like(values)


def _space(space: spaces.Space[Any]) -> Space:
    if isinstance(space, spaces.Box):
        low, high = (tuple(map(float, bound.flat)) for bound in (space.low, space.high))
        return Space("Box", tuple(space.shape), low, high)
    if isinstance(space, spaces.Discrete):
        return Space("Discrete", (int(space.n),), start=(int(space.start),))
    if isinstance(space, spaces.MultiDiscrete):
        start = tuple(int(value) for value in space.start.flat)
        return Space("MultiDiscrete", tuple(int(n) for n in space.nvec.flat), start=start)
    if isinstance(space, spaces.MultiBinary):
        return Space("MultiBinary", tuple(space.shape))
    return Space(type(space).__name__, ())


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that compute, in order, of something built of sequences."""
    children = list(module.children())
    if not children:
        yield module
    for child in children:
        yield from _leaves(child)


def _layers(modules: list[nn.Module], label: str) -> list[Layer]:
    layers: list[Layer] = []
    for module in modules:
        kind = type(module).__name__
        if isinstance(module, nn.Linear):
            layers.append(_linear(module))
        elif kind in TORCH_NAMES and type(module).__module__.startswith("torch.nn."):
            alpha = getattr(module, "negative_slope", getattr(module, "alpha", 0.0))
            if not layers or layers[-1].activation != "identity":
                raise UnsupportedExpert(f"{label} applies {kind} where no layer can take it")
            if changed := _changed(module):
                raise UnsupportedExpert(f"{label} uses {kind} with a {changed} of its own")
            last = layers.pop()
            name = TORCH_NAMES[kind]
            layers.append(Layer(last.weight, last.bias, name, float(alpha)))
        elif not isinstance(module, _PASSIVE) and (
            list(module.parameters()) or kind != "Sequential"
        ):
            raise UnsupportedExpert(
                f"{label} has a layer of type {kind}",
                hint=f"train the expert with linear layers and {', '.join(TORCH_NAMES)} only",
            )
    return layers


def _changed(module: nn.Module) -> str:
    """The first setting of an activation that no layer can hold, or an empty string."""
    usual = type(module)()
    for name in getattr(module, "__constants__", ()):
        held = name in ("alpha", "negative_slope", "inplace")
        if not held and getattr(module, name) != getattr(usual, name):
            return str(name)
    return ""


def _linear(module: nn.Linear) -> Layer:
    weight = module.weight.detach().cpu().numpy().astype(np.float32)
    bias = np.zeros(len(weight), dtype=np.float32)
    if module.bias is not None:
        bias = module.bias.detach().cpu().numpy().astype(np.float32)
    return Layer(np.ascontiguousarray(weight.T), bias)
