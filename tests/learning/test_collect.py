from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skilldistill.data.reader import DatasetReader
from skilldistill.data.schema import Batch
from skilldistill.data.writer import DatasetWriter
from skilldistill.domain import Domain, Transition
from skilldistill.errors import Interrupted, SkillDistillError
from skilldistill.experts.composite import CompositePolicy, sample
from skilldistill.learning.collect import Collected, collect
from skilldistill.progress import Progress
from tests import tiny
from tests.data.samples import make_info


class Rules(CompositePolicy):
    """Plays the tiny domain's skills well, by rule: steers home, rings when near."""

    def __init__(self, skills: Sequence[str], *, stochastic: bool = False) -> None:
        self.domain, self.stochastic = tiny.DOMAIN, stochastic
        self.mask = np.array(["ring" in skills, "steer" in skills])

    def label(self, view: Any) -> tuple[Any, Any, Any]:
        x = view.unified()[:, 0]
        targets = np.stack([np.where(np.abs(x) < 0.3, 0.9, 0.1), np.clip(-x, -0.5, 0.5)], axis=1)
        std = np.tile(np.array([0.0, 0.05], dtype=np.float32), (len(x), 1)) * self.mask
        mask = np.tile(self.mask, (len(x), 1))
        return (targets * mask).astype(np.float32), std.astype(np.float32), mask


def play(
    path: Path, task: str, *, stochastic: bool = False, domain: Domain = tiny.DOMAIN, **options: Any
) -> Collected:
    skills = ("steer", "ring") if task == "both" else (task,)
    native = {"steer": 1, "ring": 2}.get(task)
    settings = {"episodes": 7, "seed": 3} | options
    with DatasetWriter(path, make_info((task,)), native) as writer:
        return collect(domain, task, Rules(skills, stochastic=stochastic), writer, **settings)


def read(path: Path) -> Batch:
    with DatasetReader(path, domain=tiny.DOMAIN) as reader:
        np.testing.assert_array_equal(reader.episode_seed, np.arange(reader.num_episodes))
        return reader.read_all()


def test_rows_hold_what_was_seen_before_the_step_and_done_in_it(tmp_path: Path) -> None:
    done = play(tmp_path / "a.h5", "steer")
    batch = read(tmp_path / "a.h5")
    steps = (7, tiny.HORIZON)
    assert (done.episodes, done.rows) == (7, 7 * tiny.HORIZON)
    x = batch["observations"][:, 0].reshape(steps)
    moved = batch["actions"][:, 1].reshape(steps)
    np.testing.assert_allclose(x[:, 1:], (x + 0.5 * moved)[:, :-1], atol=1e-6)
    np.testing.assert_array_equal(batch["native_observations"][:, 0].reshape(steps), x)
    np.testing.assert_array_equal(batch["targets"][:, 1], np.clip(-x.ravel(), -0.5, 0.5))
    np.testing.assert_array_equal(batch["actions"], batch["targets"])
    np.testing.assert_array_equal(batch["rewards"].reshape(steps), np.abs(x) < 0.3)
    np.testing.assert_array_equal(batch["target_std"][:, 0], 0)
    np.testing.assert_allclose(batch["target_std"][:, 1], 0.05)
    np.testing.assert_array_equal(batch["action_mask"], np.tile([False, True], (len(x.ravel()), 1)))
    np.testing.assert_array_equal(
        batch["truncated"].reshape(steps), np.tile(np.arange(tiny.HORIZON) == 19, (7, 1))
    )
    assert not batch["terminated"].any()
    assert done.mean_return == pytest.approx(batch["rewards"].sum() / 7)
    assert done.metrics["score"] == pytest.approx(batch["rewards"].mean())


def test_together_the_experts_label_every_dimension(tmp_path: Path) -> None:
    play(tmp_path / "a.h5", "both")
    batch = read(tmp_path / "a.h5")
    assert batch["action_mask"].all()
    assert "native_observations" not in batch
    near = np.abs(batch["observations"][:, 0]) < 0.3
    np.testing.assert_array_equal(batch["actions"][:, 0], near)
    np.testing.assert_allclose(batch["targets"][:, 0], np.where(near, 0.9, 0.1), rtol=1e-6)


