from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skilldistill import domain as domains
from skilldistill.config import CollectConfig
from skilldistill.data.reader import DatasetReader
from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError, Interrupted, NotFound
from skilldistill.stages.collect import collect
from skilldistill.workspace.store import Workspace
from tests import tiny
from tests.tiny_workspace import add_expert, add_experts, ship, steer


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "workspace")


@pytest.fixture
def shipping(tmp_path: Path) -> Iterator[Domain]:
    """The tiny domain with experts that ship with it."""
    domain = dataclasses.replace(tiny.DOMAIN, shipped_experts=ship(tmp_path / "shipped"))
    domains.register(domain)
    yield domain
    domains.register(tiny.DOMAIN)


def config(**changes: object) -> CollectConfig:
    return CollectConfig(**{"domain": "tiny", "skill": "steer", "episodes": 6, **changes})  # type: ignore[arg-type]


def test_a_shipped_expert_is_copied_once_and_named_as_parent(
    workspace: Workspace, shipping: Domain
) -> None:
    first = collect(workspace, config(), command="skilldistill collect --skill steer -n 6")
    (dataset,) = first.datasets
    (expert,) = workspace.artefacts("expert")
    (artefact,) = workspace.artefacts("dataset")
    assert (expert.ref, artefact.ref, dataset.ref) == (
        "expert:steer@1",
        "dataset:steer@1",
        "dataset:steer@1",
    )
    assert artefact.parents == (expert.id,)
    assert artefact.status == "complete"
    assert artefact.command == "skilldistill collect --skill steer -n 6"
    assert artefact.metrics["episodes"] == 6
    assert artefact.metrics["rows"] == dataset.rows == 6 * tiny.HORIZON
    assert artefact.metrics["score"] == dataset.metrics["score"] > 0.8
    assert artefact.metrics["mean_return"] == pytest.approx(20 * artefact.metrics["score"])
    assert artefact.metrics["experts"] == {"steer": "expert:steer@1"}
    assert artefact.files[0].sha256 == dataset.sha256
    (used,) = dataset.experts
    assert (used.id, used.source, used.registered) == (expert.id, "shipped:steer", True)

    second = collect(workspace, config(episodes=3)).datasets[0]
    assert len(workspace.artefacts("expert")) == 1
    assert (second.experts[0].id, second.experts[0].registered) == (expert.id, False)


def test_the_same_seed_gives_the_same_bytes(workspace: Workspace, shipping: Domain) -> None:
    settings = [
        config(stochastic=stochastic, seed=seed) for stochastic in (False, True) for seed in (0, 1)
    ]
    first = [collect(workspace, one).datasets[0] for one in settings]
    time.sleep(1.1)  # file formats count seconds
    again = [collect(workspace, one).datasets[0] for one in settings]
    named = collect(workspace, config(skill="all", name="other")).datasets[0]
    assert [one.sha256 for one in again] == [one.sha256 for one in first]
    assert len({one.sha256 for one in first}) == 4
    assert named.sha256 == first[0].sha256  # neither the name nor the other skills matter


def test_stochastic_experts_draw_their_actions_and_the_file_says_so(workspace: Workspace) -> None:
    add_experts(workspace)
    actions = []
    for stochastic in (False, True):
        (dataset,) = collect(workspace, config(stochastic=stochastic)).datasets
        with DatasetReader(Path(dataset.path), domain=tiny.DOMAIN) as reader:
            assert reader.info.config["stochastic"] is stochastic
            actions.append(reader.read_all(["actions"])["actions"])
    likeliest, drawn = actions
    assert likeliest.shape == drawn.shape
    assert (likeliest != drawn).any()


