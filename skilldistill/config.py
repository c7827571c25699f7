"""One frozen dataclass per command: the field's name is the flag and the TOML key.

Every default is written here, once. ``cli/options.py`` builds flags from the fields, and
``.skilldistill.toml`` sections use the same names. A field whose command-line word is no Python
name (``--from``) carries that word in its metadata under ``name``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_SEED = 2**64 - 1
"""The largest seed that a dataset can record."""


def option(
    default: Any,
    help: str,
    *,
    name: str | None = None,
    short: str | None = None,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A field with what the command line needs to know of it.

    Args:
        default: the only place this default is written.
        help: one line for ``--help`` and for ``.skilldistill.toml.example``.
        name: the flag's and key's word where it differs from the field's name.
        short: a one-letter flag.
        choices: the only values allowed.
        low: smallest value allowed.
        high: largest value allowed.
    """
    return field(
        default=default,
        metadata={
            "help": help,
            "name": name,
            "short": short,
            "choices": choices,
            "low": low,
            "high": high,
        },
    )


def _domain() -> Any:
    return option("duel", "family of skills")


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """What every command that computes something takes."""

    seed: int = option(0, "seed of every random number the command draws", low=0, high=MAX_SEED)
    domain: str = _domain()


@dataclass(frozen=True, kw_only=True)
class TrainConfig(BaseConfig):
    """``skilldistill train``: PPO on one skill's task."""

    skill: str = option(
        "", "skill to train an expert for; the duel has movement, aiming and clicking"
    )
    timesteps: int = option(0, "environment steps; 0 takes the skill's own setting", low=0)
    envs: int = option(0, "arenas played at once; 0 takes the skill's own setting", low=0)
    name: str = option("", "name of the expert; empty takes the skill's name")
    evaluations: int = option(10, "times the expert is scored during training", low=1)
    eval_episodes: int = option(256, "episodes per scoring", low=2)
    tensorboard: bool = option(False, "also write TensorBoard event files")
    resume: bool = option(False, "go on from the last unfinished run of the same command")


@dataclass(frozen=True, kw_only=True)
class ExpertsAddConfig:
    """``skilldistill experts add``: take in a policy trained elsewhere."""

    name: str = ""
    """Given as an argument: what to call the expert; also its skill, unless one is given."""
    path: str = ""
    """Given as an argument: the zip that ``model.save()`` of Stable-Baselines3 wrote."""
    domain: str = _domain()
    skill: str = option("", "skill of the expert; empty takes its name")
    normaliser: str = option(
        "", "its VecNormalize statistics as plain arrays, .npz or .safetensors"
    )
    trust_pickle: bool = option(
        False, "load what cannot be rebuilt through stable_baselines3: runs code from the file"
    )


@dataclass(frozen=True, kw_only=True)
class ExpertsLsConfig:
    """``skilldistill experts ls``: list experts and which of them is used for each skill."""

    domain: str = _domain()


@dataclass(frozen=True, kw_only=True)
class CollectConfig(BaseConfig):
    """``skilldistill collect``: play experts and write what they did."""

    skill: str = option(
        "all",
        "a skill (the duel has movement, aiming and clicking), combined (the experts act "
        "together), or all skills",
    )
    episodes: int = option(100, "episodes per skill", short="n", low=1)
    expert: str = option("", "expert to play; empty takes the workspace's, then the shipped one")
    stochastic: bool = option(False, "sample the expert's actions instead of taking the likeliest")
    name: str = option("", "name of the dataset; empty: the skill's name (combined: composite)")


@dataclass(frozen=True, kw_only=True)
class MergeConfig(BaseConfig):
    """``skilldistill merge``: join datasets into one."""

    datasets: tuple[str, ...] = ()
    """References given as arguments; empty takes the latest dataset of every skill."""
    name: str = option("combined", "name of the merged dataset", short="o")


