"""What a domain declares, and how one is found by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from skilldistill import domain as domains
from skilldistill.domain import ActionDim, Domain, Head
from skilldistill.errors import ConfigurationError, NotFound
from tests import tiny


class Entry:
    """An installed package's entry point."""

    def __init__(self, name: str, loaded: Any) -> None:
        self.name, self.value, self._loaded = name, f"{name}.skills:DOMAIN", loaded

    def load(self) -> Any:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Entry]:
    """Entry points in the group that domains are found in."""
    entries: list[Entry] = []

    def entry_points(*, group: str) -> list[Entry]:
        return entries if group == "skilldistill.domains" else []

    monkeypatch.setattr(domains, "entry_points", entry_points)
    monkeypatch.setattr(domains, "_registered", dict(domains._registered))
    return entries


def test_the_duel_is_built_in_and_the_default() -> None:
    assert domains.find().name == "duel"
    assert domains.find("duel") is domains.find()


def test_a_registered_domain_is_found_and_may_replace_another(installed: list[Entry]) -> None:
    assert domains.find("tiny") is tiny.DOMAIN
    other = dataclasses.replace(tiny.DOMAIN, combined="steer")
    domains.register(other)
    assert domains.find("tiny") is other


def test_an_installed_domain_is_found_by_its_entry_point(installed: list[Entry]) -> None:
    theirs = dataclasses.replace(tiny.DOMAIN, name="theirs")
    installed += [Entry("another", None), Entry("theirs", theirs)]
    assert domains.find("theirs") is theirs


def test_an_entry_point_that_is_no_domain_is_refused(installed: list[Entry]) -> None:
    installed.append(Entry("broken", "a string"))
    with pytest.raises(ConfigurationError, match=r"'broken' .* is no Domain"):
        domains.find("broken")


def test_an_entry_point_of_another_name_is_refused(installed: list[Entry]) -> None:
    installed.append(Entry("misnamed", tiny.DOMAIN))
    with pytest.raises(ConfigurationError, match=r"'misnamed' .* is a domain called 'tiny'"):
        domains.find("misnamed")


def test_an_entry_point_that_cannot_be_imported_is_named(installed: list[Entry]) -> None:
    installed.append(Entry("gone", ModuleNotFoundError("No module named 'gone'")))
    with pytest.raises(ConfigurationError, match="ModuleNotFoundError") as caught:
        domains.find("gone")
    assert "package" in caught.value.hint


def test_an_unknown_domain_is_named_beside_the_known_ones(installed: list[Entry]) -> None:
    with pytest.raises(NotFound, match=r"no domain 'os\.system'") as caught:
        domains.find("os.system")
    assert "duel" in caught.value.hint


@pytest.mark.parametrize("kind", ["skill", "task", "head"])
def test_parts_are_found_by_name_and_near_misses_named(kind: str) -> None:
    duel = domains.find("duel")
    pick = getattr(duel, kind)
    assert pick("movement").name == "movement"
    with pytest.raises(ConfigurationError, match=f"no {kind} 'movment'") as caught:
        pick("movment")
    assert "did you mean 'movement'?" in caught.value.hint
    with pytest.raises(ConfigurationError) as caught:
        pick("xyz")
    assert caught.value.hint.startswith("choose from ")


def test_sizes_names_and_columns_follow_from_what_is_declared() -> None:
    duel = domains.find("duel")
    assert (duel.obs_dim, duel.action_dim) == (20, 9)
    assert duel.action_names == (
        "w", "a", "s", "d", "space", "sprint", "click", "dyaw", "dpitch",
    )  # fmt: skip
    assert duel.skill_names == ("movement", "aiming", "clicking")
    assert [duel.columns(head) for head in ("movement", "clicking", "aiming")] == [
        (0, 1, 2, 3, 4, 5), (6,), (7, 8),
    ]  # fmt: skip
    assert tiny.DOMAIN.columns("steer") == (1,)


def heads(*names: tuple[str, ...]) -> tuple[Head, ...]:
    return tuple(Head(name=f"h{i}", dims=dims, hidden=4) for i, dims in enumerate(names))


