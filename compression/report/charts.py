"""The charts of a report as plain data for ``assets/components``: the front over each cost, layers, ledger, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compression.plots import base, confusion, layers, ledger, seeds, theme, words
from compression.plots.axes import AXES, LATENCY
from compression.plots.candidates import COLLAPSED, Candidate, CandidatesInfo, Mark, candidates_info, verdict
from compression.plots.layered import LayeredLine, drawn_sizes, lowest

Data = dict[str, Any]
FAINT, LIVE = 0.45, 0.75  # opacity of what another run beats, and of a run that still goes on
SIZE, STAR, DOT = 13, 17, 6  # of markers, in pixels
MOST_CHANGES = 40
"""Rows of the table of classes that got worse or better."""


def fronts(candidates: Sequence[Candidate], also: Sequence[LayeredLine] = ()) -> list[Data]:
    """The front over each cost that is counted, latency aside: that is a fact about one machine.

    Runs that differ in their seed alone are one mark at their mean, so that no lucky seed is the front.
    ``also``: what else the weights of single runs are, at other bit-widths; sizes, so that other costs omit them.
    """
    charts = []
    for axis in AXES.values():
        info = candidates_info(seeds.fold(candidates, axis.field), axis)
        if axis.field != LATENCY and info.finished:
            charts.append(front(info, candidates, also if axis.field == "bytes" else ()))
    return charts


def front(info: CandidatesInfo, candidates: Sequence[Candidate], also: Sequence[LayeredLine] = ()) -> Data:
    """One front: axes with ticks, the line of runs that no other beats, and a mark a run with its sentence.

    Runs that still go on are drawn where they are, paler; they are not on the front. Of marks that are the mean of
    several seeds among ``candidates``, each seed is a small one.
    """
    axis, metric = info.axis, info.metric
    folded = {run for mark in info.finished for run in mark.members}
    single = candidates_info([each for each in candidates if each.run in folded], axis).finished
    drawn = [*info.finished, *info.live, *info.dense, *single]
    top = metric.best(mark.score for mark in drawn)
    floor = _lowest(info, [*info.live, *single], top, info.floor if info.hidden else lowest(also, info.floor, top))
    costs = [*(mark.cost for mark in drawn), *drawn_sizes(also, floor)]
    verdicts = {each.run: verdict(info, each) for each in candidates if info.mark(each.run)}
    methods = dict.fromkeys(mark.method for mark in drawn)
    return {
        "field": axis.field,
        "label": axis.label,
        "alt": info.sentence,
        "hidden": info.hidden,
        "seeds": len(single),
        "x": {
            "title": f"{axis.title}, logarithmic",
            "range": base.log_range(costs, 0.06),
            "ticks": list(zip(*base.log_ticks(costs, axis.show), strict=True)),
        },
        "y": {
            "title": metric.label,
            "unit": metric.unit,
            "range": metric.ends(floor, top, 0.08, 0.002 * metric.span(top)),
        },
        "front": [[mark.cost, metric.shown(mark.score)] for mark in info.front],
        "lines": [
            {"color": theme.style(line.method).color, "points": [[dot["x"], dot["y"]] for dot in _dots(line, floor)]}
            for line in also
        ],
        "marks": [
            *(_star(info, mark) for mark in info.dense),
            *({**_mark(info, mark, verdicts, floor), "size": DOT, "beaten": False, "opacity": 1} for mark in single),
            *(_mark(info, mark, verdicts, floor) for mark in info.live),
            *(_mark(info, mark, verdicts, floor) for mark in sorted(info.finished, key=lambda mark: not mark.beaten)),
            *(dot for line in also for dot in _dots(line, floor)),
        ],
        "legend": [look(method) for method in methods],
    }


def look(method: str) -> Data:
    """How a method looks: label, colour, marker."""
    style = theme.style(method)
    return {"label": style.label, "color": style.color, "symbol": style.symbol}


def _lowest(info: CandidatesInfo, others: Sequence[Mark], best: float, floor: float) -> float:
    """The worst score drawn in its place, lowered by runs that still go on and by single seeds; beside finished runs
    not by collapsed ones."""
    metric = info.metric
    collapsed = metric.goodness(best) - COLLAPSED * metric.span(best)
    drawn = [mark.score for mark in others if not info.finished or metric.goodness(mark.score) >= collapsed]
    return metric.worst([floor, *drawn])


def _mark(info: CandidatesInfo, mark: Mark, verdicts: Mapping[str, str], floor: float) -> Data:
    below = info.metric.goodness(mark.score) < info.metric.goodness(floor)
    opacity = LIVE if mark.live else FAINT if mark.beaten else 1
    return {
        **look(mark.method), "id": mark.run, "x": mark.cost, "text": mark.sentence, "verdict": verdicts[mark.run],
        "y": info.metric.shown(floor if below else mark.score), "size": SIZE, "beaten": bool(mark.beaten),
        "opacity": opacity, **({"symbol": "triangle-down"} if below else {}),
    }  # fmt: skip


def _star(info: CandidatesInfo, mark: Mark) -> Data:
    place = {"x": mark.cost, "y": info.metric.shown(mark.score)}
    return {**look(theme.DENSE), "id": "", **place, "text": mark.sentence, "size": STAR, "opacity": 1}


def _dots(line: LayeredLine, floor: float) -> list[Data]:
    """What else a run is, as small marks that pick it; those with a score below ``floor`` are left out."""
    metric = line.metric
    common = {**look(line.method), "id": line.run, "symbol": "circle", "size": DOT, "opacity": 1}
    return [
        {**common, "x": size, "y": metric.shown(score), "text": text}
        for (size, score), text in zip(line.places, line.sentences, strict=True)
        if metric.goodness(score) >= metric.goodness(floor)
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> Data:
    """Rows as a head and cells of text; whole numbers have separators, what is a number stands to the right."""
    head = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in head] for row in rows]
    numeric = [bool(rows) and all(isinstance(row.get(name), (int, float)) for row in rows) for name in head]
    return {"head": head, "rows": cells, "numeric": numeric}


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def layer_bars(info: layers.LayersInfo) -> Data:
    """Every measure of the largest layers before and after, and all layers as a table."""
    measures = [layers.MEASURES[name] for name in info.measures]
    few = len(info.drawn) < len(info.changes)
    notes = [
        f"The {len(info.drawn)} largest layers; the table has all {len(info.changes)}." if few else "",
        "" if info.packed else "Only shapes and bits are known of this run: its compressed model was not stored.",
        "What the layers were before is not known here."
        if any(change.before is None for change in info.changes) else "",
    ]  # fmt: skip
    return {
        "sentence": info.sentence,
        "note": " ".join(filter(None, notes)),
        "measures": [
            {"label": measure.label, "title": measure.title, "rows": [_layer(c, measure) for c in info.drawn]}
            for measure in measures
        ],
        "table": table(info.rows),
    }


def _layer(change: layers.LayerChange, measure: layers.Measure) -> Data:
    before, after = measure.before(change), measure.after(change)
    row: Data = {"label": change.layer, "before": before, "value": after, "text": measure.show(after)}
    row["hover"] = f"{measure.show(before)} → {measure.show(after)}" if before is not None else measure.show(after)
    if measure is layers.MEASURES["bits"] and change.activation_bits:
        row |= {"diamond": change.activation_bits}
        row["hover"] += f"; activations {change.activation_bits:g}"
    return row


def ledger_bars(parts: ledger.LedgerInfo) -> Data:
    """A bar for each part of the packed file."""
    rows = [
        {
            "label": name, "value": count, "hover": ledger.PARTS.get(name, name),
            "text": f"{words.size(count)}, {words.share(count / parts.total, 0)}",
        }
        for name, count in parts.parts
    ]  # fmt: skip
    listed = [{"part": name, "is": ledger.PARTS.get(name, name), "bytes": round(count)} for name, count in parts.parts]
    return {"sentence": parts.sentence, "rows": rows, "table": table(listed)}


def classes(info: confusion.ConfusionInfo) -> Data:
    """The change of the confusion table: a row a true class; the worst changes as a table."""
    cells = {(cell.truth, cell.answer): cell for cell in info.cells}
    grid = [[cells.get((i, j)) or confusion.Cell(i, j, 0, 0) for j in info.shown] for i in info.shown]
    most = max((abs(cell.worse) for row in grid for cell in row), default=0) or 1
    folded = f" The {len(info.shown)} most changed classes of {len(info.classes)}." if info.folded else ""
    return {
        "sentences": list(info.sentences),
        "note": f"Change in the number of test images ({info.images:,} in all) from the dense model to this run. "
        f"Orange: worse, that is fewer on the diagonal, more beside it. Blue: better.{folded}",
        "names": [info.classes[i] for i in info.shown],
        "cells": [
            [
                {"change": cell.after - cell.before, "strength": cell.worse / most, "hover": info.describe(cell)}
                for cell in row
            ]
            for row in grid
        ],
        "table": table(info.rows[:MOST_CHANGES]),
    }