@dataclass(frozen=True, kw_only=True)
class DistillConfig(BaseConfig):
    """``skilldistill distill``: teach one policy from a merged dataset."""

    dataset: str = option("combined", "dataset to learn from")
    name: str = option("distilled", "name of the checkpoint")
    epochs: int = option(50, "passes over the data", low=1)
    batch_size: int = option(256, "rows per gradient step", low=1)
    large_batch: bool = option(
        False, "few large steps instead of many small ones: 4,096 rows, learning rate to match"
    )
    lr: float = option(1e-3, "peak learning rate of Adam", low=0.0)
    hidden_dim: int = option(256, "width of the shared encoder", low=16, high=1024)
    loss: str = option("kl", "objective per head", choices=("kl", "hard", "mse"))
    masked: bool = option(True, "look only at dimensions an expert labelled (off: to compare)")
    balanced: bool = option(True, "give every skill the same share of each batch")
    temperature: float = option(
        1.0, "softens the experts' probabilities; 1 changes nothing", low=0.0
    )
    val_fraction: float = option(0.1, "share of the episodes held out", low=0.0, high=0.9)
    patience: int = option(
        0, "epochs without a better held-out loss before stopping; 0 never", low=0
    )
    warmup: float = option(
        0.05, "share of the steps over which the learning rate rises", low=0.0, high=1.0
    )
    rounds: int = option(0, "rounds in which the student acts and the experts label", low=0)
    round_episodes: int = option(
        64, "combined task's episodes per round; each skill's own task adds a quarter", low=1
    )
    round_epochs: int = option(10, "epochs after each round", low=1)
    beta: float = option(
        0.5, "chance that experts act in the first round; halves each round", low=0.0, high=1.0
    )
    student_share: float = option(
        0.5, "share of each batch for rows of the rounds, once there are some", low=0.0, high=0.95
    )
    head_weights: str = option("", "weights of heads' losses, as HEAD=WEIGHT,…; others weigh 1")
    bf16: bool = option(True, "multiply matrices in bfloat16 where that is faster")
    device: str = option("auto", "torch device; auto takes a GPU where there is one")
    tensorboard: bool = option(False, "also write TensorBoard event files")
    resume: bool = option(False, "go on from the last unfinished run of the same command")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(BaseConfig):
    """``skilldistill finetune``: PPO on the combined task from a distilled policy."""

    start: str = option("distilled", "checkpoint to start from", name="from")
    name: str = option("finetuned", "name of the checkpoint")
    timesteps: int = option(100_000, "environment steps", low=1)
    learning_rate: float = option(3e-4, "learning rate of the actor", low=0.0)
    critic_learning_rate: float = option(1e-3, "learning rate of the critic", low=0.0)
    decay: bool = option(True, "let both learning rates fall to a tenth towards the end")
    n_steps: int = option(
        1024, "ticks per arena and rollout; without --envs, a quarter of a rollout's rows", low=1
    )
    batch_size: int = option(512, "rows per gradient step", low=2)
    n_epochs: int = option(10, "passes over each rollout", low=1)
    envs: int = option(
        0, "arenas played at once; 0 spreads 4 x n-steps rows over up to 64 arenas", low=0
    )
    gamma: float = option(0.99, "discount per tick", low=0.0, high=1.0)
    gae_lambda: float = option(0.95, "weight of longer returns in the advantage", low=0.0, high=1.0)
    clip_range: float = option(0.2, "clip of the probability ratio", low=0.0)
    target_kl: float = option(
        0.0, "KL per update beyond which its remaining passes are left out; 0 never", low=0.0
    )
    max_grad_norm: float = option(
        0.5, "clip of the gradients' norm, of actor and critic each", low=0.0
    )
    ent_coef: float = option(0.0, "weight of the entropy bonus", low=0.0)
    warmup_fraction: float = option(
        0.2, "longest critic-only warm-up, as a share of the timesteps", low=0.0, high=1.0
    )
    warmup_explained_variance: float = option(0.5, "critic quality that ends the warm-up")
    ramp: float = option(
        0.02, "share of the timesteps over which the actor's learning rate rises", low=0.0, high=1.0
    )
    kl_coef: float = option(0.3, "initial weight of the KL to the distilled policy", low=0.0)
    kl_floor: float = option(0.01, "weight at which its decay stops", low=0.0)
    kl_decay: float = option(
        0.5, "share of the timesteps over which it decays to that", low=0.0, high=1.0
    )
    rehearsal: float = option(
        0.125,
        "rows from the skills' own tasks added to each batch, as its share; the KL there keeps"
        " its initial weight",
        low=0.0,
        high=1.0,
    )
    initial_std: float = option(
        0.05,
        "largest standard deviation at the start, as a share of an action's half-range; 0 keeps it",
        low=0.0,
    )
    binary_temperature: float = option(
        0.5, "divides the log-odds of buttons at the start; below 1 they are surer", low=0.01
    )
    opponent: str = option(
        "",
        "a script (the duel has chaser, strafer, wander and still), mix, self, start, or a policy; "
        "empty takes the domain's first script",
    )
    guard_every: int = option(5, "rollouts between guard evaluations; 0 turns the guard off", low=0)
    guard_episodes: int = option(64, "episodes per task and guard evaluation", low=2)
    bf16: bool = option(True, "multiply matrices in bfloat16 during updates where that is faster")
    device: str = option("auto", "torch device; auto takes a GPU where there is one")
    tensorboard: bool = option(False, "also write TensorBoard event files")
    resume: bool = option(False, "go on from the last unfinished run of the same command")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(BaseConfig):
    """``skilldistill evaluate``: score policies on paired seeds."""

    policies: tuple[str, ...] = ()
    """References given as arguments; empty takes the latest checkpoints."""
    episodes: int = option(100, "episodes per task and policy", short="n", low=2)
    task: str = option(
        "all", "a task (the duel has movement, aiming, clicking and combined), or all"
    )
    opponent: str = option(
        "", "opponent in the combined task; empty takes the domain's first script"
    )
    baselines: bool = option(True, "also score random and composite")
    name: str = option("evaluation", "name of the report")
    render: bool = option(False, "also draw one episode per policy")


