"""What a family of skills declares, and how the pipeline plays it.

The pipeline (data, policy, learning, evaluation) reaches a domain only through this file. A
domain is a frozen description (:class:`Domain`) plus two factories: ``make_arenas`` for
playing many episodes at once in unified terms, and ``make_vector_env`` for training with
Gymnasium libraries. ``tests/tiny.py`` holds a complete second domain.

Domains are found by name among the built-in ones, those given to :func:`register`, and the
installed packages' entry points in the group ``skilldistill.domains``; a name read from a file
never makes Python import anything else.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from skilldistill.errors import ConfigurationError, NotFound, SkillDistillError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Float32Array = NDArray[np.float32]
    Float64Array = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ActionDim:
    """One dimension of the unified action."""

    name: str
    kind: Literal["binary", "continuous"]
    low: float = 0.0
    high: float = 1.0
    """Bounds in environment units. A binary dimension lies in [0, 1], pressed above 0.5."""
    unit: Literal["", "rad"] = ""
    """``rad`` for an angle in radians: people then also read its error in degrees."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """Action dimensions that one expert labels and one head of the student predicts."""

    name: str
    dims: tuple[str, ...]
    hidden: int
    """Width of the head's own hidden layer."""


@dataclass(frozen=True, kw_only=True)
class Skill:
    """A single skill: what its expert sees and does. Its task has the same name."""

    name: str
    head: str
    """The head whose dimensions the expert acts on, in that head's order."""
    native_observations: tuple[str, ...]
    """Names of the expert's own observation dimensions."""
    native_action: Literal["multi_binary", "box", "discrete"]
    """Action space of the expert over the head's dimensions: MultiBinary(k), Box(k), or
    Discrete(2) for one binary dimension (1 presses)."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Settings with which PPO learns the skill well: ``timesteps``, ``envs``, ``hidden`` (layer
    widths), ``activation`` (``tanh`` or ``relu``), ``schedule`` (``linear`` decays the learning
    rate to zero), ``normalise`` (scale observations by their running statistics), ``opponent``
    (whom to practise against), ``select`` (metrics whose sum chooses the best
    checkpoint, not only the main one), and any keyword of ``stable_baselines3.PPO``."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Something a policy can be scored on."""

    name: str
    env_id: str
    """Gymnasium id."""
    heads: tuple[str, ...]
    """The heads the player controls; the environment plays the others itself."""
    metrics: tuple[str, ...]
    main_metric: str
    """The metric by which policies are compared; higher is better."""
    horizon: int
    """Ticks after which an episode is truncated."""


class View(Protocol):
    """What one player sees, in every arena of a batch, at the current tick."""

    def unified(self) -> Float32Array:
        """(n, obs_dim) unified observation."""
        ...

    def native(self, skill: str) -> Float32Array:
        """(n, d) what an expert of ``skill`` would see here."""
        ...

    def uniform(self, stream: int, size: int) -> Float64Array:
        """(n, size) numbers in [0, 1), a function of (seed, episode, tick, stream, player)."""
        ...


class Policy(Protocol):
    """Anything that plays. Policies hold no state between calls."""

    def act(self, view: View) -> Float32Array:
        """(n, action_dim) unified actions in environment units."""
        ...


@dataclass(frozen=True)
class Transition:
    """What one tick gave, per arena. Arenas whose episode was over before give zero and False."""

    rewards: Float32Array
    terminated: BoolArray
    truncated: BoolArray


class Arenas(Protocol):
    """A batch of episodes of one task. Ended episodes stand still until :meth:`start`."""

    num_arenas: int

    @property
    def view(self) -> View:
        """What the policy under test sees now."""
        ...

    @property
    def active(self) -> BoolArray:
        """(n,) whose episode goes on."""
        ...

    def start(self, episodes: IntArray) -> None:
        """Begin episode ``episodes[i]`` of the seed in arena i, for all arenas."""
        ...

    def step(self, actions: Float32Array) -> Transition:
        """Play one tick. Dimensions the task does not let the player control are ignored.

        Raises:
            ActionError: wrong shape, a number that is not finite, or out of range.
        """
        ...

    def metrics(self) -> Mapping[str, Float64Array]:
        """(n,) per metric of the task, of each arena's episode so far.

        NaN where the episode gave nothing to measure (no clicks, hence no precision).
        """
        ...


