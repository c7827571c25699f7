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
``better.zip``                      the fine-tuned policy that Stable-Baselines3 saved in it
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
from skilldistill.stages.expert_references import (
    EXPERT_FILE,
    ResolvedExpert,
    artefact_named,
    check_skill,
    find_experts,
    folder_with,
    is_zip,
    shipped_expert,
)
from skilldistill.workspace.manifest import check_name
from skilldistill.workspace.references import usual_maker
from skilldistill.workspace.store import Workspace

if TYPE_CHECKING:
    from skilldistill.policy.network import DistilledPolicyNetwork
    from skilldistill.workspace.manifest import Artefact

RANDOM, COMPOSITE = "random", "composite"
_RESERVED = (RANDOM, COMPOSITE, "shipped", "latest", "mix", "self", "start")
CHECKPOINT_FILE = "policy.json"


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
        ConfigurationError: the policy plays in another domain, or the file is no policy of ours;
            or a baseline is to play in a domain that the workspace holds nothing of.
        CorruptFile: its file is damaged.
    """
    return resolve_policy(ref_or_path, workspace, domain, deterministic=deterministic).policy


def resolve_policy(
    ref_or_path: str | os.PathLike[str],
    workspace: Workspace | None = None,
    domain: Domain | str | None = None,
    *,
    deterministic: bool = True,
    skills: Iterable[str] | None = None,
) -> ResolvedPolicy:
    """Like :func:`load_policy`, with what a report needs to know of the policy.

    ``skills`` are those that ``composite`` has to have; None is all of them.
    """
    wanted = domains.find(domain) if isinstance(domain, str) else domain
    text = os.fspath(ref_or_path)
    if isinstance(ref_or_path, str):
        kind, colon, name = text.partition(":")
        if not colon and text in (RANDOM, COMPOSITE):
            if wanted is None:
                check_at_home(domains.find(), workspace or _nearby_workspace())
            return _baseline(text, workspace, wanted or domains.find(), deterministic, skills)
        if kind == "shipped" and colon:
            owner = wanted or domains.find()
            expert = shipped_expert(owner, owner.skill(name).name)
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
        shipped = shipped_expert(scripts, name if kind == "expert" else text)
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

    Raises:
        NotFound, ConfigurationError, CorruptFile: as :func:`load_policy`, or the domain has no
            opponents.
    """
    if not name:
        return None, ()
    if domain.opponent(name) in domain.opponents:
        return name, ()
    found = resolve_policy(name, workspace, domain)
    return found.policy, found.parents


def check_at_home(domain: Domain, workspace: Workspace | None) -> None:
    """Refuse a domain that nothing in a workspace belongs to, where other things do.

    For policies that play in any domain, such as :data:`COMPOSITE`: nothing else says that it is
    the wrong one. Reports do not count, since one may have been made in the wrong domain.

    Raises:
        ConfigurationError: the workspace holds experts, datasets and checkpoints of others only.
    """
    artefacts = workspace.artefacts() if workspace is not None else []
    known = [entry.config for entry in artefacts if entry.kind != "report"]
    held = {config.get("domain", domain.name) for config in known}
    if workspace is not None and held and domain.name not in held:
        raise ConfigurationError(
            f"{workspace.root} holds nothing that plays in domain {domain.name!r}, only in "
            f"{' and '.join(map(repr, sorted(held)))}",
            hint=f"add `--domain {min(held)}`, or take another workspace with `-w`",
        )


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


def _baseline(
    name: str,
    workspace: Workspace | None,
    domain: Domain,
    deterministic: bool,
    skills: Iterable[str] | None,
) -> ResolvedPolicy:
    if name == RANDOM:
        from skilldistill.evaluation.rollout import RandomPolicy

        return ResolvedPolicy(RandomPolicy(domain), name, name, "baseline", domain)
    experts = find_experts(workspace or _nearby_workspace(), domain, skills=skills)
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

    check_skill(found.expert, found.ref, domain, found.expert.skill)
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
    if artefact := artefact_named(workspace, text, "checkpoint"):
        return _checkpoint(
            workspace.path(artefact), artefact.ref, artefact.id, domain, deterministic
        )
    if artefact := artefact_named(workspace, text, "expert"):
        from skilldistill.experts.network import Expert

        expert = Expert.load(workspace.path(artefact))
        found = ResolvedExpert(expert, artefact.ref, False, artefact.id)
        return _single(found, domain or domains.find(expert.domain), deterministic)
    return None


