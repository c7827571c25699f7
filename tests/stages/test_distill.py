from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skilldistill import domain as domains
from skilldistill.config import DistillConfig
from skilldistill.data.reader import DatasetReader
from skilldistill.errors import ConfigurationError, CorruptFile, DiskProblem, Interrupted, NotFound
from skilldistill.evaluation.rollout import play
from skilldistill.experts.composite import CompositePolicy
from skilldistill.policy import checkpoint
from skilldistill.policy.player import NetworkPolicy
from skilldistill.progress import Progress
from skilldistill.stages.distill import DistillResult, distill, labellers, untaught
from skilldistill.workspace.store import Workspace
from skilldistill.workspace.verify import plan_garbage
from tests.learning.tiny_data import prepared, ring_expert, steer_expert
from tests.tiny import DOMAIN
from tests.tiny_workspace import add_expert, ship, steer

CONFIG = DistillConfig(domain="tiny", epochs=2, batch_size=32, hidden_dim=16, lr=5e-3)
LEARNT = replace(CONFIG, epochs=20, rounds=2, round_episodes=16, round_epochs=5, hidden_dim=32)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("distill") / "ws").root


@pytest.fixture
def workspace(template: Path, tmp_path: Path) -> Workspace:
    """Both experts and their merged dataset, a copy of its own for each test."""
    return Workspace.open(shutil.copytree(template, tmp_path / "ws"))


@pytest.fixture(autouse=True)
def plain_domain() -> Iterator[None]:
    yield
    domains.register(DOMAIN)