@pytest.mark.parametrize(
    "wrong",
    [heads(("bell",)), heads(("bell", "move"), ("move",)), heads(("bell",), ("step",))],
    ids=["one is missing", "one is there twice", "one is unknown"],
)
def test_heads_must_cover_the_actions_exactly_once(wrong: tuple[Head, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"heads cover .*, actions are"):
        dataclasses.replace(tiny.DOMAIN, heads=wrong)


def replaced(kind: str, which: str, **changes: Any) -> dict[str, Any]:
    """The tiny domain's parts of a kind, one of them changed."""
    parts = getattr(tiny.DOMAIN, kind)
    return {
        kind: tuple(
            dataclasses.replace(part, **changes) if part.name == which else part for part in parts
        )
    }


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"observation_names": ("x", "x")}, "observation 'x' is declared 2 times"),
        (replaced("heads", "ring", name="steer"), "head 'steer' is declared 2 times"),
        (replaced("heads", "ring", hidden=0), "head 'ring' has a hidden layer of 0 units"),
        (replaced("actions", "bell", low=-1.0), r"binary action 'bell' .* not \[-1, 1\]"),
        (replaced("actions", "move", low=0.5), "action 'move' has no room between 0.5 and 0.5"),
        (replaced("skills", "ring", head="nope"), "skill 'ring' acts on head 'nope'"),
        (replaced("skills", "ring", name="sing"), "skill 'sing' has no task of its name"),
        (replaced("skills", "ring", native_observations=("a", "a")), "observation of skill 'ring'"),
        (replaced("skills", "ring", native_action="box"), "native actions 'box' for binary"),
        (replaced("skills", "steer", native_action="discrete"), "'discrete' for continuous"),
        (replaced("tasks", "both", heads=("ring", "nope")), "task 'both' has head 'nope'"),
        (replaced("tasks", "both", main_metric="zz"), "task 'both' is judged by 'zz'"),
        (replaced("tasks", "both", horizon=0), "task 'both' ends after 0 ticks"),
        ({"combined": "all"}, "combined task 'all' is none of its tasks"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(
    changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"domain 'tiny': .*{problem}"):
        dataclasses.replace(tiny.DOMAIN, **changes)


def test_declarations_cannot_be_changed() -> None:
    dim = ActionDim(name="w", kind="binary")
    with pytest.raises(dataclasses.FrozenInstanceError):
        dim.low = -1.0  # type: ignore[misc]
    assert (dim.low, dim.high) == (0.0, 1.0)


def test_who_is_meant_by_an_opponent() -> None:
    some = dataclasses.replace(tiny.DOMAIN, opponents=("lazy", "keen"))
    assert some.opponent() == "lazy"
    assert [some.opponent(name) for name in ("keen", "self", "mine@2")] == [
        "keen",
        "self",
        "mine@2",
    ]
    assert tiny.DOMAIN.opponent() == ""
    with pytest.raises(ConfigurationError, match="domain 'tiny' has no opponents"):
        tiny.DOMAIN.opponent("keen")


@pytest.mark.parametrize("domain", [tiny.DOMAIN, domains.find("duel")], ids=lambda d: d.name)
def test_every_part_refers_to_parts_that_exist(domain: Domain) -> None:
    for skill in domain.skills:
        domain.head(skill.head)
        assert domain.task(skill.name).heads == (skill.head,)
    for task in domain.tasks:
        for head in task.heads:
            domain.head(head)
        assert task.main_metric in task.metrics
    combined = domain.task(domain.combined)
    assert sorted(combined.heads) == sorted(head.name for head in domain.heads)
    assert set(domain.sparring) <= set(domain.opponents)


def test_a_skill_of_another_domain_is_told_with_that_domain(
    installed: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domains, "_registered", {"tiny": tiny.DOMAIN})
    strange = dataclasses.replace(
        tiny.DOMAIN,
        name="strange",
        skills=(dataclasses.replace(tiny.DOMAIN.skills[0], name="aimingg"),),
        tasks=(),
    )
    installed += [Entry("broken", ImportError("no rover")), Entry("strange", strange)]
    duel = domains.find("duel")
    with pytest.raises(ConfigurationError, match="no skill 'aimingg'") as caught:
        duel.skill("aimingg")
    assert caught.value.hint == (
        "add `--domain strange`, where there is one, or choose from movement, aiming, clicking"
    )
    with pytest.raises(ConfigurationError) as caught:
        duel.task("both")
    assert caught.value.hint.startswith("add `--domain tiny`")
    with pytest.raises(ConfigurationError) as caught:
        duel.skill("aimin")
    assert caught.value.hint.startswith("did you mean 'aiming'? choose from")
