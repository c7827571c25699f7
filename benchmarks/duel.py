"""How fast the duel is: arena-ticks per second, where the time goes, and one by one.

    python benchmarks/duel.py            the tables of benchmarks/README.md
    python benchmarks/duel.py --quick    a glance, some ten seconds
    python benchmarks/duel.py --json     one document on stdout
    python benchmarks/duel.py --soak     10 million arena-ticks of random play per task, checked

Everything runs on one core, seconds are those of processor time, and a figure is the best of
several rounds: what else runs on the machine should not count, and can only slow a round down.
Actions are drawn before the clock starts. An arena-tick includes checking the action, both
fighters' decisions, physics, melee, reward, metrics, auto-reset, and the observation that the
caller gets.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numba
import numpy as np

import skilldistill  # noqa: F401  registers the environments
from skilldistill.duel import combat, opponents, physics, tasks
from skilldistill.duel.arenas import check_actions
from skilldistill.duel.envs import DuelVectorEnv

TASKS = ("movement", "aiming", "clicking", "combined")
SIZES = (1, 16, 256, 1024, 4096)
# Not kept on disk: Numba would look for this file as a module when it reads the code again.
kernel = numba.njit(error_model="numpy")
BARS = {"batch": 2_000_000, "alone": 15_000}
"""Arena-ticks per second at 1,024 arenas, combined against chaser; steps per second through
``gymnasium.make`` alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, fewer sizes")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--soak", action="store_true", help="look for impossible states instead")
    given = parser.parse_args()
    core = pin()
    if given.soak:
        show_soak({task: soak(task, 200_000 if given.quick else 10_000_000) for task in TASKS})
        return
    sizes = (1, 1024) if given.quick else SIZES
    seconds, rounds = (0.1, 3) if given.quick else (0.2, 6)

    batched = {task: {n: batch_speed(task, n, seconds, rounds) for n in sizes} for task in TASKS}
    alone = {task: alone_speed(task, seconds, rounds) for task in TASKS}
    largest = 1024
    shares = {task: phase_shares(task, largest, seconds, rounds) for task in TASKS}
    report = {
        "schema": "skilldistill.benchmark.duel/1",
        "machine": machine(),
        "core": core,
        "arena_ticks_per_second": batched,
        "steps_per_second_through_gymnasium_make": alone,
        "ratio_batch_1024_to_one_by_one": {t: batched[t][largest] / alone[t] for t in TASKS},
        "phases_ns_per_arena_tick": shares,
        "bars": {
            name: {"measured": found, "bar": BARS[name], "met": found >= BARS[name]}
            for name, found in (("batch", batched["combined"][1024]), ("alone", alone["combined"]))
        },
    }
    if given.json:
        json.dump(report, sys.stdout, indent=2)
        print()
    else:
        show(report)


# What is measured ---------------------------------------------------------------------------


def batch_speed(task: str, n: int, seconds: float, rounds: int) -> float:
    """Arena-ticks per second through ``DuelVectorEnv``, observation and reward included."""
    env = DuelVectorEnv(n, task)
    env.reset(seed=0)
    actions = drawn(task, env.action_space)
    return n * rate(lambda k: env.step(actions[k % len(actions)]), seconds, rounds)


def alone_speed(task: str, seconds: float, rounds: int) -> float:
    """Steps per second of one environment made by ``gymnasium.make``, resets included."""
    env = gymnasium.make(f"skilldistill/{task.capitalize()}-v0")
    env.reset(seed=0)
    actions = drawn(task, env.action_space)

    def step(k: int) -> None:
        _, _, terminated, truncated, _ = env.step(actions[k % len(actions)])
        if terminated or truncated:
            env.reset()

    return rate(step, seconds, rounds)