def test_all_makes_a_dataset_per_skill(workspace: Workspace) -> None:
    experts = add_experts(workspace)
    result = collect(workspace, config(skill="all"))
    assert [one.ref for one in result.datasets] == ["dataset:steer@1", "dataset:ring@1"]
    for artefact in workspace.artefacts("dataset"):
        assert artefact.parents == (experts[artefact.name].id,)
        with DatasetReader(workspace.path(artefact), domain=tiny.DOMAIN) as reader:
            assert reader.info.skills == (artefact.name,)
            assert reader.info.env_id == f"tiny/{artefact.name}-v0"
            assert reader.native_dim == {"steer": 1, "ring": 2}[artefact.name]
            assert reader.num_episodes == 6
    named = collect(workspace, config(skill="all", name="x"))
    assert [one.ref for one in named.datasets] == ["dataset:x-steer@1", "dataset:x-ring@1"]


@pytest.mark.parametrize("word", ["combined", "both"])
def test_combined_lets_the_experts_act_together(workspace: Workspace, word: str) -> None:
    experts = add_experts(workspace)
    (dataset,) = collect(workspace, config(skill=word)).datasets
    assert dataset.ref == "dataset:composite@1"
    assert {expert.skill for expert in dataset.experts} == {"steer", "ring"}
    (artefact,) = workspace.artefacts("dataset")
    assert set(artefact.parents) == {expert.id for expert in experts.values()}
    with DatasetReader(Path(dataset.path), domain=tiny.DOMAIN) as reader:
        assert reader.info.skills == ("both",)
        assert reader.native_dim is None
        assert [expert.ref for expert in reader.info.experts] == ["expert:steer@1", "expert:ring@1"]
        assert reader.read_all(["action_mask"])["action_mask"].all()
    assert dataset.metrics["score"] is not None
    assert dataset.metrics["score"] > 0.6


def test_an_expert_can_be_chosen(workspace: Workspace, tmp_path: Path) -> None:
    slow = add_expert(workspace, steer(0.5), "slow")
    add_expert(workspace, steer())
    assert collect(workspace, config()).datasets[0].experts[0].ref == "expert:steer@1"
    assert collect(workspace, config(expert="slow")).datasets[0].experts[0].id == slow.id

    outside = tmp_path / "outside"
    outside.mkdir()
    steer(0.7, name="mine").save(outside)
    used = collect(workspace, config(expert=str(outside))).datasets[0].experts[0]
    assert (used.ref, used.source, used.registered) == ("expert:mine@1", str(outside), True)


def test_an_expert_of_a_name_that_means_something_else_is_not_taken_in(
    workspace: Workspace, tmp_path: Path
) -> None:
    steer(name="random").save(tmp_path)
    with pytest.raises(ConfigurationError, match="'random'"):
        collect(workspace, config(expert=str(tmp_path)))
    assert workspace.artefacts("expert") == []


def test_a_zip_says_how_to_take_it_in(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "movement.zip"
    path.write_bytes(b"PK")
    with pytest.raises(ConfigurationError, match="Stable-Baselines3 zip") as caught:
        collect(workspace, config(expert=str(path)))
    assert f"`skilldistill experts add steer {path}`" in caught.value.hint
    with pytest.raises(NotFound, match=r"none\.zip"):
        collect(workspace, config(expert="none.zip"))


@pytest.mark.parametrize("recorded", [True, False])
def test_a_damaged_copy_of_an_expert_is_not_its_parent(
    recorded: bool, workspace: Workspace, shipping: Domain
) -> None:
    metrics = {"sha256": steer().sha256, "skill": "steer"} if recorded else {}
    damaged = add_expert(workspace, steer(), "copy", metrics=metrics, status="complete")
    (workspace.path(damaged) / "expert.safetensors").write_bytes(b"nothing")
    used = collect(workspace, config(expert="shipped:steer")).datasets[0].experts[0]
    assert used.registered
    assert used.id != damaged.id


def test_an_interrupted_copy_of_an_expert_is_not_its_parent(
    workspace: Workspace, shipping: Domain
) -> None:
    metrics = {"sha256": steer().sha256, "skill": "steer"}
    half = add_expert(workspace, steer(), "copy", metrics=metrics, status="interrupted")
    used = collect(workspace, config(expert="shipped:steer")).datasets[0].experts[0]
    assert used.registered
    assert used.id != half.id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skill": "ster"}, "no skill 'ster'"),
        ({"skill": "all", "expert": "steer"}, "an expert has one skill, but --skill is 'all'"),
        ({"skill": "combined", "expert": "steer"}, "--skill is 'combined'"),
        ({"episodes": 0}, "at least 1"),
        ({"expert": "ring"}, "an expert for 'ring'"),
    ],
)
def test_settings_that_cannot_be_used(
    workspace: Workspace, changes: dict[str, object], message: str
) -> None:
    add_experts(workspace)
    with pytest.raises(ConfigurationError, match=message) as caught:
        collect(workspace, config(**changes))
    assert caught.value.hint or "at least" in message
    assert workspace.artefacts("dataset") == []


