from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from skilldistill.errors import ConfigurationError
from skilldistill.learning.losses import (
    LOG_STD_FLOOR,
    STD_CEILING,
    STD_FLOOR,
    Gradients,
    Objective,
    loss,
    row_weights,
)
from skilldistill.policy.heads import ActionLayout
from skilldistill.policy.network import DistilledPolicyNetwork
from tests.learning.tiny_rows import LAYOUT, SCALE, rows
from tests.tiny import DOMAIN


def double_layout() -> ActionLayout:
    layout = LAYOUT.to("cpu")
    for name in ("low", "high", "centre", "scale", "membership"):
        setattr(layout, name, getattr(layout, name).double())
    return layout


def value(logits: Tensor, log_std: Tensor, table: Tensor, objective: Objective) -> Tensor:
    return loss(logits, log_std, table, LAYOUT, objective, objective.weights)


@given(st.integers(0, 2**16))
@settings(max_examples=25)
def test_it_is_the_mean_divergence_per_head(seed: int) -> None:
    targets, std, mask = rows(seed=seed)
    logits, log_std = torch.randn(64, 2) * 3, torch.tensor([-1.5])
    found = value(
        logits, log_std, Objective(DOMAIN).label_table(targets, std, mask), Objective(DOMAIN)
    )
    bells = kl_divergence(Bernoulli(targets[:, 0]), Bernoulli(logits=logits[:, 0]))
    moves = kl_divergence(
        Normal(targets[:, 1], std[:, 1].clamp(STD_FLOOR * SCALE, STD_CEILING * SCALE)),
        Normal(SCALE * torch.tanh(logits[:, 1]), SCALE * log_std.exp()),
    )
    expected = bells[mask[:, 0]].mean() + moves[mask[:, 1]].mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("kind", ["kl", "hard", "mse"])
def test_an_unlabelled_dimension_gets_exactly_zero_gradient(kind: str) -> None:
    targets, std, mask = rows()
    mask[:, 1] = False
    objective = Objective(DOMAIN, kind=kind)
    logits = torch.randn(64, 2, requires_grad=True)
    log_std = torch.zeros(1, requires_grad=True)
    value(logits, log_std, objective.label_table(targets, std, mask), objective).backward()
    assert logits.grad is not None
    assert log_std.grad is None or float(log_std.grad.abs().max()) == 0
    assert float(logits.grad[:, 1].abs().max()) == 0
    assert float(logits.grad[mask[:, 0], 0].abs().min()) > 0
    assert float(logits.grad[~mask[:, 0], 0].abs().sum()) == 0


def test_an_unlabelled_head_of_a_network_gets_exactly_zero_gradient() -> None:
    targets, std, mask = rows()
    mask[:, 0] = False
    objective = Objective(DOMAIN)
    network = DistilledPolicyNetwork.for_domain(DOMAIN, 16)
    logits = network.logits(torch.randn(64, 3))
    value(logits, network.log_std, objective.label_table(targets, std, mask), objective).backward()
    hidden = network.head_hidden.weight.grad
    assert hidden is not None
    assert float(hidden[:8].abs().max()) == 0  # the ring head's hidden layer
    assert float(hidden[8:].abs().max()) > 0


def test_without_a_mask_unlabelled_dimensions_are_pulled_to_zero() -> None:
    targets, std, mask = rows()
    mask[:, 1] = False
    objective = Objective(DOMAIN, kind="mse", masked=False)
    logits = torch.ones(64, 2, requires_grad=True)
    value(
        logits, torch.zeros(1), objective.label_table(targets * mask, std, mask), objective
    ).backward()
    assert logits.grad is not None
    assert float(logits.grad[:, 1].min()) > 0


def test_a_head_weighs_the_same_however_few_rows_label_it() -> None:
    targets, std, mask = rows()
    mask[:], mask[3, 1] = torch.tensor([True, False]), True
    objective = Objective(DOMAIN)
    logits, log_std = torch.randn(64, 2), torch.tensor([-1.0])
    both = value(logits, log_std, objective.label_table(targets, std, mask), objective)
    bells = Objective(DOMAIN, head_weights={"steer": 0})
    only_bells = value(logits, log_std, bells.label_table(targets, std, mask), bells)
    mean = SCALE * torch.tanh(logits[3, 1])
    expert = Normal(targets[3, 1], std[3, 1].clamp(STD_FLOOR * SCALE, STD_CEILING * SCALE))
    expected = kl_divergence(expert, Normal(mean, SCALE * log_std.exp()))
    assert float(both - only_bells) == pytest.approx(float(expected), rel=1e-3)


def test_temperature_keeps_the_best_student_where_it_is() -> None:
    targets, std, mask = rows()
    objective = Objective(DOMAIN, temperature=4.0)
    table = objective.label_table(targets, std, mask)
    logits = torch.zeros(64, 2)
    logits[:, 0] = torch.logit(targets[:, 0])
    logits.requires_grad_()
    value(logits, torch.zeros(1), table, objective).backward()
    assert logits.grad is not None
    assert float(logits.grad[:, 0].abs().max()) < 1e-5


