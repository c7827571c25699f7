"""Where settings come from: flag > environment > nearest file > user's file > default.

A settings file has one section per command, named like it, whose keys are the fields of that
command's dataclass in :mod:`skilldistill.config`; three keys at the top (``workspace``, ``seed``,
``domain``) hold for every command. The environment uses the same words in capitals:
``SKILLDISTILL_SEED``, ``SKILLDISTILL_DISTILL_BATCH_SIZE``. Every key, type, choice and range is
checked when it is read, whichever command reads it: a typo is an error that names the nearest key.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from skilldistill.config import (
    BaseConfig,
    CollectConfig,
    DistillConfig,
    EvaluateConfig,
    FinetuneConfig,
    MergeConfig,
    RunConfig,
    TrainConfig,
)
from skilldistill.errors import ConfigurationError, NotFound, excerpt

FILE_NAME = ".skilldistill.toml"
PREFIX = "SKILLDISTILL_"
WORKSPACE = "workspace"

SECTIONS: Mapping[str, type[BaseConfig]] = {
    "train": TrainConfig,
    "collect": CollectConfig,
    "merge": MergeConfig,
    "distill": DistillConfig,
    "finetune": FinetuneConfig,
    "evaluate": EvaluateConfig,
    "run": RunConfig,
}

STEPS = ("collect", "merge", "distill", "finetune", "evaluate")
"""The commands that `run` calls, in order."""

DEFAULT_ORIGIN = "default"
FLAG_ORIGIN = "flag"

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_KINDS: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
}

C = TypeVar("C")


@dataclass(frozen=True)
class Setting:
    """One setting of one command, as its dataclass declares it."""

    field: str
    """Name of the dataclass field."""
    key: str
    """The word in files and, with dashes, on the command line."""
    type: type
    """int, float, bool, or str."""
    default: Any
    help: str
    short: str | None
    choices: tuple[str, ...]
    low: float | None
    high: float | None

    @property
    def flag(self) -> str:
        """The long flag, e.g. ``--batch-size``."""
        return "--" + self.key.replace("_", "-")

    @property
    def allowed(self) -> str:
        """What values are allowed, in words; empty if any of the type is."""
        if self.choices:
            return "one of " + ", ".join(choice for choice in self.choices if choice)
        low, high = _bound(self.low), _bound(self.high)
        if low and high:
            return f"{low} to {high}"
        return f"at least {low}" if low else f"at most {high}" if high else ""

    def check(self, value: Any, where: str) -> Any:
        """The value, turned into the setting's type.

        Args:
            value: what a file or flag gave.
            where: the place to name in an error.

        Raises:
            ConfigurationError: wrong type, not among the choices, or out of range.
        """
        if self.type is float and type(value) is int:
            value = _as_float(value)
        expected: Any = self.type
        if type(value) is not expected:  # no isinstance: a bool is no whole number
            python = f"{self.type.__name__}(…) makes it one; " if hasattr(value, "dtype") else ""
            raise ConfigurationError(
                f"{where}: {self.key} must be {_KINDS[self.type]}, not {_shown(value)}",
                hint=f"{python}default: {toml_value(self.default)} ({self.help})",
            )
        allowed = self.allowed
        wrong = bool(self.choices) and value not in self.choices
        if self.type is float and not math.isfinite(value):
            wrong, allowed = True, "finite"
        elif self.type in (int, float):
            wrong = (self.low is not None and value < self.low) or (
                self.high is not None and value > self.high
            )
        if wrong:
            near = difflib.get_close_matches(value, self.choices, n=1) if self.choices else []
            guess = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigurationError(
                f"{where}: {self.key} must be {allowed}, not {_shown(value)}",
                hint=f"{guess}default: {toml_value(self.default)} ({self.help})",
            )
        return value

    def parse(self, text: str, where: str) -> Any:
        """The value that ``text``, from the environment, stands for; errors as :meth:`check`."""
        value: Any = text
        if self.type is bool:
            word = text.strip().lower()
            value = True if word in _TRUE else False if word in _FALSE else text
        elif self.type in (int, float):
            try:
                value = self.type(text)
            except ValueError:
                value = text
        return self.check(value, where)


def _as_float(value: int) -> float:
    """A whole number as a float; infinite, and so refused, if it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _shown(value: object) -> str:
    """A value in a message; a whole number may have more digits than Python writes out."""
    return repr(value) if isinstance(value, str) else excerpt(value)


