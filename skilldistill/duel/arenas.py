"""A batch of duels: the one simulation behind every environment and the pipeline's arenas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skilldistill import randomness
from skilldistill.domain import Policy, Transition, View
from skilldistill.duel import observations, opponents, tasks
from skilldistill.duel.compile import kernel
from skilldistill.duel.declare import DOMAIN
from skilldistill.duel.state import FIGHTER, DuelState
from skilldistill.errors import ActionError, ConfigurationError

ACTION_LOW = np.array([dim.low for dim in DOMAIN.actions], dtype=np.float32)
ACTION_HIGH = np.array([dim.high for dim in DOMAIN.actions], dtype=np.float32)
_VIEW_STREAM = 0x71E3
PRACTICE = {"movement": "partner", "aiming": "brawler", "clicking": "lane"}
"""The opponents of the single-skill tasks."""
MIX = "mix"
"""Name under which every episode draws its opponent among those that fight."""
_CODES = {
    **{name: (code,) for name, code in opponents.NAMES.items()},
    "brawler": (opponents.BRAWLER,),
    "lane": (opponents.LANE,),
    "eager": (opponents.EAGER, opponents.LANE, opponents.BRAWLER),
    "partner": (opponents.PARTNER,),
    "drill": (opponents.PARTNER, opponents.DRILL),
    MIX: (opponents.CHASER, opponents.STRAFER),
}


class SeatView:
    """What one fighter of every arena sees now; see :class:`skilldistill.domain.View`."""

    def __init__(self, arenas: DuelArenas, fighter: int) -> None:
        self._arenas = arenas
        self._fighter = fighter

    def unified(self) -> NDArray[np.float32]:
        """(n, 20) unified observation."""
        return observations.unified_now(self._arenas.state, self._fighter)

    def native(self, skill: str) -> NDArray[np.float32]:
        """(n, d) observation of an expert of ``skill``."""
        return observations.native_now(skill, self._arenas.state, self._fighter)

    def scripted(self, code: int) -> NDArray[np.float32]:
        """(n, 9) what the script ``code`` would do in this seat."""
        arenas = self._arenas
        out = np.empty((arenas.num_arenas, tasks.ACTION_DIM), dtype=np.float32)
        tasks.script_all(code, arenas.state.fighters, arenas.state.tick, self._fighter, out)
        return out

    def uniform(self, stream: int, size: int) -> NDArray[np.float64]:
        """(n, size) numbers in [0, 1) of (seed, episode, tick, stream, fighter)."""
        arenas = self._arenas
        return randomness.uniform(
            arenas.seed,
            arenas.numbers,
            arenas.state.tick,
            _VIEW_STREAM + 2 * stream + self._fighter,
            size,
        )


class DuelArenas:
    """n arenas of one task; see :class:`skilldistill.domain.Arenas`.

    Args:
        task: movement, aiming, clicking, or combined.
        num_arenas: n.
        seed: of every random number; an episode depends on it, on the episode's index, and on
            who plays, and on nothing else.
        opponent: a script's name, ``mix``, or (combined only) a policy. None takes the task's.
        max_ticks: ends episodes earlier than the task does; None leaves it at that.

    Raises:
        ConfigurationError: no such task or opponent, or no time to play.
    """

    def __init__(
        self,
        task: str,
        num_arenas: int,
        *,
        seed: int,
        opponent: str | Policy | None = None,
        max_ticks: int | None = None,
    ) -> None:
        self.task = task
        self.num_arenas = num_arenas
        self.seed = seed
        self._code = tasks.task_code(task)
        self._horizon = _ticks_of(task, max_ticks)
        if opponent is None:
            opponent = PRACTICE.get(task, next(iter(opponents.NAMES)))
        self.opponent = opponent
        self._rival: Policy | None = None if isinstance(opponent, str) else opponent
        self._codes = np.array(_codes_of(task, opponent), dtype=np.int64)

        n = num_arenas
        self.state = DuelState.create(n)
        self.episodes = np.zeros(n, dtype=tasks.EPISODE)
        self._outcome = tasks.Outcome(
            rewards=np.zeros(n, dtype=np.float32),
            terminated=np.zeros(n, dtype=np.bool_),
            truncated=np.zeros(n, dtype=np.bool_),
        )
        self._rival_actions = np.zeros((n, tasks.ACTION_DIM), dtype=np.float32)
        self.view = SeatView(self, 0)
        """What the agent sees."""
        self.rival_view = SeatView(self, 1)
        """What the opponent sees."""
        self.numbers = np.arange(n, dtype=np.int64)
        """(n,) index of each arena's episode."""
        self.start(self.numbers)

    @property
    def active(self) -> NDArray[np.bool_]:
        """(n,) whose episode goes on."""
        active: NDArray[np.bool_] = self.episodes["active"]
        return active

    def start(self, episodes: NDArray[np.int64], chosen: NDArray[np.bool_] | None = None) -> None:
        """Begin episode ``episodes[i]`` in arena i, for all arenas or the (n,) chosen ones."""
        everyone = np.ones(self.num_arenas, dtype=np.bool_)
        chosen = everyone if chosen is None else chosen
        numbers = np.ascontiguousarray(episodes, dtype=np.int64)
        if numbers.shape != (self.num_arenas,):
            raise ConfigurationError(
                f"episodes have shape {numbers.shape}, expected {(self.num_arenas,)}"
            )
        self.numbers = np.where(chosen, numbers, self.numbers)
        self.state.fighters[chosen] = np.zeros((), dtype=FIGHTER)  # no key stays held
        tasks.start_all(
            self._code,
            self.state.fighters,
            self.state.tick,
            self.episodes,
            np.uint64(self.seed % 2**64),
            self.numbers,
            chosen,
            self._codes,
        )

    def step(self, actions: NDArray[np.float32]) -> Transition:
        """Play one tick; the arrays in the result are overwritten by the next.

        Raises:
            ActionError: wrong shape, a number that is not finite, or out of range.
        """
        checked = check_actions(actions, self.num_arenas)
        if self._rival is not None:
            rival = self._rival.act(self.rival_view)
            self._rival_actions = check_actions(rival, self.num_arenas, "the opponent's actions")
        self._tick(checked, perfect=False)
        out = self._outcome
        return Transition(out.rewards, out.terminated, out.truncated)

    def _tick(self, actions: NDArray[np.float32], *, perfect: bool) -> None:
        tasks.tick_all(
            self._code,
            self._horizon,
            self.state.fighters,
            self.state.tick,
            self.episodes,
            actions,
            self._rival_actions,
            perfect,
            self._outcome,
        )

    def metrics(self, chosen: NDArray[np.bool_] | None = None) -> Mapping[str, NDArray[np.float64]]:
        """(n,) per metric of DESIGN section 4, of each arena's episode so far.

        NaN where there is nothing to measure yet. ``chosen`` (n,) limits the costly part, the
        replay of clicking episodes, to some arenas; the others' figures are then undefined.
        """
        e, ticks = self.episodes, self.state.tick
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.task == "movement":
                return {name: e[name] / e["counted"] for name in ("in_band", "exposed")}
            if self.task == "aiming":
                error = np.degrees(e["error"] / ticks)
                return {"on_target": e["on_target"] / e["aim_counted"], "error_deg": error}
            precision = e["dealt"] / e["clicks"]
            if self.task == "clicking":
                share = e["dealt"] / self._possible_hits(chosen)
                return {"hit_share": share, "precision": precision}
        over = ~e["active"]
        lost, won = (self.state.health <= 0).T
        return {
            "win": (over & won & ~lost).astype(np.float64),
            "loss": (over & lost & ~won).astype(np.float64),
            "draw": (over & (won == lost)).astype(np.float64),
            "dealt": e["dealt"].copy(),
            "taken": e["taken"].copy(),
            "precision": precision,
            "ticks": ticks.astype(np.float64),
        }

    def _possible_hits(self, chosen: NDArray[np.bool_] | None) -> NDArray[np.float64]:
        """Hits of a clicker that clicks exactly when an attack would land, by replaying."""
        n = self.num_arenas
        where = np.flatnonzero(np.ones(n, dtype=np.bool_) if chosen is None else chosen)
        possible = np.full(n, np.nan)
        if not len(where):
            return possible
        replay = DuelArenas(self.task, len(where), seed=self.seed, opponent=self.opponent)
        replay.start(self.numbers[where])
        ticks = self.state.tick[where]
        still = np.zeros((len(where), tasks.ACTION_DIM), dtype=np.float32)
        hits = replay.episodes["dealt"]
        for tick in range(int(ticks.max()) + 1):
            possible[where[ticks == tick]] = hits[ticks == tick]
            replay._tick(still, perfect=True)
        return possible

    def save(self) -> dict[str, NDArray[Any]]:
        """Everything that changes, as copies, so that :meth:`restore` goes on exactly."""
        raw = self.episodes.view(np.uint8).reshape(self.num_arenas, -1)
        return {**self.state.to_dict(), "episodes": raw.copy(), "numbers": self.numbers.copy()}

    def restore(self, saved: Mapping[str, NDArray[Any]]) -> None:
        """Go back to what :meth:`save` gave, of as many arenas of the same task."""
        self.state.update(saved)
        raw = np.ascontiguousarray(saved["episodes"], dtype=np.uint8)
        self.episodes[...] = raw.reshape(-1).view(tasks.EPISODE)
        self.numbers = saved["numbers"].copy()


