"""The whole pipeline's outcome as one object, for notebooks and scripts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skilldistill.config import FinetuneConfig
from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError
from skilldistill.evaluation import statistics
from skilldistill.evaluation.rollout import play
from skilldistill.stages import references
from skilldistill.stages.evaluate import FIRST_EPISODE, player
from skilldistill.workspace.store import Workspace

if TYPE_CHECKING:
    from skilldistill.stages.references import ResolvedPolicy


class DistillationModel:
    """A policy to load, ask, score, and improve.

    ``DistillationModel().load("distilled").evaluate(n_episodes=10)``

    Args:
        workspace: where names are looked up and fine-tuned policies are kept; None finds it from
            the current directory upward when it is needed.
        domain: name of the domain; None takes the policy's own.
        seed: seed of sampled actions.
    """

    def __init__(
        self,
        workspace: Workspace | str | os.PathLike[str] | None = None,
        *,
        domain: Domain | str | None = None,
        seed: int = 0,
    ) -> None:
        if workspace is not None and not isinstance(workspace, Workspace):
            workspace = Workspace.open(os.fspath(workspace))
        self._workspace = workspace
        self._domain = domain
        self._generator = np.random.default_rng(seed)
        self._loaded: ResolvedPolicy | None = None

    def load(self, ref_or_path: str | os.PathLike[str]) -> DistillationModel:
        """Load a policy by reference or path, and return this object.

        Raises:
            NotFound: nothing has that name or path.
            ConfigurationError: it plays in another domain, or the workspace holds only things of
                other domains than a baseline would play in.
            CorruptFile: its file is damaged.
        """
        self._loaded = references.resolve_policy(ref_or_path, self._workspace, self._domain)
        return self

    def __repr__(self) -> str:
        loaded = "nothing loaded" if self._loaded is None else self._loaded.ref
        return f"<{type(self).__name__}: {loaded}>"

    @property
    def ref(self) -> str:
        """Reference of the loaded policy, with its version."""
        return self._policy.ref

    def predict(self, obs: ArrayLike, deterministic: bool = True) -> NDArray[np.float32]:
        """Actions for unified observations.

        Args:
            obs: (obs_dim,) one observation, or (n, obs_dim) several.
            deterministic: take the likeliest action instead of sampling.

        Returns:
            (action_dim,) or (n, action_dim) legal actions in environment units.

        Raises:
            ConfigurationError: no policy is loaded, ``obs`` has another shape or holds a number
                that is not finite, or the policy is not a network over unified observations.
        """
        loaded = self._policy
        if loaded.kind != "checkpoint":
            raise ConfigurationError(
                f"{loaded.ref} plays from more than the unified observation: it cannot predict",
                hint="load a checkpoint, for example 'distilled'",
            )
        import torch

        from skilldistill.policy.player import NetworkPolicy

        policy = loaded.policy
        assert isinstance(policy, NetworkPolicy)
        rows = np.asarray(obs, dtype=np.float32)
        width = loaded.domain.obs_dim
        if rows.ndim not in (1, 2) or rows.shape[-1] != width or not np.isfinite(rows).all():
            raise ConfigurationError(
                f"expected finite observations of shape ({width},) or (n, {width}), "
                f"got shape {rows.shape}"
            )
        batch = rows.reshape(-1, width)
        draws = None
        if not deterministic:
            size = (len(batch), loaded.domain.action_dim)
            draws = torch.from_numpy(self._generator.random(size))
        actions = policy.predict(batch, uniform=draws)
        return actions[0] if rows.ndim == 1 else actions

    def evaluate(
        self,
        n_episodes: int = 10,
        render: bool | str | os.PathLike[str] = False,
        *,
        task: str = "all",
        opponent: str = "",
        seed: int = 0,
    ) -> dict[str, dict[str, float]]:
        """Play and return the means: task → metric → mean over the episodes.

        Nothing is written to the workspace; ``stages.evaluate`` does that, with intervals and
        baselines. An expert plays its own task only.

        Args:
            n_episodes: episodes per task.
            render: also draw the first episode of the last task: True to ``episode.gif`` in the
                current directory, a path to there.
            task: a task's name, or all.
            opponent: opponent in the combined task; empty takes the domain's default.
            seed: seed of the episodes.

        Raises:
            ConfigurationError: no policy is loaded, or no such task, or the domain cannot draw.
        """
        loaded = self._policy
        domain = loaded.domain
        names = [entry.name for entry in domain.tasks]
        names = names if task == "all" else [domain.task(task).name]
        against, _ = references.load_opponent(opponent, self._workspace, domain)
        players = {name: player(loaded, name) for name in names}
        playable = {name: policy for name, policy in players.items() if policy is not None}
        if not playable:
            raise ConfigurationError(
                f"{loaded.ref} cannot play {task!r}", hint="an expert plays its own skill's task"
            )
        if render is not False:  # first, because a path may be refused
            self._draw(list(playable)[-1], against, seed, render)
        result: dict[str, dict[str, float]] = {}
        for name, policy in playable.items():
            rollout = play(
                domain,
                name,
                policy,
                episodes=n_episodes,
                seed=seed,
                opponent=against if name == domain.combined else None,
                first_episode=FIRST_EPISODE,
            )
            result[name] = {
                metric: statistics.mean(values) for metric, values in rollout.metrics.items()
            }
        return result

    def fine_tune(self, timesteps: int, **settings: Any) -> DistillationModel:
        """Improve the loaded checkpoint with PPO, publish the outcome, and load it.

        Args:
            timesteps: environment steps.
            settings: further fields of :class:`~skilldistill.config.FinetuneConfig`.

        Raises:
            ConfigurationError: no checkpoint is loaded, or there is no such setting.
        """
        from skilldistill.stages.finetune import finetune

        loaded = self._policy
        if loaded.kind != "checkpoint":
            raise ConfigurationError(
                f"{loaded.ref} cannot be fine-tuned: it is no checkpoint",
                hint="load a distilled policy first: `DistillationModel().load('distilled')`",
            )
        values = {"start": loaded.ref, "domain": loaded.domain.name, **settings}
        unknown = sorted(set(values) - set(FinetuneConfig.__dataclass_fields__))
        if unknown:
            raise ConfigurationError(f"fine-tuning has no setting {', '.join(unknown)}")
        workspace = self._workspace or Workspace.open()
        done = finetune(workspace, FinetuneConfig(timesteps=timesteps, **values))
        self._loaded = references.resolve_policy(done.ref, workspace, loaded.domain)
        return self

    @property
    def _policy(self) -> ResolvedPolicy:
        if self._loaded is None:
            raise ConfigurationError(
                "no policy is loaded", hint="begin with `DistillationModel().load('distilled')`"
            )
        return self._loaded

    def _draw(
        self, task: str, opponent: Any, seed: int, render: bool | str | os.PathLike[str]
    ) -> None:
        loaded = self._policy
        draw = loaded.domain.render_episode
        if draw is None:
            raise ConfigurationError(f"domain {loaded.domain.name!r} cannot draw its episodes")
        draw(
            task,
            player(loaded, task),
            episode=FIRST_EPISODE,
            seed=seed,
            opponent=opponent if task == loaded.domain.combined else None,
            path=Path("episode.gif") if isinstance(render, bool) else Path(render),
        )
