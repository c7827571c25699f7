"""What the student is asked to minimise: pure losses, named metrics.

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
CALIBRATION_BINS = 10


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
        """What named metrics measure by, whatever is minimised: :attr:`HeadSums.kl` for one."""
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
    """Named views of a label table."""

    targets: Tensor
    """(n, action_dim) probabilities (tempered or hard, as the objective says) and means."""
    mask: Tensor
    """(n, action_dim) 1 where the dimension counts."""
    valid: Tensor
    """(n, heads) 1 where any dimension of the head counts."""
    std: Tensor
    """(n, c) the expert's standard deviation of each continuous dimension."""
    entropy: Tensor
    """(n, b) entropy in nats of each binary target."""

    @classmethod
    def of(cls, table: Tensor, layout: ActionLayout) -> Labels:
        """Take the columns of a label table apart."""
        actions, heads = layout.membership.shape
        binary = int(layout.is_binary.sum())
        sizes = [actions, actions, heads, actions - binary, binary]
        return cls(*torch.split(table, sizes, dim=1))


def entropy(probability: Tensor) -> Tensor:
    """Entropy in nats of independent coins, elementwise."""
    pressed: Tensor = torch.special.xlogy(probability, probability)
    released: Tensor = torch.special.xlog1py(1 - probability, -probability)
    return -(pressed + released)


def head_coefficients(valid: Tensor, weights: Tensor, layout: ActionLayout) -> Tensor:
    """(action_dim,) weight of a dimension's loss in one row.

    The head's weight divided by the number of rows of this batch that are valid for the head: a
    head is worth the same however few rows label it.

    Args:
        valid: (n, heads) which rows label the head.
        weights: (heads,) weight of each head.
        layout: which dimension belongs to which head.
    """
    return layout.membership @ (weights / valid.sum(dim=0).clamp_min(1))


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
    log_std = log_std.clamp_min(LOG_STD_FLOOR)
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
    weight = labels.mask * head_coefficients(labels.valid, weights, layout)
    return (binary * weight[:, layout.binary]).sum() + (
        continuous * weight[:, layout.continuous]
    ).sum()


def row_weights(tables: Tensor, layout: ActionLayout, weights: Tensor) -> Tensor:
    """(steps, n, action_dim) weight of each row's dimensions in the loss of its own batch.

    Args:
        tables: (steps, n, columns) label tables of several batches.
        layout: which dimension is which, on the same device.
        weights: (heads,) ``objective.weights`` on the same device.
    """
    actions, heads = layout.membership.shape
    mask, valid = tables[..., actions : 2 * actions], tables[..., 2 * actions :][..., :heads]
    per_head = weights / valid.sum(dim=1).clamp_min(1)
    return mask * (per_head @ layout.membership.T)[:, None]


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


@dataclass(frozen=True)
class HeadSums:
    """Sums over rows from which the named metrics of every head follow; sums of chunks add up."""

    counted: Tensor
    """(heads,) rows that count for the head's objective: all, where it is not masked."""
    loss: Tensor
    """(heads,) summed objective."""
    rows: Tensor
    """(heads,) rows in which an expert labelled the head."""
    kl: Tensor
    """(heads,) summed divergence at temperature 1, whatever the objective."""
    agree: Tensor
    """(heads,) labels of binary dimensions where the student's likelier action is the expert's."""
    binary: Tensor
    """(heads,) labels of binary dimensions."""
    error: Tensor
    """(heads,) summed absolute error of continuous means, environment units."""
    continuous: Tensor
    """(heads,) labels of continuous dimensions."""
    bins: Tensor
    """(b, bins, 3) labels, summed student's and summed expert's probability, by the student's."""
    confusion: Tensor
    """(b, 2, 2) labels by expert's (row) and student's (column) likelier action."""
    square: Tensor
    """(2,) summed squared error over labelled dimensions, and how many there are."""

    def __add__(self, other: HeadSums) -> HeadSums:
        return HeadSums(*(a + b for a, b in zip(_parts(self), _parts(other), strict=True)))


