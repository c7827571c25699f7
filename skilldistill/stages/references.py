"""Turn what a person writes for a policy into something that plays.

==================================  ===========================================================
reference                           what plays
==================================  ===========================================================
``random``                          coin tosses and uniform numbers
``composite``                       every skill's expert, together
``chaser`` (an opponent's name)     the domain's script, where the domain offers it as a policy
``distilled``, ``distilled@2``      a checkpoint of the workspace, else an expert of that name
``checkpoint:NAME``, ``expert:NAME``  the artefact; ``expert:`` falls back on the shipped expert
``shipped:SKILL``                   the expert that ships with the domain
a folder, or a file in one          the checkpoint or expert that is saved there
==================================  ===========================================================
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from skilldistill import domain as domains
from skilldistill.domain import Domain, Policy
from skilldistill.errors import ConfigurationError, NotFound
from skilldistill.workspace.manifest import check_name
from skilldistill.workspace.store import Workspace

if TYPE_CHECKING:
    from skilldistill.experts.network import Expert
    from skilldistill.workspace.manifest import Artefact

RANDOM, COMPOSITE = "random", "composite"
_RESERVED = (RANDOM, COMPOSITE, "shipped", "latest", "mix", "self", "start")
CHECKPOINT_FILE, EXPERT_FILE = "policy.json", "expert.json"


@dataclass(frozen=True)
class ResolvedPolicy:
    """A policy, and where it came from."""

    policy: Policy
    ref: str
    """Unambiguous: ``checkpoint:distilled@1``, ``composite``, or a path."""
    label: str
    """Short, for tables."""
    kind: Literal["baseline", "scripted", "checkpoint", "expert"]
    domain: Domain
    artefact: str | None = None
    """Id in the workspace."""
    skill: str | None = None
    """The one skill an expert has."""
    experts: Mapping[str, str] | None = None
    """For ``composite``: the reference of the expert of each skill."""
    by_skill: Mapping[str, Policy] | None = None
    """For ``composite``: what plays a single skill's task, where the other experts' actions
    would not count."""
    parents: tuple[str, ...] = ()
    """Ids of the workspace's artefacts that play."""


@dataclass(frozen=True)
class ResolvedExpert:
    """An expert, and where it came from."""

    expert: Expert
    ref: str
    """``expert:NAME@VERSION``, ``shipped:SKILL``, or a path."""
    shipped: bool
    artefact: str | None = None
    """Id in the workspace; None for shipped experts and paths."""


def load_policy(
    ref_or_path: str | os.PathLike[str],
    workspace: Workspace | None = None,
    domain: Domain | str | None = None,
    *,
    deterministic: bool = True,
) -> Policy:
    """The policy that a reference or a path names; see this module's table.

    Args:
        ref_or_path: what a person would write on the command line.
        workspace: where names are looked up; None finds one from the current directory upward.
        domain: the domain it must play in; None takes the checkpoint's own, else ``duel``.
        deterministic: take the likeliest action instead of sampling.

    Raises:
        NotFound: nothing has that name or path.
        ConfigurationError: the policy plays in another domain, or the file is no policy of ours.
        CorruptFile: its file is damaged.
    """
    return resolve_policy(ref_or_path, workspace, domain, deterministic=deterministic).policy


def resolve_policy(
    ref_or_path: str | os.PathLike[str],
    workspace: Workspace | None = None,
    domain: Domain | str | None = None,
    *,
    deterministic: bool = True,
) -> ResolvedPolicy:
    """Like :func:`load_policy`, with what a report needs to know of the policy."""
    wanted = domains.find(domain) if isinstance(domain, str) else domain
    text = os.fspath(ref_or_path)
    if isinstance(ref_or_path, str):
        kind, colon, name = text.partition(":")
        if not colon and text in (RANDOM, COMPOSITE):
            return _baseline(text, workspace, wanted or domains.find(), deterministic)
        if kind == "shipped" and colon:
            owner = wanted or domains.find()
            expert = _shipped(owner, owner.skill(name).name)
            if expert is None:
                raise NotFound(f"domain {owner.name!r} ships no expert for skill {name!r}")
            return _single(expert, owner, deterministic)
        found = _in_workspace(text, workspace, wanted, deterministic)
        if found is not None:
            return found
        scripts = wanted or domains.find()
        if scripts.scripted is not None and text in scripts.opponents:
            return ResolvedPolicy(
                policy=scripts.scripted(text),
                ref=text,
                label=text,
                kind="scripted",
                domain=scripts,
            )
        shipped = _shipped(scripts, name if kind == "expert" else text)
        if shipped is not None:
            return _single(shipped, scripts, deterministic)
    path = Path(text)
    if path.exists():
        return _from_path(path, workspace, wanted, deterministic)
    raise _nothing(text, workspace, wanted or domains.find())


