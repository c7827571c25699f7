"""Make the duel's environments known to Gymnasium without making everybody load Gymnasium.

``import skilldistill`` must stay cheap, and Gymnasium since 1.0 has no plugin mechanism. So the
environments are registered at once where Gymnasium is loaded, and otherwise right after it
will have been. ``gymnasium.make("skilldistill:skilldistill/Combined-v0")`` works without either.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def register_envs() -> None:
    """Register ``skilldistill/Movement-v0``, ``Aiming-v0``, ``Clicking-v0``, ``Combined-v0``."""
    from gymnasium.envs.registration import register, registry

    from skilldistill.duel.declare import DOMAIN

    for task in DOMAIN.tasks:
        env_id = f"skilldistill/{task.name.capitalize()}-v0"
        if env_id not in registry:
            register(
                env_id,
                entry_point="skilldistill.duel.envs:DuelEnv",
                vector_entry_point="skilldistill.duel.envs:DuelVectorEnv",
                # The environments check their actions and keep their own clock; Gymnasium's
                # wrappers would only repeat it at a third of the speed.
                order_enforce=False,
                disable_env_checker=True,
                kwargs={"task": task.name},
            )


def register_when_loaded() -> None:
    """Register now if Gymnasium is loaded, else as soon as somebody has loaded it."""
    if "gymnasium.envs.registration" in sys.modules:
        register_envs()
    elif not any(isinstance(finder, _AfterGymnasium) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterGymnasium())


class _AfterGymnasium(MetaPathFinder):
    """Waits for the import of Gymnasium, steps aside, and registers behind it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "gymnasium":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


class _Registering(Loader):
    """Loads as the given loader does, then registers."""

    def __init__(self, inner: Loader) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._inner
        module.__loader__ = self._inner
        self._inner.exec_module(module)
        register_envs()
