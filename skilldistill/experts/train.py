"""PPO on a single-skill task: the loop, its checkpoints, and how it is taken up again."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from skilldistill import domain as domains
from skilldistill.config import TrainConfig
from skilldistill.domain import Domain, Skill
from skilldistill.errors import ConfigurationError, NotInstalled
from skilldistill.experts.network import Expert, Normaliser
from skilldistill.experts.sb3_zip import from_sb3
from skilldistill.progress import Progress, ProgressCallback, StopCheck, never, silent
from skilldistill.randomness import global_generators_kept
from skilldistill.threads import one_thread
from skilldistill.training_state import (
    STATE_FILE,
    TENSORBOARD_FOLDER,
    copied,
    packed,
    read_state,
    strange_state,
)
from skilldistill.workspace.files import replace_file

_VERSION = 1
_ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
_SAVE_SECONDS = 1.0
"""Least time between two saves of the state, but for those after a scoring."""


def training_seed(seed: int) -> int:
    """Seed of the episodes an expert learns from, so that it is never scored on those."""
    return (seed + 1_000_000) % 2**31


@dataclass(frozen=True)
class TrainSettings:
    """How a skill is trained: the skill's own settings, with the command's instead where given."""

    timesteps: int
    envs: int
    hidden: tuple[int, ...]
    schedule: str
    normalise: bool
    """Scale observations by their running mean and variance; an expert keeps those it was scored
    with."""
    activation: str
    """``tanh`` or ``relu``."""
    select: tuple[str, ...]
    """Metrics whose sum chooses the best expert; empty takes the task's main metric."""
    opponent: str | None
    """Whom the skill is practised against; None takes the task's own."""
    ppo: Mapping[str, Any]
    """Other keywords of ``stable_baselines3.PPO``."""

    @classmethod
    def of(cls, skill: Skill, config: TrainConfig) -> TrainSettings:
        """Put together what ``skill.training`` and the command say.

        Raises:
            ConfigurationError: a schedule that does not exist, or a number that makes no sense.
        """
        own = dict(skill.training)
        settings = cls(
            timesteps=config.timesteps or int(own.pop("timesteps", 200_000)),
            envs=config.envs or int(own.pop("envs", 16)),
            hidden=tuple(int(width) for width in own.pop("hidden", (64, 64))),
            schedule=str(own.pop("schedule", "constant")),
            normalise=bool(own.pop("normalise", False)),
            activation=str(own.pop("activation", "tanh")),
            select=tuple(own.pop("select", ())),
            opponent=own.pop("opponent", None),
            ppo={key: own[key] for key in own if key not in ("timesteps", "envs")},
        )
        if settings.schedule not in ("constant", "linear"):
            raise ConfigurationError(
                f"skill {skill.name!r} asks for the schedule {settings.schedule!r}",
                hint="known are constant and linear",
            )
        if settings.activation not in _ACTIVATIONS:
            raise ConfigurationError(
                f"skill {skill.name!r} asks for the activation {settings.activation!r}",
                hint=f"known are {' and '.join(_ACTIVATIONS)}",
            )
        if min(settings.timesteps, settings.envs, *settings.hidden) < 1:
            raise ConfigurationError(f"skill {skill.name!r} cannot be trained with {settings}")
        return settings


@dataclass(frozen=True)
class CurvePoint:
    """One scoring during training."""

    timesteps: int
    reward: float
    """Mean return of the episodes that ended since the last scoring, while exploring; NaN if
    none did."""
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TrainOutcome:
    """What a training run gave."""

    expert: Expert | None
    """The best by the main metric; None if it was stopped before the first scoring."""
    best_timesteps: int
    timesteps: int
    curve: tuple[CurvePoint, ...]
    seconds: float
    """Of training and scoring, all runs together."""
    stopped: int
    """Signal that asked to stop; 0 if the training finished."""