def test_a_misspelt_skill_gets_every_choice(workspace: Workspace) -> None:
    with pytest.raises(ConfigurationError) as caught:
        collect(workspace, config(skill="ster"))
    assert caught.value.hint == "did you mean 'steer'? choose from steer, ring, combined, all"


def test_without_an_expert_the_next_command_is_named(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="no expert for skill 'steer'") as caught:
        collect(workspace, config())
    assert "skilldistill train --skill steer" in caught.value.hint


def test_interruption_publishes_nothing_unfinished(workspace: Workspace) -> None:
    add_experts(workspace)
    ticks = iter([0] * (tiny.HORIZON + 5) + [15])  # the first skill is finished by then
    with pytest.raises(Interrupted) as caught:
        collect(workspace, config(skill="all"), stop=lambda: next(ticks))
    assert caught.value.exit_code == 143
    assert caught.value.message == "stopped while collecting ring; dataset:steer@1 is kept"
    assert "`--skill ring`" in caught.value.hint
    assert [artefact.ref for artefact in workspace.artefacts("dataset")] == ["dataset:steer@1"]
    left = {path.name for path in (workspace.root / "datasets").rglob("*") if path.is_file()}
    assert left == {"1.h5"}


def test_an_interruption_names_the_flags_that_make_the_rest(workspace: Workspace) -> None:
    add_experts(workspace)
    ticks = iter([0] * (tiny.HORIZON + 5) + [2])
    with pytest.raises(Interrupted, match="dataset:mine-steer@1 is kept") as caught:
        collect(workspace, config(skill="all", name="mine"), stop=lambda: next(ticks))
    assert "`--skill ring --name mine-ring`" in caught.value.hint
    collect(workspace, config(skill="ring", name="mine-ring"))
    names = [artefact.name for artefact in workspace.artefacts("dataset")]
    assert names == ["mine-steer", "mine-ring"]


def test_an_interruption_before_anything_was_made_says_so(workspace: Workspace) -> None:
    add_experts(workspace)
    with pytest.raises(Interrupted, match="no dataset was written") as caught:
        collect(workspace, config(skill="all"), stop=lambda: 2)
    assert "same command" in caught.value.hint


WITHOUT_TORCH = """
import json, sys
from pathlib import Path
from skilldistill import stages
from skilldistill.config import CollectConfig, MergeConfig
from skilldistill.workspace.store import Workspace
from tests import tiny
workspace = Workspace.open(sys.argv[1])
result = stages.collect(workspace, CollectConfig(domain="tiny", skill="all", episodes=3))
stages.merge(workspace, MergeConfig(domain="tiny"))
heavy = {"torch", "stable_baselines3"} & set(sys.modules)
print(json.dumps([result.datasets[0].rows, sorted(heavy)]))
"""


def test_collecting_and_merging_load_no_torch(workspace: Workspace) -> None:
    add_experts(workspace)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(workspace.root)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [3 * tiny.HORIZON, []]
