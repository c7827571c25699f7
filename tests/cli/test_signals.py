from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
import typer

from skilldistill.cli.session import Session, boundary
from skilldistill.cli.signals import Stopper
from skilldistill.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_loop_that_asks_hears_of_the_first_signal(signum: int) -> None:
    stopper = Stopper()
    with stopper.installed():
        assert stopper.stop() == 0
        signal.raise_signal(signum)
        assert stopper.stop() == signum


@pytest.mark.parametrize("signum", SIGNALS)
def test_the_second_signal_interrupts_at_once(signum: int) -> None:
    stopper = Stopper()
    with stopper.installed():
        stopper.stop()
        signal.raise_signal(signum)
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(signum)
    assert caught.value.exit_code == 128 + signum


@pytest.mark.parametrize(("first", "second"), [SIGNALS, SIGNALS[::-1]])
def test_the_signal_that_asked_to_stop_is_remembered_whatever_follows(
    first: int, second: int
) -> None:
    stopper = Stopper()
    with stopper.installed():
        stopper.stop()
        signal.raise_signal(first)
        with pytest.raises(Interrupted):
            signal.raise_signal(second)
        assert stopper.stop() == first


def test_where_no_loop_asks_the_first_one_interrupts() -> None:
    stopper = Stopper()
    with stopper.installed(), pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGINT)


def test_a_question_is_interrupted_although_loops_asked_before() -> None:
    stopper = Stopper()
    with stopper.installed():
        stopper.stop()
        with stopper.unwatched(), pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)


def test_a_question_after_a_signal_is_not_asked() -> None:
    stopper = Stopper()
    with stopper.installed():
        stopper.stop()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted), stopper.unwatched():
            pytest.fail("asked")


@pytest.mark.parametrize("signum", SIGNALS)
def test_an_import_is_not_interrupted_but_ended_by_the_second_signal(
    signum: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"signals_{signum:d}"
    (tmp_path / f"{module}.py").write_text(f"import signal\nsignal.raise_signal({signum})\n")
    monkeypatch.syspath_prepend(tmp_path)
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    stopper = Stopper()
    with stopper.installed():
        imported = importlib.import_module(module)
        assert stopper.stop() == signum
        assert ended == []
        with contextlib.suppress(Interrupted):  # after the end, which here is none
            importlib.reload(imported)
    assert ended == [128 + signum]


def test_what_a_second_signal_leads_to_counts_as_an_interruption(
    capsys: pytest.CaptureFixture[str],
) -> None:
    session = Session(command_line="")

    def work() -> None:
        with boundary(session):
            session.stopper.stop()
            signal.raise_signal(signal.SIGTERM)
            try:
                signal.raise_signal(signal.SIGINT)
            except Interrupted:
                raise ImportError("some module failed to import") from None

    with pytest.raises(typer.Exit) as caught:
        work()
    assert caught.value.exit_code == 143
    assert capsys.readouterr().err == "error: stopped by SIGTERM\n"


@pytest.mark.parametrize("signum", SIGNALS)
def test_the_third_signal_ends_a_clean_up_that_swallowed_the_second(
    signum: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    stopper = Stopper()
    with stopper.installed():
        stopper.stop()
        signal.raise_signal(signum)
        with pytest.raises(Interrupted):
            signal.raise_signal(signum)
        assert ended == []
        signal.raise_signal(signum)
    assert ended == [128 + signum]


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_that_comes_when_the_work_is_done_shows_in_the_exit_code(signum: int) -> None:
    session = Session(command_line="")

    def work() -> None:
        with boundary(session):
            session.stopper.stop()
            signal.raise_signal(signum)

    with pytest.raises(typer.Exit) as caught:
        work()
    assert caught.value.exit_code == 128 + signum


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(signum) for signum in SIGNALS]
    with Stopper().installed():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(signum) for signum in SIGNALS] == before


def test_other_threads_can_run_commands() -> None:
    seen: list[int] = []

    def work() -> None:
        stopper = Stopper()
        with stopper.installed():
            seen.append(stopper.stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]


_PROGRAM = """
import sys, time
from skilldistill.cli.session import Session, boundary
from skilldistill.cli import main
from skilldistill.errors import Interrupted
from skilldistill import stages
import skilldistill.stages.collect as module

def collect(workspace, config, *, progress, stop, command):
    stop()  # from now on the first signal is left to this loop
    print("working", flush=True)
    while not stop():
        time.sleep(0.01)
    if config.episodes == 2:
        print("cleaning", flush=True)
        time.sleep(60)
    raise Interrupted("stopped while collecting", signum=stop(), hint="run it again")

sys.modules["skilldistill.stages"].__dict__["collect"] = collect
sys.exit(main())
"""


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("episodes", [1, 2])
def test_a_signalled_command_exits_as_shells_report_it(
    signum: int, episodes: int, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "collect", "-n", str(episodes)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(signum)
        if episodes == 2:  # hangs while cleaning up: the second signal ends it
            assert process.stdout.readline() == "cleaning\n"
            process.send_signal(signum)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signum
    assert err.startswith("error: stopped")
    assert "Traceback" not in err


_STARTING_AND_ENDING = """
import atexit, os, signal, sys

when, signum, handler = sys.argv.pop(1), int(sys.argv.pop(1)), sys.argv.pop(1)
signal.signal(signal.SIGINT, getattr(signal, handler))

def interrupt():
    os.kill(os.getpid(), signum)

class AtTheImport:
    def find_spec(self, name, path, target=None):
        if when == "import" and name == "skilldistill.cli.app":
            interrupt()

sys.meta_path.insert(0, AtTheImport())
if when == "exit":
    atexit.register(interrupt)

from skilldistill.cli import main

sys.exit(main())
"""


def _started(
    when: str, signum: int, handler: str = "default_int_handler"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _STARTING_AND_ENDING, when, str(signum), handler, "--version"],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("when", ["import", "exit"])
def test_a_signal_before_or_after_the_command_ends_the_process_without_a_traceback(
    when: str, signum: int
) -> None:
    ended = _started(when, signum)
    assert (ended.returncode, ended.stderr) == (128 + signum, "")
    assert ended.stdout.startswith("skilldistill") == (when == "exit")


def test_a_signal_that_the_caller_had_ignored_does_not_end_a_start() -> None:
    ended = _started("import", signal.SIGINT, "SIG_IGN")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_interruption_that_python_swallows_is_remembered_and_not_printed() -> None:
    class Thing:
        pass

    told: list[object] = []
    stopper, thing = Stopper(), Thing()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", told.append)
        with stopper.installed():
            watched = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
            del thing
            assert watched() is None
        assert told == []
        assert stopper.stop() == signal.SIGINT

        thing = Thing()
        with Stopper().installed():
            watched = weakref.ref(thing, lambda _: 1 / 0)
            del thing
        assert len(told) == 1  # what is no interruption is told as ever