@dataclass
class _Run:
    """What changes while training, besides the model and the environments."""

    curve: list[CurvePoint] = field(default_factory=list)
    best: dict[str, torch.Tensor] | None = None
    best_statistics: dict[str, torch.Tensor] | None = None
    best_timesteps: int = 0
    best_score: float = -math.inf
    seconds: float = 0.0
    returns: list[float] = field(default_factory=list)
    """Returns of the episodes that ended since the last scoring."""


class _Watch(BaseCallback):
    """Stops a rollout when asked to, and collects the returns of finished episodes."""

    def __init__(self, stop: StopCheck, run: _Run) -> None:
        super().__init__()
        self.stop = stop
        self.run = run
        self.signum = 0

    def _on_step(self) -> bool:
        self.signum = self.signum or self.stop()
        dones = self.locals["dones"]
        if dones.any():
            infos = self.locals["infos"]
            self.run.returns += [float(infos[i]["episode"]["r"]) for i in np.flatnonzero(dones)]
        return not self.signum


@global_generators_kept()
def train(
    vec_env: VecEnv,
    skill: Skill,
    config: TrainConfig,
    *,
    main_metric: str,
    evaluate: Callable[[Expert], Mapping[str, float]],
    directory: Path,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
) -> TrainOutcome:
    """Train an expert, scoring it ``config.evaluations`` times and keeping the best.

    The state is saved to ``directory`` between rollouts, and when asked to stop; with
    ``config.resume`` the run goes on from there. Where the environments can give and take their
    state, it goes on exactly as if it had never stopped.

    Args:
        vec_env: the skill's task, ``TrainSettings.of(skill, config).envs`` arenas of it.
        skill: what is learnt; its ``training`` holds the settings.
        config: the command's settings, which come first.
        main_metric: name of the metric by which experts are compared; higher is better.
        evaluate: scores an expert; must draw nothing from global random numbers.
        directory: for unfinished work.
        progress: told after every rollout.
        stop: asked at every tick.

    Raises:
        ConfigurationError: a keyword PPO does not know.
        NotInstalled: TensorBoard is wanted and not there.
        CorruptFile: the saved state is damaged.
    """
    settings = TrainSettings.of(skill, config)
    domain = domains.find(config.domain)
    run = _Run()
    watch = _Watch(stop, run)
    select = settings.select or (main_metric,)
    if settings.normalise:
        vec_env = VecNormalize(vec_env, norm_reward=False)
    model = _make_model(vec_env, skill, settings, config, directory)
    try:
        _, callback = model._setup_learn(settings.timesteps, watch, tb_log_name=skill.name)
    except ImportError as error:  # nothing else is imported there
        raise NotInstalled("TensorBoard", "plots") from error
    if config.resume and (directory / STATE_FILE).exists():
        run = watch.run = _restore(directory / STATE_FILE, model, vec_env, config)
    start, saved = time.perf_counter() - run.seconds, time.perf_counter()
    callback.on_training_start(locals(), globals())
    with one_thread():  # sums depend on the number of threads
        while model.num_timesteps < settings.timesteps:
            boundary = _state(run, model, vec_env)
            if not model.collect_rollouts(vec_env, callback, model.rollout_buffer, model.n_steps):
                # A rollout that is cut short is dropped, and repeated by whoever goes on.
                _save(directory / STATE_FILE, boundary)
                model.num_timesteps = boundary["timesteps"]
                break
            model._update_current_progress_remaining(model.num_timesteps, settings.timesteps)
            model.train()
            due = math.ceil(settings.timesteps * (len(run.curve) + 1) / config.evaluations)
            scoring = model.num_timesteps >= min(due, settings.timesteps)
            if scoring:
                _note(run, model, dict(evaluate(_expert(model, skill, domain))), select)
            run.seconds = time.perf_counter() - start
            if scoring or time.perf_counter() - saved > _SAVE_SECONDS:
                _save(directory / STATE_FILE, _state(run, model, vec_env))
                saved = time.perf_counter()
            progress(_report(skill, settings, model, run))
            model.logger.dump(model.num_timesteps)
    callback.on_training_end()
    expert = None
    if run.best is not None:
        model.policy.load_state_dict(run.best)
        _set_statistics(vec_env, run.best_statistics)
        expert = _expert(model, skill, domain)
    return TrainOutcome(
        expert=expert,
        best_timesteps=run.best_timesteps,
        timesteps=model.num_timesteps,
        curve=tuple(run.curve),
        seconds=run.seconds,
        stopped=watch.signum,
    )