def phase_shares(task: str, n: int, seconds: float, rounds: int) -> dict[str, float]:
    """Nanoseconds per arena-tick of each part of a step, and of the whole.

    The parts run inside one compiled loop per tick. To see them apart, loops that do one part
    only run over the states of a real batch; ``count, reward, end`` is what is left of the
    compiled tick.
    """
    env = DuelVectorEnv(n, task)
    env.reset(seed=0)
    actions = drawn(task, env.action_space)
    for k in range(60):
        env.step(actions[k % len(actions)])
    arenas = env.arenas
    fighters, ticks, records = arenas.state.fighters, arenas.state.tick, arenas.episodes
    unified = env._to_unified(actions[0], env._shape).copy()
    saved = fighters.copy()
    code = tasks.NAMES[task]
    out = tasks.Outcome(np.zeros(n, np.float32), np.zeros(n, np.bool_), np.zeros(n, np.bool_))
    rival = np.zeros((n, 9), np.float32)

    def restored(part: Callable[[], Any]) -> Callable[[int], None]:
        def run(k: int) -> None:
            if k % 16 == 0:
                fighters[...] = saved
            part()

        return run

    def whole_tick() -> None:
        records["active"] = True
        ticks[...] = 60
        tasks.tick_all(code, 10**6, fighters, ticks, records, unified, rival, False, out)

    parts: dict[str, Callable[[], Any]] = {
        "decide": lambda: decide_all(code, fighters, ticks, records, unified),
        "turn": lambda: turn_all(fighters),
        "attack": lambda: attack_all(fighters),
        "move": lambda: move_all(fighters),
        "compiled tick": whole_tick,
        "observe": env._observe,
        "check actions": lambda: check_actions(unified, n),
    }
    fixed = n * 1e-9
    restore = 1 / rate(restored(lambda: None), seconds / 2, rounds)
    found = {
        name: max(1 / rate(restored(part), seconds / 2, rounds) - restore, 0) / fixed
        for name, part in parts.items()
    }
    step = 1 / rate(lambda k: env.step(actions[k % len(actions)]), seconds, rounds) / fixed
    inside = sum(found[name] for name in ("decide", "turn", "attack", "move"))
    tick = found.pop("compiled tick")
    python = step - tick - found["observe"] - found["check actions"]
    return {
        **{name: found[name] for name in ("decide", "turn", "attack", "move")},
        "count, reward, end": max(tick - inside, 0.0),
        "observe": found["observe"],
        "check actions": found["check actions"],
        "Python, copies": max(python, 0.0),
        "whole step": step,
    }


def soak(task: str, arena_ticks: int) -> dict[str, float]:
    """Play at random, every state checked; the extremes that were seen.

    Raises:
        RuntimeError: a number that is not finite, somebody below the ground, or faster than 2
            blocks per tick.
    """
    n = 2048
    env = DuelVectorEnv(n, task)
    env.reset(seed=0)
    env.action_space.seed(0)
    fastest, lowest, highest, farthest, played = 0.0, 0.0, 0.0, 0.0, 0
    while played < arena_ticks:
        actions = env.action_space.sample()
        for _ in range(4):  # keys are held for a moment
            observation, rewards, *_ = env.step(actions)
            state = env.arenas.state
            played += n
            fastest = max(fastest, float(np.linalg.norm(state.velocity, axis=-1).max()))
            lowest = min(lowest, float(state.position[..., 1].min()))
            highest = max(highest, float(state.position[..., 1].max()))
            farthest = max(farthest, float(np.abs(state.position).max()))
            finite = np.isfinite(observation).all() and np.isfinite(rewards).all()
            finite = finite and bool(np.isfinite(state.position).all())
            if not finite or lowest < 0 or not fastest <= 2:
                raise RuntimeError(f"{task} after {played} arena-ticks: {fastest=} {lowest=}")
    return {
        "arena-ticks": played,
        "fastest, blocks per tick": fastest,
        "lowest feet, blocks": lowest,
        "highest feet, blocks": highest,
        "farthest from the origin, blocks": farthest,
    }


@kernel
def decide_all(code, fighters, ticks, records, actions):  # type: ignore[no-untyped-def]
    for i in range(ticks.shape[0]):
        me, foe = fighters[i, 0], fighters[i, 1]
        tasks.remember_look(me)
        tasks.remember_look(foe)
        tasks.obey(me, actions[i])
        lane = records[i].opponent == opponents.LANE
        tasks.autopilot(code, lane, me, foe, ticks[i])
        opponents.play(records[i].opponent, foe, me, ticks[i])


