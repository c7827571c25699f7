"""A domain with one skill per kind of action space, without torch."""

from __future__ import annotations

from typing import Any

from skilldistill.domain import ActionDim, Domain, Head, Skill

BOUND = 0.6283185


def _no_arenas(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("nobody plays here")


KEYS = ("w", "a", "s", "d", "space", "sprint")
ZOO = Domain(
    name="zoo",
    observation_names=("x",),
    actions=(
        *(ActionDim(name=key, kind="binary") for key in KEYS),
        ActionDim(name="click", kind="binary"),
        ActionDim(name="dyaw", kind="continuous", low=-BOUND, high=BOUND),
        ActionDim(name="dpitch", kind="continuous", low=-BOUND, high=BOUND),
    ),
    heads=(
        Head(name="move", dims=KEYS, hidden=8),
        Head(name="click", dims=("click",), hidden=8),
        Head(name="aim", dims=("dyaw", "dpitch"), hidden=8),
    ),
    skills=(
        Skill(
            name="move",
            head="move",
            native_observations=tuple(f"m{i}" for i in range(20)),
            native_action="multi_binary",
        ),
        Skill(
            name="click",
            head="click",
            native_observations=tuple(f"c{i}" for i in range(9)),
            native_action="discrete",
        ),
        Skill(
            name="aim",
            head="aim",
            native_observations=tuple(f"a{i}" for i in range(5)),
            native_action="box",
        ),
    ),
    tasks=(),
    combined="",
    make_arenas=_no_arenas,
    make_vector_env=_no_arenas,
)