def load_opponent(
    name: str, workspace: Workspace | None, domain: Domain
) -> tuple[str | Policy | None, tuple[str, ...]]:
    """What :meth:`Domain.make_arenas` takes as opponent, and the ids of the artefacts it needs.

    A name of the domain's stays a name, an empty one is None (the default), anything else is
    loaded as a policy.
    """
    if not name:
        return None, ()
    if name in domain.opponents:
        return name, ()
    found = resolve_policy(name, workspace, domain)
    return found.policy, found.parents


def check_policy_name(name: str, domain: Domain) -> str:
    """Return ``name`` if an expert or a checkpoint may be called so.

    Raises:
        ConfigurationError: it may not, or it already means a policy that needs no file.
    """
    check_name(name)
    if name in (*_RESERVED, *domain.opponents):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a policy: it already stands for something else",
            hint="choose a name other than "
            + ", ".join(dict.fromkeys((*_RESERVED, *domain.opponents))),
        )
    return name


def find_experts(
    workspace: Workspace | None,
    domain: Domain,
    overrides: Mapping[str, str] | None = None,
    *,
    skills: Iterable[str] | None = None,
) -> dict[str, ResolvedExpert]:
    """The expert of each skill: the one asked for, the workspace's latest, the shipped one.

    Args:
        workspace: where to look first; None looks at the shipped experts only.
        domain: whose skills.
        overrides: reference or folder by skill, for skills that shall not take the latest.
        skills: which skills; None takes all.

    Raises:
        NotFound: a skill has no expert.
        ConfigurationError: an override's expert has another skill.
        CorruptFile: the file of an expert that would be used is damaged.
    """
    overrides = overrides or {}
    wanted = [domain.skill(name).name for name in (skills or domain.skill_names)]
    result: dict[str, ResolvedExpert] = {}
    for skill in wanted:
        expert = (
            find_expert(overrides[skill], workspace, domain, skill)
            if skill in overrides
            else _workspace_expert(workspace, domain, skill) or _shipped(domain, skill)
        )
        if expert is None:
            raise NotFound(
                f"no expert for skill {skill!r}: the workspace has none and domain "
                f"{domain.name!r} ships none",
                hint=f"run `skilldistill train --skill {skill}`, or add yours with "
                f"`skilldistill experts add {skill} policy.zip`",
            )
        result[skill] = expert
    return result


def find_expert(
    ref: str, workspace: Workspace | None, domain: Domain, skill: str
) -> ResolvedExpert:
    """The expert that a reference or a folder names, which must have ``skill``.

    Raises:
        NotFound: nothing has that name.
        ConfigurationError: an expert of another skill, or a zip that was not added yet.
        CorruptFile: its file is damaged.
    """
    from skilldistill.experts.network import Expert

    name = ref.removeprefix("shipped:")
    if ref.startswith("shipped:"):
        found = _shipped(domain, name)
        if found is None:
            raise NotFound(f"domain {domain.name!r} ships no expert for skill {name!r}")
    elif workspace is not None and (artefact := _resolve(workspace, ref, "expert")):
        found = ResolvedExpert(
            Expert.load(workspace.path(artefact)), artefact.ref, False, artefact.id
        )
    elif (folder := _folder_with(Path(ref), EXPERT_FILE)) is not None:
        found = ResolvedExpert(Expert.load(folder), str(folder), False)
    elif (shipped := _shipped(domain, ref.removeprefix("expert:"))) is not None:
        found = shipped
    elif _is_zip(Path(ref)):
        raise ConfigurationError(
            f"{ref} is a Stable-Baselines3 zip, not an expert of ours",
            hint=f"`skilldistill experts add {skill} {ref}` makes it one, which is then used",
        )
    else:
        raise NotFound(
            f"no expert {ref!r}",
            hint=f"`skilldistill experts ls` shows them, "
            f"`skilldistill experts add {skill} policy.zip` adds yours",
        )
    _check_expert(found.expert, found.ref, domain, skill)
    return found


