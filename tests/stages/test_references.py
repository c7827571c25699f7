from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3 import PPO

from skilldistill import domain as domains
from skilldistill.domain import Domain, Policy
from skilldistill.errors import ConfigurationError, CorruptFile, NotFound
from skilldistill.evaluation.rollout import RandomPolicy, play
from skilldistill.learning.vecenv import SB3VecEnv
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.policy.player import NetworkPolicy
from skilldistill.policy.sb3 import DistilledPolicy
from skilldistill.stages.references import load_opponent, load_policy, resolve_policy
from skilldistill.workspace.store import Workspace
from tests import tiny
from tests.flipped import flip_a_bit
from tests.learning import half_trained
from tests.tiny_workspace import add_checkpoint, add_expert, add_experts, ship, steer


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKILLDISTILL_WORKSPACE", raising=False)
    return Workspace.create(tmp_path / "workspace")


@pytest.fixture
def shipping(tmp_path: Path) -> Iterator[Domain]:
    """The tiny domain with experts that ship with it, and scripted opponents."""
    domain = dataclasses.replace(
        tiny.DOMAIN,
        shipped_experts=ship(tmp_path / "shipped"),
        opponents=("lazy",),
        scripted=lambda name: RandomPolicy(tiny.DOMAIN),
    )
    domains.register(domain)
    yield domain
    domains.register(tiny.DOMAIN)


def score(policy: Policy, task: str = "both") -> float:
    rollout = play(tiny.DOMAIN, task, policy, episodes=32, seed=0)
    return float(rollout.metrics["score"].mean())


def test_random_and_composite_need_no_workspace(shipping: Domain) -> None:
    chance = load_policy("random", domain="tiny")
    together = load_policy("composite", domain="tiny")
    assert score(together) > 0.8 > score(chance)


def test_composite_plays_the_workspaces_experts(workspace: Workspace, shipping: Domain) -> None:
    made = add_experts(workspace)
    found = resolve_policy("composite", workspace, shipping)
    assert found.parents == (made["steer"].id, made["ring"].id)
    assert found.experts == {"steer": "expert:steer@1", "ring": "expert:ring@1"}


def test_composite_says_which_experts_were_shipped(shipping: Domain) -> None:
    found = resolve_policy("composite", None, shipping)
    assert found.experts == {"steer": "shipped:steer", "ring": "shipped:ring"}
    assert found.parents == ()


def test_a_name_is_the_latest_checkpoint_and_a_version_is_exact(workspace: Workspace) -> None:
    first, second = (add_checkpoint(workspace, seed=seed) for seed in (1, 2))
    for ref, artefact in (
        ("distilled", second),
        ("distilled@1", first),
        ("checkpoint:distilled", second),
        ("checkpoint:distilled@1", first),
        (first.id, first),
    ):
        found = resolve_policy(ref, workspace, tiny.DOMAIN)
        assert found.artefact == artefact.id
        assert found.ref == artefact.ref
        assert found.label == "distilled"
        assert found.kind == "checkpoint"
    one = load_policy("distilled@1", workspace)
    two = load_policy("distilled@2", workspace)
    arenas = tiny.TinyArenas("both", 4, seed=0)
    assert not np.array_equal(one.act(arenas), two.act(arenas))


def test_the_workspace_is_found_from_the_current_directory(workspace: Workspace) -> None:
    add_checkpoint(workspace)
    assert score(load_policy("distilled")) >= 0


def test_a_folder_or_a_file_in_it_is_its_checkpoint(workspace: Workspace) -> None:
    artefact = add_checkpoint(workspace)
    folder = workspace.path(artefact)
    for path in (folder, folder / "policy.json", str(folder)):
        assert resolve_policy(path, workspace).artefact == artefact.id
    elsewhere = folder.rename(workspace.root.parent / "elsewhere")
    found = resolve_policy(elsewhere)
    assert found.artefact is None
    assert found.label == "elsewhere"


