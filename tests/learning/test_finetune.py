"""Fine-tuning a half-trained policy of the tiny domain: it gains, and never falls unseen."""

from __future__ import annotations

import functools
import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skilldistill.config import FinetuneConfig
from skilldistill.domain import Policy
from skilldistill.errors import CorruptFile, Interrupted
from skilldistill.learning import finetune as module
from skilldistill.learning.finetune import WARMUP_UPDATES, FinetuneOutcome, _Run, finetune
from skilldistill.learning.journal import RECORDS_FILE
from skilldistill.learning.selfplay import FrozenSelf, Member
from skilldistill.learning.sparring import SELF, START
from skilldistill.learning.vecenv import SB3VecEnv
from skilldistill.policy import checkpoint
from skilldistill.policy.player import NetworkPolicy
from skilldistill.training_state import STATE_FILE, packed
from tests import tiny
from tests.asked import ThreadsAsked
from tests.forgetful import ForgetfulVectorEnv
from tests.learning import half_trained

ROWS = 512
"""Rows per rollout with n_steps 128."""


def settings(**changes: Any) -> FinetuneConfig:
    small: dict[str, Any] = {
        "domain": "tiny",
        "opponent": "",
        "device": "cpu",
        "timesteps": 6 * ROWS,
        "n_steps": 128,
        "batch_size": 128,
        "n_epochs": 3,
        "gamma": 0.9,
        "warmup_fraction": 0.0,
        "guard_every": 2,
    }
    return FinetuneConfig(**{**small, **changes})


def run(directory: Path, config: FinetuneConfig, **others: Any) -> FinetuneOutcome:
    directory.mkdir(exist_ok=True)
    return finetune(half_trained.network(), config, directory=directory, **others)


def test_the_callers_generators_are_left_alone(tmp_path: Path) -> None:
    def state() -> list[Any]:
        words = np.random.get_state()[1]  # noqa: NPY002
        return [random.getstate(), list(words), torch.get_rng_state().tolist()]

    start = half_trained.network()
    before = state()
    finetune(start, settings(timesteps=100), directory=tmp_path)
    assert state() == before
    checkpoint.save(tmp_path, start)
    checkpoint.load(tmp_path)
    assert state() == before


def weights(outcome: FinetuneOutcome) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in outcome.model.policy.state_dict().items()}


def same(first: FinetuneOutcome, second: FinetuneOutcome) -> bool:
    a, b = weights(first), weights(second)
    return all(torch.equal(a[name], b[name]) for name in a) and first.records == second.records


@pytest.mark.slow
def test_it_learns_what_the_start_did_not_know(tmp_path: Path) -> None:
    config = settings(
        timesteps=40_000,
        n_steps=256,
        n_epochs=10,
        learning_rate=1e-3,
        warmup_fraction=0.2,
        kl_coef=0.3,
        initial_std=0.3,
        guard_every=10,
    )
    outcome = run(tmp_path, config, evaluate=half_trained.scores)
    before, after = outcome.summary["before"], outcome.summary["after"]
    assert before["both"] < 0.45
    assert after["both"] > before["both"] + 0.25
    assert after["steer"] >= before["steer"] - 0.05
    assert outcome.summary["collapse_depth"] <= 0.05
    assert outcome.summary["steps"] >= 40_000
    played = half_trained.scores(NetworkPolicy(outcome.network), ["both"])["both"].mean()
    assert played == pytest.approx(after["both"])


@pytest.mark.parametrize("bf16", [True, False])
def test_updates_are_rounded_only_where_that_is_wanted_and_native(
    bf16: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[bool, torch.device]] = []

    def decide(wanted: bool, device: torch.device) -> torch.dtype:
        asked.append((wanted, device))
        return torch.bfloat16

    monkeypatch.setattr(module, "product_dtype", decide)
    outcome = run(tmp_path, settings(bf16=bf16, timesteps=100))
    assert outcome.model.dtype == torch.bfloat16
    assert asked == [(bf16, torch.device("cpu"))]


