from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from skilldistill.learning import measures as module
from skilldistill.learning.losses import Objective, loss
from skilldistill.learning.measures import (
    gradient_cosines,
    head_sums,
    interference,
    match_rates,
    metrics,
)
from skilldistill.policy.checkpoint import weights
from skilldistill.policy.network import DistilledPolicyNetwork
from tests.learning.tiny_rows import LAYOUT, rows
from tests.tiny import DOMAIN


def test_metrics_say_what_they_name() -> None:
    # four bells: agreed down, agreed up, a miss, a false alarm; moves off by 0.1
    probability = torch.tensor([0.9, 0.1, 0.3, 0.8])
    targets = torch.stack([torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.full((4,), 0.1)], dim=1)
    logits = torch.stack([torch.logit(probability), torch.zeros(4)], dim=1)
    objective = Objective(DOMAIN)
    table = objective.label_table(targets, torch.zeros(4, 2), torch.ones(4, 2).bool())
    sums = head_sums(logits, torch.tensor([-1.0]), table, table, LAYOUT, objective)
    found = metrics(sums, objective)
    assert found["ring/agreement"] == 0.5
    assert found["ring/rate_ratio"] == 1
    assert found["ring/kl"] == pytest.approx(
        float(-torch.tensor([0.9, 0.9, 0.3, 0.2]).log().mean()), rel=1e-5
    )
    assert found["ring/calibration"] == pytest.approx((0.1 + 0.1 + 0.7 + 0.8) / 4, rel=1e-5)
    assert found["steer/error"] == pytest.approx(0.1, rel=1e-5)
    assert "steer/error_deg" not in found
    assert sums.confusion[0].tolist() == [[1, 1], [1, 1]]
    squares = (torch.tensor([0.1, 0.1, 0.7, 0.8]) ** 2).sum() + 4 * 0.01
    assert found["mse"] == pytest.approx(float(squares) / 8, rel=1e-5)
    assert found["loss"] == pytest.approx(found["ring/loss"] + found["steer/loss"])


def test_outputs_that_are_no_numbers_make_figures_that_are_none() -> None:
    objective = Objective(DOMAIN)
    table = objective.label_table(*rows(4))
    sums = head_sums(torch.full((4, 2), math.nan), torch.zeros(1), table, table, LAYOUT, objective)
    found = metrics(sums, objective)
    assert all(math.isnan(found[name]) for name in ("loss", "mse", "ring/kl", "ring/calibration"))


def test_the_error_of_angles_is_told_in_degrees_too() -> None:
    turning = replace(
        DOMAIN, actions=tuple(replace(dim, unit="rad") if dim.kind == "continuous" else dim
                              for dim in DOMAIN.actions),
    )  # fmt: skip
    objective = Objective(turning)
    targets = torch.full((4, 2), 0.1)
    table = objective.label_table(targets, torch.zeros(4, 2), torch.ones(4, 2).bool())
    sums = head_sums(torch.zeros(4, 2), torch.zeros(1), table, table, LAYOUT, objective)
    found = metrics(sums, objective)
    assert found["steer/error_deg"] == pytest.approx(math.degrees(found["steer/error"]))
    assert found["steer/error"] == pytest.approx(0.1, rel=1e-5)


def test_rates_are_the_students_presses_over_the_experts() -> None:
    pressed = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    wanted = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    targets, logits = (torch.stack([x, torch.zeros(6)], dim=1) for x in (wanted, pressed))
    objective = Objective(DOMAIN)
    table = objective.label_table(targets, torch.zeros(6, 2), torch.ones(6, 2).bool())
    found = metrics(head_sums(logits, torch.zeros(1), table, table, LAYOUT, objective), objective)
    assert found["ring/rate_ratio"] == pytest.approx(3 / 2)