@pytest.fixture(autouse=True)
def _no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else; one test is about it."""
    if "pictures" not in request.node.name:
        monkeypatch.setattr("skilldistill.learning.pictures.draw", lambda *given: [])


def score(result: DistillResult, task: str) -> float:
    network = checkpoint.load(Path(result.path)).network
    played = play(DOMAIN, task, NetworkPolicy(network), episodes=64, seed=9)
    return float(played.metrics["score"].mean())


def test_rounds_are_labelled_by_the_experts_that_made_the_data(workspace: Workspace) -> None:
    with DatasetReader(workspace.path(workspace.resolve("combined", "dataset"))) as reader:
        info = reader.info
    other = add_expert(workspace, steer(gain=0.5))
    assert other.ref == "expert:steer@2"
    found = labellers(workspace, DOMAIN, info)
    assert {skill: expert.ref for skill, expert in found.items()} == {
        "steer": "expert:steer@1",
        "ring": "expert:ring@1",
    }
    # where those are gone, the latest of the skill will do
    workspace.remove([workspace.resolve("expert:steer@1").id], force=True)
    assert labellers(workspace, DOMAIN, info)["steer"].ref == "expert:steer@2"
    with pytest.raises(NotFound):  # and this domain ships none
        labellers(None, DOMAIN, info)


def test_a_skill_is_taught_by_its_own_task_or_by_a_wider_one() -> None:
    skill, task = DOMAIN.skill("steer"), DOMAIN.task("steer")
    domain = replace(  # two skills may share a head
        DOMAIN,
        skills=(*DOMAIN.skills, replace(skill, name="swerve")),
        tasks=(*DOMAIN.tasks, replace(task, name="swerve")),
    )
    assert untaught(domain, ["steer"]) == ("ring", "swerve")
    assert untaught(domain, ["swerve", "ring"]) == ("steer",)
    assert untaught(domain, ["both"]) == ()


@pytest.mark.slow
def test_one_student_keeps_every_skill(tmp_path: Path) -> None:
    result = distill(prepared(tmp_path / "ws", episodes=30), LEARNT)
    experts = CompositePolicy(DOMAIN, {"steer": steer_expert(), "ring": ring_expert()})
    for task in ("steer", "ring", "both"):
        expert = play(DOMAIN, task, experts, episodes=64, seed=9).metrics["score"].mean()
        assert score(result, task) > 0.95 * expert


def test_the_checkpoint_is_published_with_its_parents(workspace: Workspace) -> None:
    result = distill(workspace, CONFIG, command="skilldistill distill --epochs 2")
    artefact = workspace.resolve("distilled")
    assert (artefact.id, artefact.ref) == (result.id, result.ref)
    assert artefact.parents == (workspace.resolve("combined", "dataset").id,)
    assert artefact.command == "skilldistill distill --epochs 2"
    assert artefact.config["hidden_dim"] == 16
    assert artefact.metrics["samples_per_second"] > 0
    names = {Path(entry.path).name for entry in artefact.files}
    assert {"policy.safetensors", "policy.json", "metrics.jsonl"} <= names
    loaded = checkpoint.load(Path(result.path))
    assert loaded.sha256 == result.sha256
    assert loaded.config["epochs"] == 2
    assert not list((workspace.root / "checkpoints").rglob(".partial*"))


def test_pictures_are_drawn_where_matplotlib_is_installed(workspace: Workspace) -> None:
    pytest.importorskip("matplotlib")
    folder = Path(distill(workspace, CONFIG).path)
    for name in ("curves.png", "confusion.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_the_same_command_gives_the_same_weights(workspace: Workspace) -> None:
    config = replace(CONFIG, rounds=1, round_episodes=4, round_epochs=1)
    first, second = distill(workspace, config), distill(workspace, config)
    assert first.sha256 == second.sha256
    assert first.ref != second.ref


def test_rounds_become_datasets_and_parents(workspace: Workspace) -> None:
    result = distill(workspace, replace(CONFIG, rounds=2, round_episodes=4, round_epochs=1))
    assert result.rounds == ("dataset:distilled-rounds@1", "dataset:distilled-rounds@2")
    assert set(result.experts) == {"steer", "ring"}
    parts = [workspace.resolve(ref) for ref in result.rounds]
    parents = workspace.resolve(result.ref).parents
    assert {part.id for part in parts} < set(parents)
    for number, part in enumerate(parts, start=1):
        with DatasetReader(workspace.path(part), domain=DOMAIN) as reader:
            assert reader.info.rounds == number
            assert {expert.ref for expert in reader.info.experts} == set(result.experts.values())
    lines = (Path(result.path) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [0, 0, 1, 2]
    assert result.metrics["epochs"] == 4


class StopAfter:
    def __init__(self, asked: int) -> None:
        self.left = asked

    def __call__(self) -> int:
        self.left -= 1
        return 15 if self.left < 0 else 0


@pytest.mark.parametrize(
    ("asked", "finished"),
    [
        pytest.param(1, 0, id="in epoch 2"),
        pytest.param(10, 0, id="in round 1"),
        pytest.param(62, 1, id="between the rounds"),
        pytest.param(90, 1, id="in round 2"),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_end(
    workspace: Workspace, asked: int, finished: int
) -> None:
    config = replace(CONFIG, rounds=2, round_episodes=4, round_epochs=1)
    whole = distill(workspace, replace(config, name="whole"))
    with pytest.raises(Interrupted) as caught:
        distill(workspace, config, stop=StopAfter(asked))
    rounds = list((workspace.root / "checkpoints" / "distilled").glob(".partial*/round-*.h5"))
    assert len(rounds) == finished
    assert caught.value.exit_code == 143
    assert "--resume" in caught.value.hint
    cut = workspace.artefacts("checkpoint", "distilled")
    assert [artefact.status for artefact in cut] == ["interrupted"]
    assert checkpoint.load(workspace.path(cut[0])).network.hidden_dim == 16
    assert (workspace.path(cut[0]) / "training_state").is_file()
    rest = distill(workspace, replace(config, resume=True))
    assert rest.sha256 == whole.sha256
    assert rest.status == "complete"


@pytest.mark.parametrize("missing", ["round-01.h5", "round-02.h5"])
def test_a_run_does_not_go_on_without_a_round_it_has_learnt_from(
    workspace: Workspace, missing: str
) -> None:
    told: list[Progress] = []

    def stop() -> int:
        return 15 if any(r.stage == "distill, round 2" and r.done >= 1 for r in told) else 0

    config = replace(CONFIG, rounds=2, round_episodes=4, round_epochs=3)
    with pytest.raises(Interrupted):
        distill(workspace, config, progress=told.append, stop=stop)
    (path,) = workspace.root.glob(f"checkpoints/distilled/.partial-*/{missing}")
    path.unlink()
    with pytest.raises(CorruptFile, match=rf"{missing} is missing") as caught:
        distill(workspace, replace(config, resume=True))
    assert caught.value.hint == "run without --resume to start afresh"
    assert not path.exists()


@pytest.mark.parametrize("resume", [True, False])
def test_rounds_that_were_published_before_a_stop_are_not_published_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DiskProblem("the disk is full")

    config = replace(CONFIG, rounds=2, round_episodes=4, round_epochs=1)
    for attempt in (config, replace(config, resume=resume)):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save", fail)  # the rounds are published by then
            with pytest.raises(DiskProblem):
                distill(workspace, attempt)
    with workspace.path(workspace.resolve("distilled-rounds@2")).open("ab") as file:
        file.write(b"?")
    first = distill(workspace, replace(config, resume=resume))
    assert first.rounds == ("dataset:distilled-rounds@1", "dataset:distilled-rounds@3")
    # What belongs to a checkpoint is no other's, whatever it holds.
    second = distill(workspace, config)
    assert second.sha256 == first.sha256
    assert second.rounds == ("dataset:distilled-rounds@4", "dataset:distilled-rounds@5")


def test_without_resume_it_starts_anew(workspace: Workspace) -> None:
    whole = distill(workspace, replace(CONFIG, name="whole"))
    with pytest.raises(Interrupted):
        distill(workspace, CONFIG, stop=StopAfter(1))
    result = distill(workspace, CONFIG)
    assert result.sha256 == whole.sha256
    assert result.metrics["epochs"] == 2
    with pytest.raises(NotFound, match="no unfinished"):
        distill(workspace, replace(CONFIG, resume=True))


def test_work_whose_checkpoint_was_published_is_overtaken_by_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DiskProblem("the disk is full")

    monkeypatch.setattr(Workspace, "discard_partial", fail)
    with pytest.raises(DiskProblem):
        distill(workspace, CONFIG)
    (removal,) = plan_garbage(workspace)
    assert removal.reason == "unfinished work, overtaken by checkpoint:distilled@1"


def test_nothing_to_resume_is_said(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="no unfinished") as caught:
        distill(workspace, replace(CONFIG, resume=True))
    assert "without --resume" in caught.value.hint
    assert not list((workspace.root / "checkpoints").rglob(".partial*"))


def test_a_run_does_not_go_on_with_a_file_that_was_replaced(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "mine.h5"
    shutil.copyfile(workspace.path(workspace.resolve("combined", "dataset")), path)
    config = replace(CONFIG, dataset=str(path))
    with pytest.raises(Interrupted):
        distill(workspace, config, stop=StopAfter(1))
    shutil.copyfile(workspace.path(workspace.resolve("steer", "dataset")), path)
    with pytest.raises(NotFound, match="nothing to resume"):
        distill(workspace, replace(config, resume=True))


def test_a_run_does_not_go_on_with_other_shipped_experts(
    workspace: Workspace, tmp_path: Path
) -> None:
    dataset = workspace.path(workspace.resolve("combined", "dataset"))
    config = replace(CONFIG, dataset=str(dataset), rounds=1, round_episodes=4, round_epochs=1)
    other = Workspace.create(tmp_path / "other")
    shipped = ship(tmp_path / "shipped")
    domains.register(replace(DOMAIN, shipped_experts=shipped))
    with pytest.raises(Interrupted):
        distill(other, config, stop=StopAfter(1))
    steer(gain=0.5).save(shipped / "steer")
    with pytest.raises(NotFound, match="nothing to resume"):
        distill(other, replace(config, resume=True))


def test_a_dataset_outside_the_workspace_will_do(workspace: Workspace, tmp_path: Path) -> None:
    path = workspace.path(workspace.resolve("combined", "dataset"))
    other = Workspace.create(tmp_path / "other")
    result = distill(other, replace(CONFIG, dataset=str(path)))
    assert result.dataset == str(path)
    assert other.resolve(result.ref).parents == ()


def test_a_dataset_that_changed_after_it_was_published_is_refused(workspace: Workspace) -> None:
    artefact = workspace.resolve("combined", "dataset")
    path = workspace.path(artefact)
    content = bytearray(path.read_bytes())
    with DatasetReader(path) as reader:
        untrained = reader.read_all(("rewards",), np.arange(reader.num_episodes))["rewards"]
    at = content.index(untrained[:64].tobytes())  # no column that training reads
    content[at : at + 8] = bytes(8)[::-1].replace(b"\0", b"?")
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match="another content") as caught:
        distill(workspace, CONFIG)
    assert artefact.ref in caught.value.hint
    assert not workspace.artefacts("checkpoint", "distilled")


def test_a_dataset_that_cannot_be_read_is_not_called_damaged(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("skilldistill.workspace.verify.digest", refuse)
    with pytest.raises(DiskProblem, match="cannot be read: Permission denied") as caught:
        distill(workspace, CONFIG)
    assert "permissions" in caught.value.hint


@pytest.mark.parametrize("wrong", [{"head_weights": "foo=1"}, {"device": "nope"}])
def test_settings_that_are_refused_leave_no_unfinished_work(
    workspace: Workspace, wrong: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError):
        distill(workspace, replace(CONFIG, **wrong))  # type: ignore[arg-type]
    assert not list((workspace.root / "checkpoints").rglob(".partial*"))


def test_those_who_watch_hear_of_rounds_being_played(workspace: Workspace) -> None:
    told: list[Progress] = []
    distill(
        workspace, replace(CONFIG, rounds=1, round_episodes=4, round_epochs=1), progress=told.append
    )
    assert [(r.done, r.total) for r in told if r.stage == "distill, round 1: play"] == [
        (0, 6), (1, 6), (2, 6), (6, 6),
    ]  # fmt: skip
    played = [r.values["task"] for r in told if r.stage == "distill, round 1: play"]
    assert played == ["steer", "steer", "ring", "both"]
    assert [(r.done, r.total) for r in told if r.stage == "distill, round 1"] == [(1, 1)]


def test_what_is_missing_is_named(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="nothing"):
        distill(workspace, replace(CONFIG, dataset="nothing"))
    with pytest.raises(ConfigurationError, match="belongs to domain 'tiny'"):
        distill(workspace, replace(CONFIG, domain="duel"))
    with pytest.raises(ConfigurationError, match="cannot be a name"):
        distill(workspace, replace(CONFIG, name="../x"))
