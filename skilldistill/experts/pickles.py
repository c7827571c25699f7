"""Pickles that are looked at and never run: which of them would do harm elsewhere."""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from skilldistill.errors import CorruptFile, UnsafeFile, excerpt

MAX_IDLE_OPCODES = 1_000_000
"""Of pickles that nothing here interprets, all together. Objects take about five bytes per
opcode, so that nothing honest which fits into the text comes near; it keeps bombs short."""

# fmt: off
_DANGEROUS_MODULES = frozenset((
    "asyncio", "bdb", "codeop", "commands", "ctypes", "ftplib", "http", "importlib", "marshal",
    "multiprocessing", "nt", "os", "pdb", "pickle", "pip", "popen2", "posix", "pty", "pydoc",
    "requests", "runpy", "shutil", "smtplib", "socket", "subprocess", "sys", "timeit", "urllib",
    "webbrowser", "zipimport",
))
_DANGEROUS_BUILTINS = frozenset((
    "__import__", "breakpoint", "compile", "delattr", "eval", "exec", "execfile", "globals",
    "input", "locals", "open", "setattr", "vars",
))
# fmt: on


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that decoding a pickle's texts may give: the errors are enough."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def dangerous_call(pickled: bytes, budget: Iterator[int]) -> str:
    """The first well-known harmful function a pickle refers to, or an empty string.

    A courtesy, not a defence: nothing here ever runs that pickle, but other programs would.

    Args:
        pickled: the pickle.
        budget: yields once per opcode that may still be looked at.

    Raises:
        ValueError: not a pickle, or the budget is used up.
    """
    memo: dict[Any, Any] = {}
    texts: list[Any] = ["", ""]
    for opcode, argument, _ in pickletools.genops(pickled):
        if next(budget, None) is None:
            raise ValueError(f"more than {MAX_IDLE_OPCODES} pickle opcodes in all")
        found = ""
        match opcode.name:
            case "GLOBAL" | "INST":
                found = str(argument)
            case "STACK_GLOBAL":
                found = f"{texts[-2]} {texts[-1]}"
            case "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                texts = [texts[-1], argument]
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = texts[-1]
            case "MEMOIZE":
                memo[len(memo)] = texts[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                texts = [texts[-1], memo.get(argument, "")]
        module, _, name = found.partition(" ")
        parts = {module.split(".")[0], *name.split(".")}
        harmful = bool(parts & _DANGEROUS_MODULES)
        if module in ("builtins", "__builtin__"):
            harmful = harmful or name in _DANGEROUS_BUILTINS
        if harmful:
            return f"{module}.{name}"
    return ""


def refuse_dangerous(entries: Mapping[str, bytes], label: str) -> None:
    """Raise :class:`UnsafeFile` if one of the pickles, by name, would call something harmful."""
    budget = iter(range(MAX_IDLE_OPCODES))
    for name, pickled in entries.items():
        field = f"{label}: the pickle of {excerpt(name)!r}"
        try:
            with quiet():
                found = dangerous_call(pickled, budget)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            raise CorruptFile(f"{field} is broken: {excerpt(str(error))}") from error
        if found:
            raise UnsafeFile(f"{field} would call {excerpt(found)} when loaded")