@pytest.mark.parametrize(
    "changes",
    [{"temperature": 3.0}, {"kind": "hard"}, {"kind": "hard", "temperature": 2.0}, {"kind": "mse"}],
)
def test_whatever_is_minimised_a_perfect_student_has_perfect_figures(changes: Any) -> None:
    objective = Objective(DOMAIN, **changes)
    targets, std, mask = rows()
    targets[:, 0] = targets[:, 0].clamp(0.02, 0.98)
    std = torch.full_like(std, 0.05 * 0.5)
    logits = torch.stack([torch.logit(targets[:, 0]), torch.atanh(targets[:, 1] / 0.5)], dim=1)
    table, plain = (o.label_table(targets, std, mask) for o in (objective, objective.plain))
    log_std = torch.log(torch.tensor([0.05]))
    found = metrics(head_sums(logits, log_std, table, plain, LAYOUT, objective), objective)
    assert objective.labels_plainly == (changes == {"kind": "mse"})
    assert found["ring/kl"] == pytest.approx(0, abs=1e-6)
    assert found["steer/kl"] == pytest.approx(0, abs=1e-5)
    assert found["ring/calibration"] == pytest.approx(0, abs=1e-6)
    assert found["mse"] == pytest.approx(0, abs=1e-9)


def test_without_a_mask_figures_still_rest_on_what_experts_labelled() -> None:
    objective = Objective(DOMAIN, masked=False)
    targets, std, mask = rows()
    mask[:32, 0] = False
    logits = torch.stack([torch.logit(targets[:, 0].clamp(0.01, 0.99)), targets[:, 1]], dim=1)
    table, plain = (o.label_table(targets * mask, std, mask) for o in (objective, objective.plain))
    sums = head_sums(logits, torch.zeros(1), table, plain, LAYOUT, objective)
    assert sums.counted.tolist() == [64, 64]
    assert sums.rows.tolist() == mask.sum(dim=0).tolist()
    assert metrics(sums, objective)["ring/agreement"] == 1


def test_a_perfectly_calibrated_student_has_no_calibration_error() -> None:
    probability = torch.rand(1000)
    targets = torch.stack([probability, torch.zeros(1000)], dim=1)
    logits = torch.stack([torch.logit(probability), torch.zeros(1000)], dim=1)
    objective = Objective(DOMAIN)
    table = objective.label_table(targets, torch.zeros(1000, 2), torch.ones(1000, 2).bool())
    found = metrics(head_sums(logits, torch.zeros(1), table, table, LAYOUT, objective), objective)
    assert found["ring/calibration"] < 1e-6
    assert found["ring/kl"] < 1e-6


def test_sums_of_parts_add_up() -> None:
    objective = Objective(DOMAIN)
    table, logits, log_std = objective.label_table(*rows()), torch.randn(64, 2), torch.zeros(1)
    whole = head_sums(logits, log_std, table, table, LAYOUT, objective)
    first = head_sums(logits[:20], log_std, table[:20], table[:20], LAYOUT, objective)
    second = head_sums(logits[20:], log_std, table[20:], table[20:], LAYOUT, objective)
    assert metrics(first + second, objective) == pytest.approx(metrics(whole, objective))