def _make_model(
    vec_env: VecEnv, skill: Skill, settings: TrainSettings, config: TrainConfig, directory: Path
) -> PPO:
    keywords = dict(settings.ppo)
    rate = keywords.pop("learning_rate", 3e-4)
    if settings.schedule == "linear" and not callable(rate):
        # the last rollout may go beyond the last timestep
        keywords["learning_rate"] = lambda remaining: max(remaining, 0.0) * rate
    else:
        keywords["learning_rate"] = rate
    policy_kwargs = {
        "net_arch": list(settings.hidden),
        "activation_fn": _ACTIVATIONS[settings.activation],
        **keywords.pop("policy_kwargs", {}),
    }
    try:
        with warnings.catch_warnings():
            # Another number of arenas than the skill's own may leave a smaller last minibatch.
            warnings.filterwarnings("ignore", message="You have specified a mini-batch size")
            return PPO(
                "MlpPolicy",
                vec_env,
                seed=training_seed(config.seed),
                device="cpu",
                policy_kwargs=policy_kwargs,
                tensorboard_log=str(directory / TENSORBOARD_FOLDER) if config.tensorboard else None,
                **keywords,
            )
    except (TypeError, AssertionError) as error:
        raise ConfigurationError(
            f"PPO cannot be set up with the training settings of skill {skill.name!r}: {error}"
        ) from error


def _expert(model: PPO, skill: Skill, domain: Domain) -> Expert:
    """What the model has learnt so far, with the statistics it sees through."""
    normaliser = None
    if isinstance(model.env, VecNormalize):
        seen = cast(RunningMeanStd, model.env.obs_rms)
        normaliser = Normaliser(
            mean=seen.mean.copy(),
            var=seen.var.copy(),
            epsilon=model.env.epsilon,
            clip=model.env.clip_obs,
        )
    return from_sb3(model, skill, domain, normaliser=normaliser)


def _statistics(vec_env: VecEnv | None) -> dict[str, torch.Tensor] | None:
    """The running statistics of the observations, as copies; None where there are none."""
    if not isinstance(vec_env, VecNormalize):
        return None
    seen = vec_env.obs_rms
    kept = {name: getattr(seen, name) for name in ("mean", "var", "count")}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in kept.items()}


def _set_statistics(vec_env: VecEnv, saved: dict[str, torch.Tensor] | None) -> None:
    """Put back what :func:`_statistics` gave."""
    if isinstance(vec_env, VecNormalize) and saved is not None:
        seen = cast(RunningMeanStd, vec_env.obs_rms)
        seen.mean = saved["mean"].numpy().copy()
        seen.var = saved["var"].numpy().copy()
        seen.count = float(saved["count"])


def _note(run: _Run, model: PPO, metrics: Mapping[str, float], select: Sequence[str]) -> None:
    """Record a scoring; of equally good experts the one trained longer is kept."""
    reward = float(np.mean(run.returns)) if run.returns else math.nan
    run.returns.clear()
    run.curve.append(CurvePoint(model.num_timesteps, reward, metrics))
    total = sum(metrics[name] for name in select)
    score = -math.inf if math.isnan(total) else total
    if run.best is None or score >= run.best_score:
        run.best = {name: value.clone() for name, value in model.policy.state_dict().items()}
        run.best_statistics = _statistics(model.env)
        run.best_timesteps = model.num_timesteps
        run.best_score = score
    for name, value in {**metrics, "reward": reward}.items():
        model.logger.record(f"task/{name}", value)