class MakeArenas(Protocol):
    """Build a batch of arenas. ``opponent`` is a name of the domain's or, if it has any, a policy;
    None is the default."""

    def __call__(
        self, task: str, num_arenas: int, *, seed: int, opponent: str | Policy | None = None
    ) -> Arenas:
        """Build ``num_arenas`` arenas of ``task``."""
        ...


class MakeVectorEnv(Protocol):
    """Build a ``gymnasium.vector.VectorEnv`` (same-step auto-reset) with native spaces.

    It may offer ``get_state() -> dict[str, array]`` and ``set_state(state)``: training that was
    interrupted then goes on from the very tick, else with new episodes.
    """

    def __call__(
        self, task: str, num_envs: int, *, seed: int, opponent: str | Policy | None = None
    ) -> Any:
        """Build an environment of ``num_envs`` arenas of ``task``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A family of skills over one unified observation and action."""

    name: str
    observation_names: tuple[str, ...]
    actions: tuple[ActionDim, ...]
    heads: tuple[Head, ...]
    skills: tuple[Skill, ...]
    tasks: tuple[Task, ...]
    combined: str
    """Name of the task that needs every skill."""
    make_arenas: MakeArenas
    make_vector_env: MakeVectorEnv
    opponents: tuple[str, ...] = ()
    """Names of scripted opponents of the combined task; the first is the default. Without any,
    nobody stands opposite there, not even a policy."""
    sparring: tuple[str, ...] = ()
    """Those of them worth learning against (``finetune --opponent mix``); empty means all."""
    shipped_experts: Path | None = None
    """Folder of ``SKILL/expert.safetensors`` and ``SKILL/expert.json`` of the shipped experts."""
    scripted: Callable[[str], Policy] | None = None
    """One of ``opponents`` as a policy that can stand where a trained one does."""
    render_episode: Callable[..., Path] | None = None
    """Draws one episode to a file and returns its path: ``render_episode(task, policy, *,
    episode, seed, opponent, path)``."""

    def __post_init__(self) -> None:
        """Refuse a declaration whose parts contradict each other, before anything is trained."""
        for problem in self._contradictions():
            raise ConfigurationError(f"domain {self.name!r}: {problem}")

    def _contradictions(self) -> Iterator[str]:
        yield from _repeats(
            {
                "observation": self.observation_names,
                "action": self.action_names,
                "head": [head.name for head in self.heads],
                "skill": self.skill_names,
                "task": [task.name for task in self.tasks],
            }
        )
        declared = [dim for head in self.heads for dim in head.dims]
        if sorted(declared) != sorted(self.action_names):
            yield f"heads cover {sorted(declared)}, actions are {sorted(self.action_names)}"
        for dim in self.actions:
            if dim.kind == "binary" and (dim.low, dim.high) != (0.0, 1.0):
                yield f"binary action {dim.name!r} lies in [0, 1], not [{dim.low:g}, {dim.high:g}]"
            if not dim.low < dim.high:
                yield f"action {dim.name!r} has no room between {dim.low:g} and {dim.high:g}"
        heads = {head.name: head for head in self.heads}
        for head in self.heads:
            if head.hidden < 1:
                yield f"head {head.name!r} has a hidden layer of {head.hidden} units"
        kinds = {dim.name: dim.kind for dim in self.actions}
        tasks = {task.name: task for task in self.tasks}
        for skill in self.skills:
            if skill.head not in heads:
                yield f"skill {skill.name!r} acts on head {skill.head!r}, which is none"
                continue
            if tasks and skill.name not in tasks:  # without any, it is never played
                yield f"skill {skill.name!r} has no task of its name"
            yield from _repeats(
                {f"native observation of skill {skill.name!r}": skill.native_observations}
            )
            acts = [kinds[dim] for dim in heads[skill.head].dims]
            fitting = {
                "box": set(acts) == {"continuous"},
                "multi_binary": set(acts) == {"binary"},
                "discrete": acts == ["binary"],
            }
            if not fitting.get(skill.native_action, False):
                yield (
                    f"skill {skill.name!r} has native actions {skill.native_action!r} for "
                    f"{', '.join(acts)}"
                )
        for task in self.tasks:
            if unknown := sorted(set(task.heads) - heads.keys()):
                yield f"task {task.name!r} has head {unknown[0]!r}, which is none"
            if task.main_metric not in task.metrics:
                yield f"task {task.name!r} is judged by {task.main_metric!r}, none of its metrics"
            if task.horizon < 1:
                yield f"task {task.name!r} ends after {task.horizon} ticks"
        if tasks and self.combined not in tasks:
            yield f"the combined task {self.combined!r} is none of its tasks"

    @property
    def obs_dim(self) -> int:
        """Number of unified observation dimensions."""
        return len(self.observation_names)

    @property
    def action_dim(self) -> int:
        """Number of unified action dimensions."""
        return len(self.actions)

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the unified action dimensions, in order."""
        return tuple(dim.name for dim in self.actions)

    @property
    def skill_names(self) -> tuple[str, ...]:
        """Names of the skills, in order."""
        return tuple(skill.name for skill in self.skills)

    def skill(self, name: str) -> Skill:
        """The skill called ``name``; :class:`ConfigurationError` names the nearest otherwise."""
        return _pick(name, {skill.name: skill for skill in self.skills}, "skill")

    def task(self, name: str) -> Task:
        """The task called ``name``; :class:`ConfigurationError` names the nearest otherwise."""
        return _pick(name, {task.name: task for task in self.tasks}, "task")

    def head(self, name: str) -> Head:
        """The head called ``name``; :class:`ConfigurationError` names the nearest otherwise."""
        return _pick(name, {head.name: head for head in self.heads}, "head")

    def opponent(self, name: str = "") -> str:
        """Who is meant by ``name``: empty is the first of the scripts, if there are any.

        Raises:
            ConfigurationError: somebody is named, and the domain has no opponents.
        """
        if name and not self.opponents:
            raise ConfigurationError(
                f"domain {self.name!r} has no opponents",
                hint="leave out `--opponent`, or the setting of that name",
            )
        return name or next(iter(self.opponents), "")

    def columns(self, head: str) -> tuple[int, ...]:
        """Positions in the unified action of a head's dimensions, in the head's order."""
        names = self.action_names
        return tuple(names.index(dim) for dim in self.head(head).dims)


def _repeats(names: Mapping[str, Iterable[str]]) -> Iterator[str]:
    for what, given in names.items():
        for name, times in Counter(given).items():
            if times > 1:
                yield f"{what} {name!r} is declared {times} times"


_T = TypeVar("_T")


def _pick(name: str, table: Mapping[str, _T], what: str) -> _T:
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    guess = elsewhere(name) or (f"did you mean {near[0]!r}? " if near else "")
    raise ConfigurationError(f"no {what} {name!r}", hint=f"{guess}choose from {', '.join(table)}")


_GROUP = "skilldistill.domains"
_BUILT_IN = {"duel": ("skilldistill.duel", "DOMAIN")}
_registered: dict[str, Domain] = {}


def register(domain: Domain) -> None:
    """Make a domain known under its name in this process, replacing one of the same name."""
    _registered[domain.name] = domain


def find(name: str = "duel") -> Domain:
    """The domain called ``name``.

    Raises:
        NotFound: no such domain is built in, registered, or installed.
    """
    if name in _registered:
        return _registered[name]
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name]
        domain: Domain = getattr(importlib.import_module(module), attribute)
        return domain
    for entry in entry_points(group=_GROUP):
        if entry.name == name:
            return _loaded(entry)
    known = ", ".join(_known())
    raise NotFound(f"no domain {name!r} is installed", hint=f"known domains: {known}")


def _known() -> list[str]:
    installed = (entry.name for entry in entry_points(group=_GROUP))
    return sorted({*_registered, *_BUILT_IN, *installed})


def elsewhere(name: str) -> str:
    """The beginning of a hint that says which domains have a skill or task called ``name``.

    Empty where none has. One that cannot be loaded is passed over: it is not what went wrong.
    """
    found = []
    for known in _known():
        with contextlib.suppress(SkillDistillError):
            domain = find(known)
            if name in (*domain.skill_names, *(task.name for task in domain.tasks)):
                found.append(f"`--domain {known}`")
    return f"add {' or '.join(found[:3])}, where there is one, or " if found else ""


def _loaded(entry: EntryPoint) -> Domain:
    what = f"entry point {entry.name!r} of skilldistill.domains"
    try:
        loaded = entry.load()
    except SkillDistillError:
        raise
    except Exception as error:  # whatever a stranger's module may raise
        raise ConfigurationError(
            f"{what} cannot be loaded from {entry.value!r}: {type(error).__name__}: {error}",
            hint="repair or uninstall the package that declares it",
        ) from error
    if not isinstance(loaded, Domain):
        raise ConfigurationError(f"{what} is no Domain")
    if loaded.name != entry.name:
        raise ConfigurationError(
            f"{what} is a domain called {loaded.name!r}", hint="give both the same name"
        )
    return loaded