class ScriptPolicy:
    """A scripted fighter in the seat of a policy."""

    def __init__(self, name: str) -> None:
        if name not in opponents.NAMES:
            raise ConfigurationError(
                f"no script {name!r}", hint=f"choose from {', '.join(opponents.NAMES)}"
            )
        self._code = opponents.NAMES[name]

    def act(self, view: View) -> NDArray[np.float32]:
        """(n, 9) unified actions."""
        if not isinstance(view, SeatView):
            raise ConfigurationError("a scripted fighter plays only duels")
        return view.scripted(self._code)


def _ticks_of(task: str, wanted: int | None) -> int:
    """After how many ticks an episode is out of time: ``wanted``, but never beyond the task's."""
    horizon = DOMAIN.task(task).horizon
    if wanted is None:
        return horizon
    if not is_whole(wanted) or wanted < 1:
        raise ConfigurationError(f"an episode lasts a whole number of ticks, not {wanted!r}")
    return min(int(wanted), horizon)


def is_whole(value: object) -> bool:
    """Whether a setting is a whole number, Python's or NumPy's; True and 1.0 are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _codes_of(task: str, opponent: Any) -> tuple[int, ...]:
    """The scripts among which an episode's opponent is drawn."""
    if isinstance(opponent, str):
        if opponent not in _CODES:
            raise ConfigurationError(
                f"no opponent {opponent!r}", hint=f"choose from {', '.join(_CODES)}"
            )
        return _CODES[opponent]
    if not callable(getattr(opponent, "act", None)):
        raise ConfigurationError(
            f"an opponent is a name or a policy with act(view), not {opponent!r}",
            hint=f"choose from {', '.join(_CODES)}",
        )
    if task != "combined":
        raise ConfigurationError(f"the {task} task takes no policy as its opponent")
    return (opponents.EXTERNAL,)