def test_temperature_leaves_a_certain_expert_certain() -> None:
    table = Objective(DOMAIN, temperature=3.0).label_table(
        torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.zeros(2, 2), torch.ones(2, 2).bool()
    )
    assert bool(torch.isfinite(table).all())
    assert table[:, 0].tolist() == [0.0, 1.0]


def test_hard_targets_are_the_likelier_action() -> None:
    targets, std, mask = rows()
    table = Objective(DOMAIN, kind="hard").label_table(targets, std, mask)
    assert torch.equal(table[:, 0], (targets[:, 0] > 0.5).float())


def test_how_widely_an_expert_explored_does_not_say_how_exact_it_is() -> None:
    def cost(std: float) -> float:
        table = Objective(DOMAIN).label_table(
            torch.tensor([[0.5, 0.0]]), torch.tensor([[0.0, std]]), torch.ones(1, 2).bool()
        )
        missed = torch.tensor([[0.0, 0.5]])
        return float(value(missed, torch.tensor([-2.3]), table, Objective(DOMAIN)))

    assert cost(0.9) == cost(0.05)  # beyond the whole range, and the ceiling


def test_means_beyond_the_range_are_taken_to_its_end() -> None:
    table = Objective(DOMAIN).label_table(
        torch.tensor([[0.5, 7.0]]), torch.zeros(1, 2), torch.ones(1, 2).bool()
    )
    assert float(table[0, 1]) == 0.5


@pytest.mark.parametrize("kind", ["kl", "hard", "mse"])
def test_the_gradient_is_the_slope(kind: str) -> None:
    objective = Objective(DOMAIN, kind=kind)
    table = objective.label_table(*rows(6)).double()
    layout = double_layout()
    weights = objective.weights.double()

    def scalar(logits: Tensor, log_std: Tensor) -> Tensor:
        return loss(logits, log_std, table, layout, objective, weights)

    inputs = (
        torch.randn(6, 2, dtype=torch.float64, requires_grad=True),
        torch.tensor([-1.0], dtype=torch.float64, requires_grad=True),
    )
    if kind == "mse":
        assert torch.autograd.gradcheck(lambda z: scalar(z, inputs[1].detach()), inputs[:1])
    else:
        assert torch.autograd.gradcheck(scalar, inputs)


@pytest.mark.parametrize("kind", ["kl", "hard", "mse"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("log_std", [-1.0, -9.0])  # above and below the floor
def test_written_out_gradients_are_the_losss(kind: str, temperature: float, log_std: float) -> None:
    objective = Objective(DOMAIN, kind=kind, temperature=temperature, head_weights={"ring": 2.5})
    table = objective.label_table(*rows(6)).double()
    layout = double_layout()
    logits = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    spread = torch.tensor([log_std], dtype=torch.float64, requires_grad=True)
    weights = objective.weights.double()
    loss(logits, spread, table, layout, objective, weights).backward()
    weight = row_weights(table[None], layout, weights)[0]
    found = Gradients(layout, objective)(logits.detach(), spread.detach(), table, weight)
    assert logits.grad is not None
    assert torch.allclose(found[0], logits.grad)
    assert torch.allclose(
        found[1], torch.zeros_like(spread) if spread.grad is None else spread.grad
    )


@pytest.mark.parametrize("kind", ["kl", "hard", "mse"])
def test_written_out_gradients_of_unlabelled_dimensions_are_exactly_zero(kind: str) -> None:
    targets, std, mask = rows()
    mask[:, 1] = False
    objective = Objective(DOMAIN, kind=kind)
    table = objective.label_table(targets, std, mask)
    weight = row_weights(table[None], LAYOUT, objective.weights)[0]
    found = Gradients(LAYOUT, objective)(torch.randn(64, 2), torch.zeros(1), table, weight)
    assert float(found[0][:, 1].abs().max()) == 0
    assert float(found[1].abs().max()) == 0
    assert float(found[0][mask[:, 0], 0].abs().min()) > 0


def test_a_deviation_at_its_floor_can_rise_again() -> None:
    objective = Objective(DOMAIN)
    targets, std, mask = rows()
    mask[:] = True
    table = objective.label_table(targets, torch.zeros_like(std), mask)
    weight = row_weights(table[None], LAYOUT, objective.weights)[0]
    logits = torch.zeros(64, 2)  # far from the targets: the errors ask for a wider deviation
    at_floor = torch.tensor([LOG_STD_FLOOR])
    found = Gradients(LAYOUT, objective)(logits, at_floor, table, weight)[1]
    spread = at_floor.clone().requires_grad_()
    loss(logits, spread, table, LAYOUT, objective, objective.weights).backward()
    assert float(found) < -1
    torch.testing.assert_close(found, spread.grad)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="temperature must be above 0"):
        Objective(DOMAIN, temperature=0)
    with pytest.raises(ConfigurationError, match="no head 'rings'"):
        Objective(DOMAIN, head_weights={"rings": 1})
    with pytest.raises(ConfigurationError, match="at least 0"):
        Objective(DOMAIN, head_weights={"ring": -1})