def _report(skill: Skill, settings: TrainSettings, model: PPO, run: _Run) -> Progress:
    values: dict[str, float | str] = {}
    if run.curve:
        values = {**run.curve[-1].metrics, "reward": run.curve[-1].reward}
        values["best at"] = run.best_timesteps
    values["steps/s"] = round(model.num_timesteps / max(run.seconds, 1e-9))
    return Progress(
        stage=f"train {skill.name}",
        done=min(model.num_timesteps, settings.timesteps),
        total=settings.timesteps,
        unit="step",
        values=values,
    )


def _state(run: _Run, model: PPO, vec_env: VecEnv) -> dict[str, Any]:
    """Everything that changes, as copies: tensors, numbers, and text."""
    numpy_random: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002
    numpy_random["state"]["key"] = torch.from_numpy(numpy_random["state"]["key"].astype(np.int64))
    return {
        "run": json.dumps(
            {
                "curve": [asdict(point) for point in run.curve],
                "best_timesteps": run.best_timesteps,
                "best_score": run.best_score,
                "seconds": run.seconds,
                "returns": run.returns,
            }
        ),
        "best": run.best,
        "best_statistics": run.best_statistics,
        "statistics": _statistics(vec_env),
        "policy": copied(model.policy.state_dict()),
        "optimizer": copied(model.policy.optimizer.state_dict()),
        "timesteps": model.num_timesteps,
        "updates": model._n_updates,
        "torch_random": torch.get_rng_state(),
        "numpy_random": numpy_random,
        "arenas": _arenas_state(vec_env),
        "last_observations": torch.from_numpy(np.array(model._last_obs)),
        "last_starts": torch.from_numpy(np.array(model._last_episode_starts)),
    }


def _save(path: Path, state: Mapping[str, Any]) -> None:
    replace_file(path, packed(state, version=_VERSION))


def _restore(path: Path, model: PPO, vec_env: VecEnv, config: TrainConfig) -> _Run:
    """Put a saved state back.

    Raises:
        CorruptFile: it is damaged, or of another version.
    """
    state = read_state(path, version=_VERSION)
    try:
        saved = json.loads(state["run"])
        model.policy.load_state_dict(state["policy"])
        model.policy.optimizer.load_state_dict(state["optimizer"])
        run = _Run(
            curve=[CurvePoint(**point) for point in saved["curve"]],
            best=state["best"],
            best_statistics=state["best_statistics"],
            best_timesteps=saved["best_timesteps"],
            best_score=saved["best_score"],
            seconds=saved["seconds"],
            returns=saved["returns"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise strange_state(path, error) from error
    _set_statistics(vec_env, state["statistics"])
    model.num_timesteps = int(state["timesteps"])
    model._n_updates = int(state["updates"])
    if state["arenas"] is None:
        # Arenas that cannot go on where they were begin new episodes, other than before.
        vec_env.seed(training_seed(config.seed) + model.num_timesteps)
        model._last_obs = cast(NDArray[Any], vec_env.reset())
        model._last_episode_starts = np.ones(vec_env.num_envs, dtype=bool)
    else:
        arrays = {name: tensor.numpy() for name, tensor in state["arenas"].items()}
        vec_env.set_state(arrays)  # type: ignore[attr-defined]
        model._last_obs = state["last_observations"].numpy()
        model._last_episode_starts = state["last_starts"].numpy()
    numpy_random = state["numpy_random"]
    numpy_random["state"]["key"] = numpy_random["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state(numpy_random)  # noqa: NPY002
    torch.set_rng_state(state["torch_random"])
    return run


def _arenas_state(vec_env: VecEnv) -> dict[str, torch.Tensor] | None:
    """What the environments give, where they can; None otherwise."""
    try:
        state = vec_env.get_state()  # type: ignore[attr-defined]
    except AttributeError:  # theirs or that of what they wrap: giving a state is optional
        return None
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