def test_a_folder_or_a_file_in_it_is_its_expert(workspace: Workspace) -> None:
    artefact = add_expert(workspace, steer())
    folder = workspace.path(artefact)
    for path in (folder, folder / "expert.json"):
        found = resolve_policy(path, workspace, tiny.DOMAIN)
        assert (found.ref, found.artefact) == ("expert:steer@1", artefact.id)
    elsewhere = folder.rename(workspace.root.parent / "elsewhere")
    found = resolve_policy(elsewhere, None, tiny.DOMAIN)
    assert (found.ref, found.artefact, found.parents) == (str(elsewhere), None, ())
    assert score(found.policy, "steer") > 0.8


def saved_zip(path: Path, network: DistilledPolicyNetwork) -> Path:
    """What Stable-Baselines3 saves of a policy that was trained further."""
    env = SB3VecEnv(tiny.TinyVectorEnv("both", 4, seed=0))
    settings = {"hidden_dim": network.hidden_dim, "domain": "tiny"}
    model = PPO(DistilledPolicy, env, n_steps=8, batch_size=8, device="cpu", policy_kwargs=settings)
    model.policy.network.load_state_dict(network.state_dict())  # type: ignore[union-attr]
    model.save(path)
    return path


def test_a_zip_plays_what_it_holds_whatever_lies_beside_it(workspace: Workspace) -> None:
    inside = workspace.path(add_checkpoint(workspace))
    assert resolve_policy(inside / "policy.json", workspace).ref == "checkpoint:distilled@1"
    strange = saved_zip(inside / "strange.zip", half_trained.network())
    assert resolve_policy(strange, workspace).ref == str(strange)
    folder = workspace.root.parent / "exported"
    shutil.copytree(inside, folder)
    trained = half_trained.network()
    found = resolve_policy(saved_zip(folder / "better.zip", trained), workspace)
    assert (found.kind, found.label, found.artefact) == ("checkpoint", "better", None)
    assert found.ref == str(folder / "better.zip")
    seen = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    assert isinstance(found.policy, NetworkPolicy)
    assert np.array_equal(found.policy.predict(seen), NetworkPolicy(trained).predict(seen))


def test_a_zip_of_anything_else_is_no_policy(tmp_path: Path) -> None:
    path = saved_zip(tmp_path / "ppo.zip", half_trained.network())
    flip_a_bit(path)
    with pytest.raises(CorruptFile):
        load_policy(path)
    env = SB3VecEnv(tiny.TinyVectorEnv("steer", 4, seed=0))
    PPO("MlpPolicy", env, n_steps=8, batch_size=8, device="cpu").save(path)
    with pytest.raises(ConfigurationError, match="not of a fine-tuned policy") as caught:
        load_policy(path)
    assert "skilldistill experts add" in caught.value.hint


def test_a_zip_of_another_domain_is_refused(tmp_path: Path) -> None:
    path = saved_zip(tmp_path / "ppo.zip", half_trained.network())
    with pytest.raises(ConfigurationError, match="plays in domain 'tiny', not in 'duel'"):
        load_policy(path, domain="duel")


def test_an_expert_plays_its_own_head_only(workspace: Workspace) -> None:
    add_expert(workspace, steer())
    found = resolve_policy("expert:steer", workspace, tiny.DOMAIN)
    assert (found.kind, found.skill, found.label) == ("expert", "steer", "steer")
    assert score(found.policy, "steer") > 0.8
    arenas = tiny.TinyArenas("both", 8, seed=0)
    actions = found.policy.act(arenas)
    assert (actions[:, 0] == 0).all()
    assert (actions[:, 1] != 0).any()


def test_a_checkpoint_goes_before_an_expert_of_the_same_name(workspace: Workspace) -> None:
    add_expert(workspace, steer(), name="twin")
    assert resolve_policy("twin", workspace).kind == "expert"
    add_checkpoint(workspace, "twin")
    assert resolve_policy("twin", workspace).kind == "checkpoint"
    assert resolve_policy("expert:twin", workspace).kind == "expert"


