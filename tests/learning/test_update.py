"""The actor's slopes on a layout that the duel does not have, and how rows become minibatches.

Against the whole loss, with a critic and a rehearsal, they are held in ``test_ppo``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from skilldistill.domain import ActionDim, Head
from skilldistill.learning.ppo import FinetunePPO
from skilldistill.learning.update import Rows, Terms, _Actor
from skilldistill.policy.heads import ActionDistribution, per_head
from skilldistill.policy.network import DistilledPolicyNetwork
from tests import tiny
from tests.learning.test_ppo import make, play, tie

SHUFFLED = replace(
    tiny.DOMAIN,
    actions=(
        ActionDim(name="yaw", kind="continuous", low=-0.5, high=0.7),
        ActionDim(name="bell", kind="binary"),
        ActionDim(name="pitch", kind="continuous", low=-2.0, high=2.0),
        ActionDim(name="horn", kind="binary"),
    ),
    heads=(
        Head(name="ring", dims=("horn", "bell"), hidden=8),
        Head(name="steer", dims=("yaw", "pitch"), hidden=8),
    ),
    skills=(),
)
"""Buttons and turns between one another, of different ranges."""


def network_of(seed: int) -> DistilledPolicyNetwork:
    torch.manual_seed(seed)
    network = DistilledPolicyNetwork.for_domain(SHUFFLED, 16)
    with torch.no_grad():
        network.log_std.copy_(torch.tensor([-0.6, -1.1]) + 0.1 * seed)
    return network.requires_grad_(False)


@pytest.mark.parametrize("entropy", [0.0, 0.02])
def test_slopes_are_the_textbooks_wherever_buttons_and_turns_stand(entropy: float) -> None:
    network, reference = network_of(0), network_of(1)
    coefs, layout = torch.tensor([0.7, 0.3]), network.layout
    seen = torch.randn(300, 3)
    with torch.no_grad():
        raw = network.logits(seen)
        near = raw + 0.15 * torch.randn_like(raw)  # ratios on both sides of the clip
        played = ActionDistribution.from_logits(near, network.log_std + 0.05, layout)
        actions = played.sample()
        rows = Rows(
            observations=seen,
            actions=actions,
            log_prob=played.log_prob(actions).sum(dim=1),
            advantages=torch.randn(300),
            returns=torch.zeros(300),
            reference=reference.logits(seen),
        )
    outputs = network.logits(seen).clone().requires_grad_()
    log_std = network.log_std.clone().requires_grad_()
    now = ActionDistribution.from_logits(outputs, log_std, layout)
    held = ActionDistribution.from_logits(rows.reference, reference.log_std, layout)
    ratio = (now.log_prob(actions).sum(dim=1) - rows.log_prob).exp()
    gained = torch.min(ratio * rows.advantages, ratio.clamp(0.8, 1.2) * rows.advantages).mean()
    divergence = per_head(now.kl(held), layout).mean(dim=0) @ coefs
    loss = divergence - gained - entropy * now.entropy().sum(dim=1).mean()
    wanted = torch.autograd.grad(loss, [outputs, log_std])

    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    terms = Terms(0.2, 0.5, entropy, kl_coefs=coefs, reference=reference)
    actor = _Actor(network, terms, torch.float32)
    found = actor._slopes(outputs.detach(), actor.columns(rows))
    assert 0.1 < ((ratio - 1).abs() > 0.2).float().mean() < 0.9, "the clip was put to the test"
    for slope, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(slope, expected, atol=1e-6, rtol=1e-4)


def played() -> FinetunePPO:
    model = make(arenas=5, ticks=30, batch_size=50)
    play(model)
    return model


def test_each_pass_holds_every_row_once_in_even_parts() -> None:
    model = played()
    for parameter in model.policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    rows = model._rows()
    with torch.no_grad():
        update = model._update(rows)
        batches = list(update.minibatches(64, model.generator))
        again = list(update.minibatches(64, model.generator))
    assert [len(batch.rows) for batch in batches] == [50, 50, 50]
    order = torch.cat([batch.rows for batch in batches])
    assert order.sort().values.tolist() == list(range(150))
    assert order.tolist() != torch.cat([batch.rows for batch in again]).tolist()
    scaled = model.policy.network.normalised(rows.observations)
    for batch in batches:
        assert torch.equal(batch.returns, rows.returns[batch.rows])
        assert torch.equal(batch.observations, scaled[batch.rows])


def test_in_bfloat16_the_ratio_compares_policies_that_were_rounded_alike() -> None:
    model = played()
    tie(model, 0.0, 0.0)
    exact = model._rows().log_prob
    model.dtype = torch.bfloat16
    rows = model._rows()
    now = model._now(rows).log_prob(rows.actions).sum(dim=1)
    assert torch.equal(rows.log_prob, now.detach())
    assert not torch.equal(rows.log_prob, exact)
