"""What the student is asked to minimise: pure losses.

The objective is the divergence of the student's action distribution from the expert's,
KL(expert || student), dimension by dimension:

- binary: with the expert's probability p and the student's log-odds z, the cross-entropy of
  ``sigmoid(z)`` under p minus the entropy of p;
- continuous: ``log(s/e) + (e² + (m - t)²) / (2 s²) - 1/2`` with the expert's mean t and standard
  deviation e, the student's mean m and standard deviation s.

A temperature T softens the expert's probability to ``sigmoid(logit(p)/T)`` and compares it with
``sigmoid(z/T)``, times T² so that gradients keep their size (Hinton, Vinyals and Dean,
"Distilling the knowledge in a neural network", 2015; Rusu et al., "Policy distillation", 2016).

Rows come as a *label table*: everything that depends on the row alone is worked out once, when
rows are read (:meth:`Objective.label_table`), and a step only touches its result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from skilldistill.domain import Domain
from skilldistill.errors import ConfigurationError
from skilldistill.policy.heads import ActionLayout

STD_FLOOR = 0.02
"""Smallest standard deviation taken from an expert, in half-widths of the action.

A deterministic expert has none; without a floor its divergence would be infinite."""
STD_CEILING = 0.1
"""Largest standard deviation taken from an expert, in half-widths of the action.

An expert's deviation is the noise it explored with, often wider than the action's whole range.
Taken as it is, missing the mean by half the range would cost next to nothing."""
LOG_STD_FLOOR = math.log(STD_FLOOR)
"""The student's own floor, so that a target it can hit exactly does not end in a division by 0."""


@dataclass(frozen=True)
class Objective:
    """Which loss, over which dimensions, with which weights.

    Attributes:
        domain: gives dimensions and heads their meaning.
        kind: ``kl``; ``hard`` (likelihood of the expert's likeliest action); ``mse`` (squared
            difference of probabilities and means in environment units, averaged over dimensions).
        masked: look only at labelled dimensions; otherwise unlabelled ones count as labelled
            zero, as a loss without a mask would have it.
        temperature: softens the experts' probabilities, above 0.
        head_weights: weight per head; heads that are not named weigh 1.
    """

    domain: Domain
    kind: str = "kl"
    masked: bool = True
    temperature: float = 1.0
    head_weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigurationError(
                f"temperature must be above 0, not {self.temperature}",
                hint="`--loss hard` is the limit of a temperature of 0",
            )
        for name, weight in self.head_weights.items():
            self.domain.head(name)
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigurationError(
                    f"weight of head {name!r} must be at least 0, not {weight}",
                    hint=f"for instance `--head-weights {name}=2`",
                )

    @property
    def weights(self) -> Tensor:
        """(heads,) weight of each head in the domain's order."""
        return torch.tensor([self.head_weights.get(h.name, 1.0) for h in self.domain.heads])

    @property
    def plain(self) -> Objective:
        """What named metrics measure by, whatever is minimised."""
        return Objective(self.domain)

    @property
    def labels_plainly(self) -> bool:
        """Whether label tables are those of :attr:`plain`."""
        softened = self.kind == "kl" and self.temperature != 1
        return self.masked and self.kind != "hard" and not softened

    def label_table(self, targets: Tensor, std: Tensor, mask: Tensor) -> Tensor:
        """(n, columns) what the loss needs of each row.

        Args:
            targets: (n, action_dim) expert's probabilities and means.
            std: (n, action_dim) expert's standard deviations, environment units; 0 if none.
            mask: (n, action_dim) bool, which dimensions an expert labelled.
        """
        layout = ActionLayout(self.domain)
        mask = mask if self.masked else torch.ones_like(mask)
        # a mean beyond the range is played as the range's end, and a tanh reaches no further
        targets = targets.clamp(layout.low, layout.high)
        std = std.clamp(STD_FLOOR * layout.scale, STD_CEILING * layout.scale)
        if self.kind == "hard":
            std = torch.zeros_like(std)
        binary = layout.binary
        if self.kind == "hard":
            targets[:, binary] = (targets[:, binary] > 0.5).float()
        elif self.kind == "kl" and self.temperature != 1:
            targets[:, binary] = torch.sigmoid(torch.logit(targets[:, binary]) / self.temperature)
        valid = (mask.float() @ layout.membership > 0).float()
        columns = [targets, mask.float(), valid, std[:, layout.continuous]]
        columns.append(entropy(targets[:, binary]))
        return torch.cat(columns, dim=1).float().contiguous()


@dataclass(frozen=True)
class Labels:
    """Named views of a label table, or of several at once: (n, columns) or (steps, n, columns)."""

    targets: Tensor
    """(…, n, action_dim) probabilities (tempered or hard, as the objective says) and means."""
    mask: Tensor
    """(…, n, action_dim) 1 where the dimension counts."""
    valid: Tensor
    """(…, n, heads) 1 where any dimension of the head counts."""
    std: Tensor
    """(…, n, c) the expert's standard deviation of each continuous dimension."""
    entropy: Tensor
    """(…, n, b) entropy in nats of each binary target."""

    @classmethod
    def of(cls, table: Tensor, layout: ActionLayout) -> Labels:
        """Take the columns of a label table apart."""
        actions, heads = layout.membership.shape
        binary = int(layout.is_binary.sum())
        sizes = [actions, actions, heads, actions - binary, binary]
        return cls(*torch.split(table, sizes, dim=-1))


def entropy(probability: Tensor) -> Tensor:
    """Entropy in nats of independent coins, elementwise."""
    pressed: Tensor = torch.special.xlogy(probability, probability)
    released: Tensor = torch.special.xlog1py(1 - probability, -probability)
    return -(pressed + released)


