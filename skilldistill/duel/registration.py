"""Make the duel's environments known to Gymnasium without making everybody load Gymnasium.

``import skilldistill`` must stay cheap, and Gymnasium since 1.0 has no plugin mechanism. So the
environments are registered at once where Gymnasium is loaded, and otherwise right after it
will have been. ``gymnasium.make("skilldistill:skilldistill/Combined-v0")`` works without either.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:  # three quarters of the package's import; the import system asks for methods, not classes
    Loader = MetaPathFinder = object


def register_envs() -> None:
    """Register ``skilldistill/Movement-v0``, ``Aiming-v0``, ``Clicking-v0``, ``Combined-v0``."""
    from gymnasium.envs.registration import register, registry

    from skilldistill.duel.declare import DOMAIN

    for task in DOMAIN.tasks:
        if task.env_id not in registry:
            register(
                task.env_id,
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
    """Waits for the import of Gymnasium and registers behind it.

    Whoever only asks where Gymnasium lies imports nothing, so it goes on waiting.
    """

    _asks_the_others = False

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "gymnasium" or self._asks_the_others:
            return None
        self._asks_the_others = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asks_the_others = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader, self)
        return spec


class _Registering(Loader):
    """Loads as the given loader does, then registers; nobody need wait any more."""

    def __init__(self, inner: Loader, finder: MetaPathFinder) -> None:
        self._inner = inner
        self._finder = finder

    def __getattr__(self, name: str) -> Any:  # whoever only asks may want its code, or its path
        return getattr(self._inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._inner
        module.__loader__ = self._inner
        self._inner.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        register_envs()
