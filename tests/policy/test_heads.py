from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import kl_divergence

from skilldistill.policy.heads import (
    ActionDistribution,
    ActionLayout,
    Bernoulli,
    Gaussian,
    per_head,
)
from tests.tiny import DOMAIN

odds = st.floats(-20, 20, width=32)
means = st.floats(-2, 2, width=32)
stds = st.floats(0.015625, 3, width=32)


def one(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


@given(odds, odds, st.booleans())
def test_bernoulli_is_torch_bernoulli(a: float, b: float, pressed: bool) -> None:
    ours, other = Bernoulli(one(a)), Bernoulli(one(b))
    theirs = torch.distributions.Bernoulli(logits=one(a))
    action = one(float(pressed))
    assert torch.allclose(ours.log_prob(action), theirs.log_prob(action))
    assert torch.allclose(ours.entropy(), theirs.entropy(), atol=1e-9)
    expected = kl_divergence(theirs, torch.distributions.Bernoulli(logits=one(b)))
    assert torch.allclose(ours.kl(other), expected, atol=1e-6, rtol=1e-6)
    assert float(ours.mode()) == float(a > 0)


@given(means, stds, means, stds, means)
def test_gaussian_is_torch_normal(a: float, s: float, b: float, t: float, action: float) -> None:
    ours, other = Gaussian(one(a), one(s)), Gaussian(one(b), one(t))
    theirs = torch.distributions.Normal(one(a), one(s))
    assert torch.allclose(ours.log_prob(one(action)), theirs.log_prob(one(action)))
    assert torch.allclose(ours.entropy(), theirs.entropy())
    expected = kl_divergence(theirs, torch.distributions.Normal(one(b), one(t)))
    assert torch.allclose(ours.kl(other), expected, atol=1e-9)


@given(means, stds)
def test_gaussian_density_integrates_to_one_and_to_its_entropy(mean: float, std: float) -> None:
    x = torch.linspace(mean - 9 * std, mean + 9 * std, 4001, dtype=torch.float64)[:, None]
    ours = Gaussian(torch.full_like(x, mean), torch.tensor([std], dtype=torch.float64))
    log_p = ours.log_prob(x)[:, 0]
    assert float(torch.trapezoid(log_p.exp(), x[:, 0])) == pytest.approx(1, abs=1e-6)
    entropy = -torch.trapezoid(log_p.exp() * log_p, x[:, 0])
    assert float(entropy) == pytest.approx(float(ours.entropy()[0, 0]), abs=1e-5)


def test_samples_follow_the_distribution() -> None:
    torch.manual_seed(0)
    button = Bernoulli(torch.full((20_000, 1), 1.0))
    stick = Gaussian(torch.full((20_000, 1), 0.3), torch.tensor([0.2]))
    uniform = torch.rand(20_000, 1)
    for pressed in (button.sample(), button.sample(uniform)):
        assert float(pressed.mean()) == pytest.approx(
            float(torch.sigmoid(torch.tensor(1.0))), abs=0.02
        )
    for moved in (stick.sample(), stick.sample(uniform)):
        assert float(moved.mean()) == pytest.approx(0.3, abs=0.01)
        assert float(moved.std()) == pytest.approx(0.2, abs=0.01)


def test_a_draw_of_zero_gives_a_finite_action() -> None:
    stick = Gaussian(torch.zeros(1, 1), torch.ones(1))
    assert bool(torch.isfinite(stick.sample(torch.zeros(1, 1))).all())


def test_dimensions_are_joined_in_unified_order() -> None:
    layout = ActionLayout(DOMAIN)
    logits = torch.tensor([[2.0, 0.5]])
    both = ActionDistribution.from_logits(logits, torch.tensor([0.3]).log(), layout)
    mean = both.mean()
    assert float(mean[0, 0]) == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-6)
    assert float(mean[0, 1]) == pytest.approx(0.5 * np.tanh(0.5), abs=1e-6)
    assert both.mode()[0, 0] == 1
    assert float(both.gaussian.std[0]) == pytest.approx(0.15)  # 0.3 half-widths of 0.5
    uniform = torch.tensor([[0.5, 0.5]])
    assert torch.allclose(both.sample(uniform), torch.tensor([[1.0, float(mean[0, 1])]]))


def test_per_head_sums_the_dimensions_of_each_head() -> None:
    layout = ActionLayout(DOMAIN)
    values = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    assert torch.equal(per_head(values, layout), values)  # one dimension per head here


def test_divergence_from_itself_is_zero() -> None:
    layout = ActionLayout(DOMAIN)
    both = ActionDistribution.from_logits(torch.randn(50, 2) * 5, torch.zeros(1), layout)
    assert torch.allclose(both.kl(both), torch.zeros(50, 2), atol=1e-6)
