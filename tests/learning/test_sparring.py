"""Who stands opposite, in how many arenas, and where they begin."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skilldistill.config import FinetuneConfig
from skilldistill.errors import ConfigurationError
from skilldistill.learning.selfplay import FrozenSelf
from skilldistill.learning.sparring import (
    SELF,
    START,
    check_arenas,
    expand,
    make_arenas,
    rehearse,
    shape,
    skill_states,
    split,
    stagger,
)
from skilldistill.policy.network import DistilledPolicyNetwork
from tests import tiny
from tests.learning import half_trained


def settings(**changes: int) -> FinetuneConfig:
    return FinetuneConfig(domain="tiny", **changes)


def test_names_stand_for_opponents() -> None:
    assert expand("", tiny.DOMAIN) == (None,)
    assert expand("chaser", tiny.DOMAIN) == ("chaser",)
    assert set(expand(SELF, tiny.DOMAIN)) == {SELF}
    assert expand("mix", tiny.DOMAIN) == (START,)
    many = dataclasses.replace(tiny.DOMAIN, opponents=("a", "b", "c"))
    assert expand("mix", many) == ("a", "b", "c", START)
    some = dataclasses.replace(many, sparring=("b",))
    assert expand("mix", some) == ("b", START)


def test_without_envs_the_original_rollout_is_spread_over_more_arenas() -> None:
    assert shape(settings(n_steps=1024)) == (64, 64)
    assert shape(settings(n_steps=5)) == (20, 1)
    assert shape(settings(n_steps=1024, envs=4)) == (4, 1024)


@given(st.integers(1, 5000))
def test_spreading_changes_no_number_of_rows(n_steps: int) -> None:
    arenas, ticks = shape(settings(n_steps=n_steps))
    assert arenas * ticks == 4 * n_steps
    assert 1 <= arenas <= 64


@given(st.integers(0, 500), st.integers(1, 40))
def test_shares_are_as_equal_as_can_be(count: int, parts: int) -> None:
    shares = split(count, parts)
    assert sum(shares) == count
    assert len(shares) == parts
    assert max(shares) - min(shares) <= 1


def test_arenas_are_shared_out_among_opponents_and_grouped() -> None:
    start = half_trained.network()
    frozen = [FrozenSelf(start)]
    env = make_arenas(settings(envs=9), (None, START, SELF), start, frozen)
    assert [part.num_envs for part in env.envs] == [3, 3, 3]
    alone = make_arenas(settings(envs=9), (None,), start, [])
    assert [part.num_envs for part in alone.envs] == [3, 2, 2, 2]
    with pytest.raises(ConfigurationError, match="2 arenas are too few for 3"):
        make_arenas(settings(envs=2), (None,) * 3, start, [])


@pytest.mark.parametrize("changes", [{"envs": 1, "n_steps": 1}, {"envs": 1, "n_steps": 8}])
def test_a_rollout_that_cannot_be_learnt_from_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_arenas(settings(**changes), (None, START))
    assert "--envs" in caught.value.hint
    check_arenas(settings(envs=2, n_steps=1), (None, START))


def test_groups_begin_at_different_points_of_their_episodes() -> None:
    start = half_trained.network()
    env = make_arenas(settings(envs=8), (None,), start, [])
    env.seed(3)
    observations = stagger(env, env.reset(), start)
    assert [int(part.arenas.tick[0]) for part in env.envs] == [0, 5, 10, 15]
    seen = np.concatenate([part.arenas.unified() for part in env.envs])
    np.testing.assert_array_equal(observations, seen)
    assert env.get_state()["lengths"].tolist() == [0, 0, 5, 5, 10, 10, 15, 15]


def test_every_skills_task_is_seen_from_its_beginning_on() -> None:
    states = skill_states(half_trained.network(), seed=4, rows=50)
    assert list(states) == ["steer", "ring"]
    arenas = tiny.TinyArenas("steer", 3, seed=4)
    arenas.start(np.arange(3))
    np.testing.assert_array_equal(states["steer"][:3], arenas.unified())
    assert states["ring"].shape == (50, 3)
    again = skill_states(half_trained.network(), seed=4, rows=50)
    np.testing.assert_array_equal(again["ring"], states["ring"])


def test_a_short_task_shortens_no_other() -> None:
    first, *others = tiny.DOMAIN.tasks
    assert first.name == tiny.DOMAIN.skill_names[0]
    tasks = (dataclasses.replace(first, horizon=5), *others)

    class Shorter(tiny.TinyArenas):
        @property
        def active(self) -> np.ndarray:
            return self.tick < (5 if self.task == first.name else tiny.HORIZON)

    domain = dataclasses.replace(tiny.DOMAIN, tasks=tasks, make_arenas=Shorter)
    network = DistilledPolicyNetwork.for_domain(domain, 32)
    network.load_state_dict(half_trained.network().state_dict())
    states = skill_states(network, seed=4, rows=60)["ring"]
    as_ever = skill_states(half_trained.network(), seed=4, rows=60)["ring"]
    np.testing.assert_array_equal(states, as_ever)


def test_states_after_an_early_end_are_not_rehearsed() -> None:
    class Short(tiny.TinyArenas):
        @property
        def active(self) -> np.ndarray:
            return self.tick < 3

    network = half_trained.network().twin()
    network.domain = dataclasses.replace(tiny.DOMAIN, make_arenas=Short)
    states = skill_states(network, seed=4, rows=50)["ring"]
    assert states.shape == (50, 3)
    assert len(np.unique(states, axis=0)) == 50


def test_in_each_skills_states_its_own_head_is_held_and_no_other() -> None:
    reference = half_trained.network()
    found = rehearse(reference, weight=0.7, rows=16, seed=4)
    assert found is not None
    assert found.rows == 16
    states = skill_states(reference, seed=4)
    seen = np.concatenate([states["steer"], states["ring"]])
    np.testing.assert_array_equal(found.observations.numpy(), seen)
    assert torch.equal(found.reference, reference.logits(found.observations))
    for weights, skill in zip(found.weights.split(len(states["steer"])), states, strict=True):
        own = list(tiny.DOMAIN.columns(tiny.DOMAIN.skill(skill).head))
        assert (weights[:, own] == 0.7).all()
        assert weights.count_nonzero() == len(weights) * len(own)


@pytest.mark.parametrize(("weight", "rows"), [(0.0, 16), (0.7, 0)])
def test_nothing_is_rehearsed_where_nothing_is_held(weight: float, rows: int) -> None:
    assert rehearse(half_trained.network(), weight=weight, rows=rows, seed=4) is None