@torch.no_grad()
def head_sums(
    logits: Tensor,
    log_std: Tensor,
    table: Tensor,
    plain: Tensor,
    layout: ActionLayout,
    objective: Objective,
) -> HeadSums:
    """Everything the metrics need of one chunk of rows.

    Args:
        logits: (n, action_dim) raw head outputs.
        log_std: (c,) student's log standard deviations in half-widths.
        table: (n, columns) label table of the rows.
        plain: (n, columns) label table of ``objective.plain``, by which figures other than the
            objective itself are measured: what the experts said, neither softened nor rounded.
        layout: which dimension is which.
        objective: which loss.
    """
    own, labels = Labels.of(table, layout), Labels.of(plain, layout)
    kinds = (layout.binary, layout.continuous)

    def summed(per_kind: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """(heads,) masked sum of (n, b) and (n, c) values over rows and dimensions."""
        column = mask.new_zeros(layout.action_dim)
        for columns, values in zip(kinds, per_kind, strict=True):
            column[columns] = (values.double() * mask[:, columns]).sum(dim=0)
        return column @ layout.membership.double()

    mask = labels.mask.double()
    losses = dimension_losses(logits, log_std, own, layout, objective)
    kls = dimension_losses(logits, log_std, labels, layout, objective.plain)
    z, target = logits[:, layout.binary], labels.targets[:, layout.binary]
    pressed, wanted = z > 0, target > 0.5
    scale, centre = layout.scale[layout.continuous], layout.centre[layout.continuous]
    error = centre + scale * torch.tanh(logits[:, layout.continuous])
    error = (error - labels.targets[:, layout.continuous]).abs()
    nothing_b, nothing_c = torch.zeros_like(z), torch.zeros_like(error)
    probability = torch.sigmoid(z)
    difference = (probability - target) ** 2
    squares = summed((difference, error**2), mask).sum()
    binary_mask = mask[:, layout.binary]
    return HeadSums(
        counted=own.valid.double().sum(dim=0),
        loss=summed(losses, own.mask.double()),
        rows=labels.valid.double().sum(dim=0),
        kl=summed(kls, mask),
        agree=summed(((pressed == wanted).float(), nothing_c), mask),
        binary=summed((torch.ones_like(z), nothing_c), mask),
        error=summed((nothing_b, error), mask),
        continuous=summed((nothing_b, torch.ones_like(error)), mask),
        bins=_bins(probability, target, binary_mask),
        confusion=_confusion(wanted, pressed, binary_mask),
        square=torch.stack([squares, mask.sum()]),
    )


def metrics(sums: HeadSums, objective: Objective) -> dict[str, float]:
    """Named figures: ``loss``, ``mse``, and per head those that its dimensions allow.

    - ``HEAD/loss``: the objective per row; ``loss`` is their weighted sum.
    - ``HEAD/kl``: KL(expert || student) in nats per row, summed over the head's dimensions.
    - ``HEAD/agreement``: share of buttons where student and expert find the same likelier.
    - ``HEAD/calibration``: expected calibration error of the probabilities: the expert's mean
      probability against the student's within ten bins, weighted by their labels.
    - ``HEAD/rate_ratio``: presses of the student divided by presses of the expert.
    - ``HEAD/error`` and ``HEAD/error_deg``: mean absolute error of the means, in environment
      units, and the same taken for radians and turned into degrees.

    A head without a labelled row gives no figures.
    """
    domain = objective.domain
    binary_names = [dim.name for dim in domain.actions if dim.kind == "binary"]
    found: dict[str, float] = {}
    total = 0.0
    for i, head in enumerate(domain.heads):
        rows = float(sums.rows[i])
        if rows == 0:
            continue
        found[f"{head.name}/loss"] = float(sums.loss[i] / sums.counted[i].clamp_min(1))
        found[f"{head.name}/kl"] = float(sums.kl[i]) / rows
        total += float(objective.weights[i]) * found[f"{head.name}/loss"]
        if sums.binary[i] > 0:
            found[f"{head.name}/agreement"] = float(sums.agree[i] / sums.binary[i])
            own = [k for k, name in enumerate(binary_names) if name in head.dims]
            bins, confusion = sums.bins[own].cpu(), sums.confusion[own].cpu()
            gap = (bins[..., 1] - bins[..., 2]).abs().sum() / bins[..., 0].sum().clamp_min(1)
            found[f"{head.name}/calibration"] = float(gap)
            wanted = float(confusion[:, 1, :].sum())
            if wanted > 0:
                found[f"{head.name}/rate_ratio"] = float(confusion[:, :, 1].sum()) / wanted
        if sums.continuous[i] > 0:
            error = float(sums.error[i] / sums.continuous[i])
            found[f"{head.name}/error"] = error
            found[f"{head.name}/error_deg"] = math.degrees(error)
    mse = float(sums.square[0] / sums.square[1].clamp_min(1))
    return {"loss": total, "mse": mse, **found}


def gradient_cosines(
    losses: Mapping[str, Tensor], parameters: list[torch.nn.Parameter]
) -> dict[str, float]:
    """How much heads pull shared weights the same way: ``cosine/A-B`` in [-1, 1] per pair.

    Near 0 heads leave one another alone; below 0 they interfere.

    Args:
        losses: each head's scalar loss, on one graph.
        parameters: the shared weights.
    """
    gradients = {
        name: torch.cat(
            [g.flatten() for g in torch.autograd.grad(value, parameters, retain_graph=True)]
        )
        for name, value in losses.items()
    }
    names = list(gradients)
    return {
        f"cosine/{a}-{b}": float(functional.cosine_similarity(gradients[a], gradients[b], dim=0))
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    }


def _bins(probability: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    count = probability.shape[1]
    which = (probability * CALIBRATION_BINS).long().clamp_max(CALIBRATION_BINS - 1)
    which = which + CALIBRATION_BINS * torch.arange(count, device=which.device)
    values = torch.stack([torch.ones_like(probability), probability, target], dim=-1).double()
    values = values * mask[..., None]
    sums = values.new_zeros(count * CALIBRATION_BINS, 3)
    sums.index_add_(0, which.flatten(), values.flatten(0, 1))
    return sums.view(count, CALIBRATION_BINS, 3)


def _confusion(wanted: Tensor, pressed: Tensor, mask: Tensor) -> Tensor:
    expert = torch.stack([~wanted, wanted], dim=-1).double() * mask[..., None]
    student = torch.stack([~pressed, pressed], dim=-1).double()
    return torch.einsum("nde,nds->des", expert, student)


def _parts(sums: HeadSums) -> list[Tensor]:
    return [getattr(sums, name) for name in HeadSums.__dataclass_fields__]
