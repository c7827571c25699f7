from __future__ import annotations

import numpy as np
import torch

from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.player import NetworkPolicy
from tests.tiny import DOMAIN, TinyArenas


def network(seed: int = 0) -> DistilledPolicyNetwork:
    torch.manual_seed(seed)
    made = DistilledPolicyNetwork.for_domain(DOMAIN, 64)
    with torch.no_grad():
        made.head_output.weight.mul_(30)  # decided, and beyond the range when sampled
    return made


def arenas(count: int) -> TinyArenas:
    made = TinyArenas("both", count, seed=3)
    made.start(np.arange(count))
    return made


def test_actions_are_legal() -> None:
    for deterministic in (True, False):
        actions = NetworkPolicy(network(), deterministic=deterministic).act(arenas(300).view)
        assert actions.dtype == np.float32
        assert actions.shape == (300, 2)
        assert set(np.unique(actions[:, 0])) <= {0.0, 1.0}
        assert (np.abs(actions[:, 1]) <= np.float32(0.5)).all()


def test_the_likeliest_action_is_the_networks_mode() -> None:
    made, view = network(), arenas(50).view
    mode = made.distribution(torch.from_numpy(view.unified())).mode()
    assert np.allclose(NetworkPolicy(made).act(view), mode.detach().numpy(), atol=1e-6)


def test_an_action_does_not_depend_on_how_many_play() -> None:
    made = NetworkPolicy(network())
    observations = arenas(203).view.unified()
    together = made.predict(observations)
    for rows in (1, 2, 7, 16, 33, 100):
        assert np.array_equal(made.predict(observations[:rows]), together[:rows])


def test_sampled_actions_are_a_function_of_the_episode() -> None:
    made = NetworkPolicy(network(), deterministic=False)
    view = arenas(40).view
    first = made.act(view)
    assert np.array_equal(first, made.act(view))
    assert not np.array_equal(first, NetworkPolicy(network()).act(view))
    assert np.array_equal(made.act(arenas(7).view), first[:7])


def test_it_plays_the_present_weights() -> None:
    made, view = network(), arenas(20).view
    player = NetworkPolicy(made)
    before = player.act(view)
    with torch.no_grad():
        made.head_output.bias.add_(torch.tensor([100.0, 100.0]))
    assert (player.act(view)[:, 0] == 1).all()
    assert not np.array_equal(player.act(view), before)
