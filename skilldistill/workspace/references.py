"""References: how people name artefacts, and which one they mean."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skilldistill.config import DistillConfig, EvaluateConfig, FinetuneConfig, MergeConfig
from skilldistill.errors import ConfigurationError, NotFound
from skilldistill.workspace.manifest import KIND_FOLDERS, NAME, VERSION, Artefact

_USUAL = {
    ("dataset", MergeConfig().name): "merge",
    ("checkpoint", DistillConfig().name): "distill",
    ("checkpoint", FinetuneConfig().name): "finetune",
    ("report", EvaluateConfig().name): "evaluate",
}
"""By kind and name, the command that calls what it makes so unless told otherwise."""
_FIRST = {"expert": "train", "dataset": "collect", "checkpoint": "distill", "report": "evaluate"}
"""By kind, the command to begin with where there is none."""


@dataclass(frozen=True)
class Reference:
    """``name``, ``name@3`` or ``kind:name@3``, taken apart."""

    name: str
    version: int | None = None
    kind: str | None = None

    def __str__(self) -> str:
        kind = f"{self.kind}:" if self.kind else ""
        version = f"@{self.version}" if self.version else ""
        return f"{kind}{self.name}{version}"


def parse_reference(text: str) -> Reference:
    """Take ``name``, ``name@3`` or ``kind:name@3`` apart.

    Raises:
        ConfigurationError: it is none of these.
    """
    kind, colon, rest = text.rpartition(":")
    name, at, version = rest.partition("@")
    if colon and kind not in KIND_FOLDERS:
        raise ConfigurationError(
            f"reference {text!r}: no kind {kind!r}", hint=f"kinds are {', '.join(KIND_FOLDERS)}"
        )
    if not NAME.fullmatch(name) or (at and not VERSION.fullmatch(version)):
        raise ConfigurationError(
            f"{text!r} is no reference",
            hint="write a name, name@VERSION, or kind:name@VERSION, such as dataset:aiming@3",
        )
    return Reference(name, int(version) if at else None, kind if colon else None)


def find(ref: str, kind: str | None, known: Sequence[Artefact], root: Path) -> Artefact:
    """The one of the known artefacts, of the workspace at ``root``, that a text means.

    Arguments and errors are those of
    :meth:`~skilldistill.workspace.store.Workspace.resolve`.
    """
    by_id = {artefact.id: artefact for artefact in known}
    if "/" in ref or os.sep in ref or (ref.endswith(".h5") and Path(ref).exists()):
        found = _at_path(ref, known, root)
    else:
        wanted = parse_reference(ref)
        if kind and wanted.kind and wanted.kind != kind:
            raise _wrong_kind(ref, wanted.kind, kind)
        wanted = replace(wanted, kind=wanted.kind or kind)
        if ref in by_id and not any(artefact.name == ref for artefact in known):
            found = by_id[ref]
        else:
            return _pick(wanted, known, root)
    if kind and found.kind != kind:
        raise _wrong_kind(ref, found.kind, kind)
    return found


def _at_path(ref: str, known: Sequence[Artefact], root: Path) -> Artefact:
    for path in (Path(ref).expanduser(), root / ref):
        for artefact in known:
            if path.resolve().is_relative_to((root / artefact.place).resolve()):
                return artefact
    raise NotFound(f"{ref} is no artefact of {root}", hint="`skilldistill ls` lists what is there")


def _wrong_kind(ref: str, kind: str, wanted: str) -> ConfigurationError:
    return ConfigurationError(
        f"{ref} has kind {kind}, not {wanted}",
        hint=f"`skilldistill ls --kind {wanted}` lists what can be named here",
    )


def _pick(wanted: Reference, known: Sequence[Artefact], root: Path) -> Artefact:
    """The artefact that a reference means; without a version, the latest complete one."""
    found = [
        artefact
        for artefact in known
        if artefact.name == wanted.name
        and wanted.kind in (None, artefact.kind)
        and wanted.version in (None, artefact.version)
    ]
    usable = found if wanted.version else [a for a in found if a.status == "complete"]
    kinds = sorted({artefact.kind for artefact in usable})
    if len(kinds) > 1:
        choices = " or ".join(str(replace(wanted, kind=kind)) for kind in kinds)
        raise ConfigurationError(
            f"{wanted} means several artefacts: {', '.join(kinds)}", hint=f"write {choices}"
        )
    if usable:
        return max(usable, key=lambda artefact: artefact.version)
    what = wanted.kind or "artefact"
    if found:
        last = max(found, key=lambda artefact: artefact.version)
        raise NotFound(
            f"every {what} called {wanted.name!r} was interrupted",
            hint=f"run its command again with --resume, or use {last.ref} as it is",
        )
    missing = f"no {what} {replace(wanted, kind=None)} in {root}"
    raise NotFound(missing, hint=_nearest(wanted, known))


def usual_maker(name: str, kind: str | None = None) -> str | None:
    """The command that makes an artefact of this name unless told otherwise; None if none does.

    Args:
        name: what is wanted.
        kind: of which kind it has to be; None for any.
    """
    for (made, usual), command in _USUAL.items():
        if name == usual and kind in (None, made):
            return command
    return None


def _nearest(wanted: Reference, known: Sequence[Artefact]) -> str:
    alike = [a for a in known if wanted.kind in (None, a.kind)]
    same = [a for a in alike if a.name == wanted.name]
    if same:
        return f"there is {', '.join(a.ref for a in same[-5:])}"
    if command := usual_maker(wanted.name, wanted.kind):
        return f"`skilldistill {command}` makes it"
    if wanted.kind and not alike:
        return f"`skilldistill {_FIRST[wanted.kind]}` makes one"
    near = difflib.get_close_matches(wanted.name, sorted({a.name for a in alike}), n=3)
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{guess}`skilldistill ls` lists what is there"