def dimension_losses(
    logits: Tensor, log_std: Tensor, labels: Labels, layout: ActionLayout, objective: Objective
) -> tuple[Tensor, Tensor]:
    """Loss per row and dimension, before masks: (n, b) binary and (n, c) continuous.

    Args:
        logits: (n, action_dim) raw head outputs.
        log_std: (c,) student's log standard deviations in half-widths.
        labels: what the experts say.
        layout: which dimension is which.
        objective: which loss.
    """
    z = logits[:, layout.binary]
    target = labels.targets[:, layout.binary]
    scale = layout.scale[layout.continuous]
    mean = layout.centre[layout.continuous] + scale * torch.tanh(logits[:, layout.continuous])
    error = mean - labels.targets[:, layout.continuous]
    if objective.kind == "mse":
        share = 1 / layout.membership.shape[0]
        return (torch.sigmoid(z) - target) ** 2 * share, error**2 * share
    temperature = objective.temperature if objective.kind == "kl" else 1.0
    if temperature != 1:
        z = z / temperature
    binary = functional.binary_cross_entropy_with_logits(z, target, reduction="none")
    binary = (binary - labels.entropy) * temperature**2
    # not `clamp_min`, which has no slope at the floor since torch 2.14: nothing would rise again
    log_std = torch.where(log_std < LOG_STD_FLOOR, LOG_STD_FLOOR, log_std)
    precision = torch.exp(-2 * log_std) / scale**2
    continuous = 0.5 * (labels.std**2 + error**2) * precision + log_std
    if objective.kind == "kl":  # `hard` has no expert's deviation to compare with
        continuous = continuous - torch.log(labels.std / scale) - 0.5
    return binary, continuous


def loss(
    logits: Tensor,
    log_std: Tensor,
    table: Tensor,
    layout: ActionLayout,
    objective: Objective,
    weights: Tensor,
) -> Tensor:
    """The scalar to minimise for one batch: the weighted sum over heads of their mean losses.

    Args:
        logits: (n, action_dim) raw head outputs.
        log_std: (c,) student's log standard deviations in half-widths.
        table: (n, columns) label table of the rows.
        layout: which dimension is which, on the same device.
        objective: which loss.
        weights: (heads,) ``objective.weights`` on the same device.
    """
    labels = Labels.of(table, layout)
    binary, continuous = dimension_losses(logits, log_std, labels, layout, objective)
    weight = row_weights(table[None], layout, weights)[0]
    return (binary * weight[:, layout.binary]).sum() + (
        continuous * weight[:, layout.continuous]
    ).sum()


def row_weights(tables: Tensor, layout: ActionLayout, weights: Tensor) -> Tensor:
    """(steps, n, action_dim) weight of each row's dimensions in the loss of its own batch.

    The head's weight divided by the number of rows of the batch that are valid for the head: a
    head is worth the same however few rows label it.

    Args:
        tables: (steps, n, columns) label tables of several batches.
        layout: which dimension is which, on the same device.
        weights: (heads,) ``objective.weights`` on the same device.
    """
    labels = Labels.of(tables, layout)
    per_head = weights / labels.valid.sum(dim=1).clamp_min(1)
    return labels.mask * (per_head @ layout.membership.T)[:, None]


class Gradients:
    """What :func:`loss` would hand back: its gradients with respect to logits and log_std.

    Written out, because a graph of forty small operations costs a fifth of a step. Both are
    exactly 0 where nothing is labelled.

    Args:
        layout: which dimension is which, on the device of what is asked.
        objective: which loss.
    """

    def __init__(self, layout: ActionLayout, objective: Objective) -> None:
        self._layout, self._kind = layout, objective.kind
        self._temperature = objective.temperature if objective.kind == "kl" else 1.0
        # sigmoid(z/T) is 1/2 + tanh(z/(2T))/2: one formula serves both kinds of dimensions
        self._gain = torch.where(layout.is_binary, 0.5 / self._temperature, 1.0).to(layout.scale)
        self._square_slope = layout.scale * self._gain * (2 / layout.action_dim)
        self._scale = layout.scale[layout.continuous]
        first = 2 * layout.action_dim + layout.membership.shape[1]
        self._std = slice(first, first + len(self._scale))
        """Columns of a label table that hold the experts' deviations."""

    def __call__(
        self, logits: Tensor, log_std: Tensor, table: Tensor, row_weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients by logits (n, action_dim) and by log_std (c,).

        Args:
            logits: (n, action_dim) raw head outputs.
            log_std: (c,) student's log standard deviations in half-widths.
            table: (n, columns) label table of the rows.
            row_weight: (n, action_dim) as from :func:`row_weights`.
        """
        layout, continuous = self._layout, self._layout.continuous
        tanh = torch.tanh(logits * self._gain)
        error = torch.addcmul(layout.centre, layout.scale, tanh)
        error -= table[:, : layout.action_dim]
        result = error * row_weight
        if self._kind == "mse":
            slope = (1 - tanh.square_()).mul_(self._square_slope)
            return result.mul_(slope), torch.zeros_like(log_std)
        precision = torch.exp(-2 * log_std.clamp_min(LOG_STD_FLOOR)) / self._scale.square()
        error, weight = error[:, continuous], row_weight[:, continuous]
        spread = error.square().add_(table[:, self._std].square())
        std_gradient = torch.sub(1, spread.mul_(precision)).mul_(weight).sum(dim=0)
        std_gradient *= log_std >= LOG_STD_FLOOR
        bend = torch.sub(1, tanh[:, continuous].square()).mul_(precision * self._scale)
        result[:, continuous] *= bend
        if self._temperature != 1:
            result[:, layout.binary] *= self._temperature
        return result, std_gradient