@kernel
def turn_all(fighters):  # type: ignore[no-untyped-def]
    for i in range(fighters.shape[0]):
        physics.turn_one(fighters[i, 0])
        physics.turn_one(fighters[i, 1])


@kernel
def attack_all(fighters):  # type: ignore[no-untyped-def]
    for i in range(fighters.shape[0]):
        me, foe = fighters[i, 0], fighters[i, 1]
        combat.attack(me, foe)
        combat.attack(foe, me)
        combat.apply_hits(me, foe)


@kernel
def move_all(fighters):  # type: ignore[no-untyped-def]
    for i in range(fighters.shape[0]):
        physics.walk_one(fighters[i, 0], False)
        physics.walk_one(fighters[i, 1], False)


# How it is measured -------------------------------------------------------------------------


def drawn(task: str, space: Any) -> list[Any]:
    """Sixteen random actions; turns are small, so that fighters meet as they do in fights."""
    space.seed(0)
    actions = [space.sample() for _ in range(16)]
    if task in ("aiming", "combined"):
        for action in actions:
            action[..., -2:] *= 0.2
    return actions


def rate(call: Callable[[int], Any], seconds: float, rounds: int) -> float:
    """Calls per second of processor time, in the best of some rounds of about ``seconds``."""

    def spent(count: int) -> float:
        start = time.process_time()
        for k in range(count):
            call(k)
        return time.process_time() - start

    spent(2)  # compile, or read compiled code
    count = 3
    while (once := spent(count)) < seconds / 2:
        count = int(count * min(max(seconds / max(once, 1e-6), 1.5), 100)) + 1
    return count / min(spent(count) for _ in range(rounds))


def pin() -> int | None:
    """Stay on one core, where the system lets us; returns which."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def machine() -> str:
    """The processor and the versions that matter."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    return (
        f"{processor}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"Numba {numba.__version__}, Gymnasium {gymnasium.__version__}"
    )


# How it is shown ----------------------------------------------------------------------------


def show(report: dict[str, Any]) -> None:
    """Markdown tables, as in benchmarks/README.md."""
    print(f"{report['machine']}; one core\n")
    speeds = report["arena_ticks_per_second"]
    sizes = list(speeds["combined"])
    print("Arena-ticks per second through `DuelVectorEnv`:\n")
    row("task", *(f"{n:,} arena{'s' * (n > 1)}" for n in sizes))
    row(*["---"] * (len(sizes) + 1))
    for task in TASKS:
        row(task, *(f"{speeds[task][n]:,.0f}" for n in sizes))
    print("\nOne environment through `gymnasium.make`, against 1,024 arenas in one batch:\n")
    row("task", "steps per second alone", "the batch is faster by")
    row("---", "---", "---")
    for task in TASKS:
        alone = report["steps_per_second_through_gymnasium_make"][task]
        ratio = report["ratio_batch_1024_to_one_by_one"][task]
        row(task, f"{alone:,.0f}", f"{ratio:,.0f} ×")
    print("\nNanoseconds per arena-tick at 1,024 arenas:\n")
    phases = report["phases_ns_per_arena_tick"]
    row("phase", *TASKS)
    row(*["---"] * (len(TASKS) + 1))
    for name in phases["combined"]:
        whole = {task: phases[task]["whole step"] for task in TASKS}
        cells = (
            f"{phases[task][name]:.0f} ({100 * phases[task][name] / whole[task]:.0f} %)"
            for task in TASKS
        )
        row(name, *cells)
    print()
    for name, bar in report["bars"].items():
        verdict = "met" if bar["met"] else "MISSED"
        print(f"{name}: {bar['measured']:,.0f}, asked for {bar['bar']:,}: {verdict}")


def show_soak(found: dict[str, dict[str, float]]) -> None:
    """A Markdown table of extremes."""
    names = list(found[TASKS[0]])
    row("task", *names)
    row(*["---"] * (len(names) + 1))
    for task, values in found.items():
        row(task, f"{values[names[0]]:,.0f}", *(f"{values[name]:.3f}" for name in names[1:]))


def row(*cells: str) -> None:
    """A row of a Markdown table."""
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
