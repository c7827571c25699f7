"""What the duel declares to the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skilldistill.domain import ActionDim, Arenas, Domain, Head, Policy, Skill, Task
from skilldistill.duel import rules

# The simulator loads NumPy and a compiler, so the factories import it when they are called.


def make_arenas(
    task: str, num_arenas: int, *, seed: int, opponent: str | Policy | None = None
) -> Arenas:
    """A batch of arenas; see :class:`skilldistill.duel.arenas.DuelArenas`."""
    from skilldistill.duel.arenas import DuelArenas

    return DuelArenas(task, num_arenas, seed=seed, opponent=opponent)


def make_vector_env(
    task: str, num_envs: int, *, seed: int, opponent: str | Policy | None = None
) -> Any:
    """A Gymnasium vector environment; see :class:`skilldistill.duel.envs.DuelVectorEnv`."""
    from skilldistill.duel.envs import DuelVectorEnv

    return DuelVectorEnv(num_envs=num_envs, task=task, seed=seed, opponent=opponent)


def scripted(name: str) -> Policy:
    """A scripted fighter as a policy."""
    from skilldistill.duel.arenas import ScriptPolicy

    return ScriptPolicy(name)


def render_episode(
    task: str,
    policy: Policy,
    *,
    episode: int,
    seed: int,
    opponent: str | Policy | None,
    path: Path,
) -> Path:
    """Draw an episode; see :func:`skilldistill.duel.render.render_episode`."""
    from skilldistill.duel import render

    return render.render_episode(
        task, policy, episode=episode, seed=seed, opponent=opponent, path=path
    )


_GEOMETRY = (
    "direction_right",
    "direction_up",
    "direction_forward",
    "distance",
    "velocity_right",
    "velocity_up",
    "velocity_forward",
    "speed",
    "opponent_velocity_right",
    "opponent_velocity_up",
    "opponent_velocity_forward",
    "opponent_speed",
)
_OPPONENT_LOOK = ("opponent_look_right", "opponent_look_up", "opponent_look_forward")
UNIFIED = (
    *_GEOMETRY,
    "health",
    "opponent_health",
    "on_ground",
    "opponent_on_ground",
    *_OPPONENT_LOOK,
    "opponent_invulnerable_ticks",
)
_KEYS = ("w", "a", "s", "d", "space", "sprint")

DOMAIN = Domain(
    name="duel",
    observation_names=UNIFIED,
    actions=(
        *(ActionDim(name=key, kind="binary") for key in (*_KEYS, "click")),
        *(
            ActionDim(
                name=turn, kind="continuous", low=-rules.MAX_TURN, high=rules.MAX_TURN, unit="rad"
            )
            for turn in ("dyaw", "dpitch")
        ),
    ),
    heads=(
        Head(name="movement", dims=_KEYS, hidden=64),
        Head(name="clicking", dims=("click",), hidden=16),
        Head(name="aiming", dims=("dyaw", "dpitch"), hidden=32),
    ),
    skills=(
        Skill(
            name="movement",
            head="movement",
            native_observations=(
                *_GEOMETRY,
                "on_ground",
                "opponent_on_ground",
                *_OPPONENT_LOOK,
                "opponent_previous_look_right",
                "opponent_previous_look_up",
                "opponent_previous_look_forward",
            ),
            native_action="multi_binary",
            # Half of the episodes are mostly blows: rare in the task, all that counts in a fight.
            training={
                "timesteps": 2_400_000,
                "envs": 256,
                "hidden": (128, 128),
                "normalise": True,
                "opponent": "drill",
                "schedule": "linear",
                "n_steps": 32,
                "batch_size": 2048,
                "n_epochs": 5,
                "gamma": 0.93,
                "learning_rate": 1e-3,
            },
        ),
        Skill(
            name="aiming",
            head="aiming",
            native_observations=(
                "yaw_error_sin",
                "yaw_error_cos",
                "pitch_error_sin",
                "pitch_error_cos",
                "distance",
            ),
            native_action="box",
            # Turns are bounded by 0.63 radians: exploring starts well inside.
            training={
                "timesteps": 200_000,
                "envs": 128,
                "hidden": (64, 64),
                "policy_kwargs": {"log_std_init": -1.5},
                "schedule": "linear",
                "n_steps": 32,
                "batch_size": 1024,
                "n_epochs": 5,
                "gamma": 0.9,
                "learning_rate": 1e-3,
            },
        ),
        Skill(
            name="clicking",
            head="clicking",
            native_observations=(
                "yaw_error",
                "pitch_error",
                "distance",
                "in_reach",
                "opponent_invulnerable_ticks",
                "opponent_offset_x",
                "opponent_offset_z",
                "yaw",
                "pitch",
            ),
            native_action="discrete",
            # A click is judged at once, so the discount is 0. What matters is a difference of
            # 0.01 in a distance: without scaled observations the network does not see it.
            training={
                "timesteps": 2_000_000,
                "envs": 256,
                "hidden": (64, 64),
                "activation": "relu",
                "select": ("hit_share", "precision"),
                "opponent": "eager",
                "normalise": True,
                "schedule": "linear",
                "n_steps": 32,
                "batch_size": 2048,
                "n_epochs": 6,
                "gamma": 0.0,
                "learning_rate": 2e-3,
            },
        ),
    ),
    tasks=(
        Task(
            name="movement",
            env_id="skilldistill/Movement-v0",
            heads=("movement",),
            metrics=("in_band", "exposed"),
            main_metric="in_band",
            horizon=400,
        ),
        Task(
            name="aiming",
            env_id="skilldistill/Aiming-v0",
            heads=("aiming",),
            metrics=("on_target", "error_deg"),
            main_metric="on_target",
            horizon=200,
        ),
        Task(
            name="clicking",
            env_id="skilldistill/Clicking-v0",
            heads=("clicking",),
            metrics=("hit_share", "precision"),
            main_metric="hit_share",
            horizon=600,
        ),
        Task(
            name="combined",
            env_id="skilldistill/Combined-v0",
            heads=("movement", "clicking", "aiming"),
            metrics=("win", "loss", "draw", "dealt", "taken", "precision", "ticks"),
            main_metric="win",
            horizon=400,
        ),
    ),
    combined="combined",
    make_arenas=make_arenas,
    make_vector_env=make_vector_env,
    opponents=("chaser", "strafer", "wander", "still"),
    sparring=("chaser", "strafer"),
    shipped_experts=Path(__file__).parent / "experts",
    scripted=scripted,
    render_episode=render_episode,
)
