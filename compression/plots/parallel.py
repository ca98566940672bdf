"""Parallel coordinates of several runs: what was asked for on the left, what came of it on the right, a line a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme, words
from compression.plots.base import go
from compression.tasks import Metric

Record = Mapping[str, Any]
_RESULTS = (("bytes", "size", words.size), ("macs", "MACs", words.count), ("rel_bops", "BOPs", words.share))
TICKS = 5
LABEL_ANGLE = -25  # so that names stand beside each other on a phone


@dataclass(frozen=True)
class Coordinate:
    """One vertical axis: a place on it for each run, and the ticks (place, text) beside it."""

    label: str
    values: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class ParallelInfo:
    """``records``: the finished runs; ``scores``: as shown, which colour the lines."""

    coordinates: tuple[Coordinate, ...]
    scores: tuple[float, ...]
    metric: Metric
    records: tuple[Record, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The chart as a table."""
        shown = ("run", "method", "seed", *varied(self.records), "score", *(name for name, *_ in _RESULTS), "seconds")
        return [{name: record.get(name) for name in shown} for record in self.records]


def parallel_info(records: Sequence[Record], metric: Metric) -> ParallelInfo:
    """Place finished runs (rows of :func:`compression.runs.summary.record`) on an axis for each thing that differs."""
    done = tuple(record for record in records if isinstance(record.get("score"), (int, float)))
    axes = [_categories("method", [theme.style(str(record["method"])).label for record in done])]
    for name in (*varied(done), "seed"):
        values = [record.get(name) for record in done]
        axes.append(_numbers(name.removeprefix("ask."), values) or _categories(name.removeprefix("ask."), values))
    for name, label, show in _RESULTS:
        axes.append(_logarithmic(label, [record[name] for record in done], show))
    scores = tuple(metric.shown(record["score"]) for record in done)
    axes.append(_linear(f"test {metric.axis}", scores))
    differing = [axis for axis in axes if len(set(axis.values)) > 1]
    return ParallelInfo(tuple(differing), scores, metric, done)


def varied(records: Sequence[Record]) -> list[str]:
    """The columns of asks in which runs that have them differ."""
    names = dict.fromkeys(name for record in records for name in record if name.startswith("ask."))
    return [name for name in names if len({record[name] for record in records if name in record}) > 1]


def parallel_figure(info: ParallelInfo, height: int = 340) -> go.Figure:
    """Draw the axes; a drag along one keeps the lines through that part."""
    dimensions = [
        {
            "label": axis.label,
            "values": list(axis.values),
            "tickvals": [place for place, _ in axis.ticks],
            "ticktext": [text for _, text in axis.ticks],
        }
        for axis in info.coordinates
    ]
    fig = base.figure(height)
    fig.update_layout(margin={"l": 110, "r": 60, "t": 76, "b": 24})
    line = {"color": list(info.scores), "colorscale": "Viridis", "showscale": False}
    if not info.metric.goodness(1.0) > 0:
        line["reversescale"] = True
    font = {"color": theme.MUTED, "size": 12}
    fonts = {"labelfont": font, "tickfont": font, "rangefont": font}
    fig.add_trace(go.Parcoords(dimensions=dimensions, line=line, labelangle=LABEL_ANGLE, **fonts))
    return fig


def _categories(label: str, values: Sequence[Any]) -> Coordinate:
    texts = [_text(value) for value in values]
    known = list(dict.fromkeys(texts))
    return Coordinate(label, tuple(float(known.index(text)) for text in texts), tuple(enumerate(known)))


def _numbers(label: str, values: Sequence[Any]) -> Coordinate | None:
    """An axis of numbers; ``None`` where a run has none there, or a range."""
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return None
    present = sorted(set(map(float, values)))
    stride = max(1, math.ceil(len(present) / TICKS))
    return Coordinate(label, tuple(map(float, values)), tuple((value, f"{value:g}") for value in present[::stride]))


def _linear(label: str, values: Sequence[float]) -> Coordinate:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    places = [low + (high - low) * step / (TICKS - 1) for step in range(TICKS)]
    return Coordinate(label, tuple(values), tuple((place, f"{place:.4g}") for place in places))


def _logarithmic(label: str, values: Sequence[float], show: Any) -> Coordinate:
    places = tuple(math.log10(max(value, 1e-12)) for value in values)
    return Coordinate(label, places, tuple((place, show(10**place)) for place, _ in _linear("", places).ticks))


def _text(value: Any) -> str:
    return "–" if value is None else f"{value}".replace(":", "–")
