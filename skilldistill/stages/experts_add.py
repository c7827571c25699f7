"""``skilldistill experts add``: take in a policy that was trained elsewhere."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from skilldistill import domain as domains
from skilldistill.config import ExpertsAddConfig
from skilldistill.domain import Domain, Skill
from skilldistill.errors import ConfigurationError, SpaceMismatch, UnsupportedExpert
from skilldistill.experts.card import CARD_FILE
from skilldistill.experts.network import Expert
from skilldistill.experts.sb3_zip import TRUST, read_trusted, read_zip
from skilldistill.progress import Progress, ProgressCallback, StopCheck, never, silent
from skilldistill.stages.references import check_policy_name
from skilldistill.workspace.store import Workspace


@dataclass(frozen=True)
class ExpertsAddResult:
    """The expert that was published."""

    schema: ClassVar[str] = "skilldistill.experts_add/1"
    workspace: str
    domain: str
    id: str
    ref: str
    path: str
    sha256: str
    """Of what the expert does, as in ``expert.json``."""
    skill: str
    layers: tuple[int, ...]
    """Widths from the observation to the outputs."""
    head: str
    normalised: bool
    trusted: bool
    """True if code from the file was run to load it."""
    lacks_statistics: bool
    """True if the agent was trained behind a ``VecNormalize`` whose statistics were not given."""


def experts_add(
    workspace: Workspace,
    config: ExpertsAddConfig,
    *,
    expert: Expert | None = None,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> ExpertsAddResult:
    """Rebuild a Stable-Baselines3 policy as plain arrays and publish it as an expert.

    Nothing is written unless the whole file was read and found sound.

    Args:
        workspace: where to publish.
        config: which file, what for, and under which name.
        expert: what :func:`prepare` read, so that it is not read again.
        progress: told when it begins and ends.
        stop: not asked, it takes no time.
        command: what to put on record.

    Raises:
        ConfigurationError: no such skill, or a name that cannot be used.
        NotFound: no such file.
        UnsafeFile, CorruptFile: a file that is refused.
        UnsupportedExpert: a policy that cannot be rebuilt, or one for other spaces.
    """
    stage = f"experts add {config.name}"
    progress(Progress(stage, 0, 1, "expert"))
    expert = expert or prepare(config)["expert"]
    with workspace.draft("expert", config.name) as draft:
        expert.save(draft.path)
        artefact = draft.commit(
            command=command or "skilldistill experts add (python)",
            config=asdict(config),
            seed=0,
            metrics={"skill": expert.skill, "sha256": expert.sha256, "source": config.path},
            check=Expert.load,
        )
    progress(Progress(stage, 1, 1, "expert"))
    return ExpertsAddResult(
        workspace=str(workspace.root),
        domain=config.domain,
        id=artefact.id,
        ref=artefact.ref,
        path=str(workspace.path(artefact)),
        sha256=expert.sha256,
        skill=expert.skill,
        layers=(expert.obs_dim, *(layer.weight.shape[1] for layer in expert.layers)),
        head=expert.head,
        normalised=expert.normaliser is not None,
        trusted=expert.source.get("kind") == "sb3_trusted",
        lacks_statistics=bool(expert.source.get("vec_normalize")) and expert.normaliser is None,
    )


def prepare(config: ExpertsAddConfig) -> dict[str, Any]:
    """Everything that can fail before there is a workspace to write to.

    Returns:
        Keyword arguments for :func:`experts_add`.

    Raises:
        ConfigurationError, NotFound, CorruptFile: as :func:`experts_add`.
    """
    domain = domains.find(config.domain)
    skill = skill_of(domain, config)
    return {"expert": replace(read_expert(domain, skill, config), name=config.name)}


def skill_of(domain: Domain, config: ExpertsAddConfig) -> Skill:
    """The skill an expert is added for.

    Raises:
        ConfigurationError: there is none of that name, or the expert may not be called so.
    """
    check_policy_name(config.name, domain)
    if not config.skill and config.name not in domain.skill_names:
        raise ConfigurationError(
            f"which skill has {config.name!r}?",
            hint=f"{domains.elsewhere(config.name)}"
            f"add --skill {' or --skill '.join(domain.skill_names)}",
        )
    return domain.skill(config.skill or config.name)


def read_expert(domain: Domain, skill: Skill, config: ExpertsAddConfig) -> Expert:
    """Read the file that the command names; writes nothing.

    Raises:
        ConfigurationError, NotFound, CorruptFile: as :func:`experts_add`.
    """
    if not config.path:
        raise ConfigurationError("no file given", hint="`skilldistill experts add NAME policy.zip`")
    path = Path(config.path)
    normaliser = Path(config.normaliser) if config.normaliser else None
    if os.path.lexists(path / CARD_FILE):
        return _read_own(path, domain, skill, config)
    if config.trust_pickle:
        return read_trusted(path, skill, domain, normaliser=normaliser)
    try:
        return read_zip(path, skill, domain, normaliser=normaliser)
    except SpaceMismatch:
        raise
    except UnsupportedExpert as error:
        raise UnsupportedExpert(error.message, hint=error.hint or TRUST) from error


def _read_own(path: Path, domain: Domain, skill: Skill, config: ExpertsAddConfig) -> Expert:
    """An expert of ours from its folder."""
    given = [
        flag
        for flag, value in (
            ("--normaliser", config.normaliser),
            ("--trust-pickle", config.trust_pickle),
        )
        if value
    ]
    if given:
        raise ConfigurationError(
            f"{path} is the folder of an expert, for which {' and '.join(given)} mean nothing",
            hint="leave that out: its statistics are stored with it, and it holds no pickle",
        )
    expert = Expert.load(path, domain=domain)
    if expert.skill != skill.name:
        raise ConfigurationError(
            f"{path} holds an expert for {expert.skill!r}, not for {skill.name!r}",
            hint=f"add --skill {expert.skill}",
        )
    return expert
