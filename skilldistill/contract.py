"""Holds a domain to what :mod:`skilldistill.domain` asks of it, wherever the pipeline plays one.

A domain is somebody else's program. A number that is not finite, a column too few, or an exception
would else surface far from where it came from, as an error of ours. Numbers are looked at on every
tick, since a simulator may blow up on any: that costs microseconds per batch. The shape of a flag
is the same on all of them, and looked at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from skilldistill.domain import Arenas, Domain, Policy, Transition, View
from skilldistill.errors import DomainFailed, SkillDistillError

_P = ParamSpec("_P")
_T = TypeVar("_T")

NUMBERS, FLAGS = "fiub", "b"
"""Kinds of NumPy dtypes."""


class Contract:
    """What one task of a domain must hand out; every method raises :class:`DomainFailed`.

    Args:
        domain: whose.
        task: name of the task.

    Raises:
        ConfigurationError: no such task.
    """

    def __init__(self, domain: Domain, task: str) -> None:
        self.domain, self.task = domain, domain.task(task)
        self.native = {skill.name: skill.native_observations for skill in domain.skills}
        """Names of the observation dimensions per skill."""
        self._where = f"domain {domain.name!r}, task {task!r}"

    def call(self, what: str, method: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call the domain's code; ``what`` is how an error names it."""
        try:
            return method(*args, **kwargs)
        except (SkillDistillError, MemoryError):  # said clearly already
            raise
        except Exception as error:  # whatever a stranger's simulator may raise
            lines = str(error).strip().splitlines() or [""]
            raise DomainFailed(
                f"{self._where}: {what} raised {type(error).__name__}: {lines[0]}"
            ) from error

    def broken(self, what: str, protocol: str) -> DomainFailed:
        """The error that says what is wrong, and which part of ``domain.py`` says what is right."""
        return DomainFailed(
            f"{self._where}: {what}",
            hint=f"repair the domain: skilldistill.domain.{protocol} says what it must hold to",
        )

    def array(
        self, what: str, found: Any, shape: tuple[int, ...], protocol: str, kinds: str = NUMBERS
    ) -> None:
        """Refuse anything but an array of a shape whose dtype is of one of the ``kinds``."""
        if _is_array(found, shape, kinds):
            return
        if not isinstance(found, np.ndarray):
            raise self.broken(
                f"{what} must be an array of shape {shape}, is a {type(found).__name__}", protocol
            )
        if found.shape != shape:
            raise self.broken(f"{what} must have shape {shape}, has {found.shape}", protocol)
        wanted = "booleans" if kinds == FLAGS else "numbers"
        raise self.broken(f"{what} must hold {wanted}, holds {found.dtype}", protocol)

    def numbers(
        self,
        what: str,
        found: Any,
        shape: tuple[int, ...],
        protocol: str,
        *,
        names: Sequence[str] = (),
        where: Callable[[int], str] = "in arena {}".format,
    ) -> None:
        """Refuse anything but an array of a shape with finite numbers.

        Args:
            what: how an error calls it.
            found: what the domain gave.
            shape: (n,), or (n, d) with d ``names``.
            protocol: the class in ``domain.py`` that asks for it.
            names: of the columns.
            where: how an error calls a row.
        """
        if _is_array(found, shape, NUMBERS) and _is_finite(found):
            return
        self.array(what, found, shape, protocol)
        row, *column = (int(k) for k in np.argwhere(~np.isfinite(found))[0])
        of = f" for {names[column[0]]!r}" if column else ""
        raise self.broken(f"{what} holds {found[row, *column]}{of} {where(row)}", protocol)


def _is_array(found: Any, shape: tuple[int, ...], kinds: str) -> bool:
    return isinstance(found, np.ndarray) and found.shape == shape and found.dtype.kind in kinds


def _is_finite(array: NDArray[Any]) -> bool:
    """Whether every number is finite."""
    flat = array.ravel()
    # One pass without a temporary. Huge numbers overflow in it, so its no is looked at again.
    with np.errstate(over="ignore", invalid="ignore"):
        total = flat.dot(flat)
    return math.isfinite(total) or bool(np.isfinite(flat).all())


