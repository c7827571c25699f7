"""``skilldistill experts add``: take in a policy that was trained elsewhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

from skilldistill import domain as domains
from skilldistill.config import ExpertsAddConfig
from skilldistill.domain import Domain, Skill
from skilldistill.errors import ConfigurationError, SpaceMismatch, UnsupportedExpert
from skilldistill.experts.network import CARD_FILE, Expert
from skilldistill.experts.sb3_zip import read_trusted, read_zip
from skilldistill.progress import Progress, ProgressCallback, StopCheck, never, silent
from skilldistill.workspace.manifest import check_name
from skilldistill.workspace.store import Workspace


@dataclass(frozen=True)
class ExpertsAddResult:
    """The expert that was published."""

    schema: ClassVar[str] = "skilldistill.experts_add/1"
    workspace: str
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


def experts_add(
    workspace: Workspace,
    config: ExpertsAddConfig,
    *,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
    command: str = "",
) -> ExpertsAddResult:
    """Rebuild a Stable-Baselines3 policy as plain arrays and publish it as an expert.

    Nothing is written unless the whole file was read and found sound.

    Raises:
        ConfigurationError: no such skill, or a name that cannot be used.
        NotFound: no such file.
        UnsafeFile, CorruptFile: a file that is refused.
        UnsupportedExpert: a policy that cannot be rebuilt, or one for other spaces.
    """
    domain = domains.find(config.domain)
    skill = skill_of(domain, config)
    check_name(config.name)
    if not config.path:
        raise ConfigurationError("no file given", hint="skilldistill experts add NAME policy.zip")
    stage = f"experts add {config.name}"
    progress(Progress(stage, 0, 1, "expert"))
    expert = replace(read_expert(domain, skill, config), name=config.name)
    with workspace.draft("expert", config.name) as draft:
        expert.save(draft.path)
        artefact = draft.commit(
            command=command or "skilldistill experts add (python)",
            config=asdict(config),
            seed=0,
            metrics={"skill": skill.name, "sha256": expert.sha256, "source": config.path},
            check=Expert.load,
        )
    progress(Progress(stage, 1, 1, "expert"))
    return ExpertsAddResult(
        workspace=str(workspace.root),
        id=artefact.id,
        ref=artefact.ref,
        path=str(workspace.path(artefact)),
        sha256=expert.sha256,
        skill=skill.name,
        layers=(expert.obs_dim, *(layer.weight.shape[1] for layer in expert.layers)),
        head=expert.head,
        normalised=expert.normaliser is not None,
        trusted=expert.source.get("kind") == "sb3_trusted",
    )


def skill_of(domain: Domain, config: ExpertsAddConfig) -> Skill:
    """The skill an expert is added for.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if not config.skill and config.name not in domain.skill_names:
        raise ConfigurationError(
            f"which skill has {config.name!r}?",
            hint=f"add --skill {' or --skill '.join(domain.skill_names)}",
        )
    return domain.skill(config.skill or config.name)


def read_expert(domain: Domain, skill: Skill, config: ExpertsAddConfig) -> Expert:
    """Read the file that the command names; writes nothing."""
    path = Path(config.path)
    normaliser = Path(config.normaliser) if config.normaliser else None
    if (path / CARD_FILE).is_file():
        expert = Expert.load(path, domain=domain)
        if expert.skill != skill.name:
            raise ConfigurationError(
                f"{path} holds an expert for {expert.skill!r}, not for {skill.name!r}",
                hint=f"add --skill {expert.skill}",
            )
        return expert
    if config.trust_pickle:
        return read_trusted(path, skill, domain, normaliser=normaliser)
    try:
        return read_zip(path, skill, domain, normaliser=normaliser)
    except SpaceMismatch:
        raise
    except UnsupportedExpert as error:
        raise UnsupportedExpert(
            error.message,
            hint=error.hint
            or "if you made this file yourself, --trust-pickle loads it through "
            "stable_baselines3, which runs whatever code it contains",
        ) from error
