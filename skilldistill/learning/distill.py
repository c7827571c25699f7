"""The supervised loop: one network learns what several experts would do.

Training is a sequence of phases. Phase 0 learns from the experts' own data; each later phase
begins with a round in which the student plays and the experts label what it met
(:mod:`skilldistill.learning.onpolicy`), and learns from both. Within a phase the learning rate
rises, then falls along a cosine to nothing, and the weights with the best held-out loss are kept.

Nothing but the counters in :class:`State` decides what the next step does, so a run that was
stopped anywhere goes on as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from skilldistill.config import DistillConfig
from skilldistill.data.reader import DatasetReader
from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError, Interrupted
from skilldistill.learning.device import pick_device, product_dtype, threads_to_learn
from skilldistill.learning.distill_state import (
    Record,
    State,
    begin,
    match_std,
    resume,
    save,
)
from skilldistill.learning.flat_adam import FlatAdam, flattened
from skilldistill.learning.journal import board
from skilldistill.learning.losses import LOG_STD_FLOOR, Gradients, Objective, loss, row_weights
from skilldistill.learning.measures import (
    HeadSums,
    evaluate,
    interference,
    match_rates,
    metrics,
    played_rates,
)
from skilldistill.learning.rows import Batches, Group, Judged, Source, join, open_source
from skilldistill.policy.network import DistilledPolicyNetwork
from skilldistill.progress import Progress, ProgressCallback, StopCheck, never, silent

LARGE_BATCH = 4096
"""Rows per step with ``large_batch``."""
LARGE_BATCH_LR = 8.0
"""Factor on the learning rate with ``large_batch``: of 4, 8 and 16 the one that ends as well as
batches of 256 do after as many epochs."""
ROUND_LR = 0.5
"""Factor on the learning rate in the phases after a round: the student knows a lot by then."""
READ_ROWS = 1 << 15
"""Rows gathered at once and then cut into batches; also how often ``stop`` is asked."""
SAVE_SECONDS = 5.0
"""Least time between two savings of the training state."""

Relabel = Callable[[DistilledPolicyNetwork, int, bool], DatasetReader]
"""Plays a round (1, 2, …) with the student as it is and returns the labelled rows, opened. Told
that the student has learnt from the round already, it must not play it anew."""


@dataclass(frozen=True)
class DistillOutcome:
    """What training gave."""

    network: DistilledPolicyNetwork
    """With the best weights of the last phase that was begun."""
    metrics: Mapping[str, float]
    """Held-out figures of these weights (of learnt rows where a skill has none), and speed."""
    history: list[Record]
    """Per epoch what ``metrics.jsonl`` says."""
    sums: HeadSums
    """What pictures are drawn from."""
    stopped: int = 0
    """The signal that ended the work early, or 0."""


def distill(
    reader: DatasetReader,
    domain: Domain,
    config: DistillConfig,
    *,
    directory: Path,
    relabel: Relabel | None = None,
    progress: ProgressCallback = silent,
    stop: StopCheck = never,
) -> DistillOutcome:
    """Train a network on a dataset, then on what it meets itself.

    Args:
        reader: the experts' data, open.
        domain: what the data belongs to.
        config: settings; ``resume`` continues from ``directory``, otherwise it starts anew.
        directory: where the training state, ``metrics.jsonl`` and TensorBoard's files are kept.
        relabel: plays a round; needed if ``config.rounds`` is above 0.
        progress: told after every epoch.
        stop: asked every few steps. When it answers, the state is saved and the outcome says so.

    Raises:
        ConfigurationError: settings that cannot be used together.
        CorruptFile: the training state or the data is damaged, a round's rows included.
        DiskProblem: the state cannot be written.
    """
    if config.rounds and relabel is None:
        raise ConfigurationError("rounds need somebody who plays and labels them")
    device, objective = check_settings(domain, config)
    state = resume(domain, config, directory, device) if config.resume else None
    with ExitStack() as stack:
        writer = stack.enter_context(board(directory)) if config.tensorboard else None
        sources = [_open(reader, objective, config, device, by_skill=config.balanced)]
        if state is None:
            state = begin(domain, config, device)
            observations, labels, _ = _held_out(sources)
            state.network.fit_inputs(observations)
            match_std(state.network, labels)
        stopped = 0
        while True:
            try:
                for round_number in range(len(sources), state.phase + 1):
                    assert relabel is not None
                    learnt = round_number < state.phase or state.epoch + state.step > 0
                    part = stack.enter_context(relabel(state.network, round_number, learnt))
                    sources.append(_open(part, objective, config, device, by_skill=False))
            except Interrupted as interruption:
                stopped = interruption.signum
                save(state, directory)
                break
            run = Run(config, objective, sources, state, directory, progress, stop, writer)
            stopped = run.phase()
            if stopped or state.phase == config.rounds:
                break
            state.phase, state.epoch, state.step, state.loss_sum = state.phase + 1, 0, 0, 0.0
            state.best_loss, state.waiting = math.inf, 0
            save(state, directory)
        if state.best:
            state.network.load_state_dict(state.best)
        sums = evaluate(state.network, _held_out(sources), objective)
        met = _held_out(sources[1:]) if sources[1:] else None
        rates = played_rates(state.network, met, objective) if met else {}
    speed = state.rows / state.seconds if state.seconds else 0.0
    figures = {
        **metrics(sums, objective),
        **rates,
        **{key: value for key, value in (state.history or [{}])[-1].items() if "cosine/" in key},
        "samples_per_second": speed,
        "seconds": state.seconds,
        "epochs": float(len(state.history)),
        "parameters": float(state.network.num_parameters()),
    }
    return DistillOutcome(state.network, figures, state.history, sums, stopped)


def check_settings(domain: Domain, config: DistillConfig) -> tuple[torch.device, Objective]:
    """Where to work, and towards what.

    Raises:
        ConfigurationError: settings that cannot be used, here or together.
    """
    batch_size(config)
    weights = parse_head_weights(config.head_weights)
    if not any(weights.get(head.name, 1.0) for head in domain.heads):
        raise ConfigurationError(
            "head_weights: all heads weigh 0, so nothing would be learnt",
            hint="leave out the heads that count",
        )
    objective = Objective(
        domain,
        kind=config.loss,
        masked=config.masked,
        temperature=config.temperature,
        head_weights=weights,
    )
    return pick_device(config.device), objective


@dataclass
class Run:
    """One phase: the loop itself."""

    config: DistillConfig
    objective: Objective
    sources: list[Source]
    state: State
    directory: Path
    progress: ProgressCallback
    stop: StopCheck
    board: Any
    """TensorBoard's writer, or None."""

    def __post_init__(self) -> None:
        config, state = self.config, self.state
        self.device = state.network.log_std.device
        size = min(batch_size(config), self.sources[0].num_rows)
        self.batches = Batches(_groups(self.sources, config), size)
        # An epoch is one pass over the experts' data, however many rows the rounds have added:
        # the work of a phase stays the same.
        self.steps = max(1, round(self.sources[0].num_rows / self.batches.size))
        self.epochs = config.epochs if state.phase == 0 else config.round_epochs
        self.held_out = _held_out(self.sources)
        self.weights = self.objective.weights.to(self.device)
        self.last_save = time.monotonic()

    def phase(self) -> int:
        """Train to the end of the phase. Returns the signal if asked to stop, else 0."""
        state = self.state
        while state.epoch < self.epochs and not self._waited_enough():
            if signum := self.train_epoch():
                save(state, self.directory)
                return signum
            record = self.judge()
            state.history.append(record)
            state.epoch, state.step, state.loss_sum = state.epoch + 1, 0, 0.0
            if time.monotonic() - self.last_save > SAVE_SECONDS:
                save(state, self.directory)
                self.last_save = time.monotonic()
            self.report(record)
        if state.epoch < self.epochs:  # waited enough
            self.progress(Progress(self._stage, self.epochs, self.epochs, "epoch", {}))
        state.network.load_state_dict(state.best)
        shown = _held_out(self.sources[:1])
        met = _held_out(self.sources[1:]) if self.sources[1:] else shown
        match_rates(state.network, met, shown)
        state.best = {k: v.detach().clone() for k, v in state.network.state_dict().items()}
        save(state, self.directory)
        return 0

    def train_epoch(self) -> int:
        """The remaining gradient steps of this epoch. Returns the signal if asked to stop."""
        with (
            torch.no_grad(),
            threads_to_learn(self.batches.size, self.config.bf16, self.device),
            flattened(self.state.optimiser) as (adam,),
        ):
            return self._steps(adam)

    def _steps(self, adam: FlatAdam) -> int:
        state, config, network = self.state, self.config, self.state.network
        log_std, std_slope = network.log_std.detach(), network.log_std.grad  # share their numbers
        assert std_slope is not None
        total = self.epochs * self.steps
        stride = max(1, READ_ROWS // self.batches.size)
        backprop = network.backprop(product_dtype(config.bf16, self.device))
        gradients = Gradients(network.layout, self.objective)
        while state.step < self.steps:
            if signum := self.stop():
                return signum
            started = time.perf_counter()
            count = min(stride - state.step % stride, self.steps - state.step)
            done = state.epoch * self.steps + state.step
            # a later phase goes on in the groups' sequences instead of repeating their beginning
            longest = max(self.config.epochs, self.config.round_epochs)
            offset = state.phase * longest * self.steps
            observations, labels = self.batches.read(offset + done, count)
            observations = network.normalised(observations)
            weight = row_weights(labels, network.layout, self.weights)
            outputs = []
            for i in range(count):
                state.optimiser.param_groups[0]["lr"] = learning_rate(
                    config, state.phase, done + i, total
                )
                outputs.append(backprop.forward(observations[i]))
                slopes, by_log_std = gradients(outputs[i], log_std, labels[i], weight[i])
                backprop.backward(slopes)
                std_slope.copy_(by_log_std)
                adam.step()
                log_std.clamp_(min=LOG_STD_FLOOR)
            state.step += count
            # the loss itself is only for people: once for all these steps
            seen, known = torch.cat(outputs), labels.flatten(0, 1)
            state.loss_sum += count * float(
                loss(seen, log_std, known, network.layout, self.objective, self.weights)
            )
            state.rows += count * self.batches.size
            state.seconds += time.perf_counter() - started
        return 0

    def judge(self) -> Record:
        """Score the epoch's weights on held-out rows and keep them if they are the best."""
        state = self.state
        train_loss = state.loss_sum / self.steps
        found = metrics(evaluate(state.network, self.held_out, self.objective), self.objective)
        # The loss is of weights before a step, and may level off; the figures are of what is kept.
        if not all(map(math.isfinite, (train_loss, *found.values()))):
            raise ConfigurationError(
                f"training diverged: figures of epoch {state.epoch + 1} are not finite",
                hint="use a smaller --lr",
            )
        if found["loss"] < state.best_loss or not state.best:
            state.best_loss, state.waiting = found["loss"], 0
            state.best = {k: v.detach().clone() for k, v in state.network.state_dict().items()}
        else:
            state.waiting += 1
        record: Record = {
            "epoch": len(state.history) + 1,
            "round": state.phase,
            "lr": float(state.optimiser.param_groups[0]["lr"]),
            "train_loss": train_loss,
            **found,
            "best_loss": state.best_loss,
            "samples_per_second": state.rows / max(state.seconds, 1e-9),
            "seconds": state.seconds,
        }
        if state.epoch % 10 == 9 or state.epoch + 1 == self.epochs or state.epoch == 0:
            record |= interference(state.network, self.held_out, self.objective)
        return record

    def report(self, record: Record) -> None:
        """Write the epoch down and tell whoever watches."""
        state = self.state
        if self.board is not None:
            for name, value in record.items():
                self.board.add_scalar(name, value, int(record["epoch"]))
        shown = {
            "loss": record["train_loss"],
            "held-out": record["loss"],
            **{k: v for k, v in record.items() if k.endswith(("/agreement", "/error_deg"))},
            **{
                k: v for k, v in record.items() if k.endswith("/error") and f"{k}_deg" not in record
            },
            "samples/s": record["samples_per_second"],
        }
        self.progress(Progress(self._stage, state.epoch, self.epochs, "epoch", shown))

    @property
    def _stage(self) -> str:
        return f"distill, round {self.state.phase}" if self.state.phase else "distill"

    def _waited_enough(self) -> bool:
        return 0 < self.config.patience <= self.state.waiting


def learning_rate(config: DistillConfig, phase: int, step: int, total: int) -> float:
    """The learning rate of one step of a phase: a linear rise, then half a cosine to almost 0.

    Args:
        config: peak, warm-up and batch size.
        phase: 0, or the number of the round before it.
        step: finished steps of the phase.
        total: steps of the whole phase.
    """
    peak = config.lr * (LARGE_BATCH_LR if config.large_batch else 1) * (ROUND_LR if phase else 1)
    rise = max(1, round(config.warmup * total))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def batch_size(config: DistillConfig) -> int:
    """Rows per gradient step.

    Raises:
        ConfigurationError: another batch size was asked for together with large batches.
    """
    if config.large_batch and config.batch_size != DistillConfig().batch_size:
        raise ConfigurationError(
            f"--large-batch takes {LARGE_BATCH} rows per step, --batch-size {config.batch_size}",
            hint="give one of them",
        )
    return LARGE_BATCH if config.large_batch else config.batch_size


def parse_head_weights(text: str) -> dict[str, float]:
    """Read ``HEAD=WEIGHT,…``.

    Raises:
        ConfigurationError: an entry is not of this form.
    """
    found = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = entry.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigurationError(
                f"head_weights: {entry!r} is not of the form HEAD=WEIGHT",
                hint="for example --head-weights aiming=2,clicking=0.5",
            )
    return found


def _open(
    reader: DatasetReader,
    objective: Objective,
    config: DistillConfig,
    device: torch.device,
    *,
    by_skill: bool,
) -> Source:
    return open_source(
        reader,
        objective,
        val_fraction=config.val_fraction,
        seed=config.seed,
        device=device,
        by_skill=by_skill,
    )


def _groups(sources: list[Source], config: DistillConfig) -> list[Group]:
    """Who gets which share of a batch.

    The student's own rows get theirs, divided among the rounds by their rows; the experts' data
    get the rest, divided evenly among the skills (or not at all, if they are not balanced).
    """
    own = sources[0].groups
    students = [rows for source in sources[1:] for _, rows in source.groups]
    for_student = config.student_share if students else 0.0
    groups = [Group(rows, (1 - for_student) / len(own)) for _, rows in own]
    visited = sum(rows.count for rows in students)
    groups += [Group(rows, for_student * rows.count / visited) for rows in students]
    return [group for group in groups if group.share > 0]


def _held_out(sources: list[Source]) -> Judged:
    return join([rows for source in sources for rows in source.held_out.values()])


__all__ = [
    "DistillOutcome",
    "Relabel",
    "check_settings",
    "distill",
    "learning_rate",
    "parse_head_weights",
]
