from __future__ import annotations

import pytest

from skilldistill import domain as domains
from skilldistill.config import RunConfig
from skilldistill.errors import ConfigurationError
from skilldistill.stages.presets import PRESETS, step_configs
from tests import tiny


def test_the_presets_are_those_of_the_guide() -> None:
    assert list(PRESETS) == ["quick", "full"]
    duel = domains.find("duel")
    quick, full = (step_configs(RunConfig(preset=name), duel) for name in PRESETS)
    assert (quick.collect.episodes, quick.evaluate.episodes) == (100, 100)
    assert (full.collect.episodes, full.evaluate.episodes) == (400, 512)
    for step in (quick.distill, full.distill):
        assert (step.epochs, step.large_batch) == (50, True)
    assert (quick.distill.rounds, full.distill.rounds) == (0, 5)
    assert (quick.finetune.timesteps, quick.finetune.opponent) == (100_000, "chaser")
    assert (full.finetune.timesteps, full.finetune.opponent) == (1_000_000, "mix")


def test_a_run_looks_for_a_fine_tuning_against_who_is_recorded() -> None:
    steps = {"finetune": {"opponent": ""}}
    assert step_configs(RunConfig(steps=steps), domains.find("duel")).finetune.opponent == "chaser"


def test_nobody_is_met_in_a_domain_without_opponents() -> None:
    assert step_configs(RunConfig(preset="full"), tiny.DOMAIN).finetune.opponent == ""
    for step in ("finetune", "evaluate"):
        with pytest.raises(ConfigurationError, match="has no opponents"):
            step_configs(RunConfig(steps={step: {"opponent": "self"}}), tiny.DOMAIN)


def test_a_batch_size_of_ones_own_turns_off_the_presets_large_batches() -> None:
    configs = step_configs(RunConfig(steps={"distill": {"batch_size": 512}}), tiny.DOMAIN)
    assert (configs.distill.batch_size, configs.distill.large_batch) == (512, False)
    assert step_configs(RunConfig(), tiny.DOMAIN).distill.large_batch


def test_what_ties_the_steps_together_cannot_be_set() -> None:
    steps = {
        "collect": {"skill": "ring", "expert": "x"},
        "distill": {"dataset": "x", "resume": True},
        "finetune": {"start": "x", "resume": True},
    }
    assert step_configs(RunConfig(steps=steps), tiny.DOMAIN) == step_configs(
        RunConfig(), tiny.DOMAIN
    )