def test_the_batch_loss_and_the_reported_loss_agree() -> None:
    for kind in ("kl", "hard", "mse"):
        objective = Objective(DOMAIN, kind=kind, head_weights={"steer": 3.0})
        table, logits, log_std = objective.label_table(*rows()), torch.randn(64, 2), torch.zeros(1)
        plain = objective.plain.label_table(*rows())
        sums = head_sums(logits, log_std, table, plain, LAYOUT, objective)
        expected = loss(logits, log_std, table, LAYOUT, objective, objective.weights)
        assert metrics(sums, objective)["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_head_without_labels_gives_no_figures() -> None:
    objective = Objective(DOMAIN)
    targets, std, mask = rows()
    mask[:, 1] = False
    table = objective.label_table(targets, std, mask)
    found = metrics(
        head_sums(torch.zeros(64, 2), torch.zeros(1), table, table, LAYOUT, objective), objective
    )
    assert not [name for name in found if name.startswith("steer")]


def test_cosines_tell_friend_from_foe() -> None:
    w = torch.nn.Parameter(torch.tensor([1.0, 0.0]))
    losses = {"a": w[0], "b": 2 * w[0], "c": -w[0], "d": w[1]}
    found = gradient_cosines(losses, [w])
    assert found["cosine/a-b"] == pytest.approx(1)
    assert found["cosine/a-c"] == pytest.approx(-1)
    assert found["cosine/a-d"] == pytest.approx(0)


def test_heads_are_compared_on_rows_from_all_over_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "COSINE_ROWS", 8)
    torch.manual_seed(0)
    network, objective = DistilledPolicyNetwork.for_domain(DOMAIN, 16), Objective(DOMAIN)
    targets, std, mask = rows()
    mask[:] = torch.stack([torch.arange(64) < 32, torch.arange(64) >= 32], dim=1)
    seen, table = torch.randn(64, 3), objective.label_table(targets * mask, std * mask, mask)
    found = interference(network, (seen, table, table), objective)["cosine/ring-steer"]
    spread = tuple(part[::8] for part in (seen, table, table))
    assert found == interference(network, spread, objective)["cosine/ring-steer"] != 0


def judged(wanted: torch.Tensor, labelled: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Rows along the bell's position in which experts ring it where ``wanted``."""
    n = len(wanted)
    seen = torch.stack([torch.zeros(n), torch.zeros(n), torch.linspace(-1, 1, n)], dim=1)
    targets = torch.stack([wanted.float(), torch.zeros(n)], dim=1)
    mask = torch.stack([labelled, torch.zeros(n).bool()], dim=1)
    table = Objective(DOMAIN).label_table(targets, torch.zeros(n, 2), mask)
    return seen, table, table


def presses(network: DistilledPolicyNetwork, seen: torch.Tensor) -> int:
    return int((network.logits(seen)[:, 0] > 0).sum())


@pytest.mark.parametrize("bias", [-5.0, 5.0])
def test_a_rare_button_is_pressed_as_often_as_the_experts_press_it(bias: float) -> None:
    torch.manual_seed(0)
    network = DistilledPolicyNetwork.for_domain(DOMAIN, 16)
    network.shift(0, bias)  # never pressed, or always
    rows = judged(torch.arange(400) < 40, torch.arange(400) < 300)
    match_rates(network, rows, rows)
    assert presses(network, rows[0][:300]) == 40
    before = weights(network)
    match_rates(network, rows, rows)
    assert weights(network) == before, "doing it twice changes nothing"


def test_a_button_is_rare_where_the_experts_played_or_where_the_student_did() -> None:
    seldom = judged(torch.arange(400) < 40, torch.ones(400).bool())
    often = judged(torch.arange(400) < 200, torch.ones(400).bool())
    for met, shown, wanted in ((often, seldom, 200), (seldom, often, 40)):
        torch.manual_seed(0)
        network = DistilledPolicyNetwork.for_domain(DOMAIN, 16)
        network.shift(0, -5.0)
        match_rates(network, met, shown)
        assert presses(network, met[0]) == wanted


def test_a_common_button_and_one_without_labels_are_left_alone() -> None:
    torch.manual_seed(0)
    network = DistilledPolicyNetwork.for_domain(DOMAIN, 16)
    network.shift(0, -5.0)
    before = weights(network)
    common = judged(torch.arange(400) < 200, torch.ones(400).bool())
    silent = judged(torch.arange(400) < 40, torch.zeros(400).bool())
    for table in (common, silent):
        match_rates(network, table, table)
    always = judged(torch.ones(400).bool(), torch.ones(400).bool())
    rare = judged(torch.arange(400) < 40, torch.ones(400).bool())
    match_rates(network, always, rare)
    assert weights(network) == before
