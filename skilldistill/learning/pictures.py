"""Draw how a student learnt, with matplotlib, where it is installed (extra ``plots``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from skilldistill import palette
from skilldistill.domain import Domain
from skilldistill.learning.distill_state import Record
from skilldistill.learning.measures import HeadSums

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

KEYS = 14
"""Lines that a column of a legend names."""
_DASHES = ("-", "--", ":", "-.")
"""One more style each time the colours are used up."""


def draw(history: Sequence[Record], sums: HeadSums, domain: Domain, folder: Path) -> list[Path]:
    """Write ``curves.png`` and, if there are binary dimensions, ``confusion.png``.

    Returns:
        The files written; none where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    paths = []
    if history:
        # Never through pyplot: no window system, and no figure is kept alive.
        figure = Figure(layout="constrained", dpi=120)
        axes = figure.subplots(2, 2)
        _curves(list(axes.flat), history, domain)
        figure.set_size_inches(sum(5 + _beside(column) for column in axes.T), 6)
        paths.append(_save(figure, folder / "curves.png"))
    names = [dim.name for dim in domain.actions if dim.kind == "binary"]
    if names:
        width = max(3.6, 1.7 * len(names) + 0.6)
        figure = Figure(figsize=(width, 4.2), layout="constrained", dpi=120)
        axes = figure.subplots(2, len(names), squeeze=False)
        for i, name in enumerate(names):
            _confusion(axes[0, i], sums.confusion[i].cpu().numpy(), name)
            _calibration(axes[1, i], sums.bins[i].cpu().numpy())
        axes[0, 0].set_ylabel("expert")
        axes[1, 0].set_ylabel("expert's probability")
        figure.suptitle("held-out rows: student against expert", fontsize=10)
        paths.append(_save(figure, folder / "confusion.png"))
    return paths


def _curves(axes: list[Axes], history: Sequence[Record], domain: Domain) -> None:
    heads = [head.name for head in domain.heads]
    losses, buttons, angles, pull = axes
    epochs = [record["epoch"] for record in history]
    for name, label, colour in (
        ("train_loss", "learnt rows", palette.GREY),
        ("loss", "held-out rows", palette.colour(1)),
    ):
        losses.plot(epochs, [record[name] for record in history], color=colour, label=label)
    losses.set_title("loss")
    if min(min(r["train_loss"], r["loss"]) for r in history) > 0:
        losses.set_yscale("log")
    for ax, figure, title in (
        (buttons, "agreement", "buttons: share where the student agrees"),
        (angles, "error", "continuous: mean absolute error, environment units"),
    ):
        for place, head in enumerate(heads):
            _line(ax, history, f"{head}/{figure}", head, place)
        ax.set_title(title)
    angles.set_ylim(bottom=0)
    names = sorted({name for record in history for name in record if name.startswith("cosine/")})
    for place, name in enumerate(names):
        _line(pull, history, name, name.removeprefix("cosine/"), place, marker="o")
    pull.axhline(0, color=palette.GREY, linewidth=0.8)
    pull.set_ylim(-1, 1)
    pull.set_title("cosine between heads' gradients on the encoder")
    starts = [r["epoch"] for a, r in pairwise(history) if _new(a, r)]
    for ax in axes:
        for start in starts:  # a round's rows joined the data here
            ax.axvline(start - 0.5, color=palette.GREY, linestyle=":", linewidth=0.8)
        ax.set_xlabel("epoch")
        ax.spines[["top", "right"]].set_visible(False)
        labels = ax.get_legend_handles_labels()[1]
        ax.set_visible(bool(labels))  # no frame around nothing, as in a domain without buttons
        if labels:
            ax.legend(
                loc="upper left", bbox_to_anchor=(1, 1), ncols=_columns(labels),
                fontsize=8, frameon=False,
            )  # fmt: skip


def _beside(axes: Iterable[Axes]) -> float:
    """Inches that legends take to the right of panels above one another."""
    keys = [ax.get_legend_handles_labels()[1] for ax in axes]
    widths = (_columns(labels) * (0.5 + 0.075 * max(map(len, labels))) for labels in keys if labels)
    return max(widths, default=0.0)


def _columns(labels: Sequence[str]) -> int:
    return -(-len(labels) // KEYS)


def _new(before: Record, after: Record) -> bool:
    return before["round"] != after["round"]


def _line(
    ax: Axes, history: Sequence[Record], key: str, label: str, place: int, marker: str = ""
) -> None:
    points = [(record["epoch"], record[key]) for record in history if key in record]
    if points:
        ax.plot(
            *zip(*points, strict=True), label=label, marker=marker, markersize=3,
            color=palette.colour(place),
            linestyle=_DASHES[place // len(palette.COLOURS) % len(_DASHES)],
        )  # fmt: skip


def _confusion(ax: Axes, counts: NDArray[np.float64], name: str) -> None:
    shares = counts / max(counts.sum(), 1)
    ax.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for row in range(2):
        for column in range(2):
            share = shares[row, column]
            colour = "white" if share > 0.5 else "black"
            ax.text(column, row, f"{share:.1%}", ha="center", va="center", color=colour, fontsize=8)
    ax.set_xticks([0, 1], ["up", "down"], fontsize=8)
    ax.set_yticks([0, 1], ["up", "down"], fontsize=8)
    ax.set_xlabel("student", fontsize=8)
    ax.set_title(name, fontsize=9)


def _calibration(ax: Axes, bins: NDArray[np.float64]) -> None:
    ax.plot([0, 1], [0, 1], color=palette.GREY, linewidth=0.8)
    filled = bins[:, 0] > 0
    labels, student, expert = bins[filled].T
    size = 4 + 36 * labels / max(labels.max(initial=1), 1)
    ax.scatter(student / labels, expert / labels, s=size, color=palette.colour(1))
    ax.set_xlim(-0.05, 1.05)
    ax.set_ylim(-0.05, 1.05)
    ax.set_aspect("equal")
    ax.tick_params(labelsize=7)
    ax.set_xlabel("student's probability", fontsize=7)


def _save(figure: Figure, path: Path) -> Path:
    # without the version, or the picture's bytes depend on it
    figure.savefig(path, metadata={"Software": None})
    return path
