"""What a compressed model confuses that the dense one did not: the difference of two confusion tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme
from compression.plots.base import go

MOST_CLASSES = 20
DARK, WHITE = "#1f2933", "#ffffff"
_WRITTEN = 12  # classes up to which the numbers are written into the cells
_SCALE = ((0.0, theme.ACCENT), (0.5, theme.rgba(theme.MUTED, 0.1)), (1.0, theme.HIGHLIGHT))

Counts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Cell:
    """How many test images of class ``truth`` are answered with ``answer``, before and after."""

    truth: int
    answer: int
    before: int
    after: int

    @property
    def worse(self) -> int:
        """How many images more are wrong through this cell (negative: fewer)."""
        change = self.after - self.before
        return -change if self.truth == self.answer else change


@dataclass(frozen=True)
class ConfusionInfo:
    """``cells``: those with any image; ``totals``: images of each class; ``shown``: the classes drawn, in order."""

    classes: tuple[str, ...]
    cells: tuple[Cell, ...]
    totals: tuple[int, ...]
    shown: tuple[int, ...]

    @property
    def images(self) -> int:
        """How many test images were counted."""
        return sum(self.totals)

    @property
    def folded(self) -> bool:
        """Are there more classes than can be drawn?"""
        return len(self.shown) < len(self.classes)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every cell that changed, the worst first."""
        changed = sorted((cell for cell in self.cells if cell.worse), key=lambda cell: -cell.worse)
        return [
            {
                "class": self.classes[cell.truth],
                "answered": self.classes[cell.answer],
                "dense": cell.before,
                "compressed": cell.after,
                "change": cell.after - cell.before,
                "this is": "worse" if cell.worse > 0 else "better",
            }
            for cell in changed
        ]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The worst new confusion, and the class that lost most."""
        wrong = max((c for c in self.cells if c.truth != c.answer), key=lambda c: (c.worse, c.after), default=None)
        right = max((c for c in self.cells if c.truth == c.answer), key=lambda c: (c.worse, -c.after), default=None)
        sentences = []
        if wrong is not None and wrong.worse > 0:
            sentences.append(f"The worst new confusion: {self.describe(wrong)}.")
        else:
            sentences.append("No class is mistaken for another more often than by the dense model.")
        if right is not None and right.worse > 0:
            sentences.append(f"The class that lost most: {self.describe(right)}.")
        return tuple(sentences)

    def describe(self, cell: Cell) -> str:
        """One cell in words, with the size of its class."""
        total = self.totals[cell.truth]
        truth, answer = self.classes[cell.truth], self.classes[cell.answer]
        what = f"“{truth}” is recognized" if cell.truth == cell.answer else f"“{truth}” is taken for “{answer}”"
        return f"{what} in {cell.after:,} of {total:,} images, by the dense model in {cell.before:,}"


def confusion_info(before: Counts, after: Counts, classes: Sequence[str]) -> ConfusionInfo:
    """Compare two tables ``[truth][answer]`` of counts on the same images.

    Raises:
        ValueError: the tables are not of the same size.
    """
    names = tuple(classes) if len(classes) == len(after) else tuple(str(i) for i in range(len(after)))
    pairs = enumerate(zip(before, after, strict=True))
    cells = tuple(
        Cell(truth, answer, old, new)
        for truth, (olds, news) in pairs
        for answer, (old, new) in enumerate(zip(olds, news, strict=True))
        if old or new
    )
    return ConfusionInfo(names, cells, tuple(map(sum, after)), _most_changed(cells, len(names)))


def _most_changed(cells: Sequence[Cell], classes: int) -> tuple[int, ...]:
    if classes <= MOST_CLASSES:
        return tuple(range(classes))
    chosen: dict[int, None] = {}
    for cell in sorted(cells, key=lambda cell: -abs(cell.worse)):
        if len(chosen | {cell.truth: None, cell.answer: None}) <= MOST_CLASSES:
            chosen |= {cell.truth: None, cell.answer: None}
    return tuple(sorted(chosen))


def confusion_figure(info: ConfusionInfo) -> go.Figure:
    """A heat map of the change: a row per true class, a column per answer; orange is worse, blue is better."""
    names = [info.classes[i] for i in info.shown]
    by_place = {(cell.truth, cell.answer): cell for cell in info.cells}
    grid = [[by_place.get((i, j)) or Cell(i, j, 0, 0) for j in info.shown] for i in info.shown]
    most = max((abs(cell.worse) for row in grid for cell in row), default=0) or 1
    fig = base.figure(min(620, 110 + 27 * len(names)))
    fig.add_trace(
        go.Heatmap(
            x=names, y=names, z=[[cell.worse for cell in row] for row in grid],
            zmin=-most, zmax=most, colorscale=_SCALE, showscale=False, xgap=1, ygap=1,
            hovertext=[base.tooltips([info.describe(cell) for cell in row]) for row in grid], hoverinfo="text",
        )
    )  # fmt: skip
    if len(names) <= _WRITTEN:
        fig.add_trace(_numbers(info, [cell for row in grid for cell in row if cell.worse], most))
    fig.update_xaxes(title="answered", type="category", showgrid=False, tickmode="linear")
    fig.update_yaxes(title="class", tickmode="linear")
    base.layer_axis(fig)
    return fig


def _numbers(info: ConfusionInfo, cells: Sequence[Cell], most: int) -> go.Scatter:
    """The changes written into their cells: in the page's own text colour, dark or white where a cell is strong."""
    strong = [abs(cell.worse) > 0.5 * most for cell in cells]
    inks = [(DARK if c.worse > 0 else WHITE) if full else None for c, full in zip(cells, strong, strict=True)]
    texts = [_written(cell, ink) for cell, ink in zip(cells, inks, strict=True)]
    xs, ys = [info.classes[cell.answer] for cell in cells], [info.classes[cell.truth] for cell in cells]
    return base.scatter(xs, ys, "text", text=texts, showlegend=False)


def _written(cell: Cell, ink: str | None) -> str:
    text = f"<b>{cell.after - cell.before:+d}</b>".replace("-", "−")
    return f'<span style="color: {ink}">{text}</span>' if ink else text