@dataclass(frozen=True, kw_only=True)
class RunConfig(BaseConfig):
    """``skilldistill run``: collect, merge, distill, finetune, evaluate."""

    preset: str = option("quick", "how much work", choices=("quick", "full"))
    yes: bool = option(False, "answer yes to questions")
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings of the steps that go before the preset's, by command and field; the command line
    gives what the environment and the files say of each command."""


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """``skilldistill init``: make a workspace."""

    path: str = ""
    """Given as an argument; empty makes ``./workspace``."""


@dataclass(frozen=True, kw_only=True)
class LsConfig:
    """``skilldistill ls``: list artefacts."""

    kind: str = option(
        "", "only this kind", choices=("", "expert", "dataset", "checkpoint", "report")
    )
    name: str = option("", "only artefacts of this name")
    latest: bool = option(False, "only the latest version of each")


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """``skilldistill show``: one artefact, where it came from, and what is in it."""

    reference: str = ""
    """Given as an argument: name, name@3, kind:name@3, or a path in the workspace."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """``skilldistill verify``: compare what lies on disk with the manifest."""

    references: tuple[str, ...] = ()
    """Given as arguments; empty verifies everything, and looks for leftovers."""


@dataclass(frozen=True, kw_only=True)
class GcConfig:
    """``skilldistill gc``: remove leftovers, superseded interrupted work, and old partial work."""

    days: float = option(
        30.0, "days without a change after which unfinished work is dropped", low=0.0
    )
    dry_run: bool = option(False, "only say what would go")


@dataclass(frozen=True, kw_only=True)
class RmConfig:
    """``skilldistill rm``: remove artefacts."""

    references: tuple[str, ...] = ()
    """Given as arguments."""
    all_versions: bool = option(False, "every version of what is named, not only the one")
    force: bool = option(False, "even if other artefacts were made from it")
    dry_run: bool = option(False, "only say what would go")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """``skilldistill export``: copy an artefact out of the workspace."""

    reference: str = ""
    """Given as an argument."""
    output: str = option("", "file or directory to write; empty takes ./NAME-VERSION", short="o")
    force: bool = option(False, "write over files that are there")
    dry_run: bool = option(False, "only say what would be written")


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """``skilldistill doctor``: check the installation, a domain's experts and the workspace."""

    domain: str = _domain()