def _checkpoint(
    folder: Path, ref: str, artefact: str | None, domain: Domain | None, deterministic: bool
) -> ResolvedPolicy:
    from skilldistill.policy import checkpoint

    label = _name(ref) if artefact else folder.name
    return _network(checkpoint.load(folder).network, ref, label, artefact, domain, deterministic)


def _network(
    network: DistilledPolicyNetwork,
    ref: str,
    label: str,
    artefact: str | None,
    domain: Domain | None,
    deterministic: bool,
) -> ResolvedPolicy:
    from skilldistill.policy.player import NetworkPolicy

    if domain is not None and network.domain.name != domain.name:
        raise ConfigurationError(
            f"{ref} plays in domain {network.domain.name!r}, not in {domain.name!r}",
            hint=f"add `--domain {network.domain.name}`",
        )
    return ResolvedPolicy(
        policy=NetworkPolicy(network, deterministic=deterministic),
        ref=ref,
        label=label,
        kind="checkpoint",
        domain=network.domain,
        artefact=artefact,
        parents=(artefact,) if artefact else (),
    )


def _from_path(
    path: Path, workspace: Workspace | None, domain: Domain | None, deterministic: bool
) -> ResolvedPolicy:
    if is_zip(path) and not _published(path, workspace):  # it may have been trained further
        from skilldistill.stages.policy_zip import read_policy_zip

        network = read_policy_zip(path).network
        return _network(network, str(path), path.stem, None, domain, deterministic)
    if (folder := folder_with(path, CHECKPOINT_FILE)) is not None:
        known = _artefact_at(folder, workspace, "checkpoint")
        ref, artefact = (known.ref, known.id) if known else (str(folder), None)
        return _checkpoint(folder, ref, artefact, domain, deterministic)
    if (folder := folder_with(path, EXPERT_FILE)) is not None:
        from skilldistill.experts.network import Expert

        known = _artefact_at(folder, workspace, "expert")
        ref, artefact = (known.ref, known.id) if known else (str(folder), None)
        expert = Expert.load(folder)
        found = ResolvedExpert(expert, ref, False, artefact)
        return _single(found, domain or domains.find(expert.domain), deterministic)
    raise NotFound(
        f"{path} holds neither {CHECKPOINT_FILE} nor {EXPERT_FILE}",
        hint="give the folder of a checkpoint or of an expert",
    )


def _published(path: Path, workspace: Workspace | None) -> bool:
    """Whether this is one of the files that a checkpoint of the workspace was published with."""
    beside = _artefact_at(path.parent, workspace, "checkpoint")
    return beside is not None and any(
        entry.path == f"{beside.place}/{path.name}" for entry in beside.files
    )


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


def _nearby_workspace() -> Workspace | None:
    try:
        return Workspace.open()
    except NotFound:
        return None


def _nothing(text: str, workspace: Workspace | None, domain: Domain) -> NotFound:
    workspace = workspace or _nearby_workspace()
    where = f"in {workspace.root}" if workspace is not None else "(there is no workspace here)"
    message = f"no policy {text!r} {where}"
    kind, _, name = text.rpartition(":")
    if command := usual_maker(name.partition("@")[0], kind or "checkpoint"):
        return NotFound(message, hint=f"`skilldistill {command}` makes it")
    names = [RANDOM, COMPOSITE, *(f"shipped:{skill}" for skill in domain.skill_names)]
    if domain.scripted is not None:
        names += domain.opponents
    if workspace is not None:
        for kind in ("checkpoint", "expert"):
            for artefact in workspace.artefacts(kind):
                names += [artefact.name, artefact.ref]
    near = list(dict.fromkeys(difflib.get_close_matches(text, names, n=3)))
    guess = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    some = workspace is not None and bool(workspace.artefacts("checkpoint"))
    make = "`skilldistill ls` shows them" if some or near else "`skilldistill distill` makes one"
    scripts = f"; scripts are {', '.join(domain.opponents)}" if domain.scripted else ""
    return NotFound(message, hint=f"{guess}{make}{scripts}")
