"""Several single-skill policies in, one policy with every skill out.

The public names load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from skilldistill.duel.registration import register_when_loaded

if TYPE_CHECKING:
    from skilldistill import stages
    from skilldistill.policy.network import DistilledPolicyNetwork
    from skilldistill.stages.model import DistillationModel
    from skilldistill.stages.references import load_policy
    from skilldistill.workspace.store import Workspace

__version__ = "0.1.0"

__all__ = [
    "DistillationModel",
    "DistilledPolicyNetwork",
    "Workspace",
    "__version__",
    "load_policy",
    "stages",
]

_HOMES = {
    "DistillationModel": "skilldistill.stages.model",
    "DistilledPolicyNetwork": "skilldistill.policy.network",
    "Workspace": "skilldistill.workspace.store",
    "load_policy": "skilldistill.stages.references",
}


register_when_loaded()


def __getattr__(name: str) -> Any:
    if name == "stages":
        return importlib.import_module("skilldistill.stages")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
