"""The commands as a person types them, on the tiny domain, with the real stages."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from skilldistill import stages
from skilldistill.cli import session as sessions
from skilldistill.errors import Interrupted, SkillDistillError
from skilldistill.workspace.store import Workspace
from tests.cli.conftest import Ended, Invoke
from tests.tiny_workspace import add_checkpoint, add_experts, steer

TINY = ("--domain", "tiny")


@pytest.fixture
def workspace(here: Path) -> Workspace:
    """``./workspace`` with an expert per skill."""
    made = Workspace.create(here / "workspace")
    add_experts(made)
    return made


def ok(ended: Ended) -> Ended:
    assert ended.code == 0, ended.err
    return ended


@pytest.mark.slow
def test_the_pipeline_line_by_line(workspace: Workspace, invoke: Invoke) -> None:
    first = ok(invoke("collect", *TINY, "-n", "12"))
    assert first.out == ""
    assert "dataset:steer@1" in first.err
    assert "played by expert:steer@1" in first.err
    assert "next: skilldistill merge" in first.err
    merged = ok(invoke("merge", *TINY, "--json")).document
    assert merged["schema"] == "skilldistill.merge/1"
    assert merged["rows_per_skill"] == {"steer": 240, "ring": 240}
    distilled = ok(invoke("distill", *TINY, "--epochs", "2", "--hidden-dim", "16"))
    assert "checkpoint:distilled@1" in distilled.err
    assert re.search(r"distill +100 %  2/2 epoch", distilled.err)
    tuned = ok(invoke("finetune", *TINY, "--timesteps", "256", "--n-steps", "64", "--opponent", ""))
    assert "next: skilldistill evaluate checkpoint:distilled@1" in tuned.err
    scored = ok(invoke("evaluate", *TINY, "distilled", "finetuned", "-n", "4"))
    assert scored.out == ""
    rows = [line.split()[0] for line in scored.err.splitlines() if "±" in line]
    assert rows == ["random", "composite", "distilled", "finetuned", "mean"]
    assert "steer score" in scored.err


def test_ls_lists_what_was_made_and_from_what(workspace: Workspace, invoke: Invoke) -> None:
    ok(invoke("collect", *TINY, "--skill", "steer", "-n", "5", "-q"))
    listed = ok(invoke("ls", "--json", "--kind", "dataset")).document
    (dataset,) = listed["artefacts"]
    expert = workspace.resolve("expert:steer")
    assert dataset["parents"] == [expert.id]
    assert dataset["metrics"]["episodes"] == 5
    text = ok(invoke("ls")).out
    assert [line.split()[0] for line in text.splitlines()] == [
        *("artefact", "expert:steer@1", "expert:ring@1", "dataset:steer@1")
    ]
    assert all(line == line.rstrip() for line in text.splitlines())


def test_the_recorded_command_is_the_one_typed(
    workspace: Workspace, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from skilldistill.cli import main

    assert main(["-q", "collect", *TINY, "--skill", "ring", "-n", "2", "--name", "my-data"]) == 0
    made = workspace.resolve("dataset:my-data")
    assert made.command == "skilldistill -q collect --domain tiny --skill ring -n 2 --name my-data"
    assert capfd.readouterr() == ("", "")


def test_show_answers_on_stdout(workspace: Workspace, invoke: Invoke) -> None:
    add_checkpoint(workspace)
    ended = ok(invoke("show", "distilled"))
    assert ended.err == ""
    assert ended.out.startswith("checkpoint:distilled@1\n")
    document = ok(invoke("show", "distilled", "--json")).document
    assert document["artefact"]["ref"] == "checkpoint:distilled@1"


def test_verify_tells_damage_with_3(workspace: Workspace, invoke: Invoke) -> None:
    assert ok(invoke("verify")).out.startswith("✓ 2 artefacts")
    expert = workspace.resolve("expert:ring")
    victim = workspace.path(expert) / "expert.safetensors"
    victim.write_bytes(victim.read_bytes()[:-1] + b"\0")
    ended = invoke("verify", "--json")
    assert ended.code == 3
    assert ended.document["ok"] is False  # one document, and not a second one for the error
    assert "error:" in ended.err
    assert "expert.safetensors" in ended.err
    assert "hint:" in ended.err
    assert "changed" in invoke("verify").out


def test_export_rm_and_gc_can_be_tried_dry(workspace: Workspace, invoke: Invoke) -> None:
    listed = ok(invoke("ls")).out
    assert "would write expert:ring@1" in ok(invoke("export", "ring", "-o", "x", "--dry-run")).out
    assert "would remove expert:ring@1" in ok(invoke("rm", "ring", "--dry-run")).out
    assert "would remove 0 leftovers" in ok(invoke("gc", "--dry-run")).out
    assert ok(invoke("ls")).out == listed
    ok(invoke("export", "ring", "-o", "x"))
    assert Path("x/expert.json").is_file()
    assert "removed expert:ring@1" in ok(invoke("rm", "ring")).err
    assert "expert:ring" not in ok(invoke("ls")).out


def test_init_makes_the_directory_it_is_given(here: Path, invoke: Invoke) -> None:
    assert ok(invoke("init", "there", "--json")).document["created"] is True
    assert ok(invoke("init", "there", "--json")).document["created"] is False
    assert (here / "there" / "manifest.json").is_file()
    ok(invoke("init"))
    assert (here / "workspace" / "manifest.json").is_file()


def test_the_workspace_comes_from_flag_variable_or_file(
    here: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        ok(invoke("init", name))
    (here / ".skilldistill.toml").write_text('workspace = "one"\n')

    def found(*words: str) -> str:
        return Path(ok(invoke(*words, "ls", "--json")).document["workspace"]).name

    assert found() == "one"
    monkeypatch.setenv("SKILLDISTILL_WORKSPACE", "two")
    assert found() == "two"
    assert found("-w", "three") == "three"


def test_a_command_that_only_reads_makes_no_workspace(here: Path, invoke: Invoke) -> None:
    for words in (["ls"], ["merge"], ["distill"], ["finetune"], ["evaluate"], ["show", "x"]):
        ended = invoke(*words)
        assert ended.code == 4, words
        assert "hint:" in ended.err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "inputs", "outputs"),
    [
        (["train", "--skill", "ring"], [], ["expert:ring@2"]),
        (["collect"], ["expert:steer@1", "expert:ring@1"], ["dataset:steer@1", "dataset:ring@1"]),
        (["evaluate", "composite"], ["random", "composite"], ["report:evaluation@1"]),
        (["finetune"], ["checkpoint:distilled@1"], ["checkpoint:finetuned@1"]),
    ],
    ids=lambda value: value[0] if value else "",
)
def test_a_dry_run_resolves_everything_and_writes_nothing(
    words: list[str],
    inputs: list[str],
    outputs: list[str],
    workspace: Workspace,
    invoke: Invoke,
) -> None:
    add_checkpoint(workspace)
    before = workspace.manifest()
    document = ok(invoke(*words, *TINY, "--dry-run", "--json")).document
    assert document["schema"] == "skilldistill.plan/1"
    refs = [entry["ref"] for entry in document["inputs"]]
    assert refs[: len(inputs)] == inputs
    assert [entry["ref"] for entry in document["outputs"]] == outputs
    assert document["config"]["domain"] == "tiny"
    assert workspace.manifest() == before
    text = ok(invoke(*words, *TINY, "--dry-run")).out
    assert f"write {outputs[0]}" in text


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["steer", "none.zip"], 4),
        (["steer", "broken.zip"], 3),
        (["steer", "pipe.zip"], 3),
        (["steer", "folder"], 3),
        (["steer", "broken.zip", "--trust-pickle"], 3),
        (["steer", "broken.zip", "--normaliser", "none.npz"], 4),
        (["random", "broken.zip", "--skill", "steer"], 2),
        (["nameless", "broken.zip"], 2),
    ],
    ids=lambda value: "" if isinstance(value, int) else " ".join(value),
)
def test_an_expert_that_is_refused_leaves_no_workspace(
    words: list[str], code: int, here: Path, invoke: Invoke
) -> None:
    (here / "broken.zip").write_bytes(b"PK\x03\x04")
    (here / "folder").mkdir()
    os.mkfifo(here / "pipe.zip")
    before = sorted(here.iterdir())
    ended = invoke("experts", "add", *words, *TINY, "--json")
    assert (ended.code, ended.document["exit_code"]) == (code, code)
    assert sorted(here.iterdir()) == before


def test_an_expert_that_is_taken_in_makes_the_workspace(here: Path, invoke: Invoke) -> None:
    (here / "mine").mkdir()
    steer().save(here / "mine")
    made = ok(invoke("experts", "add", "steer", "mine", *TINY, "--json")).document
    assert made["ref"] == "expert:steer@1"
    assert Workspace.open(here / "workspace").resolve("expert:steer").id == made["id"]


def test_a_run_takes_what_is_set_for_its_steps_before_its_preset(
    workspace: Workspace, here: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / ".skilldistill.toml").write_text(
        "[collect]\nepisodes = 7\nseed = 2\n[distill]\nepochs = 3\nrounds = 1\nbatch_size = 64\n"
        '[merge]\nname = "joined"\n'
    )
    monkeypatch.setenv("SKILLDISTILL_COLLECT_EPISODES", "8")
    document = ok(invoke("run", *TINY, "--dry-run", "--json")).document
    steps = document["config"]["steps"]
    assert (steps["collect"]["episodes"], steps["collect"]["seed"]) == (8, 2)
    assert (steps["distill"]["epochs"], steps["distill"]["large_batch"]) == (3, False)
    assert steps["evaluate"]["episodes"] == 100  # nobody but the preset has a word on it
    outputs = [entry["ref"] for entry in document["outputs"]]
    assert {"dataset:joined@1", "dataset:distilled-rounds@1"} <= set(outputs)
    assert "epochs" in ok(invoke("run", *TINY, "--dry-run")).out
    flagged = ok(invoke("run", *TINY, "--seed", "5", "--dry-run", "--json")).document
    assert {step["seed"] for step in flagged["config"]["steps"].values()} == {5}


def test_the_stage_gets_what_is_set_for_the_steps(
    workspace: Workspace, here: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def run(space: Workspace, config: Any, **named: Any) -> Any:
        given.append(config.steps)
        raise SkillDistillError("enough")

    monkeypatch.setitem(vars(stages), "run", run)
    (here / ".skilldistill.toml").write_text("[finetune]\ntimesteps = 7\n")
    invoke("run", "--yes")
    assert given[0]["finetune"] == {"timesteps": 7}


def test_init_can_be_tried_dry(here: Path, invoke: Invoke) -> None:
    document = ok(invoke("init", "new", "--dry-run", "--json")).document
    assert (document["command"], document["workspace"]) == ("init", str(here / "new"))
    assert document["creates_workspace"] is True
    assert str(here / "new") in ok(invoke("init", "new", "--dry-run")).out
    assert not (here / "new").exists()
    ok(invoke("init", "new"))
    assert ok(invoke("init", "new", "--dry-run", "--json")).document["creates_workspace"] is False


def test_what_exists_under_two_kinds_is_named_with_its_kind(
    workspace: Workspace, invoke: Invoke
) -> None:
    ok(invoke("collect", *TINY, "--skill", "ring", "-n", "2", "-q"))
    ended = invoke("rm", "ring@1")
    assert ended.code == 2
    assert "dataset:ring@1 or expert:ring@1" in ended.err
    assert "removed dataset:ring@1" in ok(invoke("rm", "dataset:ring@1")).err


def test_a_dry_run_in_an_empty_directory_leaves_it_empty(here: Path, invoke: Invoke) -> None:
    document = ok(invoke("train", "--skill", "ring", *TINY, "--dry-run", "--json")).document
    assert document["creates_workspace"] is True
    assert Path(document["workspace"]) == here / "workspace"
    assert invoke("merge", "--dry-run").code == 4
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--skill", "nonsense"),
        ("collect", "--skill", "nonsense"),
        ("collect", "--skill", "ring", "--name", "a/b"),
        ("evaluate", "nobody"),
    ],
)
def test_a_refused_command_leaves_an_empty_directory_empty(
    here: Path, invoke: Invoke, command: tuple[str, ...]
) -> None:
    assert invoke(*command, *TINY).code in (2, 4)
    assert list(here.iterdir()) == []


def test_config_show_says_what_is_in_force_and_why(
    here: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tomllib

    (here / ".skilldistill.toml").write_text("[distill]\nepochs = 7\n")
    monkeypatch.setenv("SKILLDISTILL_SEED", "5")
    shown = tomllib.loads(ok(invoke("config", "show")).out)
    assert (shown["distill"]["epochs"], shown["distill"]["seed"]) == (7, 5)
    assert set(shown) == {"workspace", *sessions_sections()}
    text = ok(invoke("config", "show", "distill", "--origin")).out
    assert re.search(r"^epochs = 7 +# .*\.skilldistill\.toml$", text, re.MULTILINE)
    assert re.search(r"^seed = 5 +# SKILLDISTILL_SEED$", text, re.MULTILINE)
    assert re.search(r"^rounds = 0 +# default$", text, re.MULTILINE)
    document = ok(invoke("config", "show", "--json")).document
    assert document["sections"]["distill"]["epochs"]["value"] == 7
    assert "did you mean 'distill'" in invoke("config", "show", "distil").err


def sessions_sections() -> set[str]:
    from skilldistill.settings import SECTIONS

    return set(SECTIONS)


def test_a_typo_in_the_settings_file_stops_every_command(here: Path, invoke: Invoke) -> None:
    (here / ".skilldistill.toml").write_text("[distill]\nepoch = 7\n")
    for words in (["ls"], ["collect"], ["config", "show"]):
        ended = invoke(*words)
        assert ended.code == 2
        assert "unknown setting 'epoch'" in ended.err
        assert "did you mean 'epochs'" in ended.err


def test_an_error_is_one_json_document_too(here: Path, invoke: Invoke) -> None:
    ended = invoke("ls", "--json")
    assert ended.code == 4
    assert ended.document["schema"] == "skilldistill.error/1"
    assert ended.document["kind"] == "NotFound"
    assert ended.document["exit_code"] == 4
    assert ended.document["hint"]


def test_a_surprise_is_one_line_and_a_log_unless_debugging(
    workspace: Workspace, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **named: Any) -> Any:
        raise ValueError("surprise")

    monkeypatch.setitem(vars(stages), "merge", broken)
    ended = invoke("merge")
    assert ended.code == 1
    assert "error: unexpected ValueError: surprise" in ended.err
    assert "Traceback" not in ended.err
    log = re.search(r"traceback is in (\S+);", ended.err)
    assert log is not None
    assert "surprise" in Path(log[1]).read_text()
    assert "Traceback" in invoke("merge", "--debug").err


def test_messages_may_hold_square_brackets(
    workspace: Workspace, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **named: Any) -> Any:
        raise SkillDistillError("no [bold]x[/bold] in [0, 1]", hint="see [1]")

    monkeypatch.setitem(vars(stages), "merge", broken)
    assert invoke("merge").err == "error: no [bold]x[/bold] in [0, 1]\nhint:  see [1]\n"


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("n\n", False), ("\n", True)])
def test_run_asks_before_the_fine_tuning_where_somebody_is_there(
    answer: str,
    agreed: bool,
    workspace: Workspace,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[Any] = []

    def run(*args: Any, confirm: Any, **named: Any) -> Any:
        answers.append(confirm("Fine-tune?") if confirm else None)
        raise SkillDistillError("enough")

    monkeypatch.setitem(vars(stages), "run", run)
    monkeypatch.setattr(sessions.Session, "interactive", True)
    ended = invoke("run", input=answer)
    assert "Fine-tune? [Y/n]" in ended.err
    invoke("run", "--yes", input=answer)
    monkeypatch.setattr(sessions.Session, "interactive", False)
    invoke("run", input=answer)
    assert answers == [agreed, None, None]


def test_the_first_signal_at_a_question_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Signalled(io.StringIO):
        def readline(self, size: int | None = -1, /) -> str:
            signal.raise_signal(signal.SIGINT)
            return "y\n"

    monkeypatch.setattr("sys.stdin", Signalled())
    session = sessions.Session(command_line="")
    with session.stopper.installed():
        session.stopper.stop()
        with pytest.raises(Interrupted):
            session.ask("Fine-tune?")


def test_a_workspace_that_is_named_must_be_there_and_be_one(here: Path, invoke: Invoke) -> None:
    assert invoke("doctor", "-w", "nowhere").code == 4
    assert invoke("init", "one", "-w", "other").code == 2
    assert list(here.iterdir()) == []


def test_doctor_checks_the_machine(workspace: Workspace, invoke: Invoke) -> None:
    document = json.loads(invoke("doctor", "--json").out)
    checks = {check["name"]: check for check in document["checks"]}
    assert checks["torch"]["status"] == "ok"
    assert checks["domain"]["status"] == "ok"
    assert "2 artefacts" in checks["workspace"]["detail"]


def test_doctor_tells_a_damaged_expert_with_3(here: Path, invoke: Invoke) -> None:
    ok(invoke("collect", "--skill", "aiming", "-n", "1", "-q"))
    (here / "workspace" / "experts" / "aiming" / "1" / "expert.json").write_text("{}")
    ended = invoke("doctor")
    assert ended.code == 3
    assert "expert.json" in ended.err
    assert "`skilldistill rm --force expert:aiming@1`" in ended.err
    marked = ok(invoke("experts", "ls")).out
    assert re.search(r"^\* +aiming +expert:aiming@1 .*\(damaged\)", marked, re.MULTILINE)
    ok(invoke("rm", "--force", "expert:aiming@1"))
    assert invoke("doctor").code == 0


def test_two_damaged_manifests_are_3_everywhere(workspace: Workspace, invoke: Invoke) -> None:
    for name in ("manifest.json", "manifest.json.previous"):
        (workspace.root / name).write_text("{")
    for words in (["ls"], ["verify"], ["doctor"], ["init"], ["init", "--dry-run"], ["gc"]):
        ended = invoke(*words)
        assert ended.code == 3, words
        assert "manifest.json.previous" in ended.err
        assert "backup" in ended.err


def test_a_damaged_manifest_is_told_once(workspace: Workspace, invoke: Invoke) -> None:
    (workspace.root / "manifest.json").write_text("{")
    ended = ok(invoke("ls"))
    assert (ended.out + ended.err).count("is no JSON") == 1


def test_experts_ls_marks_the_ones_in_use(workspace: Workspace, invoke: Invoke) -> None:
    text = ok(invoke("experts", "ls", *TINY)).out
    assert re.search(r"^\* +steer +expert:steer@1", text, re.MULTILINE)
    document = ok(invoke("experts", "ls", *TINY, "--json")).document
    assert [entry["used"] for entry in document["experts"]] == [True, True]


def test_experts_add_refuses_what_is_no_zip(here: Path, invoke: Invoke) -> None:
    Path("policy.zip").write_bytes(b"not a zip")
    for extra in ([], ["--dry-run"]):
        ended = invoke("experts", "add", "ring", "policy.zip", *TINY, *extra)
        assert ended.code == 3
        assert "policy.zip" in ended.err
