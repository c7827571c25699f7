"""One function per command: read, call, record. What a notebook calls.

``stages.collect(workspace, CollectConfig(...))`` gives a ``CollectResult``, and so on. A stage
and what it needs are imported when its name is first used. Each stage lives in a module of the
same name; here the name means the function, however the module was imported.
"""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skilldistill.stages.collect import collect as collect
    from skilldistill.stages.distill import distill as distill
    from skilldistill.stages.doctor import doctor as doctor
    from skilldistill.stages.evaluate import evaluate as evaluate
    from skilldistill.stages.experts_add import experts_add as experts_add
    from skilldistill.stages.experts_ls import experts_ls as experts_ls
    from skilldistill.stages.export import export as export
    from skilldistill.stages.finetune import finetune as finetune
    from skilldistill.stages.gc import gc as gc
    from skilldistill.stages.init import init as init
    from skilldistill.stages.ls import ls as ls
    from skilldistill.stages.merge import merge as merge
    from skilldistill.stages.rm import rm as rm
    from skilldistill.stages.run import run as run
    from skilldistill.stages.show import show as show
    from skilldistill.stages.train import train as train
    from skilldistill.stages.verify import verify as verify

_STAGES = (
    "init",
    "train",
    "collect",
    "merge",
    "distill",
    "finetune",
    "evaluate",
    "run",
    "ls",
    "show",
    "verify",
    "gc",
    "rm",
    "export",
    "experts_add",
    "experts_ls",
    "doctor",
)
"""Names of the stages and of their modules."""


def __getattr__(name: str) -> Any:
    if name in _STAGES:
        return getattr(importlib.import_module(f"{__name__}.{name}"), name)
    words = re.fullmatch(r"((?:[A-Z][a-z]+)+)(Config|Result)", name)
    stage = re.sub(r"(?<!^)([A-Z])", r"_\1", words[1]).lower() if words else ""
    if words and stage in _STAGES:
        if words[2] == "Config":
            config = importlib.import_module("skilldistill.config")
            if hasattr(config, name):
                return getattr(config, name)
        return getattr(importlib.import_module(f"{__name__}.{stage}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_STAGES})


class _Stages(ModuleType):
    """This package, on which a stage's name never means the submodule of that name.

    Importing ``stages.collect`` makes the import system set the attribute ``collect`` of this
    package to the module. Here that is ignored, so that ``__getattr__`` answers.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _STAGES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Stages