def _baseline(
    name: str, workspace: Workspace | None, domain: Domain, deterministic: bool
) -> ResolvedPolicy:
    if name == RANDOM:
        from skilldistill.evaluation.rollout import RandomPolicy

        return ResolvedPolicy(RandomPolicy(domain), name, name, "baseline", domain)
    experts = find_experts(workspace or _nearby_workspace(), domain)
    return composite(experts, domain, deterministic=deterministic)


def composite(
    experts: Mapping[str, ResolvedExpert], domain: Domain, *, deterministic: bool = True
) -> ResolvedPolicy:
    """The policy ``composite``: each head is played by the expert of its skill."""
    from skilldistill.experts.composite import CompositePolicy

    def together(skills: Iterable[str]) -> Policy:
        chosen = {skill: experts[skill].expert for skill in skills}
        return CompositePolicy(domain, chosen, stochastic=not deterministic)

    return ResolvedPolicy(
        policy=together(experts),
        by_skill={skill: together([skill]) for skill in experts},
        ref=COMPOSITE,
        label=COMPOSITE,
        kind="baseline",
        domain=domain,
        experts={skill: found.ref for skill, found in experts.items()},
        parents=tuple(found.artefact for found in experts.values() if found.artefact),
    )


def _single(found: ResolvedExpert, domain: Domain, deterministic: bool) -> ResolvedPolicy:
    from skilldistill.experts.composite import CompositePolicy

    _check_expert(found.expert, found.ref, domain, found.expert.skill)
    policy = CompositePolicy(
        domain, {found.expert.skill: found.expert}, stochastic=not deterministic
    )
    return ResolvedPolicy(
        policy=policy,
        ref=found.ref,
        label=_name(found.ref) if found.artefact else found.ref,
        kind="expert",
        domain=domain,
        artefact=found.artefact,
        skill=found.expert.skill,
        parents=(found.artefact,) if found.artefact else (),
    )


def _in_workspace(
    text: str, workspace: Workspace | None, domain: Domain | None, deterministic: bool
) -> ResolvedPolicy | None:
    workspace = workspace or _nearby_workspace()
    if workspace is None:
        return None
    if artefact := _resolve(workspace, text, "checkpoint"):
        return _checkpoint(
            workspace.path(artefact), artefact.ref, artefact.id, domain, deterministic
        )
    if artefact := _resolve(workspace, text, "expert"):
        from skilldistill.experts.network import Expert

        expert = Expert.load(workspace.path(artefact))
        found = ResolvedExpert(expert, artefact.ref, False, artefact.id)
        return _single(found, domain or domains.find(expert.domain), deterministic)
    return None


def _resolve(workspace: Workspace, text: str, kind: str) -> Artefact | None:
    """The artefact, or None if the workspace has none of that kind and name.

    A version that does not exist of a name that does is an error of its own: falling through
    to something else would hide a slip of the finger.
    """
    prefix, colon, rest = text.partition(":")
    if colon and prefix != kind:
        return None
    name = (rest if colon else text).partition("@")[0]
    known = workspace.artefacts(kind)
    if not any(artefact.name == name or artefact.id == text for artefact in known):
        return None
    return workspace.resolve(text, kind)


def _checkpoint(
    folder: Path, ref: str, artefact: str | None, domain: Domain | None, deterministic: bool
) -> ResolvedPolicy:
    from skilldistill.policy import checkpoint, player

    network = checkpoint.load(folder).network
    if domain is not None and network.domain.name != domain.name:
        raise ConfigurationError(
            f"{ref} plays in domain {network.domain.name!r}, not in {domain.name!r}",
            hint=f"add `--domain {network.domain.name}`",
        )
    return ResolvedPolicy(
        policy=player.NetworkPolicy(network, deterministic=deterministic),
        ref=ref,
        label=_name(ref) if artefact else folder.name,
        kind="checkpoint",
        domain=network.domain,
        artefact=artefact,
        parents=(artefact,) if artefact else (),
    )


def _from_path(
    path: Path, workspace: Workspace | None, domain: Domain | None, deterministic: bool
) -> ResolvedPolicy:
    if (folder := _folder_with(path, CHECKPOINT_FILE)) is not None:
        known = _artefact_at(folder, workspace, "checkpoint")
        ref, artefact = (known.ref, known.id) if known else (str(folder), None)
        return _checkpoint(folder, ref, artefact, domain, deterministic)
    if (folder := _folder_with(path, EXPERT_FILE)) is not None:
        from skilldistill.experts.network import Expert

        known = _artefact_at(folder, workspace, "expert")
        ref, artefact = (known.ref, known.id) if known else (str(folder), None)
        expert = Expert.load(folder)
        found = ResolvedExpert(expert, ref, False, artefact)
        return _single(found, domain or domains.find(expert.domain), deterministic)
    if _is_zip(path):
        raise ConfigurationError(
            f"{path} is a Stable-Baselines3 zip with no {CHECKPOINT_FILE} beside it",
            hint=f"an expert of one skill: `skilldistill experts add SKILL {path}`; a fine-tuned "
            f"policy: keep the whole checkpoint folder together",
        )
    raise NotFound(
        f"{path} holds neither {CHECKPOINT_FILE} nor {EXPERT_FILE}",
        hint="give the folder of a checkpoint or of an expert",
    )


