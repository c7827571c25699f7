"""SB3 models to save as zips for the skills of :data:`~tests.experts.bare_zoo.ZOO`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from tests.experts.bare_zoo import BOUND, ZOO

AIM_SPACE = spaces.Box(-BOUND, BOUND, (2,), np.float32)
SPACES: dict[str, spaces.Space[Any]] = {
    "move": spaces.MultiBinary(6),
    "click": spaces.Discrete(2),
    "aim": AIM_SPACE,
}


class Still(gymnasium.Env[Any, Any]):
    """Has spaces and nothing else."""

    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


def make_model(
    skill: str = "aim",
    *,
    algorithm: str = "PPO",
    actions: spaces.Space[Any] | None = None,
    obs_dim: int | None = None,
    seed: int = 0,
    policy_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> BaseAlgorithm:
    """An untrained model whose weights are far from their start, so that outputs differ."""
    width = obs_dim or len(ZOO.skill(skill).native_observations)
    env = Still(spaces.Box(-1, 1, (width,), np.float32), actions or SPACES[skill])
    maker = {"PPO": PPO, "A2C": A2C}[algorithm]
    model = maker(
        "MlpPolicy",
        env,
        device="cpu",
        n_steps=8,
        seed=seed,
        policy_kwargs=policy_kwargs,
        **({"batch_size": 8} if algorithm == "PPO" else {}),
        **kwargs,
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.policy.named_parameters():
            scale = 0.5 if name in ("action_net.weight", "log_std") else 0.2
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def save_zip(directory: Path, *args: Any, name: str = "expert.zip", **kwargs: Any) -> Path:
    path = directory / name
    make_model(*args, **kwargs).save(path)
    return path


def observations(skill: str, rows: int = 1000, seed: int = 1) -> np.ndarray:
    width = len(ZOO.skill(skill).native_observations)
    return np.random.default_rng(seed).uniform(-1, 1, (rows, width)).astype(np.float32)
