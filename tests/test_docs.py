"""The documentation says what the program does: commands, settings, messages, links."""

from __future__ import annotations

import itertools
import math
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skilldistill import domain as domains
from skilldistill import errors
from skilldistill.cli import example, failures, results, scores
from skilldistill.cli.app import application
from skilldistill.domain import Domain
from skilldistill.evaluation.report import (
    Difference,
    EvaluationReport,
    PolicyEntry,
    Score,
    TaskEntry,
)
from skilldistill.settings import SECTIONS, Settings, settings_of
from skilldistill.stages import expert_references

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "guide.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
GROUPS = ("experts", "config")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def command_lines(text: str) -> Iterator[list[str]]:
    """Every ``skilldistill …`` in the shell blocks and between backticks of a page."""
    for language, body in BLOCK.findall(text):
        if language == "sh":
            for line in body.splitlines():
                if line.startswith("skilldistill "):
                    yield shlex.split(line.partition(" > ")[0])
    for words in re.findall(r"`(skilldistill [a-z][^`]*)`", BLOCK.sub("", text)):
        yield shlex.split(words)


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """The command's own words, and what follows them."""
    length = 2 if words[1] in GROUPS else 1
    return words[1 : 1 + length], words[1 + length :]


def help_of(command: list[str]) -> str:
    result = CliRunner().invoke(application(), [*command, "--help"])
    assert result.exit_code == 0, f"skilldistill {' '.join(command)}: {result.output}"
    return " ".join(result.output.split())


ALL_LINES = {
    f"{page.name}: {shlex.join(words)}": words
    for page in PAGES
    for words in command_lines(page.read_text())
}


def test_the_pages_hold_commands() -> None:
    assert len(ALL_LINES) > 30


@pytest.mark.parametrize("words", ALL_LINES.values(), ids=ALL_LINES)
def test_a_command_in_the_documentation_is_one_the_program_takes(words: list[str]) -> None:
    command, rest = split(words)
    if command[0].isupper():  # `skilldistill COMMAND`
        return
    shown = help_of(command)
    for word in rest:
        if re.match(r"--?[a-z]", word):
            assert f"{word.partition('=')[0]} " in shown.replace(",", " "), word


AMBIGUOUS = set(domains.find("duel").skill_names)
"""Names that an expert and a dataset share, as soon as `collect` has run."""


@pytest.mark.parametrize("words", ALL_LINES.values(), ids=ALL_LINES)
def test_a_reference_in_the_documentation_means_one_artefact(words: list[str]) -> None:
    if words[1] in ("rm", "show", "export", "verify"):
        for word in words[2:]:
            assert word.partition("@")[0] not in AMBIGUOUS, f"write dataset:{word}"


def test_the_example_of_each_command_means_one_artefact() -> None:
    for command in ("rm", "show", "export"):
        words = help_of([command]).partition("Example: ")[2].split()
        assert not {word.partition("@")[0] for word in words} & AMBIGUOUS


def test_the_readme_shows_each_commands_own_example() -> None:
    overview = CliRunner().invoke(application(), ["--help"]).output
    listed = overview.split("Commands:")[1].split("Example:")[0]
    names = [line.split()[0] for line in listed.splitlines() if line[2:3].isalpha()]
    commands = [[name] for name in names if name not in GROUPS]
    commands += [["experts", "add"], ["experts", "ls"], ["config", "show"]]
    blocks = "\n".join(body for language, body in BLOCK.findall(README) if language == "sh")
    for command in commands:
        shown = help_of(command).partition("Example: ")[2]
        assert re.search(rf"^{re.escape(shown)}$", blocks, re.MULTILINE), shown


def test_the_example_of_the_settings_file_is_true() -> None:
    committed = (ROOT / ".skilldistill.toml.example").read_text()
    assert committed == example.example(), "run `python -m skilldistill.cli.example`"