@pytest.mark.parametrize(("bf16", "expected"), [(True, {1}), (False, {1, 2})])
def test_where_steps_are_quick_all_of_a_run_takes_one_thread(
    bf16: bool,
    expected: set[int],
    tmp_path: Path,
    two_threads: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    asked = ThreadsAsked()  # before every tick, of few arenas, and before every gradient step
    rehearse = module.rehearse

    def noted(*args: Any, **settings: Any) -> Any:
        asked()
        return rehearse(*args, **settings)

    monkeypatch.setattr(module, "rehearse", noted)
    run(tmp_path, settings(timesteps=ROWS, bf16=bf16), stop=asked)
    assert asked.found == expected
    assert torch.get_num_threads() == 2


def test_an_eighth_of_a_batch_is_rehearsed_at_the_ties_first_weight(tmp_path: Path) -> None:
    outcome = run(tmp_path, settings(timesteps=100, batch_size=128, kl_coef=0.4))
    rehearsal = outcome.model.rehearsal
    assert rehearsal is not None
    assert rehearsal.rows == 16
    assert rehearsal.weights.unique().tolist() == pytest.approx([0.0, 0.4])
    assert run(tmp_path, settings(timesteps=100, kl_coef=0.0)).model.rehearsal is None


def test_the_actor_is_bit_identical_until_the_critic_is_ready(tmp_path: Path) -> None:
    config = settings(warmup_fraction=1.0, warmup_explained_variance=2.0)
    outcome = run(tmp_path, config, evaluate=half_trained.scores)
    begun = half_trained.network()
    begun.sharpen(config.binary_temperature)
    start = begun.state_dict()
    for name, value in outcome.network.state_dict().items():
        if name != "log_std":
            assert torch.equal(value, start[name]), name
    assert {r["phase"] for r in outcome.records if r["kind"] == "rollout"} == {"critic"}
    assert outcome.summary["warmup_steps"] == outcome.summary["steps"]
    assert outcome.summary["after"] == outcome.summary["before"]
    assert outcome.summary["collapse_depth"] is None, "nothing that could fall was looked at"


def phases(outcome: FinetuneOutcome) -> list[str]:
    return [record["phase"] for record in outcome.records if record["kind"] == "rollout"]


def test_the_warm_up_ends_by_quality_or_by_its_limit(tmp_path: Path) -> None:
    never = settings(warmup_fraction=0.5, warmup_explained_variance=2.0)
    assert phases(run(tmp_path, never)) == ["critic"] * 3 + ["actor"] * 3
    at_once = settings(warmup_fraction=0.5, warmup_explained_variance=-9e9)
    assert phases(run(tmp_path, at_once)) == ["actor"] * 6
    none = settings(warmup_fraction=0.0, warmup_explained_variance=2.0)
    assert phases(run(tmp_path, none)) == ["actor"] * 6


def test_a_rollout_that_the_warm_ups_limit_lies_in_teaches_the_actor_too(tmp_path: Path) -> None:
    short = settings(timesteps=ROWS, warmup_fraction=0.2, warmup_explained_variance=2.0)
    outcome = run(tmp_path, short)
    (record,) = outcome.records
    assert (record["phase"], record["critic_updates"]) == ("actor", WARMUP_UPDATES)
    assert outcome.summary["warmup_steps"] == 0


def test_the_actor_learns_from_the_very_rollouts_the_critic_learnt_from(tmp_path: Path) -> None:
    config = settings(n_epochs=10, warmup_fraction=0.5, warmup_explained_variance=0.5)
    outcome = run(tmp_path, config)
    assert phases(outcome) == ["actor"] * 6
    assert outcome.summary["warmup_steps"] == 0
    first, *others = outcome.records
    assert first["explained_variance"] >= 0.5
    assert 0 < first["critic_updates"] == outcome.summary["warmup_updates"] < WARMUP_UPDATES
    assert {record["critic_updates"] for record in others} == {0}


def test_what_a_fall_would_go_back_to_has_the_start_and_a_critic_that_knows_it() -> None:
    config = settings(n_epochs=10, warmup_fraction=0.5, guard_every=0)
    made = _Run(half_trained.network(), config, (None,), None, None, lambda: 0)
    made.keeper.begin()
    first = made.state()["good"]["policy"]
    made.iterate()
    assert made.pace.released == 0
    good, now = made.state()["good"]["policy"], made.model.policy.state_dict()
    for name, value in good.items():
        is_actor = name.startswith("network.")
        learns = name.endswith(("weight", "bias"))
        assert torch.equal(value, first[name]) == (is_actor or not learns), name
        assert not (learns and torch.equal(value, now[name])), name


def test_a_critic_that_never_understands_is_not_taught_for_ever(tmp_path: Path) -> None:
    never = settings(warmup_fraction=0.5, warmup_explained_variance=2.0)
    outcome = run(tmp_path, never)
    taught = [record["critic_updates"] for record in outcome.records]
    assert taught == [WARMUP_UPDATES] * 3 + [0] * 3
    none = run(tmp_path, settings(warmup_fraction=0.0, warmup_explained_variance=2.0))
    assert none.summary["warmup_updates"] == 0


def test_learning_rates_and_ties_follow_their_schedules(tmp_path: Path) -> None:
    config = settings(
        timesteps=20 * ROWS, n_epochs=1, warmup_fraction=0.1, warmup_explained_variance=2.0,
        ramp=0.2, kl_coef=2.0, kl_floor=0.02, kl_decay=0.5,
    )  # fmt: skip
    outcome = run(tmp_path, config)
    rates = [r["actor_lr"] for r in outcome.records]
    assert rates[:2] == [0.0, 0.0], "no actor in the warm-up"
    assert rates[2] == pytest.approx(3e-4 / 4 * (1 - 0.9 * 0.1))
    assert rates[2] < rates[3] < rates[4] < rates[5]
    assert rates[6] > rates[12] > rates[19]
    ties = [r["kl_coefs"] for r in outcome.records]
    assert ties[2] == [2.0, 2.0]
    assert ties[7][0] == pytest.approx(2.0 * 0.01**0.5, rel=1e-6)
    assert ties[12] == ties[19] == [0.02, 0.02]
    flat = run(tmp_path, settings(decay=False, ramp=0.0, kl_coef=0.0))
    assert {r["actor_lr"] for r in flat.records} == {3e-4}
    assert {tuple(r["kl_coefs"]) for r in flat.records} == {(0.0, 0.0)}


def test_the_deviation_is_lowered_at_the_start_and_never_raised() -> None:
    def log_std(initial: float) -> float:
        config = settings(initial_std=initial)
        made = _Run(half_trained.network(), config, (None,), None, None, lambda: 0)
        assert made.reference.log_std.item() == made.model.policy.network.log_std.item()
        return made.model.policy.network.log_std.item()

    start = half_trained.network().log_std.item()
    assert log_std(0.05) == pytest.approx(math.log(0.05))
    assert log_std(0.0) == log_std(50.0) == start


def test_the_start_is_played_to_the_bit_and_never_changed(tmp_path: Path) -> None:
    start = half_trained.network()
    before = {name: value.clone() for name, value in start.state_dict().items()}
    made = _Run(start, settings(), (None,), None, None, lambda: 0)
    observations = np.random.default_rng(0).uniform(-1, 1, (400, 3)).astype(np.float32)
    expected = NetworkPolicy(start).predict(observations)
    predicted, _ = made.model.predict(observations, deterministic=True)
    np.testing.assert_allclose(predicted, expected, atol=1e-6)
    run(tmp_path, settings(timesteps=ROWS))
    assert all(torch.equal(start.state_dict()[name], value) for name, value in before.items())


# interruption ---------------------------------------------------------------------------------


class StopAt:
    """Answers SIGTERM at the n-th question."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self) -> int:
        self.left -= 1
        return 15 if self.left < 0 else 0


def opponents_of(kind: str) -> tuple[str | None, ...]:
    return (None, SELF, START) if kind == "self" else (None,)


@pytest.mark.parametrize("kind", ["plain", "self"])
@pytest.mark.parametrize("question", [3, 50, 85, 110, 146])
def test_going_on_after_an_interruption_changes_no_bit(
    tmp_path: Path, kind: str, question: int
) -> None:
    # a rollout of 8 ticks and an update of 12 minibatches, five of these in the warm-up's only
    # rollout: 68 questions, then 20 per iteration
    config = settings(timesteps=5 * ROWS, warmup_fraction=0.2, warmup_explained_variance=2.0)
    others: dict[str, Any] = {
        "opponents": opponents_of(kind),
        "evaluate": half_trained.scores,
        "versus": lambda player, rival: 0.75,
    }
    whole = run(tmp_path / "whole", config, **others)
    cut = run(tmp_path / "cut", config, stop=StopAt(question), **others)
    assert cut.interrupted == 15
    assert cut.summary["steps"] < whole.summary["steps"]
    assert (tmp_path / "cut" / STATE_FILE).exists()
    resumed = run(tmp_path / "cut", settings(**{**vars(config), "resume": True}), **others)
    assert resumed.interrupted == 0
    assert same(whole, resumed)
    lines = (tmp_path / "cut" / RECORDS_FILE).read_text().splitlines()
    assert [json.loads(one) for one in lines] == resumed.records


def test_arenas_that_give_no_state_begin_episodes_that_were_not_played_yet(tmp_path: Path) -> None:
    begun: list[list[tuple[int, int]]] = []
    start = half_trained.network().twin()
    start.domain = replace(
        tiny.DOMAIN, make_vector_env=functools.partial(ForgetfulVectorEnv, begun=begun)
    )
    cut = finetune(start, settings(), directory=tmp_path, stop=StopAt(60))
    assert 0 < cut.summary["steps"] < 6 * ROWS
    before = set(chain(*begun))
    begun.clear()
    resumed = finetune(start, settings(resume=True), directory=tmp_path)
    assert resumed.summary["steps"] == 6 * ROWS
    assert min(map(len, (before, *begun))) > 20
    assert before.isdisjoint(chain(*begun))


def test_an_interrupted_evaluation_is_repeated(tmp_path: Path) -> None:
    calls = iter(range(100))

    def evaluate(policy: Policy, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        if next(calls) == 2:
            raise Interrupted("stopped", signum=2)
        return half_trained.scores(policy, tasks)

    whole = run(tmp_path / "whole", settings(), evaluate=half_trained.scores)
    cut = run(tmp_path / "cut", settings(), evaluate=evaluate)
    assert cut.interrupted == 2
    resumed = run(tmp_path / "cut", settings(resume=True), evaluate=evaluate)
    assert same(whole, resumed)


def test_an_interruption_before_there_is_anything_to_save_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: _Run) -> dict[str, Any]:
        raise Interrupted("stopped by SIGINT")

    with monkeypatch.context() as patch:
        patch.setattr(_Run, "state", interrupted)
        with pytest.raises(Interrupted, match="SIGINT"):
            run(tmp_path / "never", settings())
    assert not (tmp_path / "never" / STATE_FILE).exists()

    whole = run(tmp_path / "whole", settings())
    assert run(tmp_path / "cut", settings(), stop=StopAt(110)).interrupted
    saved = (tmp_path / "cut" / STATE_FILE).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(_Run, "state", interrupted)
        with pytest.raises(Interrupted, match="SIGINT"):
            run(tmp_path / "cut", settings(resume=True))
    assert (tmp_path / "cut" / STATE_FILE).read_bytes() == saved
    assert same(whole, run(tmp_path / "cut", settings(resume=True)))


def test_the_same_seed_twice_gives_the_same_bits_and_another_does_not(tmp_path: Path) -> None:
    first, second = (run(tmp_path / name, settings()) for name in "ab")
    assert same(first, second)
    assert not same(first, run(tmp_path / "c", settings(seed=1)))


# the guard ------------------------------------------------------------------------------------


class Plan:
    """Scores as planned, one entry per call; remembers the weights it was asked about."""

    def __init__(self, *plan: dict[str, float]) -> None:
        self.plan = list(plan)
        self.asked: list[dict[str, torch.Tensor]] = []

    def __call__(self, policy: Policy, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        assert isinstance(policy, NetworkPolicy)
        state = policy.network.state_dict()
        self.asked.append({name: value.clone() for name, value in state.items()})
        now = self.plan.pop(0) if len(self.plan) > 1 else self.plan[0]
        return {task: np.linspace(-0.01, 0.01, 20) + now.get(task, 0.8) for task in tasks}


def test_a_fall_tightens_the_tie_then_brings_back_the_last_good_weights(tmp_path: Path) -> None:
    low = {"ring": 0.5}
    # baseline; after rollouts 1 (early, fight only) and 2; fallen after 4, 5 and 6
    plan = Plan({}, {}, {}, low, low, low, {})
    config = settings(timesteps=8 * ROWS, guard_every=2, learning_rate=1e-3, ramp=0.0)
    outcome = run(tmp_path, config, evaluate=plan)
    guards = [r for r in outcome.records if r["kind"] == "guard"]
    actions = [r["action"] for r in guards]
    assert actions == ["good", "good", "raise", "raise", "rollback", "good"]
    assert guards[2]["falling"] == ["ring"]
    assert guards[2]["kl_boosts"] == [4.0, 1.0], "only the head of the fallen skill"
    at = guards[2]["steps"]
    following = next(r for r in outcome.records if r["kind"] == "rollout" and r["steps"] > at)
    assert following["kl_coefs"][0] > following["kl_coefs"][1]
    assert (outcome.summary["kl_raises"], outcome.summary["rollbacks"]) == (2, 1)


def test_a_tightened_tie_loosens_by_a_tenth_with_every_rollout(tmp_path: Path) -> None:
    # baseline; fallen after rollout 1 (early), and no more after that
    plan = Plan({}, {"both": 0.5}, {})
    config = settings(timesteps=4 * ROWS, guard_every=1, kl_coef=1.0, kl_floor=1.0)
    outcome = run(tmp_path, config, evaluate=plan)
    ties = [r["kl_coefs"][0] for r in outcome.records if r["kind"] == "rollout"]
    assert ties == pytest.approx([1.0, 4.0, 3.6, 3.24])


def test_training_never_plays_the_episodes_of_its_own_seed() -> None:
    def seen(seed: int) -> np.ndarray:
        made = _Run(half_trained.network(), settings(seed=seed), (None,), None, None, lambda: 0)
        return np.asarray(made.model._last_obs)

    arenas = tiny.TinyArenas("both", ROWS, seed=5)
    arenas.start(np.arange(ROWS))  # what a policy is scored on with this seed
    assert not np.isin(seen(5)[:, 0], arenas.unified()[:, 0]).any()
    assert not np.isin(seen(5)[:, 0], seen(6)[:, 0]).any()


def test_every_seed_rehearses_states_of_its_own() -> None:
    def rehearsed(seed: int) -> np.ndarray:
        made = _Run(half_trained.network(), settings(seed=seed), (None,), None, None, lambda: 0)
        assert made.model.rehearsal is not None
        return made.model.rehearsal.observations.numpy()

    assert np.array_equal(rehearsed(1), rehearsed(1))
    assert not np.array_equal(rehearsed(0), rehearsed(1))


def test_weights_after_a_rollback_are_the_good_ones(tmp_path: Path) -> None:
    low = {"both": 0.1}
    plan = Plan({}, {}, {}, low)
    config = settings(timesteps=6 * ROWS, guard_every=2, learning_rate=1e-3)
    outcome = run(tmp_path, config, evaluate=plan)
    # rollout 2 was good; 4, 5 and 6 fell: the end is what stood after rollout 2
    assert any(not torch.equal(plan.asked[5][n], v) for n, v in plan.asked[2].items())
    for name, value in outcome.network.state_dict().items():
        assert torch.equal(value, plan.asked[2][name])
    assert outcome.summary["rollbacks"] >= 1


def test_the_depth_of_a_collapse_is_in_the_summary(tmp_path: Path) -> None:
    plan = Plan({"both": 0.8}, {"both": 0.77}, {"both": 0.9}, {"both": 0.6}, {"both": 0.9})
    outcome = run(tmp_path, settings(timesteps=10 * ROWS, guard_every=3), evaluate=plan)
    summary = outcome.summary
    assert summary["collapse_worst"] == pytest.approx(0.77)
    assert summary["collapse_depth"] == pytest.approx(0.03)
    assert summary["worst"] == pytest.approx(0.6), "later falls count apart"


def test_a_run_that_falls_again_and_again_ends_with_the_last_good_weights(tmp_path: Path) -> None:
    plan = Plan({}, {}, {}, {"both": 0.1})
    config = settings(timesteps=60 * ROWS, guard_every=2, learning_rate=1e-3)
    outcome = run(tmp_path, config, evaluate=plan)
    assert outcome.summary["given_up"]
    assert outcome.summary["rollbacks"] == 3
    assert outcome.summary["steps"] < config.timesteps
    boosts = [boost for r in outcome.records if "kl_boosts" in r for boost in r["kl_boosts"]]
    assert max(boosts) <= 64, "they begin anew with every rollback"
    for name, value in outcome.network.state_dict().items():
        assert torch.equal(value, plan.asked[2][name])


def test_progress_counts_what_is_played_in_whole_rollouts(tmp_path: Path) -> None:
    heard: list[tuple[float, float]] = []
    config = settings(timesteps=2 * ROWS - 100)
    run(tmp_path, config, progress=lambda told: heard.append((told.done, told.total)))
    assert heard == [(ROWS, 2 * ROWS), (2 * ROWS, 2 * ROWS)]


@pytest.mark.parametrize("better", [True, False])
def test_a_run_that_ends_with_its_start_says_so(better: bool, tmp_path: Path) -> None:
    plan = Plan({}, {"both": 0.9 if better else 0.1})
    outcome = run(tmp_path, settings(guard_every=1, learning_rate=1e-3), evaluate=plan)
    kept = plan.asked[0].items()
    same_weights = all(torch.equal(outcome.network.state_dict()[name], old) for name, old in kept)
    assert outcome.summary["unchanged"] == same_weights == (not better)


@pytest.mark.parametrize(("guard_every", "good"), [(1, 1), (2, 0)])
def test_self_play_that_gives_up_ends_with_the_last_good_weights(
    guard_every: int, good: int, tmp_path: Path
) -> None:
    plan = Plan({}, {}, {"both": 0.1})
    config = settings(timesteps=60 * ROWS, guard_every=guard_every, learning_rate=1e-3)
    outcome = run(tmp_path, config, evaluate=plan, opponents=(SELF,))
    assert outcome.summary["given_up"]
    assert outcome.records[-1]["kind"] == "final"
    for name, value in outcome.network.state_dict().items():
        assert torch.equal(value, plan.asked[good][name])


def test_weights_that_are_no_numbers_again_and_again_end_the_run(tmp_path: Path) -> None:
    config = settings(timesteps=20 * ROWS, learning_rate=1e38, ramp=0.0, guard_every=50)
    outcome = run(tmp_path, config, evaluate=half_trained.scores)
    assert outcome.summary["given_up"]
    assert outcome.summary["after"] == pytest.approx(outcome.summary["before"])


def test_a_guarded_end_is_scored_once_in_self_play_too(tmp_path: Path) -> None:
    asked = [Plan({"both": 0.8}), Plan({"both": 0.8})]
    for number, (plan, opponents) in enumerate(zip(asked, [(None,), (SELF,)], strict=True)):
        run(tmp_path / str(number), settings(), evaluate=plan, opponents=opponents)
    assert len(asked[0].asked) == len(asked[1].asked)


def test_the_arenas_are_closed_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[SB3VecEnv] = []
    monkeypatch.setattr(SB3VecEnv, "close", lambda env: closed.append(env))
    outcome = run(tmp_path, settings(timesteps=100))
    assert closed == [outcome.model.env]


def test_each_rollback_halves_the_learning_rate(tmp_path: Path) -> None:
    low = {"both": 0.1}
    plan = Plan({}, {}, low, low, low, {})
    config = settings(timesteps=8 * ROWS, guard_every=1, decay=False, ramp=0.0)
    outcome = run(tmp_path, config, evaluate=plan)
    rates = [r["actor_lr"] for r in outcome.records if r["kind"] == "rollout"]
    assert rates == [3e-4] * 4 + [1.5e-4] * 4


def test_weights_that_are_no_numbers_never_survive(tmp_path: Path) -> None:
    config = settings(timesteps=20 * ROWS, learning_rate=1e30, ramp=0.0)
    outcome = run(tmp_path, config, evaluate=half_trained.scores)
    assert outcome.summary["rollbacks"] >= 1
    assert all(torch.isfinite(value).all() for value in outcome.network.state_dict().values())
    played = half_trained.scores(NetworkPolicy(outcome.network), ["both"])["both"].mean()
    assert played == pytest.approx(outcome.summary["before"]["both"])


def test_better_weights_are_not_given_up_for_later_ones(tmp_path: Path) -> None:
    # 0.9 is kept as the best; 0.85 is no fall below the start's 0.8, but no gain either
    plan = Plan({"both": 0.8}, {"both": 0.9}, {"both": 0.9}, {"both": 0.85})
    outcome = run(tmp_path, settings(guard_every=2, learning_rate=1e-3), evaluate=plan)
    assert outcome.records[-1]["kind"] == "final"
    for name, value in outcome.network.state_dict().items():
        assert torch.equal(value, plan.asked[2][name])


def test_a_fall_that_only_the_last_scores_show_brings_back_the_good_weights(
    tmp_path: Path,
) -> None:
    # baseline; after rollouts 1 (early, fight only), 2 and 4; at the end; the good weights again
    plan = Plan({}, {}, {}, {}, {"both": 0.1}, {})
    config = settings(timesteps=5 * ROWS, guard_every=2, learning_rate=1e-3)
    outcome = run(tmp_path, config, evaluate=plan)
    actions = [record["action"] for record in outcome.records if record["kind"] == "guard"]
    assert actions == ["good", "good", "good", "rollback"]
    assert any(not torch.equal(plan.asked[4][n], v) for n, v in plan.asked[3].items())
    for name, value in outcome.network.state_dict().items():
        assert torch.equal(value, plan.asked[3][name])
    assert outcome.summary["after"]["both"] == pytest.approx(0.8), "of the weights that came back"


def test_skills_have_a_depth_of_their_own(tmp_path: Path) -> None:
    plan = Plan({}, {"ring": 0.7, "steer": 0.9}, {})
    outcome = run(tmp_path, settings(guard_every=1), evaluate=plan)
    assert outcome.summary["collapse_depths"] == {
        "both": 0.0, "steer": 0.0, "ring": pytest.approx(0.1),
    }  # fmt: skip


def test_no_depth_is_claimed_of_what_nobody_looked_at(tmp_path: Path) -> None:
    outcome = run(tmp_path, settings(guard_every=3), evaluate=Plan({}))
    assert outcome.summary["collapse_depths"] == {"both": 0.0}


def test_a_state_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_bytes(packed({"records": "[]"}, version=module.STATE_VERSION))
    with pytest.raises(CorruptFile, match="is no state of this run") as caught:
        run(tmp_path, settings(resume=True))
    assert "--resume" in caught.value.hint


def test_any_seed_a_dataset_can_record_will_do(tmp_path: Path) -> None:
    outcome = run(tmp_path, settings(seed=2**64 - 1, timesteps=100))
    assert outcome.summary["steps"] == ROWS


def test_a_resumed_curve_has_every_step_once(tmp_path: Path) -> None:
    accumulating = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator
    config = settings(tensorboard=True)
    asked = iter(range(100_000))
    assert run(tmp_path, config, stop=lambda: 2 * (next(asked) > 100)).interrupted
    run(tmp_path, replace(config, resume=True))
    events = accumulating(str(tmp_path / "tensorboard")).Reload()
    steps = [event.step for event in events.Scalars("rollout/actor_lr")]
    assert steps == [ROWS * (n + 1) for n in range(6)]


def test_a_killed_run_has_been_saved_from_time_to_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_SECONDS", -1.0)

    def killed(report: object) -> None:
        if len(list(tmp_path.glob(STATE_FILE))) and next(told) == 3:
            raise KeyboardInterrupt

    told = iter(range(100))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, settings(), progress=killed)
    whole = run(tmp_path / "whole", settings())
    assert same(run(tmp_path, settings(resume=True)), whole)


def test_the_recipes_numbers_reach_the_algorithm(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "n_epochs": 2,
        "gamma": 0.5,
        "gae_lambda": 0.25,
        "max_grad_norm": 0.125,
        "ent_coef": 0.0625,
        "target_kl": 0.75,
        "batch_size": 64,
    }
    config = settings(**given, clip_range=0.375, critic_learning_rate=2e-3, timesteps=100)
    made = _Run(half_trained.network(), config, (None,), None, None, lambda: 0)
    assert {name: getattr(made.model, name) for name in given} == given
    assert made.model.clip_range(1.0) == 0.375  # type: ignore[operator]
    assert made.model.normalize_advantage
    assert made.pace.critic_lr(0) == 2e-3


def test_observations_are_normalised_as_they_were_throughout(tmp_path: Path) -> None:
    start = half_trained.network()
    outcome = run(tmp_path, settings(learning_rate=1e-2))
    for name in ("obs_mean", "obs_scale"):
        assert torch.equal(outcome.network.state_dict()[name], start.state_dict()[name])


def test_without_a_guard_nothing_is_played_or_claimed(tmp_path: Path) -> None:
    def never(policy: Policy, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        raise AssertionError

    outcome = run(tmp_path, settings(guard_every=0), evaluate=never)
    assert outcome.summary["before"] == {}
    assert outcome.summary["collapse_depth"] is None


# opponents ------------------------------------------------------------------------------------


def test_self_play_meets_earlier_selves_and_rates_them(tmp_path: Path) -> None:
    config = settings(opponent="self", guard_every=2)
    outcome = run(tmp_path, config, versus=lambda player, rival: 1.0)
    ratings = [record for record in outcome.records if record["kind"] == "ratings"]
    assert [record["steps"] for record in ratings] == [2 * ROWS, 4 * ROWS, 6 * ROWS]
    assert [member["steps"] for member in ratings[-1]["pool"]] == [
        0, 2 * ROWS, 4 * ROWS, 6 * ROWS,
    ]  # fmt: skip
    assert outcome.summary["elo"] > 1000
    assert ratings[-1]["pool"][0]["elo"] == 1000


def test_self_play_goes_on_without_a_guard_and_claims_no_rating_before_a_match(
    tmp_path: Path,
) -> None:
    config = settings(opponent="self", guard_every=0)
    outcome = run(tmp_path / "long", config, versus=lambda player, rival: 1.0)
    assert [r["steps"] for r in outcome.records if r["kind"] == "ratings"] == [5 * ROWS]
    assert outcome.summary["elo"] > 1000
    short = replace(config, timesteps=2 * ROWS)
    assert run(tmp_path / "short", short, versus=lambda a, b: 1.0).summary["elo"] is None
    assert run(tmp_path / "unrated", config).summary["elo"] is None


def test_each_rollout_is_played_against_selves_drawn_from_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become: list[int] = []
    original = FrozenSelf.become

    def note(self: FrozenSelf, member: Member) -> None:
        become.append(member.steps)
        original(self, member)

    monkeypatch.setattr(FrozenSelf, "become", note)
    run(tmp_path, settings(opponent="self", guard_every=1, timesteps=12 * ROWS))
    assert len(become) == 2 * 12, "two groups of arenas, each against a self of its own"
    assert become[:2] == [0, 0]
    assert len(set(become)) > 2
