"""A network that plays: unified observations in, legal unified actions out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from skilldistill.domain import View
from skilldistill.policy.heads import ActionDistribution
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.threads import threads_to_play

if TYPE_CHECKING:
    from skilldistill.domain import Float32Array

SAMPLE_STREAM = 40
"""Stream of :meth:`View.uniform` from which stochastic actions are drawn."""
_ROWS = 16
"""Rows are filled up to a multiple of this. A product of another height may round its last rows
differently; whole tiles do not, so an action does not depend on how many arenas are played."""


class NetworkPolicy:
    """Plays a network, always with its present weights.

    Args:
        network: the network to play, on any device.
        deterministic: take the likeliest action; otherwise draw one from the view's numbers,
            so that an episode stays a function of its seed and index.
    """

    def __init__(self, network: DistilledPolicyNetwork, *, deterministic: bool = True) -> None:
        self.network = network
        self.deterministic = deterministic
        self._low = np.array([dim.low for dim in network.domain.actions], dtype=np.float32)
        self._high = np.array([dim.high for dim in network.domain.actions], dtype=np.float32)

    def act(self, view: View) -> Float32Array:
        """(n, action_dim) actions: 0 or 1 for binary dimensions, within range for the others."""
        if self.deterministic:
            return self.predict(view.unified())
        uniform = view.uniform(SAMPLE_STREAM, self.network.domain.action_dim)
        return self.predict(view.unified(), uniform=torch.from_numpy(uniform))

    @torch.inference_mode()
    def predict(
        self, observations: Float32Array, *, uniform: torch.Tensor | None = None
    ) -> Float32Array:
        """(n, action_dim) legal actions for observations (n, obs_dim).

        Args:
            observations: unified observations.
            uniform: (n, action_dim) numbers in [0, 1); None takes the likeliest action.
        """
        with threads_to_play(len(observations)):
            return self._predict(observations, uniform)

    def _predict(self, observations: Float32Array, uniform: torch.Tensor | None) -> Float32Array:
        network = self.network
        device = network.log_std.device
        rows = len(observations)
        obs = np.zeros((-(-rows // _ROWS) * _ROWS, observations.shape[1]), dtype=np.float32)
        obs[:rows] = observations
        logits = network.logits(torch.from_numpy(obs).to(device))
        actions: Float32Array
        if uniform is None:
            layout = network.layout
            # `where` over all dimensions is one call less than taking columns apart
            chosen = torch.where(
                layout.is_binary, logits > 0, layout.centre + layout.scale * logits.tanh()
            )
            actions = chosen.cpu().numpy()[:rows]
        else:
            distribution = ActionDistribution.from_logits(
                logits[:rows], network.log_std, network.layout
            )
            actions = distribution.sample(uniform.to(device)).cpu().numpy()
        return np.clip(actions, self._low, self._high, out=actions)
