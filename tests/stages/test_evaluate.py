from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skilldistill import domain as domains
from skilldistill.config import EvaluateConfig
from skilldistill.errors import ConfigurationError, DiskProblem, Interrupted, NotFound
from skilldistill.evaluation.report import EvaluationReport
from skilldistill.policy import checkpoint
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.progress import Progress
from skilldistill.stages.evaluate import FIRST_EPISODE, evaluate, player
from skilldistill.stages.plan import plan
from skilldistill.stages.references import resolve_policy
from skilldistill.workspace.store import Workspace
from tests import tiny
from tests.tiny_workspace import add_checkpoint, add_expert, add_experts, steer


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.create(tmp_path / "workspace")
    add_experts(workspace)
    return workspace


@pytest.fixture(autouse=True)
def plain_domain() -> Iterator[None]:
    yield
    domains.register(tiny.DOMAIN)


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else: only the test of the files does it."""
    if "pictures" not in request.node.name and "bytes" not in request.node.name:
        monkeypatch.setattr("skilldistill.evaluation.pictures.draw", lambda *_: [])


def config(*policies: str, **options: Any) -> EvaluateConfig:
    settings = {"domain": "tiny", "episodes": 12, **options}
    return EvaluateConfig(policies=policies, **settings)


def labels(report: EvaluationReport) -> list[str]:
    return [policy.label for policy in report.policies]


def test_a_checkpoint_is_scored_on_every_task_beside_the_baselines(workspace: Workspace) -> None:
    student = add_checkpoint(workspace)
    result = evaluate(workspace, config("distilled"))
    report = result.report
    assert labels(report) == ["random", "composite", "distilled"]
    assert [task.name for task in report.tasks] == ["steer", "ring", "both"]
    assert len(report.scores) == 9
    assert report.versus == "distilled"
    assert {score.task for score in report.retention} == {"steer", "ring"}
    artefact = workspace.resolve("report:evaluation")
    assert result.id == artefact.id
    experts = [entry.id for entry in workspace.artefacts("expert")]
    assert artefact.parents == (*experts, student.id)
    assert artefact.config["policies"] == ["distilled"]
    assert artefact.metrics["means"]["composite"]["both"]["score"] > 0.8


def test_the_report_lies_in_its_folder_as_json_page_episodes_and_pictures(
    workspace: Workspace,
) -> None:
    result = evaluate(workspace, config("composite", baselines=False), command="the command")
    folder = Path(result.path)
    names = {path.name for path in folder.iterdir()}
    assert {"report.json", "report.html", "episodes.csv", "both.png"} <= names
    assert EvaluationReport.from_json((folder / "report.json").read_text()) == result.report
    assert "the command" in (folder / "report.html").read_text()
    document = result.as_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema"] == "skilldistill.evaluate/1"
    assert document["ref"] == "report:evaluation@1"


def test_a_path_that_is_not_utf_8_spoils_no_evaluation(
    workspace: Workspace, tmp_path: Path
) -> None:
    odd = tmp_path / os.fsdecode(b"odd\xff")
    workspace.root.rename(odd)
    workspace = Workspace.open(odd)
    path = str(workspace.path(add_checkpoint(workspace)))
    result = evaluate(workspace, config(path), command=f"skilldistill -w {odd} evaluate")
    assert "odd\\udcff evaluate" in (Path(result.path) / "report.html").read_text("utf-8")
    for name in ("episodes.csv", "report.json"):
        (Path(result.path) / name).read_text("utf-8")
    (artefact,) = workspace.artefacts("report")
    assert artefact.command == f"skilldistill -w {odd} evaluate"
    assert artefact.config["policies"] == [path]


def test_the_same_command_gives_the_same_bytes(workspace: Workspace) -> None:
    add_checkpoint(workspace)
    one, two = (evaluate(workspace, config("distilled")) for _ in range(2))
    first, second = workspace.artefacts("report")
    assert [f.sha256 for f in first.files] == [f.sha256 for f in second.files]
    assert one.ref != two.ref


def test_without_arguments_the_latest_students_are_scored(workspace: Workspace) -> None:
    add_checkpoint(workspace, "other")
    with pytest.raises(NotFound, match="no checkpoint called distilled or finetuned") as caught:
        evaluate(workspace, config())
    assert "`skilldistill distill`" in caught.value.hint
    add_checkpoint(workspace, "finetuned", status="interrupted")
    add_checkpoint(workspace, "distilled")
    assert labels(evaluate(workspace, config()).report) == ["random", "composite", "distilled"]
    add_checkpoint(workspace, "finetuned")
    assert labels(evaluate(workspace, config()).report)[2:] == ["distilled", "finetuned"]


def test_students_of_another_domain_are_not_scored_but_named(workspace: Workspace) -> None:
    add_checkpoint(workspace)
    with pytest.raises(NotFound, match="that plays in domain 'duel'") as caught:
        evaluate(workspace, dataclasses.replace(config(), domain="duel"))
    assert caught.value.hint == "add `--domain tiny`"


def test_composite_plays_a_skills_task_with_that_skills_expert_alone(
    workspace: Workspace,
) -> None:
    report = evaluate(workspace, config("composite", "expert:steer", baselines=False)).report
    together, alone = report.score("composite", "steer"), report.score("steer", "steer")
    assert together is not None
    assert alone is not None
    assert together.mean == alone.mean
    composite = report.policies[0]
    assert composite.experts == {"steer": "expert:steer@1", "ring": "expert:ring@1"}


def test_an_expert_plays_its_own_task_only(workspace: Workspace) -> None:
    report = evaluate(workspace, config("expert:steer")).report
    assert report.score("steer", "steer") is not None
    assert report.score("steer", "both") is None
    with pytest.raises(ConfigurationError, match="none of the policies can play ring"):
        evaluate(workspace, config("expert:steer", task="ring", baselines=False))


def test_a_script_plays_the_combined_task_only(workspace: Workspace) -> None:
    domain = domains.find("duel")
    chaser = resolve_policy("chaser", workspace, domain)
    plays = [task.name for task in domain.tasks if player(chaser, task.name) is not None]
    assert plays == [domain.combined]


def test_one_task_can_be_chosen(workspace: Workspace) -> None:
    report = evaluate(workspace, config("composite", task="ring")).report
    assert [task.name for task in report.tasks] == ["ring"]
    with pytest.raises(ConfigurationError, match="no task 'rings'"):
        evaluate(workspace, config("composite", task="rings"))


def test_policies_meet_the_same_episodes_and_none_that_is_learnt_from(
    workspace: Workspace,
) -> None:
    twin = add_expert(workspace, steer(), name="twin")
    report = evaluate(workspace, config("expert:steer", "expert:twin", task="steer")).report
    difference = report.difference("twin", "steer")
    assert difference is not None
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)
    assert report.first_episode == FIRST_EPISODE > 10**8
    assert twin.id in workspace.artefacts("report")[0].parents


def test_a_policy_named_twice_is_scored_once(workspace: Workspace) -> None:
    add_checkpoint(workspace)
    report = evaluate(workspace, config("distilled", "distilled@1", "random")).report
    assert labels(report) == ["random", "composite", "distilled"]


def test_versions_of_one_name_are_told_apart(workspace: Workspace) -> None:
    add_checkpoint(workspace, seed=1)
    add_checkpoint(workspace, seed=2)
    report = evaluate(workspace, config("distilled@1", "distilled@2")).report
    assert labels(report)[2:] == ["distilled@1", "distilled@2"]
    assert report.versus == "distilled@1"


def test_an_unknown_policy_leaves_no_report(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="no policy 'mine'"):
        evaluate(workspace, config("mine"))
    assert workspace.artefacts("report") == []


def test_progress_counts_episodes_of_all_policies_and_tasks(workspace: Workspace) -> None:
    seen: list[Progress] = []
    evaluate(workspace, config("composite"), progress=seen.append)
    assert {report.total for report in seen} == {2 * 3 * 12}
    assert seen[-1].done == seen[-1].total
    assert [report.done for report in seen] == sorted(report.done for report in seen)
    assert {report.values["policy"] for report in seen} == {"random", "composite"}


def test_a_signal_leaves_no_report(workspace: Workspace) -> None:
    with pytest.raises(Interrupted):
        evaluate(workspace, config("composite"), stop=lambda: 2)
    assert workspace.artefacts("report") == []


@pytest.mark.parametrize("number", [errno.EFBIG, errno.ENOSPC])
def test_a_disk_that_takes_no_more_is_told_with_the_file_and_a_way_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:  # as a write does: without the file's name
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(DiskProblem, match=r"report\.json") as caught:
        evaluate(workspace, config("composite"))
    assert str(workspace.root) in caught.value.message
    assert caught.value.hint
    assert workspace.artefacts("report") == []


def test_a_disk_that_takes_nothing_is_told_before_anything_is_played(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", fail)
    heard: list[object] = []
    with pytest.raises(DiskProblem):
        evaluate(workspace, config("composite"), progress=heard.append)
    assert heard == []


def test_a_picture_that_does_not_fit_is_a_disk_problem(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr("skilldistill.evaluation.pictures.draw", fail)
    with pytest.raises(DiskProblem, match="reports/evaluation") as caught:
        evaluate(workspace, config("composite"))
    assert "ulimit" in caught.value.hint


def test_the_opponent_is_passed_on_in_the_combined_task_only(workspace: Workspace) -> None:
    student = add_checkpoint(workspace)
    met: list[tuple[str, object]] = []

    def make_arenas(task: str, num_arenas: int, *, seed: int, opponent: Any = None) -> Any:
        met.append((task, opponent))
        return tiny.TinyArenas(task, num_arenas, seed=seed)

    domains.register(
        dataclasses.replace(tiny.DOMAIN, make_arenas=make_arenas, opponents=("lazy", "keen"))
    )
    report = evaluate(workspace, config("composite", baselines=False)).report
    assert report.opponent == "lazy"
    assert met == [("steer", None), ("ring", None), ("both", None)]
    met.clear()
    report = evaluate(workspace, config("composite", baselines=False, opponent="keen")).report
    assert report.opponent == "keen"
    assert met[2] == ("both", "keen")
    met.clear()
    evaluate(workspace, config("composite", baselines=False, opponent="distilled"))
    assert hasattr(met[2][1], "act")
    assert student.id in workspace.artefacts("report")[-1].parents


def test_nobody_is_met_in_a_domain_without_opponents(workspace: Workspace) -> None:
    add_checkpoint(workspace)
    for named in ("keen", "distilled", "composite"):
        with pytest.raises(ConfigurationError, match="domain 'tiny' has no opponents") as caught:
            evaluate(workspace, config("composite", opponent=named))
        assert "leave out `--opponent`" in caught.value.hint
    assert not workspace.artefacts("report")


def test_baselines_alone_play_in_a_domain_that_the_workspace_holds_things_of(
    workspace: Workspace, tmp_path: Path
) -> None:
    duel = {"domain": "duel", "task": "combined", "episodes": 2}
    for use in (evaluate, lambda place, given: plan("evaluate", given, place)):
        for names in (("composite",), ("random", "composite")):
            with pytest.raises(ConfigurationError, match="'duel', only in 'tiny'") as caught:
                use(workspace, config(*names, **duel))
            assert "add `--domain tiny`" in caught.value.hint
    assert not workspace.artefacts("report")
    checkpoint.save(tmp_path / "mine", DistilledPolicyNetwork.for_domain(domains.find("duel"), 16))
    fighter = str(tmp_path / "mine")  # knows its domain
    assert evaluate(workspace, config(fighter, **duel)).report.domain == "duel"
    with pytest.raises(ConfigurationError):  # a report alone makes no home
        evaluate(workspace, config("random", **duel))
    with workspace.draft("dataset", "walks") as draft:
        draft.path.write_bytes(b"")
        draft.commit(command="test", config={"domain": "duel"}, seed=0)
    for given in (config("random", **duel), config("random", task="both")):
        assert evaluate(workspace, given).report.domain == given.domain


def test_a_new_workspace_is_at_home_in_every_domain(tmp_path: Path) -> None:
    new = Workspace.create(tmp_path / "new")
    duel = config("random", domain="duel", task="combined", episodes=2, baselines=False)
    assert evaluate(new, duel).report.domain == "duel"


def test_a_fine_tuned_students_entry_tells_how_it_went(workspace: Workspace) -> None:
    add_checkpoint(workspace, metrics={"loss": 0.5})
    went = {"steps": 4096, "collapse_depth": 0.03, "before": {"both": 0.25}}
    add_checkpoint(workspace, "finetuned", metrics=went)
    report = evaluate(workspace, config("distilled", "finetuned")).report
    told = {policy.label: policy.finetuning for policy in report.policies}
    assert told == {"random": {}, "composite": {}, "distilled": {}, "finetuned": went}


def test_drawing_asks_the_domain(workspace: Workspace) -> None:
    add_checkpoint(workspace)
    with pytest.raises(ConfigurationError, match="cannot draw"):
        evaluate(workspace, config("distilled", render=True))
    asked: list[tuple[str, str]] = []
    episodes: set[tuple[int, int]] = set()

    def draw(
        task: str, policy: object, *, path: Path, episode: int, seed: int, opponent: object
    ) -> Path:
        asked.append((task, path.name))
        episodes.add((episode, seed))
        path.write_bytes(b"GIF89a")
        return path

    domains.register(dataclasses.replace(tiny.DOMAIN, render_episode=draw))
    drawn = config("distilled", "expert:steer", baselines=False, render=True, seed=4)
    result = evaluate(workspace, drawn)
    assert asked == [("both", "distilled-both.gif"), ("steer", "steer-steer.gif")]
    assert episodes == {(result.report.first_episode, 4)}
    asked.clear()
    for alike in ("distilled", "distilled-1", "distilled_1"):
        add_checkpoint(workspace, alike)
    refs = ("distilled@1", "distilled@2", "distilled-1", "distilled_1")
    evaluate(workspace, config(*refs, baselines=False, render=True))
    assert [name for _, name in asked] == [
        *("distilled-1-both.gif", "distilled-2-both.gif"),
        *("3-distilled-1-both.gif", "distilled_1-both.gif"),
    ]
    assert "data:image/gif" in (Path(result.path) / "report.html").read_text()


def test_one_policy_alone_is_compared_with_nobody(workspace: Workspace) -> None:
    report = evaluate(workspace, config("random", baselines=False)).report
    assert report.differences == ()
    assert report.versus == "random"


def test_composite_needs_the_experts_of_the_tasks_that_are_played(tmp_path: Path) -> None:
    bare = Workspace.create(tmp_path / "bare")
    add_expert(bare, steer())
    report = evaluate(bare, config("expert:steer", task="steer")).report
    assert labels(report) == ["random", "composite", "steer"]
    assert report.policies[1].experts == {"steer": "expert:steer@1"}
    assert evaluate(bare, config("composite", task="steer", baselines=False)).report
    for task in ("ring", "both", "all"):
        with pytest.raises(NotFound, match="no expert for skill 'ring'"):
            evaluate(bare, config("expert:steer", task=task))


def test_baselines_without_experts_can_be_left_out(tmp_path: Path) -> None:
    bare = Workspace.create(tmp_path / "bare")
    add_checkpoint(bare)
    with pytest.raises(NotFound, match="no expert for skill 'steer'") as caught:
        evaluate(bare, config("distilled"))
    assert caught.value.hint.endswith(", or leave composite out with `--no-baselines`")
    assert labels(evaluate(bare, config("distilled", baselines=False)).report) == ["distilled"]
    for baselines in (True, False):
        with pytest.raises(NotFound) as caught:
            evaluate(bare, config("composite", baselines=baselines))
        assert "--no-baselines" not in caught.value.hint
