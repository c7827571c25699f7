"""``skilldistill doctor``: whether this machine, installation and workspace are fit for work."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from skilldistill import __version__
from skilldistill import domain as domains
from skilldistill.config import DoctorConfig, ExpertsLsConfig
from skilldistill.errors import CorruptFile, SkillDistillError, VerificationFailed
from skilldistill.progress import ProgressCallback, StopCheck, never, silent
from skilldistill.workspace.store import Workspace

MINIMUM_FREE = 1_000_000_000
"""Bytes below which a full run may not fit on the disk."""

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    detail: str
    hint: str = ""
    damaged: bool = False
    """Whether the error is that a file is damaged, rather than that something is missing."""


@dataclass(frozen=True)
class DoctorResult:
    """What was looked at, and whether all of it is fit."""

    schema: ClassVar[str] = "skilldistill.doctor/1"

    checks: tuple[Check, ...]
    ok: bool
    """Whether no check is an error."""

    def failure(self) -> SkillDistillError | None:
        """The error that the first failed check amounts to, or None."""
        for check in self.checks:
            if check.status == "error":
                kind = VerificationFailed if check.damaged else SkillDistillError
                return kind(f"{check.name}: {check.detail}", hint=check.hint)
        return None


def doctor(
    workspace: Workspace | None = None,
    config: DoctorConfig | None = None,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> DoctorResult:
    """Look at Python, the libraries, the processor, the domain, its experts, and the workspace.

    Args:
        workspace: the workspace to look at; None if there is none.
        config: which domain.
        progress, stop, command: as every stage takes them; not needed here.
    """
    domain = (config or DoctorConfig()).domain
    manifest = _workspace(workspace, domain)  # first: what the result tells is not logged, too
    checks = [
        Check("skilldistill", "ok", f"{__version__}, in {Path(__file__).parents[1]}"),
        _python(),
        *_libraries(),
        _processor(),
        _accelerator(),
        *_domain(workspace, domain),
        _disk(workspace),
        manifest,
    ]
    return DoctorResult(tuple(checks), ok=all(check.status != "error" for check in checks))


def _python() -> Check:
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", "ok", detail)


def _libraries() -> Iterator[Check]:
    """Import each library that work needs: an installed one may still be broken."""
    needed = {
        "numpy": "numpy",
        "h5py": "h5py",
        "gymnasium": "gymnasium",
        "numba": "numba",
        "torch": "torch",
        "stable_baselines3": "stable-baselines3",
        "safetensors": "safetensors",
    }
    for module, package in needed.items():
        yield _attempt(
            package,
            functools.partial(_version_of, module, package),
            f"reinstall it: `python -m pip install --force-reinstall {package}`",
        )
    try:
        version = _version_of("matplotlib", "matplotlib")
        yield Check("matplotlib", "ok", version)
    except Exception:
        hint = "for pictures: `python -m pip install 'skilldistill[plots]'`"
        yield Check("matplotlib", "warning", "is not installed", hint)


def _version_of(module: str, package: str) -> str:
    importlib.import_module(module)
    return importlib.metadata.version(package)


def _attempt(name: str, work: Callable[[], str], hint: str) -> Check:
    """Do something that must work; whatever it raises becomes the finding."""
    try:
        return Check(name, "ok", work())
    except SkillDistillError as error:
        damaged = isinstance(error, CorruptFile)
        return Check(name, "error", error.message, error.hint or hint, damaged)
    except Exception as error:  # a broken library may raise anything
        lines = str(error).strip().splitlines() or [""]
        return Check(name, "error", f"{type(error).__name__}: {lines[0]}", hint)


def _processor() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Check("processor", "ok", f"{usable} cores usable")


def _accelerator() -> Check:
    def look() -> str:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0)
        return "none; everything runs on the processor"

    return _attempt("accelerator", look, "")


def _domain(workspace: Workspace | None, name: str) -> Iterator[Check]:
    yield _attempt("domain", functools.partial(_play, name), _reinstall(name))
    yield _experts(workspace, name)


def _reinstall(domain: str) -> str:
    """What to do where the files of a domain are broken."""
    owner = "skilldistill" if domain == DoctorConfig().domain else f"what brings domain {domain!r}"
    return f"reinstall {owner}"


def _play(name: str) -> str:
    """Play a few ticks: this also compiles the simulator where it has not been yet."""
    from skilldistill.contract import CheckedArenas
    from skilldistill.evaluation.rollout import RandomPolicy

    began = time.perf_counter()
    domain = domains.find(name)
    arenas = CheckedArenas(domain, domain.combined, 8, seed=0)
    policy = RandomPolicy(domain)
    for _ in range(5):
        arenas.step(policy.act(arenas.view))
    return f"{domain.name} plays (ready after {time.perf_counter() - began:.1f} s)"


def _experts(workspace: Workspace | None, domain: str) -> Check:
    from skilldistill.stages import expert_references

    def look() -> str:
        found = expert_references.find_experts(workspace, domains.find(domain))
        return ", ".join(f"{skill} {expert.ref}" for skill, expert in found.items())

    check = _attempt("experts", look, "")
    return (
        replace(check, hint=check.hint or _way_out(workspace, domain)) if check.damaged else check
    )


def _way_out(workspace: Workspace | None, domain: str) -> str:
    """What to do about a damaged expert that would be used."""
    from skilldistill.stages.experts_ls import experts_ls

    with contextlib.suppress(SkillDistillError):  # the manifest is what is damaged
        listed = experts_ls(workspace, ExpertsLsConfig(domain=domain)).experts
        broken = [entry.ref for entry in listed if entry.used and entry.status == "damaged"]
        if broken:
            return (
                f"`skilldistill show {broken[0]}` tells how to make it again; "
                f"`skilldistill rm --force {broken[0]}` goes back to the one before"
            )
    return _reinstall(domain)


def _disk(workspace: Workspace | None) -> Check:
    place = workspace.root if workspace else Path.cwd()
    free = shutil.disk_usage(place).free
    detail = f"{free / 1e9:.1f} GB free at {place}"
    if not os.access(place, os.W_OK):
        return Check("disk", "error", f"{place} cannot be written", "choose another --workspace")
    if free < MINIMUM_FREE:
        return Check("disk", "warning", detail, "`skilldistill gc` removes leftovers")
    return Check("disk", "ok", detail)


def _workspace(workspace: Workspace | None, domain: str) -> Check:
    if workspace is None:
        return Check("workspace", "ok", "none yet; the first command that writes makes it")
    notices: list[str] = []

    def look() -> str:
        notices.append(workspace.notice)
        return f"{workspace.root}: {notices[0] or f'{len(workspace.artefacts())} artefacts'}"

    check = _attempt("workspace", look, "`skilldistill verify` says what is damaged")
    if any(notices):
        hint = f"`skilldistill init {workspace.root}` repairs the manifest"
        return replace(check, status="warning", hint=hint)
    if check.status == "ok" and workspace.domain not in ("", domain):
        other = shlex.quote(workspace.domain)
        hint = f"`skilldistill doctor --domain {other}` looks at the experts of this workspace"
        return replace(check, hint=hint)
    return check