def test_the_example_uncommented_is_the_defaults(tmp_path: Path) -> None:
    text = re.sub(r"^# (\w+ = )", r"\1", example.example(), flags=re.MULTILINE)
    document = tomllib.loads(text)
    for section, config in SECTIONS.items():
        keys = {setting.key for setting in settings_of(config)} - {"seed", "domain"}
        assert set(document[section]) == keys
    (tmp_path / ".skilldistill.toml").write_text(text)
    settings = Settings.load(tmp_path, {}, tmp_path / "none")
    for config in SECTIONS.values():
        assert settings.config(config) == config()


def test_every_setting_in_the_example_has_a_comment() -> None:
    lines = example.example().splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"# \w+ = ", line):
            assert re.match(r"# .*[a-z]", above), line


def test_the_readmes_exit_codes_are_those_of_the_errors() -> None:
    rows = dict(re.findall(r"^\| (\d+)[^|]*\| ([^|]*) \|$", README, re.MULTILINE))
    classes = [
        error
        for error in vars(errors).values()
        if isinstance(error, type) and isinstance(getattr(error, "exit_code", None), int)
    ]
    assert {str(error.exit_code) for error in classes} <= set(rows)
    assert "not found" in rows[str(errors.NotFound.exit_code)]
    assert "locked" in rows[str(errors.Locked.exit_code)]
    assert "disk full" in rows[str(errors.DiskProblem.exit_code)]
    assert "configuration" in rows[str(errors.ConfigurationError.exit_code)]
    assert "corrupt" in rows[str(errors.CorruptFile.exit_code)]
    assert "went away" in rows[str(failures.BROKEN_PIPE)]


def test_the_readmes_words_for_a_missing_expert_are_the_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    duel = domains.find("duel")
    bare = Domain(**{**vars(duel), "shipped_experts": None})
    with pytest.raises(errors.NotFound) as caught:
        expert_references.find_experts(None, bare)
    assert f"error: {caught.value.message}\nhint:  {caught.value.hint}\n" in README


def test_the_readmes_words_for_too_little_memory_are_the_programs() -> None:
    found = failures.describe(MemoryError("Unable to allocate 8.00 GiB"))
    assert found.message == "out of memory: Unable to allocate 8.00 GiB"
    assert "`error: out of memory:`" in README
    assert f"hint:  {found.hint}\n" in README


def report(retention: float, wins: float, gain: float, task: str) -> EvaluationReport:
    """Scores of a student, and its successor's gain, beside experts that always win."""
    interval = {"n": 100, "missing": 0, "method": "t"}

    def won(policy: str, mean: float) -> Score:
        low, high = mean - 0.02, mean + 0.02
        return Score(
            policy=policy, task=task, metric="win", mean=mean, low=low, high=high, **interval
        )

    return EvaluationReport(
        domain="duel",
        episodes=100,
        seed=0,
        first_episode=0,
        opponent="chaser",
        versus="distilled",
        policies=tuple(
            PolicyEntry(label=name, ref=f"checkpoint:{name}@1", kind="checkpoint", finetuning=run)
            for name, run in (("distilled", {}), ("finetuned", {"collapse_depth": 0.0}))
        ),
        tasks=(TaskEntry(name=task, metrics=("win",), main_metric="win", skill=False),),
        scores=(won("random", 0.0), won("composite", 1.0), won("distilled", wins)),
        differences=(
            Difference(
                policy="finetuned",
                task=task,
                metric="win",
                mean=gain,
                low=gain - 0.03,
                high=gain + 0.03,
                versus="distilled",
                better=1,
                worse=0,
                p_value=None,
                **interval,
            ),
        ),
        retention=(
            Score(
                policy="distilled",
                task="movement",
                metric="in_band",
                mean=retention,
                low=retention - 0.02,
                high=retention + 0.02,
                **interval,
            ),
        ),
    )


def test_the_readmes_notes_are_the_programs() -> None:
    for note in (notes := scores.notes(report(0.77, 0.5, 0.01, "combined"))):
        assert f"note: {note}\n" in README
    assert len(notes) == 3
    (note,) = scores.notes(report(0.97, 0.99, 0.0, "combined"))
    assert f"note: {note}\n" in README
    assert f"note: {results.untaught('dataset:combined@2', ['movement', 'clicking'])}\n" in README