class CheckedView:
    """A domain's view whose observations are looked at; see :class:`skilldistill.domain.View`.

    It passes for the domain's own, whose scripted policies may ask it for more than others do.
    """

    def __init__(self, arenas: CheckedArenas, own: View) -> None:
        self._arenas = arenas
        self._own = own

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What ``isinstance`` looks at."""
        return type(self._own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def unified(self) -> NDArray[np.float32]:
        """(n, obs_dim) unified observation."""
        found = self._arenas.contract.call("view.unified()", self._own.unified)
        self._look("view.unified()", found, self._arenas.contract.domain.observation_names)
        return found

    def native(self, skill: str) -> NDArray[np.float32]:
        """(n, d) what an expert of ``skill`` would see here."""
        contract, what = self._arenas.contract, f"view.native({skill!r})"
        found = contract.call(what, self._own.native, skill)
        self._look(what, found, contract.native[skill])
        return found

    def uniform(self, stream: int, size: int) -> NDArray[np.float64]:
        """(n, size) numbers in [0, 1)."""
        arenas, what = self._arenas, f"view.uniform({stream}, {size})"
        found = arenas.contract.call(what, self._own.uniform, stream, size)
        arenas.contract.array(what, found, (arenas.num_arenas, size), "View")
        return found

    def _look(self, what: str, found: Any, names: Sequence[str]) -> None:
        arenas = self._arenas
        shape = (arenas.num_arenas, len(names))
        arenas.contract.numbers(what, found, shape, "View", names=names, where=arenas.moment)


class CheckedArenas:
    """A batch of a domain's arenas that are looked at; see :class:`skilldistill.domain.Arenas`.

    Policies given as opponents get the domain's own views.

    Raises:
        ConfigurationError: no such task, or whatever the domain refuses.
        DomainFailed: the domain raises anything else, or breaks what ``domain.py`` asks for;
            every method may raise it.
    """

    def __init__(
        self,
        domain: Domain,
        task: str,
        num_arenas: int,
        *,
        seed: int,
        opponent: str | Policy | None = None,
    ) -> None:
        self.contract = Contract(domain, task)
        self.num_arenas = num_arenas
        self._own: Arenas = self.contract.call(
            "make_arenas()", domain.make_arenas, task, num_arenas, seed=seed, opponent=opponent
        )
        self._episodes = np.arange(num_arenas, dtype=np.int64)
        self._ticks = 0

    @property
    def view(self) -> CheckedView:
        """What the policy under test sees now."""
        return CheckedView(self, self.contract.call("view", getattr, self._own, "view"))

    @property
    def active(self) -> NDArray[np.bool_]:
        """(n,) whose episode goes on."""
        found: NDArray[np.bool_] = self.contract.call("active", getattr, self._own, "active")
        if not self._ticks:
            self.contract.array("active", found, (self.num_arenas,), "Arenas", FLAGS)
        return found

    def start(self, episodes: NDArray[np.int64]) -> None:
        """Begin episode ``episodes[i]`` of the seed in arena i, for all arenas."""
        self.contract.call("start()", self._own.start, episodes)
        self._episodes, self._ticks = episodes, 0

    def step(self, actions: NDArray[np.float32]) -> Transition:
        """Play one tick.

        Raises:
            ActionError: the domain refuses the actions.
            DomainFailed: see the class, or an episode outlasts the task's horizon.
        """
        contract, shape = self.contract, (self.num_arenas,)
        found = contract.call("step()", self._own.step, actions)
        protocol = "Transition"
        contract.numbers("step().rewards", found.rewards, shape, protocol, where=self.moment)
        if not self._ticks:
            contract.array("step().terminated", found.terminated, shape, protocol, FLAGS)
            contract.array("step().truncated", found.truncated, shape, protocol, FLAGS)
        self._ticks += 1
        horizon = contract.task.horizon
        if self._ticks == horizon and self.active.any():
            raise contract.broken(f"goes on after its horizon of {horizon} ticks", "Task")
        return found

    def metrics(self) -> Mapping[str, NDArray[np.float64]]:
        """(n,) per metric of the task, of each arena's episode so far."""
        contract = self.contract
        found = contract.call("metrics()", self._own.metrics)
        for name in contract.task.metrics:
            if name not in found:
                given = ", ".join(map(repr, found)) or "nothing"
                raise contract.broken(
                    f"metrics() must give {name!r}, which the task declares; it gives {given}",
                    "Arenas",
                )
            contract.array(f"metrics()[{name!r}]", found[name], (self.num_arenas,), "Arenas")
        return found

    def moment(self, arena: int) -> str:
        """Where in the play an arena is, for a message."""
        return f"at tick {self._ticks} of episode {int(self._episodes[arena])}"
