"""The stage: from a checkpoint in a workspace to a better one, whole or resumable."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from skilldistill import domain as domains
from skilldistill.config import FinetuneConfig
from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError, Interrupted, NotFound
from skilldistill.learning.selfplay import START_RATING, FrozenSelf
from skilldistill.policy import checkpoint
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.player import NetworkPolicy
from skilldistill.stages.finetune import FinetuneResult, finetune, opponents_of, with_opponent
from skilldistill.stages.plan import plan
from skilldistill.stages.references import resolve_policy
from skilldistill.workspace.store import Workspace
from tests import tiny
from tests.learning import half_trained


@pytest.fixture(autouse=True)
def plain_domain() -> Iterator[None]:
    yield
    domains.register(tiny.DOMAIN)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.create(tmp_path / "workspace")
    add(made, "distilled", half_trained.network())
    return made


@pytest.fixture
def rivals() -> Domain:
    """The tiny domain with somebody opposite, whom it does not mind."""
    domain = replace(tiny.DOMAIN, opponents=("lazy",))
    domains.register(domain)
    return domain


def add(workspace: Workspace, name: str, network: DistilledPolicyNetwork) -> None:
    with workspace.draft("checkpoint", name) as draft:
        checkpoint.save(draft.path, network)
        draft.commit(command="test", config={}, seed=0)


def settings(**changes: Any) -> FinetuneConfig:
    small: dict[str, Any] = {
        "domain": "tiny",
        "device": "cpu",
        "timesteps": 1024,
        "n_steps": 64,
        "batch_size": 128,
        "n_epochs": 2,
        "warmup_fraction": 0.25,
        "guard_every": 2,
        "guard_episodes": 8,
    }
    return FinetuneConfig(**{**small, **changes})


def test_it_publishes_policy_zip_and_journal(workspace: Workspace) -> None:
    heard: list[float] = []
    result = finetune(
        workspace, settings(), progress=lambda report: heard.append(report.done), command="typed"
    )
    artefact = workspace.resolve("finetuned", "checkpoint")
    assert isinstance(result, FinetuneResult)
    assert (result.ref, result.id) == ("checkpoint:finetuned@1", artefact.id)
    assert artefact.parents == (workspace.resolve("distilled").id,)
    assert (artefact.command, artefact.status) == ("typed", "complete")
    assert set(artefact.metrics["before"]) == {"both", "steer", "ring"}
    assert artefact.metrics["collapse_depth"] >= 0
    folder = workspace.path(artefact)
    assert {file.name for file in folder.iterdir()} == {
        "policy.safetensors", "policy.json", "ppo.zip", "metrics.jsonl",
    }  # fmt: skip
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds[0] == "baseline"
    assert kinds.count("rollout") == 4
    assert heard == [256, 512, 768, 1024]
    assert not list((workspace.root / "checkpoints" / "finetuned").glob(".partial*"))
    observations = np.random.default_rng(0).uniform(-1, 1, (50, 3)).astype(np.float32)
    loaded = checkpoint.load(folder).network
    played, _ = PPO.load(folder / "ppo.zip", device="cpu").predict(observations, deterministic=True)
    np.testing.assert_allclose(played, NetworkPolicy(loaded).predict(observations), atol=1e-6)
    inside = PPO.load(folder / "ppo.zip", device="cpu").policy.network
    for name, value in loaded.state_dict().items():  # what it samples is the same, too
        assert torch.equal(inside.state_dict()[name], value), name
    json.dumps(result.metrics)


@pytest.mark.parametrize("signum", [2, 15])
def test_a_signal_leaves_a_policy_and_the_same_command_goes_on(
    workspace: Workspace, tmp_path: Path, signum: int
) -> None:
    whole = finetune(workspace, settings())
    asked = iter(range(100_000))
    with pytest.raises(Interrupted, match="stopped after") as caught:
        finetune(workspace, settings(), stop=lambda: signum * (next(asked) > 150))
    assert caught.value.exit_code == 128 + signum
    cut = workspace.resolve("finetuned@2", "checkpoint")
    assert cut.status == "interrupted"
    assert (workspace.path(cut) / "training_state").exists()
    assert workspace.resolve("finetuned").version == 1, "an interrupted one is never the latest"
    resumed = finetune(workspace, settings(resume=True))
    first, second = (checkpoint.load(Path(r.path)).network for r in (whole, resumed))
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
    with pytest.raises(NotFound, match="nothing to resume"):
        finetune(workspace, settings(resume=True))


def test_without_resume_an_unfinished_run_is_put_away(workspace: Workspace) -> None:
    asked = iter(range(100_000))
    with pytest.raises(Interrupted):
        finetune(workspace, settings(), stop=lambda: 2 * (next(asked) > 150))
    result = finetune(workspace, settings())
    assert result.metrics["steps"] == 1024
    with pytest.raises(NotFound, match="nothing to resume"):
        finetune(workspace, settings(resume=True))


def test_another_policy_can_be_the_opponent_and_is_a_parent(
    workspace: Workspace, rivals: Domain
) -> None:
    add(workspace, "rival", half_trained.network(100))
    result = finetune(workspace, settings(opponent="rival", timesteps=256))
    ids = [workspace.resolve(name).id for name in ("distilled", "rival")]
    assert list(workspace.resolve("finetuned").parents) == ids
    assert result.opponent == "rival"
    with pytest.raises(NotFound):
        finetune(workspace, settings(opponent="nobody"))


def test_without_an_opponent_the_domains_first_is_met(workspace: Workspace) -> None:
    other = replace(tiny.DOMAIN, opponents=("walker", "chaser"))
    assert with_opponent(settings(), other).opponent == "walker"
    assert with_opponent(settings(), tiny.DOMAIN).opponent == ""
    assert with_opponent(settings(), domains.find("duel")).opponent == "chaser"
    for given in ("self", "chaser"):
        assert with_opponent(settings(opponent=given), other).opponent == given
    assert opponents_of(settings(opponent=""), workspace, other) == ((None,), [])
    assert opponents_of(settings(opponent="walker"), workspace, other) == (("walker",), [])


def test_a_zip_that_was_trained_further_can_be_the_start(
    workspace: Workspace, tmp_path: Path
) -> None:
    first = finetune(workspace, settings(timesteps=256))
    trained = Path(shutil.copy(Path(first.path) / "ppo.zip", tmp_path / "better.zip"))
    result = finetune(workspace, settings(timesteps=256, start=str(trained)))
    assert result.start == str(trained)
    assert resolve_policy(Path(first.path) / "ppo.zip", workspace).ref == first.ref
    assert workspace.resolve(result.ref).parents == ()
    same = finetune(workspace, settings(timesteps=256, start=first.ref))
    assert same.metrics["before"] == result.metrics["before"]


@pytest.mark.parametrize("opponent", ["self", "mix", "start", "distilled", "greedy"])
def test_nobody_is_met_in_a_domain_without_opponents(workspace: Workspace, opponent: str) -> None:
    for use in (finetune, lambda place, config: plan("finetune", config, place)):
        with pytest.raises(ConfigurationError, match="domain 'tiny' has no opponents") as caught:
            use(workspace, settings(opponent=opponent))
        assert "leave out `--opponent`" in caught.value.hint
    assert not list((workspace.root / "checkpoints").rglob(".partial*"))


def test_a_script_of_another_domain_is_refused_not_replaced(workspace: Workspace) -> None:
    domains.register(replace(tiny.DOMAIN, opponents=("walker",)))
    for use in (finetune, lambda place, config: plan("finetune", config, place)):
        with pytest.raises(NotFound, match="'chaser'"):
            use(workspace, settings(opponent="chaser"))
    assert not list((workspace.root / "checkpoints").rglob(".partial*"))


def test_what_is_recorded_is_who_was_met(workspace: Workspace) -> None:
    for scripts, met in ((), ""), (("walker", "runner"), "walker"):
        domains.register(replace(tiny.DOMAIN, opponents=scripts))
        planned = plan("finetune", settings(timesteps=256), workspace)
        read = [entry.ref for entry in planned.inputs]
        assert read == ["checkpoint:distilled@1", *filter(None, [met])]
        result = finetune(workspace, settings(timesteps=256))
        artefact = workspace.resolve(result.ref)
        saved = json.loads((workspace.path(artefact) / "policy.json").read_text())["config"]
        assert result.opponent == artefact.config["opponent"] == saved["opponent"] == met


def test_work_that_an_older_version_left_is_gone_on_with(workspace: Workspace) -> None:
    domains.register(replace(tiny.DOMAIN, opponents=("walker",)))
    asked = iter(range(100_000))
    with pytest.raises(Interrupted):  # which recorded the name, given or not
        finetune(workspace, settings(opponent="walker"), stop=lambda: 2 * (next(asked) > 150))
    assert finetune(workspace, settings(resume=True)).opponent == "walker"


def test_the_guard_looks_at_fights_with_the_opponent_that_is_trained_against(
    workspace: Workspace,
) -> None:
    met: set[tuple[str, object]] = set()

    def make_arenas(task: str, num_arenas: int, *, seed: int, opponent: Any = None) -> Any:
        met.add((task, opponent))
        return tiny.TinyArenas(task, num_arenas, seed=seed)

    domains.register(replace(tiny.DOMAIN, make_arenas=make_arenas, opponents=("lazy", "keen")))
    finetune(workspace, settings(opponent="keen", timesteps=256))
    assert met == {("both", "keen"), ("steer", None), ("ring", None)}


def test_of_several_opponents_the_guard_meets_the_first_that_never_changes(
    workspace: Workspace,
) -> None:
    met: set[Any] = set()

    def make_arenas(task: str, num_arenas: int, *, seed: int, opponent: Any = None) -> Any:
        if task == "both":
            met.add(opponent)
        return tiny.TinyArenas(task, num_arenas, seed=seed)

    domains.register(replace(tiny.DOMAIN, make_arenas=make_arenas, opponents=("lazy", "keen")))
    finetune(workspace, settings(opponent="mix", timesteps=256))
    assert met == {"lazy"}


def test_the_guard_plays_episodes_of_its_own(workspace: Workspace) -> None:
    made: list[tuple[int, list[int]]] = []

    class Noted(tiny.TinyArenas):
        def __init__(self, task: str, num_arenas: int, *, seed: int, opponent: Any = None) -> None:
            self.begun: list[int] = []
            super().__init__(task, num_arenas, seed=seed)
            self.begun.clear()
            made.append((seed, self.begun))

        def start(self, episodes: Any) -> None:
            self.begun.extend(np.asarray(episodes).tolist())
            super().start(episodes)

    domains.register(replace(tiny.DOMAIN, make_arenas=Noted))
    finetune(workspace, settings(seed=7, timesteps=256, guard_episodes=6))
    guard = [begun for seed, begun in made if seed == 7]
    assert guard, "scored with the run's seed"
    assert all(sorted(begun) == list(range(10**6, 10**6 + 6)) for begun in guard)
    others = [begun for seed, begun in made if seed != 7]
    assert others, "rehearsed with another"
    assert all(max(begun) < 10**6 for begun in others)


def test_a_checkpoint_outside_the_workspace_can_be_the_start(
    workspace: Workspace, tmp_path: Path
) -> None:
    checkpoint.save(tmp_path / "mine", half_trained.network())
    result = finetune(workspace, settings(start=str(tmp_path / "mine"), timesteps=256))
    assert result.start == str(tmp_path / "mine")
    assert workspace.resolve("finetuned").parents == ()
    inside = finetune(workspace, settings(timesteps=256))
    same = [checkpoint.load(Path(made.path)).network.state_dict() for made in (result, inside)]
    assert all(torch.equal(same[0][name], value) for name, value in same[1].items())


def test_a_run_does_not_go_on_from_a_start_that_was_replaced(
    workspace: Workspace, tmp_path: Path
) -> None:
    start = tmp_path / "mine"
    checkpoint.save(start, half_trained.network())
    asked = iter(range(100_000))
    with pytest.raises(Interrupted):
        finetune(workspace, settings(start=str(start)), stop=lambda: 2 * (next(asked) > 150))
    checkpoint.save(start, half_trained.network(100))
    with pytest.raises(NotFound, match="nothing to resume"):
        finetune(workspace, settings(start=str(start), resume=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timesteps": 0}, "timesteps must be at least 1"),
        ({"gamma": 7.0}, "gamma must be 0 to 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be finite"),
        ({"n_epochs": 0}, "n_epochs must be at least 1"),
        ({"envs": 1, "opponent": "self"}, "too few for 2 opponents"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_made(
    workspace: Workspace, rivals: Domain, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        finetune(workspace, settings(**changes))
    assert not list((workspace.root / "checkpoints").glob("*/.partial*"))


def test_a_failure_before_anything_is_saved_leaves_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **others: object) -> None:
        raise MemoryError

    monkeypatch.setattr(sys.modules[finetune.__module__], "learn", fail)
    with pytest.raises(MemoryError):
        finetune(workspace, settings())
    assert not list((workspace.root / "checkpoints").glob("*/.partial*"))


def test_equals_stay_equal_in_a_fight_that_the_first_seat_always_wins(
    workspace: Workspace, rivals: Domain
) -> None:
    class FirstWins(tiny.TinyArenas):
        def metrics(self) -> dict[str, np.ndarray]:
            return {"score": np.ones(self.num_arenas)}

    domains.register(replace(rivals, make_arenas=FirstWins))
    result = finetune(workspace, settings(opponent="self", timesteps=512))
    assert result.metrics["elo"] == START_RATING


def test_a_match_for_the_ratings_can_be_stopped(workspace: Workspace, rivals: Domain) -> None:
    matches = 0

    class Counted(tiny.TinyArenas):
        def __init__(self, task: str, num_arenas: int, *, seed: int, opponent: Any = None) -> None:
            nonlocal matches
            matches += isinstance(opponent, FrozenSelf)
            super().__init__(task, num_arenas, seed=seed)

    domains.register(replace(rivals, make_arenas=Counted))
    with pytest.raises(Interrupted):
        finetune(workspace, settings(opponent="self"), stop=lambda: 2 * (matches > 0))
    assert matches == 1
    metrics = workspace.resolve("finetuned@1").metrics
    assert metrics["elo"] is None, "the match broken off is none"


def test_a_rating_does_not_depend_on_the_unit_of_the_metric(
    workspace: Workspace, rivals: Domain
) -> None:
    class Dear(tiny.TinyArenas):
        def metrics(self) -> dict[str, np.ndarray]:
            return {"score": 9000 * super().metrics()["score"] - 4500}

    plain = finetune(workspace, settings(opponent="self", timesteps=1024, guard_every=0))
    domains.register(replace(rivals, make_arenas=Dear))
    dear = finetune(workspace, settings(opponent="self", timesteps=1024, guard_every=0))
    assert dear.metrics["elo"] == plain.metrics["elo"] != START_RATING


@pytest.mark.parametrize("opponent", ["self", "mix"])
def test_self_play_and_the_mix_are_no_names_of_the_domains(
    workspace: Workspace, rivals: Domain, opponent: str
) -> None:
    result = finetune(workspace, settings(opponent=opponent, timesteps=512))
    assert (result.metrics["elo"] is not None) == (opponent == "self")


def test_wrong_starts_are_refused(workspace: Workspace) -> None:
    with pytest.raises(NotFound):
        finetune(workspace, settings(start="nothing"))
    add(workspace, "fighter", DistilledPolicyNetwork.for_domain(domains.find("duel"), 16))
    with pytest.raises(ConfigurationError, match="plays in domain 'duel'"):
        finetune(workspace, settings(start="fighter"))


def test_a_device_that_is_not_there_is_named_and_leaves_nothing(workspace: Workspace) -> None:
    with pytest.raises(ConfigurationError, match="'nope'"):
        finetune(workspace, settings(device="nope"))
    assert not list((workspace.root / "checkpoints").rglob(".partial*"))
