"""Commands that results and errors advise: made whole, so that they do what is meant when copied.

Whoever words such a command knows neither the flags nor the settings of the command line at hand.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skilldistill.config import DoctorConfig, ExpertsAddConfig, ExpertsLsConfig
from skilldistill.errors import SkillDistillError
from skilldistill.settings import SECTIONS, Settings

WITH_DOMAIN: Mapping[str, type[Any]] = {
    **SECTIONS,
    "experts add": ExpertsAddConfig,
    "experts ls": ExpertsLsConfig,
    "doctor": DoctorConfig,
}
"""The commands that take ``--domain``."""

_QUOTED = re.compile(r"`(skilldistill [^`]+)`")


def completed(text: str, settings: Settings, *, domain: str = "", workspace: str = "") -> str:
    """A text with each command between backticks made :func:`whole`."""

    def made_whole(found: re.Match[str]) -> str:
        return f"`{whole(found[1], settings, domain=domain, workspace=workspace)}`"

    return _QUOTED.sub(made_whole, text)


def whole(command: str, settings: Settings, *, domain: str = "", workspace: str = "") -> str:
    """A command with the flags that keep it in a domain and a workspace.

    Args:
        command: as it would be where settings name both.
        settings: what they do name; a flag that repeats them is left out.
        domain: its name; empty for a command that is the same in all.
        workspace: its directory; empty leaves it to be found.
    """
    words = command.split()
    config = WITH_DOMAIN.get(" ".join(words[1:3])) or WITH_DOMAIN.get(words[1])
    further = ""
    if config and "--domain" not in words and domain not in ("", settings.config(config).domain):
        further += f" --domain {shlex.quote(domain)}"
    # `init` says itself which directory it means.
    placed = words[1] == "init" or "-w" in words or "--workspace" in words
    if not placed and workspace not in ("", _found(settings)):
        further += f" -w {shlex.quote(_shown(Path(workspace)))}"
    return command + further


def _found(settings: Settings) -> str:
    """The workspace of a command without the flag; empty if there is none."""
    from skilldistill.workspace.store import Workspace

    try:
        return str(Workspace.open(settings.workspace()[0]).root)
    except SkillDistillError:
        return ""


def _shown(place: Path) -> str:
    here = Path.cwd()
    return str(place.relative_to(here) if place.is_relative_to(here) else place)
