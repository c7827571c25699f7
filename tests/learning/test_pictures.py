from __future__ import annotations

from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from skilldistill.learning import pictures


def curves(names: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The drawn sheet of a training whose heads, all of buttons, have these names."""
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    history = [
        {
            "epoch": epoch,
            "round": epoch // 4,
            "train_loss": 1 / epoch,
            "loss": 2 / epoch,
            **{f"{name}/agreement": 1 - 1 / epoch for name in names},
            **{f"cosine/{one}-{other}": 1 / epoch for one, other in combinations(names, 2)},
        }
        for epoch in range(1, 7)
    ]
    sheets: list[Any] = []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig", lambda sheet, *_, **__: sheets.append(sheet)
    )
    heads = [SimpleNamespace(name=name) for name in names]
    domain: Any = SimpleNamespace(heads=heads, actions=())
    sums: Any = None  # of buttons, of which no sheet is drawn without actions
    pictures.draw(history, sums, domain, folder)
    (sheet,) = sheets
    FigureCanvasAgg(sheet).draw()
    return sheet


@pytest.mark.parametrize("heads", [1, 4, 9])
def test_legends_lie_beside_the_lines_and_on_the_sheet(
    heads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = curves([f"head {place}" for place in range(heads)], tmp_path, monkeypatch)
    legends = [ax.get_legend() for ax in sheet.axes if ax.get_legend()]
    assert legends
    for legend in legends:
        box = legend.get_window_extent()
        assert not box.count_overlaps([ax.bbox for ax in sheet.axes])
        assert box.x1 <= sheet.bbox.x1
        assert box.y0 >= sheet.bbox.y0
    for ax in [ax for ax in sheet.axes if ax.get_visible()]:
        assert ax.bbox.width > 3 * sheet.dpi
        assert ax.bbox.height > 2 * sheet.dpi


def test_every_head_and_every_pair_has_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"head {place}" for place in range(9)]
    sheet = curves(names, tmp_path, monkeypatch)
    _, buttons, _, pull = sheet.axes
    for ax, count in ((buttons, 9), (pull, 36)):
        lines = [line for line in ax.lines if not line.get_label().startswith("_")]
        looks = {(line.get_color(), line.get_linestyle()) for line in lines}
        assert len(lines) == len(looks) == count
        assert len(ax.get_legend().get_texts()) == count


def test_a_panel_without_lines_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = curves(["only head"], tmp_path, monkeypatch)
    assert [ax.get_title()[:7] for ax in sheet.axes if ax.get_visible()] == ["loss", "buttons"]