def test_a_policy_that_fell_is_not_excused_by_how_well_it_began() -> None:
    (note,) = scores.notes(report(0.97, 0.99, -0.1, "combined"))
    assert note == (
        "finetuned is worse than distilled in combined (-0.100, 95 % interval -0.130 to -0.070): "
        "go on with distilled, or fine-tune for more `--timesteps`"
    )


def test_a_good_student_and_a_clear_gain_leave_nothing_to_note() -> None:
    assert scores.notes(report(0.97, 0.95, 0.05, "combined")) == []
    assert scores.notes(report(math.nan, math.nan, 0.05, "combined")) == []


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    pages = sorted(path.name for path in folder.glob("0*.md"))
    assert re.findall(r"\((0\d{3}-[a-z0-9-]+\.md)\)", index) == pages


def test_make_has_the_targets_that_the_pages_name() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for targets in re.findall(r"`make ((?:[a-z]+ ?)+)`", page.read_text()):
            for target in targets.split():
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_pinned_package_that_the_project_needs_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    needed = itertools.chain.from_iterable(groups)
    names = {re.split(r"[\[>=<]", line)[0].lower().replace("-", "_") for line in needed}
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", pin) for pin in pins)
    pinned = {pin.partition("==")[0].lower().replace("-", "_") for pin in pins}
    assert names - {"skilldistill"} <= pinned


SMALL = {
    "SKILLDISTILL_COLLECT_EPISODES": "6",
    "SKILLDISTILL_DISTILL_EPOCHS": "2",
    "SKILLDISTILL_DISTILL_HIDDEN_DIM": "32",
    "SKILLDISTILL_FINETUNE_TIMESTEPS": "512",
    "SKILLDISTILL_FINETUNE_N_STEPS": "64",
    "SKILLDISTILL_FINETUNE_GUARD_EPISODES": "2",
    "SKILLDISTILL_EVALUATE_EPISODES": "2",
}


DOMAINS = (ROOT / "docs" / "domains.md").read_text()


@pytest.mark.slow
def test_the_example_of_a_domain_goes_through_the_pipeline(tmp_path: Path) -> None:
    """Installed as the page says: a module, and an entry point in its metadata."""
    blocks = BLOCK.findall(DOMAINS)
    site, here = tmp_path / "site", tmp_path / "here"
    metadata = site / "rover-1.0.dist-info"
    metadata.mkdir(parents=True)
    here.mkdir()
    (site / "rover.py").write_text(next(body for language, body in blocks if language == "python"))
    entry = tomllib.loads(next(body for language, body in blocks if language == "toml"))
    [(group, names)] = entry["project"]["entry-points"].items()
    lines = "".join(f"{name} = {value}\n" for name, value in names.items())
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rover\nVersion: 1.0\n")
    environ = {
        **os.environ,
        **SMALL,
        "SKILLDISTILL_TRAIN_TIMESTEPS": "4096",
        "SKILLDISTILL_TRAIN_EVAL_EPISODES": "8",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]),
        "HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }
    script = next(body for language, body in blocks if language == "sh")
    done = subprocess.run(
        ["bash", "-euc", script], cwd=here, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "gather score" in done.stdout + done.stderr


@pytest.mark.slow
def test_the_guide_can_be_followed(tmp_path: Path) -> None:
    bin_folder = Path(sys.executable).parent
    environ = {
        **os.environ,
        **SMALL,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }
    here = tmp_path / "here"
    here.mkdir()
    for language, body in BLOCK.findall(GUIDE):
        if language not in ("sh", "python"):
            continue
        run = ["bash", "-euc", body] if language == "sh" else [sys.executable, "-c", body]
        done = subprocess.run(
            run, cwd=here, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{body}\n{done.stdout}\n{done.stderr}"
