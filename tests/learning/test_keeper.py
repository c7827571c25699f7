"""The guard's side of a run: what is judged when, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from skilldistill.config import FinetuneConfig
from skilldistill.domain import Policy
from skilldistill.learning.finetune import _Run
from skilldistill.learning.keeper import Keeper
from tests.learning import half_trained


class Judge:
    """Scores that a test sets, and what was asked for."""

    def __init__(self) -> None:
        self.level = 0.8
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, policy: Policy, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        self.asked.append(tuple(tasks))
        return {task: np.full(8, self.level) for task in tasks}


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def run(judge: Judge) -> _Run:
    config = FinetuneConfig(domain="tiny", opponent="", device="cpu", timesteps=10_000, n_steps=16)
    made = _Run(half_trained.network(), config, (None,), judge, None, lambda: 0)
    made.pace.released = 0
    made.keeper.begin()
    return made


@pytest.fixture
def keeper(run: _Run) -> Keeper:
    return run.keeper


def spoil(run: _Run, value: float) -> None:
    with torch.no_grad():
        run.model.policy.network.log_std.fill_(value)


def test_early_on_the_fight_is_judged_always_and_the_rest_in_turn(
    run: _Run, keeper: Keeper, judge: Judge
) -> None:
    everything = ("both", "steer", "ring")
    assert judge.asked == [everything]
    keeper.look(regular=False)
    keeper.look(regular=True)
    assert judge.asked[1:] == [("both",), everything]
    run.model.num_timesteps = 5_000
    keeper.look(regular=False)
    assert len(judge.asked) == 3
    judge.level = 0.1
    keeper.look(regular=True)
    keeper.look(regular=False)  # a fall is looked into at once
    assert judge.asked[3:] == [everything, everything]


def test_a_fall_is_held_then_undone(run: _Run, keeper: Keeper, judge: Judge) -> None:
    good = run.model.policy.network.log_std.clone()
    spoil(run, -1.0)
    judge.level = 0.1
    for _ in range(2):
        keeper.look(regular=True)
    assert (keeper.watch.raises, keeper.watch.rollbacks) == (2, 0)
    assert min(run.pace.boosts) > 1
    assert run.model.policy.network.log_std.item() == -1.0
    keeper.look(regular=True)
    assert keeper.watch.rollbacks == 1
    assert torch.equal(run.model.policy.network.log_std, good)
    assert run.pace.caution == 0.5


def test_only_what_is_no_worse_than_the_best_is_kept(
    run: _Run, keeper: Keeper, judge: Judge
) -> None:
    for level, spread in ((0.9, -1.0), (0.81, -2.0)):  # 0.81 is no fall below the start's 0.8
        judge.level = level
        spoil(run, spread)
        keeper.look(regular=True)
    assert keeper.state()["good"]["policy"]["network.log_std"].item() == -1.0


def test_small_losses_do_not_add_up_unnoticed(run: _Run, keeper: Keeper, judge: Judge) -> None:
    # each is within the margin of 0.016 below the one before, but not below the best
    for level, spread in ((1.0, -1.0), (0.985, -2.0), (0.97, -3.0)):
        judge.level = level
        spoil(run, spread)
        keeper.look(regular=True)
    assert keeper.state()["good"]["policy"]["network.log_std"].item() == -2.0


def test_weights_that_are_no_numbers_are_undone_at_once(run: _Run, keeper: Keeper) -> None:
    good = run.model.policy.network.log_std.clone()
    keeper.recover_if_broken()
    assert run.records[-1]["kind"] == "baseline"
    spoil(run, float("nan"))
    keeper.recover_if_broken()
    assert torch.equal(run.model.policy.network.log_std, good)
    assert run.records[-1]["falling"] == ["weights are not finite"]
    assert keeper.watch.rollbacks == 1


def test_another_keeper_goes_on_from_a_state(run: _Run, keeper: Keeper, judge: Judge) -> None:
    judge.level = 0.1
    spoil(run, -1.0)
    keeper.look(regular=True)
    notes: list[Any] = []
    other = Keeper(run.model, run.config, run.pace, judge, lambda *args, **_: notes.append(args))
    other.restore(keeper.state())
    assert other.summary() == keeper.summary()
    for _ in range(2):
        other.look(regular=True)
    assert other.watch.rollbacks == 1
    assert keeper.watch.rollbacks == 0, "it shares nothing with the first"
    for name, value in keeper.state()["good"]["policy"].items():
        assert torch.equal(run.model.policy.state_dict()[name], value), name
    assert notes == [("guard",), ("guard",)]
