from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from skilldistill import domain as domains
from skilldistill.cli.options import flags_from
from skilldistill.cli.session import RootFlags, Session
from skilldistill.config import BaseConfig, option
from skilldistill.settings import SECTIONS, settings_of
from tests.cli.conftest import Invoke


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cooking(BaseConfig):
    minutes: int = option(5, "how long", short="m", low=1, high=60)
    heat: float = option(0.5, "how hot", low=0.0)
    salted: bool = option(True, "with salt")
    pan: str = option("iron", "which pan", name="in", choices=("iron", "steel"))
    foods: tuple[str, ...] = ()


Foods = Annotated[list[str] | None, typer.Argument()]


def application(seen: list[Any], **decorator: Any) -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None)

    @app.callback()
    def root(ctx: typer.Context) -> None:
        ctx.obj = RootFlags(quiet=True, workspace=Path("before"))

    @app.command()
    @flags_from(Cooking, arguments={"foods": Foods}, **decorator)
    def cook(session: Session, config: Cooking, loud: bool = False) -> None:
        """Cook."""
        seen.append((session, config, loud))

    return app


def cook(*words: str, **decorator: Any) -> tuple[Session, Cooking, bool]:
    seen: list[Any] = []
    result = CliRunner().invoke(application(seen, **decorator), ["cook", *words])
    assert result.exit_code == 0, result.output
    session, config, loud = seen[0]
    return session, config, loud


def test_without_flags_the_dataclass_is_as_it_was_written(here: Path) -> None:
    assert cook()[1] == Cooking()


def test_every_field_is_a_flag_under_its_own_word(here: Path) -> None:
    words = ["-m", "7", "--heat", "1.5", "--no-salted", "--in", "steel", "--seed", "3", "egg"]
    assert cook(*words)[1] == Cooking(
        minutes=7, heat=1.5, salted=False, pan="steel", seed=3, foods=("egg",)
    )
    assert cook("--minutes", "8")[1].minutes == 8


def test_a_commands_own_parameters_stay_its_own(here: Path) -> None:
    assert cook("--loud")[2] is True


def test_flags_of_the_command_and_of_the_program_both_count(here: Path) -> None:
    session = cook("--json")[0]
    assert (session.as_json, session.quiet) == (True, True)


def test_the_commands_own_workspace_comes_before_that_of_the_program(here: Path) -> None:
    assert cook("--workspace", "x")[0].workspace_flag == Path("x")
    assert cook()[0].workspace_flag == Path("before")


def test_only_what_writes_has_a_dry_run(here: Path) -> None:
    assert cook("--dry-run", writes=True)[0].dry_run
    result = CliRunner().invoke(application([]), ["cook", "--dry-run"])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--minutes", "0"], "--minutes: minutes must be 1 to 60, not 0"),
        (["--minutes", "61"], "--minutes: minutes must be 1 to 60, not 61"),
        (["--heat", "nan"], "--heat: heat must be finite, not nan"),
        (["--in", "stel"], "--in: in must be one of iron, steel, not 'stel'"),
    ],
)
def test_a_value_out_of_range_exits_with_2_and_names_the_flag(
    words: list[str], says: str, here: Path
) -> None:
    seen: list[Any] = []
    result = CliRunner().invoke(application(seen), ["cook", *words])
    assert (result.exit_code, seen) == (2, [])
    assert says in result.stderr
    assert "hint:" in result.stderr


def test_help_shows_range_and_default_written_once(here: Path) -> None:
    text = " ".join(CliRunner().invoke(application([]), ["cook", "--help"]).output.split())
    assert "-m, --minutes <int> how long (1 to 60; default 5)" in text
    assert "--in iron|steel which pan (default iron)" in text
    assert "with salt (default on)" in text
    assert text.index("--minutes") < text.index("--seed")


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_of_a_command_is_in_its_help(section: str, invoke: Invoke) -> None:
    text = " ".join(invoke(section, "--help").out.split())
    for setting in settings_of(SECTIONS[section]):
        assert f"{setting.flag} " in text
        assert setting.help.split()[-1] in text


@pytest.mark.parametrize(
    ("command", "further"),
    [("train", ()), ("collect", ("combined", "all")), ("evaluate", ("all",))],
)
def test_the_choices_of_the_built_in_domain_are_in_the_help(
    command: str, further: tuple[str, ...], invoke: Invoke
) -> None:
    duel = domains.find("duel")
    names = duel.skill_names if command != "evaluate" else tuple(t.name for t in duel.tasks)
    flag = "--task" if command == "evaluate" else "--skill"
    lines = " ".join(invoke(command, "--help").out.split())
    text = lines[lines.index(f"{flag} ") :].partition(" --")[0]
    for name in (*names, *further):
        assert re.search(rf"\b{name}\b", text), name


def test_typer_sees_a_signature_and_annotations() -> None:
    @flags_from(Cooking)
    def plain(session: Session, config: Cooking) -> None:
        """Plain."""

    names = list(inspect.signature(plain).parameters)
    assert names[:2] == ["ctx", "minutes"]
    assert set(plain.__annotations__) == set(names)


def test_every_command_takes_a_seed(here: Path, invoke: Invoke) -> None:
    assert invoke("init", "--seed", "3").code == 0
    plain, seeded = (invoke("ls", "--json", *words) for words in ([], ["--seed", "3"]))
    assert (plain.code, plain.out) == (seeded.code, seeded.out)
    assert invoke("ls", "--seed", "-1").code == 2
    assert invoke("ls", "--seed", "x").code == 2


def test_a_file_is_no_workspace(here: Path, invoke: Invoke) -> None:
    (here / "file").touch()
    ended = invoke("ls", "--workspace", "file")
    assert ended.code == 2
    assert "is a file, not a directory" in ended.err
    assert "init" not in ended.err