def _bound(value: float | None) -> str:
    """An end of a range in words: all digits of a whole number; empty if there is none."""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def settings_of(config: type[Any]) -> tuple[Setting, ...]:
    """The settings of a command: its dataclass's fields that are no positional arguments.

    Args:
        config: a dataclass of :mod:`skilldistill.config`.
    """
    hints = typing.get_type_hints(config)
    found = []
    for field in dataclasses.fields(config):
        meta = field.metadata
        if "help" not in meta:
            continue  # given as arguments, e.g. the datasets to merge
        found.append(
            Setting(
                field=field.name,
                key=meta["name"] or field.name,
                type=hints[field.name],
                default=field.default,
                help=meta["help"],
                short=meta["short"],
                choices=tuple(meta["choices"]),
                low=meta["low"],
                high=meta["high"],
            )
        )
    return tuple(found)


def check_config(config: Any) -> None:
    """Check the settings of a configuration that was built in Python.

    Raises:
        ConfigurationError: one has the wrong type or is out of its range; names it.
    """
    for setting in settings_of(type(config)):
        setting.check(getattr(config, setting.field), type(config).__name__)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(field.default, tuple) and not isinstance(value, tuple | list):
            raise ConfigurationError(
                f"{type(config).__name__}: {field.name} must be a tuple, not {_shown(value)}",
                hint=f"write {field.name}=({value!r},)",
            )


COMMON: tuple[Setting, ...] = settings_of(BaseConfig)


@dataclass(frozen=True)
class Layer:
    """The settings one source gives: (section, key) → value; section "" holds for every command."""

    origin: str
    values: Mapping[tuple[str, str], Any]

    def find(self, section: str, key: str) -> tuple[bool, Any, str]:
        """(found, value, origin) of one setting, a command's section before the common keys."""
        for place in ((section, key), ("", key)):
            if place in self.values:
                return True, self.values[place], self._origin(*place)
        return False, None, self.origin

    def _origin(self, section: str, key: str) -> str:
        if self.origin != "environment":
            return self.origin
        return PREFIX + "_".join(part for part in (section, key) if part).upper()


