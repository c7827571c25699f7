from __future__ import annotations

import copy

import pytest
import torch

from skilldistill.domain import ActionDim, Domain, Head
from skilldistill.errors import ConfigurationError
from skilldistill.policy.network import DistilledPolicyNetwork
from tests.tiny import DOMAIN


def mixed_domain() -> Domain:
    """Heads whose dimensions do not follow one another in the unified action."""
    return Domain(
        name="mixed",
        observation_names=("a", "b"),
        actions=(
            ActionDim(name="x", kind="continuous", low=-1, high=3),
            ActionDim(name="p", kind="binary"),
            ActionDim(name="y", kind="continuous", low=0, high=1),
            ActionDim(name="q", kind="binary"),
        ),
        heads=(
            Head(name="one", dims=("x", "q"), hidden=4),
            Head(name="two", dims=("y", "p"), hidden=6),
        ),
        skills=(),
        tasks=(),
        combined="",
        make_arenas=DOMAIN.make_arenas,
        make_vector_env=DOMAIN.make_vector_env,
    )


def test_outputs_are_probabilities_and_means_within_range() -> None:
    network = DistilledPolicyNetwork.for_domain(mixed_domain(), 16)
    reached = []
    for push in (-50.0, 50.0):
        with torch.no_grad():
            network.head_output.bias.fill_(push)
        reached.append(network(torch.randn(5, 2)).detach())
    low, high = torch.tensor([-1.0, 0, 0, 0]), torch.tensor([3.0, 1, 1, 1])
    assert torch.allclose(reached[0], low.expand(5, 4), atol=1e-5)
    assert torch.allclose(reached[1], high.expand(5, 4), atol=1e-5)


def test_a_head_depends_on_its_own_hidden_units_only() -> None:
    network = DistilledPolicyNetwork.for_domain(mixed_domain(), 16)
    obs = torch.randn(20, 2)
    network.logits(obs)[:, [0, 3]].sum().backward()  # head "one": x and q
    hidden, output = network.head_hidden.weight.grad, network.head_output.weight.grad
    assert hidden is not None
    assert output is not None
    assert float(hidden[4:].abs().max()) == 0  # rows of head "two"
    assert float(output[:, 4:].abs().max()) == 0
    assert float(output[[1, 2]].abs().max()) == 0
    assert float(hidden[:4].abs().max()) > 0


def test_entries_outside_the_blocks_stay_zero_in_training() -> None:
    network = DistilledPolicyNetwork.for_domain(mixed_domain(), 16)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        network(torch.randn(20, 2)).square().sum().backward()
        optimiser.step()
    outside = network.head_output.weight * (1 - network.output_blocks)
    assert float(outside.detach().abs().max()) == 0


def test_parameters_are_counted_without_the_zeros() -> None:
    network = DistilledPolicyNetwork.for_domain(DOMAIN, 16)
    layers = [(3, 16), (16, 16), (16, 8), (8, 8), (8, 8), (8, 1), (8, 1)]
    assert network.num_parameters() == sum((i + 1) * o for i, o in layers) + 1  # log_std


def test_the_duels_network_has_the_layers_it_is_documented_with() -> None:
    network = DistilledPolicyNetwork()
    shapes = [tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")]
    assert shapes == [(256, 20), (256, 256), (128, 256), (64 + 16 + 32, 128), (9, 64 + 16 + 32)]
    units = [int(units) for units in network.output_blocks.sum(dim=1)]
    assert units == [64] * 6 + [16] + [32] * 2
    assert torch.equal(network.layout.is_binary, torch.tensor([True] * 7 + [False] * 2))


def test_wrong_dimensions_name_the_domains() -> None:
    with pytest.raises(ConfigurationError, match="3 observations and 2 actions, not 20 and 9"):
        DistilledPolicyNetwork(domain=DOMAIN)


def test_copies_share_nothing() -> None:
    network = DistilledPolicyNetwork.for_domain(DOMAIN, 16)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.log_std.add_(1)
    assert not torch.equal(network.log_std, other.log_std)
    obs = torch.randn(4, 3)
    assert torch.equal(network.logits(obs), other.logits(obs))


def test_std_is_in_environment_units() -> None:
    network = DistilledPolicyNetwork.for_domain(mixed_domain(), 16)
    assert torch.allclose(network.std, torch.tensor([0.2, 0.05]))


def test_observations_are_centred_scaled_and_clipped_as_they_were_fitted() -> None:
    network = DistilledPolicyNetwork.for_domain(mixed_domain(), 16)
    network.fit_inputs(torch.tensor([[1.0, 5.0], [5.0, 5.0]]))
    seen = torch.tensor([[3.0, 5.0], [7.0, 5.001], [-1.0, 4.0], [99.0, 5.0]])
    expected = torch.tensor([[0.0, 0.0], [2.0, 0.05], [-2.0, -10.0], [10.0, 0.0]])
    torch.testing.assert_close(network.normalised(seen), expected, atol=1e-4, rtol=0)


def test_sharpening_divides_log_odds_and_leaves_turns_alone() -> None:
    network = DistilledPolicyNetwork.for_domain(mixed_domain(), 16)
    obs = torch.randn(30, 2)
    before = network.logits(obs).detach()
    network.sharpen(0.5)
    after = network.logits(obs).detach()
    buttons = network.layout.is_binary
    torch.testing.assert_close(after[:, buttons], 2 * before[:, buttons])
    assert torch.equal(after[:, ~buttons], before[:, ~buttons])


def test_shifting_moves_one_dimension() -> None:
    network = DistilledPolicyNetwork.for_domain(mixed_domain(), 16)
    obs = torch.randn(30, 2)
    before = network.logits(obs).detach()
    network.shift(2, -0.75)
    difference = network.logits(obs).detach() - before
    torch.testing.assert_close(difference, torch.tensor([0, 0, -0.75, 0]).expand(30, 4))