def check_actions(actions: Any, n: int, what: str = "actions") -> NDArray[np.float32]:
    """(n, 9) unified actions as contiguous float32, checked; see :func:`check_numbers`."""
    return check_numbers(actions, (n, tasks.ACTION_DIM), ACTION_LOW, ACTION_HIGH, what)


def check_numbers(
    values: Any,
    shape: tuple[int, ...],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    what: str = "actions",
) -> NDArray[np.float32]:
    """Actions as a contiguous float32 array of ``shape``, checked.

    Args:
        values: what was given.
        shape: what is expected; its last axis, or all of it, runs over the k dimensions.
        low: (k,) lowest legal numbers.
        high: (k,) highest legal numbers.
        what: how an error calls the values.

    Raises:
        ActionError: no numbers, wrong shape, a number that is not finite, or out of range; the
            message names the shape and the first offending index.
    """
    array = _as_float32(values, shape, what)
    if array.shape != shape:
        raise ActionError(f"{what} have shape {array.shape}, expected {shape}")
    bad = first_outside(array.reshape(-1, len(low)), low, high)
    if bad >= 0:
        where = [int(k) for k in np.unravel_index(bad, shape)]
        column = bad % len(low)
        raise ActionError(
            f"{what} of shape {shape}: entry {where} is {exactly(array.flat[bad])}, "
            f"outside [{exactly(low[column])}, {exactly(high[column])}]"
        )
    return array


def _as_float32(values: Any, shape: tuple[int, ...], what: str) -> NDArray[np.float32]:
    """Numbers of any type as a contiguous float32 array of any shape."""
    try:
        array = np.asarray(values)
        # NumPy would read numbers out of text and dates, and None as NaN.
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{array.dtype.name} is no type of real number")
        with np.errstate(over="ignore"):  # too large for float32 is inf, hence out of range
            return np.asarray(array, dtype=np.float32, order="C")
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ActionError(f"expected {what} of shape {shape}: {error}") from error


def exactly(value: np.float32) -> str:
    """A number in as few digits as tell it apart from its neighbours, such as a bound."""
    return str(value).removesuffix(".0")


@kernel
def first_outside(
    values: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> int:
    """Flat index of the first entry of (n, k) values that is NaN or out of bounds, or −1."""
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            if not low[column] <= values[row, column] <= high[column]:
                flat: int = row * values.shape[1] + column
                return flat
    return -1
