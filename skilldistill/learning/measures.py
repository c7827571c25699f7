"""How well a student does on labelled rows: sums over them, and the named figures that follow.

Nothing here decides what a gradient step does. :func:`match_rates` is the one that acts on what was
measured: it moves thresholds, after training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from skilldistill.learning.losses import Labels, Objective, dimension_losses, loss
from skilldistill.learning.rows import Judged
from skilldistill.policy.heads import ActionLayout
from skilldistill.policy.network import DistilledPolicyNetwork

CALIBRATION_BINS = 10
EVALUATION_ROWS = 1 << 14
"""Rows evaluated at once."""
RARE = 0.25
"""Buttons that experts press in a smaller share of the rows are rare."""
RATE_TOLERANCE = 0.02
"""Relative difference of two rates that is left alone."""
COSINE_ROWS = 1024
"""Held-out rows from which the heads' gradients are compared."""


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
def evaluate(network: DistilledPolicyNetwork, rows: Judged, objective: Objective) -> HeadSums:
    """Sums for :func:`metrics` over a table of rows."""
    layout = network.layout
    parts = [
        head_sums(network.logits(seen), network.log_std, table, plain, layout, objective)
        for seen, table, plain in zip(*(torch.split(t, EVALUATION_ROWS) for t in rows), strict=True)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


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
    - ``HEAD/error``: mean absolute error of the means, in environment units.
    - ``HEAD/error_deg``: the same in degrees, where all of the head's means are angles.

    A head without a labelled row gives no figures.
    """
    domain = objective.domain
    binary_names = [dim.name for dim in domain.actions if dim.kind == "binary"]
    continuous = [dim for dim in domain.actions if dim.kind == "continuous"]
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
            if all(dim.unit == "rad" for dim in continuous if dim.name in head.dims):
                found[f"{head.name}/error_deg"] = math.degrees(error)
    mse = float(sums.square[0] / sums.square[1].clamp_min(1))
    return {"loss": total, "mse": mse, **found}


def played_rates(
    network: DistilledPolicyNetwork, rows: Judged, objective: Objective
) -> dict[str, float]:
    """``HEAD/played_rate_ratio``: as ``HEAD/rate_ratio``, on what the student met itself."""
    found = metrics(evaluate(network, rows, objective), objective)
    return {
        name.replace("/rate", "/played_rate"): value
        for name, value in found.items()
        if name.endswith("/rate_ratio")
    }


@torch.no_grad()
def match_rates(network: DistilledPolicyNetwork, rows: Judged, shown: Judged) -> None:
    """Move the thresholds of rare buttons so that the student presses them as often as the experts.

    A button that is seldom pressed can be missed at next to no loss: its likelier state is "up"
    nearly everywhere. The bias of its last layer is moved to where as many of the rows are
    pressed as the experts press. Rates that agree to :data:`RATE_TOLERANCE` are left alone, so
    that doing it twice changes nothing.

    A button is rare if it is so among either rows: a student that never presses stays where it
    should, and there experts would press often.

    Args:
        network: changed in place.
        rows: what the student met, where there are rounds, else what the experts did.
        shown: what the experts did.
    """
    layout = network.layout
    labels, own = Labels.of(rows[2], layout), Labels.of(shown[2], layout)
    logits = torch.cat([network.logits(part) for part in torch.split(rows[0], EVALUATION_ROWS)])
    for column in layout.is_binary.nonzero().flatten().tolist():
        score = logits[labels.mask[:, column] > 0, column]
        wanted = int(_presses(labels, column).sum())
        pressed = int((score > 0).sum())
        rare = any(_is_rare(_presses(known, column)) for known in (labels, own))
        apart = abs(pressed - wanted) > RATE_TOLERANCE * wanted
        if rare and apart and 0 < wanted < len(score):
            top = torch.topk(score, wanted + 1).values
            network.shift(column, -float(top[-2:].mean()))


def _presses(labels: Labels, column: int) -> Tensor:
    """(k,) whether the expert presses, in the k rows where one says so."""
    return labels.targets[labels.mask[:, column] > 0, column] > 0.5


def _is_rare(presses: Tensor) -> bool:
    return 0 < int(presses.sum()) < RARE * len(presses)


def interference(
    network: DistilledPolicyNetwork, rows: Judged, objective: Objective
) -> dict[str, float]:
    """``cosine/A-B``: how the heads' gradients on the encoder agree, on some rows of a table."""
    stride = max(1, len(rows[0]) // COSINE_ROWS)
    observations, table = rows[0][::stride], rows[1][::stride]
    logits = network.logits(observations)
    heads = objective.domain.heads
    losses = {
        head.name: loss(
            logits,
            network.log_std,
            table,
            network.layout,
            objective,
            torch.eye(len(heads), device=logits.device)[i],
        )
        for i, head in enumerate(heads)
    }
    return gradient_cosines(losses, list(network.encoder.parameters()))


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
    # what is no number has no bin; in any, it makes a figure that is none either
    which = (probability.nan_to_num() * CALIBRATION_BINS).long().clamp_max(CALIBRATION_BINS - 1)
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
