from __future__ import annotations

from skilldistill.config import RunConfig
from skilldistill.stages.presets import PRESETS, step_configs
from tests import tiny


def test_the_presets_are_those_of_the_guide() -> None:
    quick, full = PRESETS["quick"], PRESETS["full"]
    assert (quick.episodes, quick.evaluation_episodes) == (100, 100)
    assert quick.distill == {"epochs": 50, "large_batch": True}
    assert quick.finetune == {"timesteps": 100_000}
    assert full.distill["rounds"] == 5
    assert full.finetune == {"timesteps": 1_000_000, "opponent": "mix"}
    assert full.evaluation_episodes == 512


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
