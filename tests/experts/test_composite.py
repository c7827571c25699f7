"""Experts together: everyone drives its own dimensions and nobody else's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skilldistill.errors import ConfigurationError, CorruptFile
from skilldistill.experts.composite import CompositePolicy, sample
from skilldistill.experts.network import Expert, Layer
from tests.tiny import DOMAIN, TinyArenas


def make(skill: str, outputs: float, std: float | None = None) -> Expert:
    """An expert that answers the same whatever it sees."""
    chosen = DOMAIN.skill(skill)
    layer = Layer(
        np.zeros((len(chosen.native_observations), 1), np.float32),
        np.array([outputs], np.float32),
    )
    spread = None if std is None else np.array([std], np.float32)
    return Expert.build(
        DOMAIN, chosen, [layer], "bernoulli" if std is None else "gaussian", std=spread
    )


EXPERTS = {"steer": make("steer", 0.2, 0.1), "ring": make("ring", 2.0)}


def arenas(count: int = 4) -> TinyArenas:
    built = TinyArenas("both", count, seed=0)
    built.start(np.arange(count))
    return built


def test_labels_come_from_their_experts() -> None:
    targets, std, mask = CompositePolicy(DOMAIN, EXPERTS).label(arenas())
    probability = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(targets, np.tile([probability, 0.2], (4, 1)), rtol=1e-6)
    np.testing.assert_allclose(std, np.tile([0, 0.1], (4, 1)), rtol=1e-6)
    assert mask.all()


def test_skills_without_an_expert_are_zero_and_unlabelled() -> None:
    policy = CompositePolicy(DOMAIN, {"steer": EXPERTS["steer"]})
    targets, std, mask = policy.label(arenas())
    assert not targets[:, 0].any()
    assert not std[:, 0].any()
    np.testing.assert_array_equal(mask, np.tile([False, True], (4, 1)))
    assert not policy.act(arenas())[:, 0].any()


def test_no_expert_at_all_still_acts() -> None:
    np.testing.assert_array_equal(CompositePolicy(DOMAIN, {}).act(arenas()), np.zeros((4, 2)))


def test_likeliest_actions() -> None:
    acted = CompositePolicy(DOMAIN, EXPERTS).act(arenas())
    assert acted.dtype == np.float32
    np.testing.assert_allclose(acted, np.tile([1, 0.2], (4, 1)), rtol=1e-6)


def test_sampled_actions_follow_the_distribution_and_the_episode() -> None:
    policy = CompositePolicy(DOMAIN, EXPERTS, stochastic=True)
    many = policy.act(arenas(20_000))
    assert many[:, 0].mean() == pytest.approx(1 / (1 + np.exp(-2.0)), abs=0.01)
    assert many[:, 1].mean() == pytest.approx(0.2, abs=0.005)
    assert many[:, 1].std() == pytest.approx(0.1, abs=0.005)
    np.testing.assert_array_equal(policy.act(arenas(50)), many[:50])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_actions_are_always_legal(seed: int, stochastic: bool) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.normal(scale=3, size=(16, 2)).astype(np.float32)
    targets[:, 0] = rng.uniform(size=16)
    std = rng.exponential(size=(16, 2)).astype(np.float32)
    acted = sample(DOMAIN.actions, targets, std, rng.uniform(size=(16, 4)) if stochastic else None)
    assert acted.dtype == np.float32
    assert set(np.unique(acted[:, 0])) <= {0.0, 1.0}
    assert (np.abs(acted[:, 1]) <= 0.5).all()


def test_experts_of_other_skills_and_sizes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="steer"):
        CompositePolicy(DOMAIN, {"ring": EXPERTS["steer"]})
    wide = Layer(np.zeros((7, 1), np.float32), np.zeros(1, np.float32))
    with pytest.raises(CorruptFile, match="7 observations"):
        Expert.build(DOMAIN, DOMAIN.skill("ring"), [wide], "bernoulli")