def _is_zip(path: Path) -> bool:
    return path.suffix == ".zip" and path.exists()


def _artefact_at(folder: Path, workspace: Workspace | None, kind: str) -> Artefact | None:
    """The artefact that lies in a folder, so that a report can name its parents."""
    if workspace is None:
        return None
    for artefact in workspace.artefacts(kind):
        if folder.resolve() == (workspace.root / artefact.place).resolve():
            return artefact
    return None


def _name(ref: str) -> str:
    """``distilled`` of ``checkpoint:distilled@2``."""
    return ref.partition(":")[2].partition("@")[0]


def _folder_with(path: Path, filename: str) -> Path | None:
    """The folder that ``path`` is, or lies in, if it holds ``filename``."""
    folder = path if path.is_dir() else path.parent
    return folder if path.exists() and (folder / filename).is_file() else None


def _workspace_expert(
    workspace: Workspace | None, domain: Domain, skill: str
) -> ResolvedExpert | None:
    """The workspace's latest complete expert of a skill.

    The manifest says which one that is, and no other is read: an old one that is damaged is
    nobody's concern, and one that would be used must not be passed over in silence.

    Raises:
        CorruptFile: that one is damaged.
    """
    if workspace is None:
        return None
    from skilldistill.experts.network import Expert

    for artefact in reversed(workspace.artefacts("expert")):
        if artefact.status != "complete" or not _may_play(artefact, domain, skill):
            continue
        expert = Expert.load(workspace.path(artefact))
        if (expert.domain, expert.skill) == (domain.name, skill):
            return ResolvedExpert(expert, artefact.ref, False, artefact.id)
    return None


def _may_play(artefact: Artefact, domain: Domain, skill: str) -> bool:
    """False if the manifest says that an expert is for something else."""
    recorded = artefact.metrics.get("skill") or artefact.config.get("skill") or skill
    return recorded == skill and artefact.config.get("domain", domain.name) == domain.name


def _shipped(domain: Domain, skill: str) -> ResolvedExpert | None:
    if domain.shipped_experts is None or skill not in domain.skill_names:
        return None
    folder = domain.shipped_experts / skill
    if not (folder / EXPERT_FILE).is_file():
        return None
    from skilldistill.experts.network import Expert

    return ResolvedExpert(Expert.load(folder), f"shipped:{skill}", True)


def _check_expert(expert: Expert, ref: str, domain: Domain, skill: str) -> None:
    if (expert.domain, expert.skill) != (domain.name, skill):
        raise ConfigurationError(
            f"{ref} is an expert for {expert.skill!r} in {expert.domain!r}, "
            f"not for {skill!r} in {domain.name!r}",
            hint="`skilldistill experts ls` shows which expert has which skill",
        )


def _nearby_workspace() -> Workspace | None:
    try:
        return Workspace.open()
    except NotFound:
        return None


def _nothing(text: str, workspace: Workspace | None, domain: Domain) -> NotFound:
    workspace = workspace or _nearby_workspace()
    names = [RANDOM, COMPOSITE, *(f"shipped:{skill}" for skill in domain.skill_names)]
    if domain.scripted is not None:
        names += domain.opponents
    if workspace is not None:
        for kind in ("checkpoint", "expert"):
            for artefact in workspace.artefacts(kind):
                names += [artefact.name, artefact.ref]
    near = list(dict.fromkeys(difflib.get_close_matches(text, names, n=3)))
    guess = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    where = "" if workspace is not None else " (there is no workspace here)"
    some = workspace is not None and bool(workspace.artefacts("checkpoint"))
    make = "`skilldistill ls` shows them" if some or near else "`skilldistill distill` makes one"
    scripts = f"; scripts are {', '.join(domain.opponents)}" if domain.scripted else ""
    return NotFound(f"no policy {text!r}{where}", hint=f"{guess}{make}{scripts}")
