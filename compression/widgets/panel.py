"""What a panel shows, as plain JSON values: the form of a draft, the answer to a move, the runs and their front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compression import form, methods
from compression.asks import Ask, Sparsity
from compression.budget import Budget
from compression.forecast import Forecast
from compression.graph import Graph
from compression.plots import forecast as figures
from compression.plots import words
from compression.plots.axes import AXES, drawable
from compression.plots.candidates import Candidate, candidates_info
from compression.plots.run_view import RunView
from compression.report import charts
from compression.runs.folder import QUEUED, RUNNING

Data = dict[str, Any]
EXPLAINED = {
    "epochs": "Passes over the training data: more gives a better score, and takes longer",
    "seed": "The same seed gives the same run",
}
NOTHING_TRAINED = "Nothing is trained: the run takes seconds to minutes."


def controls(draft: Budget, graph: Graph) -> list[Data]:
    """The asks of the draft's method that have a control, each with its limits; shares lie in 0..1.

    ``alternative``: it says in its own way what the others that are say; one of them has a value.
    """
    asks = [ask for ask in methods.get(draft.method).asks if ask.control() is not None]
    return [_control(ask, draft, graph) for ask in asks]


def _control(ask: Ask, draft: Budget, graph: Graph) -> Data:
    control = ask.control()
    assert control is not None
    low, high, why = control.low, control.high, ""
    if isinstance(ask, Sparsity):
        low, high, bounded = form.sparsity_ends(graph, draft, ask)
        narrowed = (low, high) != (control.low, control.high)
        why = f"{words.share(low, 0)} to {words.share(high, 0)} can be reached here" if narrowed else ""
        why += ", within the bounds of single layers and groups" if narrowed and bounded else ""
    label = control.label.removesuffix(", from … to")
    return {
        "field": ask.field, "label": label, "kind": control.kind, "low": low, "high": high, "step": control.step,
        "default": control.default, "percent": form.in_percent(ask), "optional": control.optional,
        "alternative": bool(ask.excludes), "help": f"{ask.help[:1].upper()}{ask.help[1:]}", "why": why,
    }  # fmt: skip


def training(draft: Budget) -> list[Data]:
    """The number fields of a method that trains; none of one that does not."""
    if not methods.get(draft.method).trains(draft):
        return []
    limits = {"epochs": (form.FEWEST_EPOCHS, form.MOST_EPOCHS), "seed": (-form.LARGEST_SEED, form.LARGEST_SEED)}
    return [
        {"field": name, "label": name.capitalize(), "low": low, "high": high, "help": EXPLAINED[name]}
        for name, (low, high) in limits.items()
    ]


def form_of(draft: Budget, graph: Graph, title: str) -> Data:
    """Everything of the form but the values."""
    info = methods.get(draft.method).info
    fields = training(draft)
    bounded = len(draft.layers) + len(draft.groups)
    extras = [f"{name} {value}" for name, value in draft.options.items()]
    extras += [f"{words.plural(bounded, 'bound')} of single layers and groups"] if bounded else []
    return {
        "title": title, "method": info.name, "sentence": info.sentence.replace("**", ""),
        "methods": [{"name": name, "label": each.info.label} for name, each in methods.all_methods().items()],
        "controls": controls(draft, graph), "training": fields, "note": "" if fields else NOTHING_TRAINED,
        "extras": ", ".join(extras),
    }  # fmt: skip


def values(draft: Budget) -> Data:
    """Field → value of everything in the form; of a range both ends."""
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in form.values(draft).items()}
    return {**plain, "epochs": draft.epochs, "seed": draft.seed}


def forecast_of(forecast: Forecast | None, graph: Graph) -> Data:
    """Figures, what they rest on, and the method's notes."""
    if forecast is None:
        return {"figures": [], "basis": "", "notes": []}
    cells = figures.figures(forecast, graph.prunable_units)
    return {
        "figures": [{"kind": cell.kind, "label": cell.label, "value": cell.value, "note": cell.note} for cell in cells],
        "basis": figures.basis(forecast, trained=True),
        "notes": list(forecast.notes),
    }


def run_row(view: RunView, label: str) -> Data:
    """One run as a row: how far it is, what it has come to, and what it was asked."""
    point = view.final or (view.points[-1] if view.points else None)
    metric, dense = view.metric, view.baseline
    size = score = ""
    if point is not None:
        size = words.size(point["bytes"])
        score = f"{metric.show(point['score'])} {point.get('split', '')} {metric.label}"
    smaller = f"{words.ratio(dense['bytes'] / point['bytes'])} smaller" if view.final and dense and point else ""
    return {
        "id": view.run, "label": label, "method": charts.look(view.method), "state": view.state,
        "progress": view.progress, "status": _status(view), "error": view.error or "",
        "size": size, "smaller": smaller, "score": score,
    }  # fmt: skip


def _status(view: RunView) -> str:
    """Where a run is, in words."""
    if view.state == QUEUED:
        return "waiting for its turn"
    if view.state != RUNNING:
        return view.state
    if not view.total_steps or not view.step:
        return "starting: the dense model is measured first"
    steps = f"{view.step:,} of {words.plural(view.total_steps, view.unit.removesuffix('s'))}"
    seconds = view.remaining()
    return steps if seconds is None else f"{steps}, about {words.duration(seconds)} to go"


def front_of(views: Sequence[RunView], labels: Mapping[str, str]) -> Data | None:
    """The chart of the runs: where each ended, or is, and the way of those that still go on; ``None``: nothing yet."""
    candidates = [each for view in views if (each := _candidate(view, labels[view.run])) is not None]
    info = candidates_info(candidates, AXES["bytes"])
    if not info.marks:
        return None
    chart = charts.front(info, candidates)
    chart["lines"] = [_way(view, chart) for view in views if view.active]
    return chart


def _candidate(view: RunView, label: str) -> Candidate | None:
    point = view.final or (view.points[-1] if view.points and view.active else None)
    if point is None or not drawable(point, AXES["bytes"]):
        return None
    live = view.final is None
    return Candidate(view.run, label, view.method, view.baseline, point, live=live, metric=view.metric)


def _way(view: RunView, chart: Mapping[str, Any]) -> Data:
    """The points of a run so far, as far as they lie within the axes of the chart."""
    low, high = (10**end for end in chart["x"]["range"])
    bottom, top = sorted(chart["y"]["range"])
    places = [[point["bytes"], view.metric.shown(point["score"])] for point in view.points]
    inside = [[x, y] for x, y in places if low <= x <= high and bottom <= y <= top]
    return {"color": charts.look(view.method)["color"], "points": inside}


def in_place(budget: Budget, place: Mapping[str, Any]) -> Budget:
    """A budget for what a panel explores: its model, data and weights are those of the panel.

    Raises:
        CompressionError: there is no such method, or it cannot have one of the values.
    """
    draft = budget.replace(method=methods.get(budget.method).info.name, **place)
    methods.of_budget(form.requested(draft))
    return draft