@pytest.mark.parametrize("stochastic", [False, True])
def test_an_episode_does_not_depend_on_those_beside_it(tmp_path: Path, stochastic: bool) -> None:
    files = []
    for number, (episodes, arenas) in enumerate([(7, 1024), (7, 1), (7, 3), (20, 16)]):
        path = tmp_path / f"{number}.h5"
        play(path, "ring", episodes=episodes, max_arenas=arenas, stochastic=stochastic)
        files.append(path)
    alone = read(files[0])
    for path in files[1:]:
        for name, column in read(path).items():
            np.testing.assert_array_equal(column[: len(alone[name])], alone[name])
    assert files[0].read_bytes() == files[1].read_bytes() == files[2].read_bytes()


def test_sampled_actions_differ_from_the_likeliest_and_follow_the_seed(tmp_path: Path) -> None:
    play(tmp_path / "a.h5", "ring", episodes=50, stochastic=True)
    play(tmp_path / "b.h5", "ring", episodes=50, stochastic=True, seed=4)
    batch = read(tmp_path / "a.h5")
    likely = sample(tiny.DOMAIN.actions, batch["targets"], batch["target_std"])
    assert (batch["actions"][:, 0] != likely[:, 0]).mean() == pytest.approx(0.1, abs=0.03)
    assert (tmp_path / "a.h5").read_bytes() != (tmp_path / "b.h5").read_bytes()


class Uneven(tiny.TinyArenas):
    """Episode i is terminated after 2 + i ticks, or truncated at the horizon."""

    @property
    def active(self) -> np.ndarray:
        return self.tick < np.minimum(2 + self.episodes, tiny.HORIZON)

    def step(self, actions: np.ndarray) -> Transition:
        before = self.active
        outcome = super().step(actions)
        over = before & ~self.active
        early = self.episodes + 2 < tiny.HORIZON
        return Transition(outcome.rewards, over & early, over & ~early)

    def metrics(self) -> Mapping[str, np.ndarray]:
        score = np.where(self.episodes % 2 == 0, np.nan, 0.25)
        return {"score": score, "never": np.full(self.num_arenas, np.nan)}


def variant(arenas: Any) -> Domain:
    return dataclasses.replace(tiny.DOMAIN, make_arenas=arenas)


def test_episodes_of_different_lengths_are_cut(tmp_path: Path) -> None:
    done = play(tmp_path / "a.h5", "steer", domain=variant(Uneven), episodes=20, max_arenas=6)
    with DatasetReader(tmp_path / "a.h5") as reader:
        lengths = [min(2 + i, tiny.HORIZON) for i in range(20)]
        np.testing.assert_array_equal(reader.episode_length, lengths)
        batch = reader.read_all(["terminated", "truncated"])
    ends = np.cumsum(lengths) - 1
    np.testing.assert_array_equal(np.flatnonzero(batch["terminated"]), ends[:18])
    np.testing.assert_array_equal(np.flatnonzero(batch["truncated"]), ends[18:])
    assert done.rows == sum(lengths)
    assert done.metrics == {"score": 0.25, "never": None}


def test_a_task_that_outlasts_its_horizon_is_an_error(tmp_path: Path) -> None:
    class Endless(tiny.TinyArenas):
        @property
        def active(self) -> np.ndarray:
            return np.ones(self.num_arenas, dtype=bool)

    with pytest.raises(SkillDistillError, match="goes on after its horizon of 20"):
        play(tmp_path / "a.h5", "steer", domain=variant(Endless))
    assert list(tmp_path.iterdir()) == []


def test_progress_rises_to_the_end(tmp_path: Path) -> None:
    reports: list[Progress] = []
    play(tmp_path / "a.h5", "ring", episodes=7, max_arenas=4, progress=reports.append)
    done = [report.done for report in reports]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == 7
    assert {(r.stage, r.total, r.unit) for r in reports} == {("collect ring", 7, "episode")}


def test_stopping_between_ticks_leaves_nothing(tmp_path: Path) -> None:
    ticks = iter([0, 0, 0, 2])
    with pytest.raises(Interrupted, match="stopped while collecting ring") as caught:
        play(tmp_path / "a.h5", "ring", stop=lambda: next(ticks))
    assert caught.value.exit_code == 130
    assert list(tmp_path.iterdir()) == []
