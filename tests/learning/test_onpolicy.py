from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skilldistill.data.reader import DatasetReader
from skilldistill.data.schema import ExpertRef
from skilldistill.domain import View
from skilldistill.errors import Interrupted
from skilldistill.experts.composite import CompositePolicy
from skilldistill.learning import onpolicy
from tests.learning.tiny_data import ring_expert, steer_expert
from tests.tiny import DOMAIN, HORIZON

EXPERTS = CompositePolicy(DOMAIN, {"steer": steer_expert(), "ring": ring_expert()})


class Runaway:
    """A student that does what no expert would: always to the right, never ringing."""

    def act(self, view: View) -> np.ndarray:
        return np.tile(np.array([0.0, 0.5], np.float32), (len(view.unified()), 1))


def play(task: str = "both", **changes: object) -> list:
    settings: dict = {"episodes": 6, "first_episode": 100, "seed": 1, "beta": 0.0, **changes}
    return list(onpolicy.play_labelled(DOMAIN, task, Runaway(), EXPERTS, **settings))


def test_the_student_acts_and_the_experts_label_what_it_meets() -> None:
    episodes = play()
    assert [episode.seed for episode in episodes] == list(range(100, 106))
    for episode in episodes:
        assert len(episode) == HORIZON
        x = episode.observations[:, 0]
        assert x[-1] == 1  # at the wall, where no expert ever is
        assert (episode.actions == np.array([0, 0.5], np.float32)).all()
        assert np.allclose(episode.targets[:, 1], np.clip(-x, -0.5, 0.5), atol=1e-6)
        assert np.allclose(episode.target_std[:, 1], 0.1)
        assert np.array_equal(episode.targets[:, 0] > 0.5, np.abs(x) < 0.3)
        assert episode.action_mask.all()


def test_alone_only_the_tasks_own_head_is_labelled() -> None:
    for episode in play("steer"):
        assert not episode.action_mask[:, 0].any()
        assert episode.action_mask[:, 1].all()
        assert (episode.targets[:, 0] == 0).all()


def test_experts_act_in_about_their_share_of_episodes() -> None:
    episodes = play(episodes=400, beta=0.3)
    guided = [not (episode.actions[:, 1] == 0.5).all() for episode in episodes]
    assert np.mean(guided) == pytest.approx(0.3, abs=0.08)
    assert [(e.actions[:, 0] == 1).any() for e in episodes] == guided  # all dimensions or none


def test_more_episodes_than_arenas_are_played_one_after_the_other() -> None:
    episodes = play(episodes=onpolicy.MAX_ARENAS + 10)
    assert [e.seed for e in episodes] == list(range(100, 110 + onpolicy.MAX_ARENAS))
    assert len({float(e.observations[0, 0]) for e in episodes}) == len(episodes)


def test_however_short_a_round_every_task_is_played() -> None:
    assert onpolicy.schedule(DOMAIN, 8) == {"both": 8, "steer": 2, "ring": 2}
    assert onpolicy.schedule(DOMAIN, 2) == {"both": 2, "steer": 1, "ring": 1}


def test_beta_halves_from_round_to_round() -> None:
    assert [onpolicy.beta_of(r, 0.5) for r in (1, 2, 3)] == [0.5, 0.25, 0.125]


def write(path: Path, **changes: object) -> None:
    settings: dict = {"round_number": 2, "episodes": 8, "seed": 0, "beta": 0.5, **changes}
    refs = [ExpertRef("expert:steer@1", "0" * 64)]
    onpolicy.write_round(path, DOMAIN, Runaway(), EXPERTS, refs, **settings)


def test_a_round_is_a_dataset_with_its_number(tmp_path: Path) -> None:
    write(tmp_path / "round.h5")
    with DatasetReader(tmp_path / "round.h5", domain=DOMAIN) as reader:
        assert reader.info.rounds == 2
        assert reader.info.config["beta"] == 0.25
        assert reader.info.skills == ("steer", "ring", "both")
        found = {name: len(reader.episodes_of(name)) for name in reader.info.skills}
        assert found == {"steer": 2, "ring": 2, "both": 8}
        assert reader.episode_seed.min() == 2 * onpolicy.FIRST_EPISODE


def test_the_same_round_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write(tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_what_a_killed_round_left_is_written_over(tmp_path: Path) -> None:
    write(tmp_path / "whole.h5")
    (tmp_path / ".round.h5").write_bytes(b"half of it")
    write(tmp_path / "round.h5")
    assert (tmp_path / "round.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round.h5", "whole.h5"]


def test_rounds_play_different_episodes(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", round_number=1)
    write(tmp_path / "b.h5", round_number=2)
    seeds = []
    for name in ("a.h5", "b.h5"):
        with DatasetReader(tmp_path / name) as reader:
            seeds.append(set(reader.episode_seed.tolist()))
    assert not seeds[0] & seeds[1]


def test_stopping_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as caught:
        write(tmp_path / "round.h5", stop=lambda: 15)
    assert caught.value.signum == 15
    assert list(tmp_path.iterdir()) == []