@dataclass(frozen=True)
class Settings:
    """Everything below the flags, read and checked once; earlier layers win."""

    layers: tuple[Layer, ...] = ()

    @classmethod
    def load(
        cls,
        start: Path | None = None,
        environ: Mapping[str, str] | None = None,
        user_file: Path | None = None,
    ) -> Settings:
        """Read the environment, the nearest ``.skilldistill.toml`` and the user's file.

        Args:
            start: directory to search upward from; None takes the current one.
            environ: variables to read; None takes the process's.
            user_file: the user's own file; None takes the platform's usual place.

        Raises:
            ConfigurationError: a file that is no TOML, or a setting that cannot be used.
        """
        layers = [_environment(os.environ if environ is None else environ)]
        files = [nearest_file(start or Path.cwd()), user_file or default_user_file()]
        for path in files:
            if path is not None and path.is_file():
                layers.append(_file(path))
        return cls(tuple(layers))

    def config(
        self, config: type[C], flags: Mapping[str, Any] | None = None, **arguments: Any
    ) -> C:
        """Build a command's configuration.

        Args:
            config: a dataclass; those in :data:`SECTIONS` are read from files too.
            flags: field → value of the flags that were given; None values were not.
            arguments: fields that are given as they are, such as positional arguments.

        Raises:
            ConfigurationError: a flag's value that cannot be used.
        """
        section = _section_of(config)
        given = dict(flags or {})
        values = {
            setting.field: self._value(section, setting, given)[0]
            for setting in settings_of(config)
            if setting.field not in arguments
        }
        return config(**values, **arguments)

    def steps(self, flags: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
        """What the layers say of the commands that `run` calls: section → field → value.

        Left out is what holds for every command, since `run` takes that itself, and what one of
        its own flags says.

        Args:
            flags: field → value of the flags given to `run`; None values were not.
        """
        flagged = {field for field, value in (flags or {}).items() if value is not None}
        return {
            section: {
                setting.field: value
                for setting in settings_of(SECTIONS[section])
                for value in self._of_section(section, setting.key)
                if not (setting in COMMON and setting.field in flagged)
            }
            for section in STEPS
        }

    def _of_section(self, section: str, key: str) -> list[Any]:
        """The value that the first layer with a word on a setting gives it, if it names the
        section; else empty."""
        for layer in self.layers:
            if (section, key) in layer.values:
                return [layer.values[section, key]]
            if ("", key) in layer.values:
                break
        return []

    def origins(self, section: str) -> dict[str, tuple[Any, str]]:
        """Key → (value, where it comes from) of one command's settings.

        Raises:
            ConfigurationError: no command has a section of that name.
        """
        if section not in SECTIONS:
            raise _unknown("section", section, SECTIONS, where="config show")
        return {
            setting.key: self._value(section, setting, {})
            for setting in settings_of(SECTIONS[section])
        }

    def workspace(self) -> tuple[Path | None, str]:
        """The workspace that a setting names (None if none does), and where from."""
        for layer in self.layers:
            found, value, origin = layer.find("", WORKSPACE)
            if found and value:
                return Path(value), origin
        return None, DEFAULT_ORIGIN

    def _value(self, section: str, setting: Setting, flags: Mapping[str, Any]) -> tuple[Any, str]:
        if flags.get(setting.field) is not None:
            return setting.check(flags[setting.field], setting.flag), FLAG_ORIGIN
        for layer in self.layers:
            found, value, origin = layer.find(section, setting.key)
            if found:
                return value, origin
        return setting.default, DEFAULT_ORIGIN


def nearest_file(start: Path) -> Path | None:
    """The ``.skilldistill.toml`` in ``start`` or the closest directory above it."""
    for directory in (start, *start.parents):
        path = directory / FILE_NAME
        if path.is_file():
            return path
    return None


def default_user_file() -> Path:
    """Where a user's own settings lie on this platform."""
    import platformdirs

    return platformdirs.user_config_path("skilldistill") / "config.toml"


def _section_of(config: type[Any]) -> str:
    """Name of its section; a word that is none for commands that files say nothing of."""
    return next((name for name, known in SECTIONS.items() if known is config), "-")


def _unknown(what: str, word: str, known: Iterable[str], where: str) -> ConfigurationError:
    names = list(known)
    # Brackets, which all sections share, make no two of them near.
    bare = {name.strip("[]"): name for name in reversed(names)}
    near = difflib.get_close_matches(word.strip("[]"), bare, n=1, cutoff=0.7)
    guess = f"did you mean {bare[near[0]]!r}? " if near else ""
    return ConfigurationError(
        f"{where}: unknown {what} {word!r}", hint=f"{guess}known: {', '.join(names)}"
    )


def _file(path: Path) -> Layer:
    import tomllib  # most commands find no file

    where = str(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also text that is no UTF-8, or a number of 5,000 digits
        raise ConfigurationError(
            f"{where} is no TOML: {error}",
            hint="compare it with .skilldistill.toml.example",
        ) from error
    except FileNotFoundError as error:  # removed between the look and the read
        raise NotFound(f"{where} is gone") from error
    values: dict[tuple[str, str], Any] = {}
    common = {setting.key: setting for setting in COMMON}
    for key, value in document.items():
        if key == WORKSPACE:
            if not isinstance(value, str):
                raise ConfigurationError(f"{where}: workspace must be text, not {_shown(value)}")
            values["", key] = str(path.parent / Path(value).expanduser()) if value else ""
        elif key in common:
            values["", key] = common[key].check(value, where)
        elif key in SECTIONS and isinstance(value, dict):
            values.update(_section(key, value, where))
        else:
            known = (WORKSPACE, *common, *(f"[{name}]" for name in SECTIONS))
            word = f"[{key}]" if isinstance(value, dict) else key
            raise _unknown("setting", word, known, where)
    return Layer(where, values)


def _section(
    section: str, table: Mapping[str, Any], where: str
) -> Iterator[tuple[tuple[str, str], Any]]:
    known = {setting.key: setting for setting in settings_of(SECTIONS[section])}
    place = f"{where} [{section}]"
    for key, value in table.items():
        if key not in known:
            raise _unknown("setting", key, known, place)
        yield (section, key), known[key].check(value, place)


def _environment(environ: Mapping[str, str]) -> Layer:
    known: dict[str, tuple[str, Setting]] = {}
    for setting in COMMON:
        known[PREFIX + setting.key.upper()] = ("", setting)
    for section, config in SECTIONS.items():
        for setting in settings_of(config):
            known[f"{PREFIX}{section}_{setting.key}".upper()] = (section, setting)
    values: dict[tuple[str, str], Any] = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX):
            continue
        if name == PREFIX + "WORKSPACE":
            values["", WORKSPACE] = text
        elif name in known:
            section, setting = known[name]
            values[section, setting.key] = setting.parse(text, name)
        else:
            words = [
                known_name.removeprefix(PREFIX) for known_name in (PREFIX + "WORKSPACE", *known)
            ]
            near = difflib.get_close_matches(name.removeprefix(PREFIX), words, n=1, cutoff=0.7)
            raise ConfigurationError(
                f"unknown environment variable {name}",
                hint=f"did you mean {PREFIX}{near[0]}?" if near else f"unset {name}",
            )
    return Layer("environment", values)


def toml_value(value: bool | int | float | str) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the one control character that JSON lets through.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        text = repr(value)
        return text if any(mark in text for mark in ".en") else text + ".0"
    return str(value)
