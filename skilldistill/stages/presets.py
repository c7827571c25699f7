"""How much work a run does: a preset's settings of its steps, and what goes before them.

What the caller's settings say of a step goes before the preset, and the preset before the defaults.
What a run decides itself (:data:`_OWN`) nobody sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from skilldistill.config import (
    BaseConfig,
    CollectConfig,
    DistillConfig,
    EvaluateConfig,
    FinetuneConfig,
    MergeConfig,
    RunConfig,
)
from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError
from skilldistill.settings import check_config

_C = TypeVar("_C", bound=BaseConfig)


@dataclass(frozen=True)
class Preset:
    """How much work a run does."""

    episodes: int
    """Collected per skill."""
    distill: Mapping[str, Any]
    """Settings of ``distill`` that differ from its defaults."""
    finetune: Mapping[str, Any]
    """The same for ``finetune``."""
    evaluation_episodes: int
    """Per task and policy."""


PRESETS: Mapping[str, Preset] = {
    "quick": Preset(
        episodes=100,
        distill={"large_batch": True},
        finetune={},
        evaluation_episodes=100,
    ),
    "full": Preset(
        episodes=400,
        distill={"large_batch": True, "rounds": 5},
        finetune={"timesteps": 1_000_000, "opponent": "mix"},
        evaluation_episodes=512,
    ),
}

_OWN: Mapping[str, frozenset[str]] = {
    "collect": frozenset({"skill", "expert"}),
    "merge": frozenset({"datasets"}),
    "distill": frozenset({"dataset", "resume"}),
    "finetune": frozenset({"start", "resume"}),
    "evaluate": frozenset({"policies"}),
}
"""By step, what a run decides itself, whatever the settings of the step say."""


@dataclass(frozen=True)
class StepConfigs:
    """What each step of a run is given, but for what earlier steps make."""

    collect: CollectConfig
    merge: MergeConfig
    distill: DistillConfig
    finetune: FinetuneConfig
    evaluate: EvaluateConfig

    def settings(self) -> dict[str, dict[str, Any]]:
        """By step, without what the run decides itself."""
        return {
            step: {key: value for key, value in values.items() if key not in _OWN[step]}
            for step, values in asdict(self).items()
        }


def step_configs(config: RunConfig, domain: Domain) -> StepConfigs:
    """The settings of every step: the caller's, else the preset's, else the defaults.

    Raises:
        ConfigurationError: no such preset, step or setting, a step of another domain, or an
            opponent in a domain without any.
    """
    check_config(config)
    if unknown := sorted(config.steps.keys() - _OWN.keys()):
        raise ConfigurationError(f"no step {unknown[0]!r}", hint=f"steps are {', '.join(_OWN)}")
    preset = PRESETS[config.preset]
    distill = dict(preset.distill)
    if "batch_size" in config.steps.get("distill", {}):
        distill.pop("large_batch", None)  # the two exclude each other
    practice = dict(preset.finetune)
    if not domain.opponents:
        practice.pop("opponent", None)
    finetune = _configured(FinetuneConfig, "finetune", config, practice)
    evaluate = {"episodes": preset.evaluation_episodes}
    steps = StepConfigs(
        collect=_configured(CollectConfig, "collect", config, {"episodes": preset.episodes}),
        merge=_configured(MergeConfig, "merge", config, {}),
        distill=_configured(DistillConfig, "distill", config, distill),
        finetune=replace(finetune, opponent=domain.opponent(finetune.opponent)),  # as is recorded
        evaluate=_configured(EvaluateConfig, "evaluate", config, evaluate),
    )
    domain.opponent(steps.evaluate.opponent)  # what the last step would refuse, the first does
    return steps


def _configured(kind: type[_C], step: str, config: RunConfig, preset: Mapping[str, Any]) -> _C:
    given = {k: v for k, v in config.steps.get(step, {}).items() if k not in _OWN[step]}
    known = {field.name for field in fields(kind)}
    if unknown := sorted(given.keys() - known):
        raise ConfigurationError(
            f"{step} has no setting {unknown[0]!r}",
            hint=f"settings are {', '.join(sorted(known - _OWN[step]))}",
        )
    if given.get("domain", config.domain) != config.domain:
        raise ConfigurationError(
            f"{step} is set to domain {given['domain']!r}, but the run's is {config.domain!r}",
            hint="all steps of a run have one domain: set it for all commands, or with --domain",
        )
    return kind(**{"seed": config.seed, "domain": config.domain, **preset, **given})
