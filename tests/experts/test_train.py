"""The training loop is Stable-Baselines3's own, with scorings in between."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3 import PPO

from skilldistill.config import TrainConfig
from skilldistill.errors import CorruptFile
from skilldistill.experts import train as module
from skilldistill.experts.network import Expert
from skilldistill.experts.sb3_live import distribution_parameters
from skilldistill.experts.train import TrainOutcome, TrainSettings, train, training_seed
from skilldistill.learning.vecenv import SB3VecEnv
from skilldistill.training_state import STATE_FILE, packed
from tests.flipped import flip_a_bit
from tests.forgetful import ForgetfulVectorEnv
from tests.stateful import StatefulEnv
from tests.tiny import DOMAIN, TinyVectorEnv

SKILL = DOMAIN.skill("steer")
CONFIG = TrainConfig(skill="steer", domain="tiny", timesteps=3000, evaluations=3)


def arenas() -> SB3VecEnv:
    return SB3VecEnv(TinyVectorEnv("steer", 16, seed=training_seed(0)))


@pytest.mark.slow
def test_learns_what_sb3_learns(tmp_path: Path) -> None:
    outcome = train(
        arenas(),
        SKILL,
        CONFIG,
        main_metric="score",
        evaluate=lambda expert: {"score": 0.0},
        directory=tmp_path,
    )
    own = TrainSettings.of(SKILL, CONFIG)
    model = PPO(
        "MlpPolicy",
        arenas(),
        seed=training_seed(0),
        device="cpu",
        policy_kwargs={"net_arch": [16, 16]},
        **own.ppo,
    )
    model.learn(3000)
    seen = np.linspace(-1, 1, 200, dtype=np.float32)[:, None]
    assert outcome.expert is not None
    np.testing.assert_allclose(
        outcome.expert.parameters(seen)[0], distribution_parameters(model, seen)[0], atol=1e-5
    )


def test_the_best_scoring_is_kept_and_the_later_of_equals(tmp_path: Path) -> None:
    seen: list[Expert] = []

    def evaluate(expert: Expert) -> dict[str, float]:
        seen.append(expert)
        return {"score": [0.5, 0.5, 0.1][len(seen) - 1]}

    outcome = train(
        arenas(), SKILL, CONFIG, main_metric="score", evaluate=evaluate, directory=tmp_path
    )
    assert outcome.expert is not None
    assert outcome.expert.sha256 == seen[1].sha256 != seen[2].sha256
    assert outcome.best_timesteps == outcome.curve[1].timesteps
    assert [point.metrics["score"] for point in outcome.curve] == [0.5, 0.5, 0.1]


def test_the_best_expert_scales_what_it_sees_as_it_did_when_it_was_scored(tmp_path: Path) -> None:
    skill = dataclasses.replace(SKILL, training={**SKILL.training, "normalise": True})
    seen: list[Expert] = []

    def evaluate(expert: Expert) -> dict[str, float]:
        seen.append(expert)
        return {"score": -len(seen)}

    outcome = train(
        arenas(), skill, CONFIG, main_metric="score", evaluate=evaluate, directory=tmp_path
    )
    first, *_, last = seen
    assert first.normaliser is not None
    assert last.normaliser is not None
    assert not np.array_equal(first.normaliser.var, last.normaliser.var)
    assert outcome.expert is not None
    assert outcome.expert.sha256 == first.sha256


def test_work_left_behind_is_taken_up_only_on_request(tmp_path: Path) -> None:
    scored: list[str] = []

    def run(config: TrainConfig) -> tuple[TrainOutcome, list[str]]:
        def evaluate(expert: Expert) -> dict[str, float]:
            scored.append(expert.sha256)
            return {"score": 0.5}

        scored.clear()
        outcome = train(
            arenas(), SKILL, config, main_metric="score", evaluate=evaluate, directory=tmp_path
        )
        return outcome, list(scored)

    first, experts = run(CONFIG)
    again, repeated = run(CONFIG)
    assert repeated == experts
    assert len(experts) == 3
    assert [point.reward for point in again.curve] == [point.reward for point in first.curve]
    resumed, more = run(dataclasses.replace(CONFIG, resume=True))
    assert more == []
    assert resumed.curve == again.curve


def test_a_curve_knows_the_episodes_from_before_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAVE_SECONDS", 0.0)

    def run(name: str, asked: int, *, resume: bool = False) -> TrainOutcome:
        (tmp_path / name).mkdir(exist_ok=True)
        left = iter(range(asked))
        return train(
            arenas(), SKILL, dataclasses.replace(CONFIG, evaluations=1, resume=resume),
            main_metric="score", evaluate=lambda expert: {"score": 0.5}, directory=tmp_path / name,
            stop=lambda: 0 if next(left, None) is not None else 15,
        )  # fmt: skip

    whole = run("whole", 10_000)
    cut = run("part", 150)
    assert (cut.timesteps > 1024, cut.curve) == (True, ())
    assert run("part", 10_000, resume=True).curve == whole.curve


@pytest.mark.parametrize("asked", [0, 3, 100])
def test_what_was_stopped_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    monkeypatch.setattr(module, "_SAVE_SECONDS", 1e9)  # nothing is saved but by the interruption
    skill = dataclasses.replace(SKILL, training={**SKILL.training, "normalise": True})

    def run(name: str, asked: int, *, resume: bool = False) -> TrainOutcome:
        (tmp_path / name).mkdir(exist_ok=True)
        left = iter(range(asked))
        return train(
            SB3VecEnv(StatefulEnv("steer", 16, seed=training_seed(0))), skill,
            dataclasses.replace(CONFIG, evaluations=1, resume=resume),
            main_metric="score", evaluate=lambda expert: {"score": 0.5}, directory=tmp_path / name,
            stop=lambda: 0 if next(left, None) is not None else 15,
        )  # fmt: skip

    whole = run("whole", 10_000)
    cut = run("part", asked)
    assert (cut.stopped, cut.expert) == (15, None)
    assert cut.timesteps == asked * 16 // 1024 * 1024  # of whole rollouts: what is kept
    resumed = run("part", 10_000, resume=True)
    assert whole.expert is not None
    assert resumed.expert is not None
    assert resumed.expert.sha256 == whole.expert.sha256
    assert resumed.curve == whole.curve


def test_a_rollout_beyond_the_last_timestep_does_not_unlearn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    class Noting(PPO):
        def train(self) -> None:
            super().train()
            rates.append(self.policy.optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(module, "PPO", Noting)
    skill = dataclasses.replace(SKILL, training={**SKILL.training, "schedule": "linear"})
    outcome = train(
        arenas(), skill, CONFIG, main_metric="score",
        evaluate=lambda expert: {"score": 0.5}, directory=tmp_path,
    )  # fmt: skip
    assert outcome.timesteps > CONFIG.timesteps
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0


def test_arenas_that_give_no_state_begin_episodes_that_were_not_played_yet(tmp_path: Path) -> None:
    begun: list[list[tuple[int, int]]] = []

    def run(config: TrainConfig, asked: int) -> TrainOutcome:
        begun.clear()
        env = ForgetfulVectorEnv("steer", 16, seed=training_seed(0), begun=begun)
        left = iter(range(asked))
        return train(
            SB3VecEnv(env), SKILL, config, main_metric="score",
            evaluate=lambda expert: {"score": 0.5}, directory=tmp_path,
            stop=lambda: 0 if next(left, None) is not None else 15,
        )  # fmt: skip

    assert run(CONFIG, 100).stopped == 15
    before = set(*begun)
    resumed = run(dataclasses.replace(CONFIG, resume=True), 10_000)
    assert (resumed.stopped, resumed.timesteps) == (0, 3072)
    assert min(len(before), len(*begun)) > 20
    assert before.isdisjoint(*begun)


def test_a_state_that_is_damaged_or_of_something_else_is_refused(tmp_path: Path) -> None:
    def run(config: TrainConfig) -> TrainOutcome:
        return train(
            arenas(), SKILL, config, main_metric="score",
            evaluate=lambda expert: {"score": 0.5}, directory=tmp_path,
        )  # fmt: skip

    run(CONFIG)
    path = tmp_path / STATE_FILE
    flip_a_bit(path)
    with pytest.raises(CorruptFile, match="does not match its checksum"):
        run(dataclasses.replace(CONFIG, resume=True))
    path.write_bytes(packed({"run": "{}"}, version=1))
    with pytest.raises(CorruptFile, match="is no state of this run"):
        run(dataclasses.replace(CONFIG, resume=True))


def test_a_score_that_cannot_be_measured_is_the_worst(tmp_path: Path) -> None:
    scores = iter([0.1, float("nan"), float("nan")])
    outcome = train(
        arenas(),
        SKILL,
        CONFIG,
        main_metric="score",
        evaluate=lambda expert: {"score": next(scores)},
        directory=tmp_path,
    )
    assert outcome.best_timesteps == outcome.curve[0].timesteps


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, (6000, 16)), ({"timesteps": 9}, (9, 16)), ({"envs": 2}, (6000, 2))],
)
def test_the_command_comes_before_the_skill(
    changes: dict[str, int], expected: tuple[int, int]
) -> None:
    settings = TrainSettings.of(SKILL, TrainConfig(skill="steer", **changes))
    assert (settings.timesteps, settings.envs) == expected
    assert settings.hidden == (16, 16)
    assert dict(settings.ppo) == {
        "n_steps": 64,
        "batch_size": 256,
        "gamma": 0.8,
        "learning_rate": 3e-3,
    }