def test_expert_references_fall_back_on_the_shipped_ones(
    workspace: Workspace, shipping: Domain
) -> None:
    for ref in ("expert:steer", "steer", "shipped:steer"):
        assert resolve_policy(ref, workspace, shipping).ref == "shipped:steer"
    add_expert(workspace, steer())
    assert resolve_policy("steer", workspace, shipping).ref == "expert:steer@1"
    assert resolve_policy("shipped:steer", workspace, shipping).ref == "shipped:steer"


def test_scripts_play_where_the_domain_offers_them(shipping: Domain) -> None:
    found = resolve_policy("lazy", None, shipping)
    assert found.kind == "scripted"
    assert score(found.policy) >= 0


def test_sampled_play_differs_from_the_likeliest(workspace: Workspace) -> None:
    add_checkpoint(workspace)
    likely = load_policy("distilled", workspace)
    sampled = load_policy("distilled", workspace, deterministic=False)
    arenas = tiny.TinyArenas("both", 64, seed=0)
    arenas.start(np.arange(64))
    assert not np.array_equal(likely.act(arenas), sampled.act(arenas))
    assert np.array_equal(sampled.act(arenas), sampled.act(arenas))


def test_an_unknown_name_names_near_ones_and_the_next_command(workspace: Workspace) -> None:
    add_checkpoint(workspace)
    with pytest.raises(NotFound, match="no policy 'distiled'") as caught:
        load_policy("distiled", workspace, tiny.DOMAIN)
    assert "did you mean 'distilled'" in caught.value.hint
    assert "`skilldistill ls`" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "command"),
    [("distilled", "distill"), ("finetuned@2", "finetune"), ("checkpoint:distilled", "distill")],
)
def test_a_step_that_was_left_out_is_named(workspace: Workspace, name: str, command: str) -> None:
    with pytest.raises(NotFound) as caught:
        load_policy(name, workspace, tiny.DOMAIN)
    assert caught.value.message == f"no policy {name!r} in {workspace.root}"
    assert caught.value.hint == f"`skilldistill {command}` makes it"


def test_only_commands_that_make_policies_are_named(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="no policy 'evaluation'") as caught:
        load_policy("evaluation", workspace, tiny.DOMAIN)
    assert "`skilldistill distill` makes one" in caught.value.hint


def test_without_a_workspace_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKILLDISTILL_WORKSPACE", raising=False)
    with pytest.raises(NotFound, match="there is no workspace here") as caught:
        load_policy("mine", domain=tiny.DOMAIN)
    assert "`skilldistill distill` makes one" in caught.value.hint


def test_a_missing_version_is_not_replaced_by_something_else(
    workspace: Workspace, shipping: Domain
) -> None:
    add_expert(workspace, steer())
    with pytest.raises(NotFound):
        load_policy("steer@7", workspace, shipping)


def test_a_folder_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"neither policy\.json nor expert\.json"):
        load_policy(tmp_path, domain=tiny.DOMAIN)


def test_a_policy_of_another_domain_is_refused(workspace: Workspace) -> None:
    add_checkpoint(workspace)
    other = dataclasses.replace(tiny.DOMAIN, name="other")
    with pytest.raises(ConfigurationError, match="plays in domain 'tiny', not in 'other'"):
        load_policy("distilled", workspace, other)


def test_no_shipped_expert_is_said_plainly() -> None:
    with pytest.raises(NotFound, match="ships no expert for skill 'steer'"):
        load_policy("shipped:steer", domain=tiny.DOMAIN)


def test_opponents_are_names_policies_or_the_default(
    workspace: Workspace, shipping: Domain
) -> None:
    artefact = add_checkpoint(workspace)
    assert load_opponent("", workspace, shipping) == (None, ())
    assert load_opponent("lazy", workspace, shipping) == ("lazy", ())
    policy, parents = load_opponent("distilled", workspace, shipping)
    assert hasattr(policy, "act")
    assert parents == (artefact.id,)
