"""Runs, sweeps, lists of runs, compressed networks and bundles as notebooks show them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from compression.budget import Budget
from compression.errors import CompressionError
from compression.export.bundle import Bundle
from compression.front import front
from compression.one_call import CompressedNetwork
from compression.plots import theme, words
from compression.plots.comparison import change, comparison
from compression.plots.titles import data_label, model_label
from compression.runs.folder import RunFolder
from compression.runs.listing import RunsTable
from compression.runs.results import of_sweep, result
from compression.runs.summary import Summary
from compression.tasks import Metric
from compression.widgets.rich_plan import request
from compression.widgets.view import Curve, Table, View

ENDS = ("baseline", "final")
RUNS = ("state", "method", "model", "data", "asked", "score", "lost", "bytes", "smaller", "BOPs", "run")
SWEEP = ("asked", "score", "bytes", "smaller", "BOPs", "front", "state", "run")
DIGEST = 12


def run_view(folder: RunFolder) -> View:
    """How a run stands: score, bytes and work before and after, and the curve; of a sweep its runs."""
    if folder.is_sweep:
        return sweep_view(folder)
    outcome = result(folder)
    metric = Metric.from_result(outcome)
    facts = [("", outcome["status"]), *_subject(folder.budget())]
    facts += [("seconds", f"{outcome['seconds']:.0f}")] if outcome["seconds"] else []
    notes = [request(folder.budget()), *_errors(outcome)]
    table = _comparison(outcome, metric)
    if outcome["baseline"] and outcome["final"]:
        facts.append((metric.label, change(metric, outcome["baseline"]["score"], outcome["final"]["score"])))
    return View(f"Run {folder.id}", facts, (table,), notes, _curve(outcome, metric))


def sweep_view(folder: RunFolder) -> View:
    """A row for each run of a sweep; those on the front of bytes and score stand out."""
    events = folder.events()
    outcome = of_sweep(folder, folder.state_of(events), events)
    metric = Metric.from_result(outcome)
    runs = outcome["runs"]
    ended = [run for run in runs if run["final"]]
    places = [(run["final"]["bytes"], metric.goodness(run["final"]["score"])) for run in ended]
    best = {ended[index]["run"] for index in front(places)}
    rows = [
        (_child_request(folder, run["run"]), *_figures(run["baseline"], run["final"], metric),
         "on it" if run["run"] in best else "", run["status"], run["run"])
        for run in runs
    ]  # fmt: skip
    marked = frozenset(place for place, run in enumerate(runs) if run["run"] in best)
    facts = [("", outcome["status"]), *_subject(folder.budget()), ("", words.plural(len(folder.child_ids()), "run"))]
    return View(f"Sweep {folder.id}", facts, (Table(SWEEP, rows, marked),), _errors(outcome))


def runs_view(table: RunsTable) -> View:
    """The list of runs, newest first."""
    rows = [_row(each) for each in table]
    facts = (("in", str(table.root)), ("", words.plural(len(table), "run")))
    return View("Runs", facts, (Table(RUNS, rows),), table.problems)


def network_view(network: CompressedNetwork) -> View:
    """What was asked of a network and what remains of it: parameters, removed units, bits of the weights."""
    removed = sum(map(len, network.removed.values()))
    before, after = _parameters(network.masked), _parameters(network.model)
    facts = (
        ("method", theme.style(network.budget.method).label),
        ("parameters", f"{words.count(before)} before, {words.count(after)} after"),
        ("units removed", f"{removed:,}"),
    )
    rows = [
        (weight.name, words.shape(tuple(weight.shape)), weight.kind, weight.bits,
         words.share(weight.zeros / math.prod(weight.shape)))
        for weight in network.weights.values()
    ]  # fmt: skip
    head = ("layer", "shape", "encoding", "bits", "zeros")
    return View("Compressed network", facts, (Table(head, rows),), (request(network.budget),))


def bundle_view(bundle: Bundle) -> View:
    """The files of a bundle, and what the run that it was made of ended with."""
    facts = [("run", bundle.run), ("bytes", words.size(bundle.bytes)), ("", str(bundle.path))]
    rows = [(name, f"{about['bytes']:,}", about["sha256"][:DIGEST]) for name, about in bundle.files.items()]
    tables = [Table(("file", "bytes", "SHA-256"), rows)]
    if bundle.result:
        tables.insert(0, _comparison(bundle.result, Metric.from_result(bundle.result)))
    return View("Bundle", facts, tables)


def _subject(budget: Budget) -> list[tuple[str, str]]:
    return [
        ("method", theme.style(budget.method).label),
        ("", f"{model_label(budget.model)} on {data_label(budget.data)}"),
    ]


def _errors(outcome: Mapping[str, Any]) -> list[str]:
    return [str(outcome["error"])] if outcome.get("error") else []


def _comparison(outcome: Mapping[str, Any], metric: Metric) -> Table:
    """Dense and compressed side by side; of a run that has not ended, no rows."""
    first, last = (outcome[end] for end in ENDS)
    rows = comparison(first, last, metric) if first and last else []
    return Table(("", "dense", "compressed"), [tuple(row.values()) for row in rows])


def _curve(outcome: Mapping[str, Any], metric: Metric) -> Curve | None:
    """The scores on the way, in the order of the steps."""
    points = [point for point in outcome.get("points", []) if point["phase"] not in ENDS]
    places = [(point["step"], metric.goodness(point["score"])) for point in points if point["score"] is not None]
    if len(places) < 2:
        return None
    first, last = (metric.show(point["score"]) for point in (points[0], points[-1]))
    return Curve(places, f"{points[-1]['split']} {metric.label} from {first} to {last} at step {points[-1]['step']}")


def _child_request(folder: RunFolder, name: str) -> str:
    """What a run of a sweep was asked."""
    try:
        child = folder.child(name)
        return "" if child is None else request(child.budget())
    except CompressionError as error:
        return str(error)


def _figures(first: Mapping[str, Any] | None, last: Mapping[str, Any] | None, metric: Metric) -> tuple[str, ...]:
    """Score, bytes, times smaller and BOPs of where a run ended; dashes before that."""
    if not last:
        return ("–",) * 4
    smaller = words.ratio(first["bytes"] / last["bytes"]) if first and last["bytes"] else "–"
    return metric.show(last["score"], 1), words.size(last["bytes"]), smaller, words.share(last["rel_bops"], 2)


def _row(each: Summary) -> tuple[str, ...]:
    info = each.info
    first, last = (None if point is None else point.to_dict() for point in (each.baseline, each.final))
    score, size, smaller, bops = _figures(first, last, each.metric)
    lost = "–" if each.lost is None else f"{each.lost:.{each.metric.decimals}f}"
    requested = f"sweep of {words.plural(info.runs, 'run')}" if info.runs else _request(info.budget)
    named = f"{each.labels.name} ({info.id})" if each.labels.name else info.id
    look = theme.style(info.method).label
    subject = (model_label(info.model), data_label(info.data))
    return (info.state, look, *subject, requested, score, lost, size, smaller, bops, named)


def _request(budget: Mapping[str, Any]) -> str:
    try:
        return request(Budget.from_dict(budget))
    except CompressionError as error:
        return str(error)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
