from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from skilldistill.data.schema import Episode, union
from skilldistill.errors import ConfigurationError
from tests import tiny
from tests.data.samples import make_episode, make_info


def changed(**columns: object) -> Episode:
    return dataclasses.replace(make_episode(length=4), **columns)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("observations", np.zeros((3, 3), np.float32), r"observations has shape \(3, 3\)"),
        ("observations", np.zeros((4, 3)), "observations is float64, expected float32"),
        ("observations", np.zeros(4, np.float32), r"observations has shape \(4,\)"),
        ("targets", np.zeros((4, 3), np.float32), r"targets has shape \(4, 3\), actions have"),
        ("action_mask", np.zeros((4, 2), np.uint8), "action_mask is uint8, expected bool"),
        ("rewards", np.array([0, 1, np.nan, 0], np.float32), "rewards .* not finite at row 2"),
        ("targets", np.full((4, 2), np.inf, np.float32), "targets .* not finite at row 0"),
        ("native_observations", np.zeros((5, 1), np.float32), "native_observations has shape"),
        ("skill", np.array([0, 0, 1, 0], np.uint8), "one skill throughout"),
        ("terminated", np.array([False, True, False, True]), "ended on its last step"),
        ("seed", -1, "64 bits"),
    ],
)
def test_episode_refuses(column: str, value: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        changed(**{column: value})


def test_episode_that_does_not_end_is_refused() -> None:
    never = np.zeros(4, dtype=bool)
    with pytest.raises(ConfigurationError, match="ended on its last step"):
        changed(terminated=never, truncated=never)


def test_episode_without_steps_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one step"):
        changed(rewards=np.zeros(0, np.float32))


def test_info_refuses_repeated_names_and_configurations_without_json() -> None:
    with pytest.raises(ConfigurationError, match="distinct"):
        make_info(observation_names=("x", "x"))
    with pytest.raises(ConfigurationError, match="distinct"):
        make_info(action_names=())
    with pytest.raises(ConfigurationError, match="JSON"):
        make_info(config={"lr": float("nan")})


@pytest.mark.parametrize(
    "change",
    [
        {"domain": "other"},
        {"skills": ("ring",)},
        {"env_id": "other"},
        {"experts": ()},
        {"observation_names": ("p", "q", "r")},
        {"action_names": ("p", "q")},
        {"seed": 8},
        {"config": {}},
        {"rounds": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_digest_sees_every_field(change: dict[str, object]) -> None:
    assert make_info(**change).digest() != make_info().digest()


def test_check_domain_names_what_differs() -> None:
    make_info().check_domain(tiny.DOMAIN, "a.h5")
    with pytest.raises(ConfigurationError, match=r"a\.h5 belongs to domain 'duel'"):
        make_info(domain="duel").check_domain(tiny.DOMAIN, "a.h5")
    with pytest.raises(ConfigurationError, match="actions are bell; domain 'tiny' has bell, move"):
        make_info(action_names=("bell",)).check_domain(tiny.DOMAIN, "a.h5")
    with pytest.raises(ConfigurationError, match="no task fly"):
        make_info(("fly",)).check_domain(tiny.DOMAIN, "a.h5")


def test_union_follows_the_given_order() -> None:
    assert union([["b"], ["a", "c"], ["z"]], ["c", "b", "a"]) == ("c", "b", "a", "z")
