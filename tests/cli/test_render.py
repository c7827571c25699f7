"""What strangers wrote reaches the terminal as text, and in moderation."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from skilldistill.cli import render
from skilldistill.cli.failures import Failure
from skilldistill.errors import excerpt

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r[bold]x[/]"


def test_escaped_text_commands_no_terminal() -> None:
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system=None).print(render.escaped(ESCAPES))
    shown = out.getvalue().rstrip("\n")
    assert shown.isprintable()
    assert "[bold]x[/]" in shown


def test_lines_stay_lines() -> None:
    assert render.escaped("one\ntwo é ✓") == "one\ntwo é ✓"


def test_a_failure_is_shown_in_moderation(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure("CorruptFile", ESCAPES + "x" * 1_000_000, "y" * 1_000_000, 3)
    render.show_failure(failure)
    error = capsys.readouterr().err
    assert len(error) < 5_000
    assert error.replace("\n", "").isprintable()
    assert f"({len(failure.message)} characters)" in error
    document = render.failure_document(failure)
    assert len(document["message"]) + len(document["hint"]) < 5_000


def test_a_document_says_the_same_in_printable_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = {"message": f"{ESCAPES} é\ud800\U000e0001"}
    render.print_document(content)
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert "é" in out
    assert json.loads(out) == content


def test_an_excerpt_is_short_and_printable() -> None:
    assert excerpt("plain [text]") == "plain [text]"
    assert excerpt(ESCAPES).isprintable()
    assert excerpt("x" * 101) == "x" * 99 + "…"
    deep: object = ()
    for _ in range(90_000):
        deep = (deep, deep)
    for value in ([7] * 10**6, deep, 10**5000, {"a" * 10**6: 1}, "\ud800" * 1000):
        assert len(excerpt(value)) <= 100
        assert excerpt(value).isprintable()
