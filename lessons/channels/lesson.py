"""Lesson 1, channels that belong together: build a small network, try to remove a channel, see what leaves with it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module

from compression.counting.cost import cost
from compression.graph.slim import slim_report, zero_units
from compression.graph.types import Graph
from lessons.channels import figure
from lessons.lesson import Choice, Lesson, Link, Number, Slider, Values, View
from lessons.maths import demo_network
from lessons.numbers import tex

LABELS = {
    "residual": "residual add",
    "concat": "concat",
    "depthwise": "depthwise",
    "heads": "attention heads",
    "flatten": "flatten",
}


@lru_cache(maxsize=64)
def network(parts: tuple[str, ...]) -> tuple[demo_network.DemoNetwork, Graph]:
    """The network of these parts and its graph."""
    return demo_network.build(parts)


@lru_cache(maxsize=1)
def import_early() -> threading.Thread:
    """Begin to import, beside all else, what torch needs to trace concat or attention for the first time: seconds."""
    loading = threading.Thread(target=import_module, args=("torch._dynamo",), daemon=True)
    loading.start()
    return loading


def fields(values: Values) -> Sequence[Choice | Slider]:
    """The parts; then a layer of the network they form; then one of its channels."""
    first = Choice("parts", "Parts between the first convolution and the head", LABELS, ["residual"])
    if "parts" not in values:
        return (first,)
    layers = network(tuple(values["parts"]))[1].layers
    names = {layer.name: f"{layer.name}, {layer.shape[0]} outputs" for layer in layers}
    second = Choice("remove", "Remove a channel of", names, "first", half=True)
    if "remove" not in values:
        return (first, second)
    rows = next(layer.shape[0] for layer in layers if layer.name == values["remove"])
    return (first, second, Slider("channel", "Which one", 0, rows - 1, 1, 1, half=True))


def show(values: Values) -> View:
    """Every layer's channels as squares, those that leave crossed out; and the network without them."""
    import_early()
    parts, layer, row = tuple(values["parts"]), str(values["remove"]), int(values["channel"])
    graph = network(parts)[1]
    leaving = demo_network.dependents(graph, f"{layer}.weight", row)
    lanes = figure.lanes(graph, leaving.positions)
    before, after, difference = _without(parts, leaving.group.id, leaving.unit)
    if leaving.group.prunable:
        touched = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in leaving.positions))
        caption = f"Channel {row} of `{layer}` cannot go alone: it takes slices of **{len(touched)}** modules with it: "
        caption += ", ".join(f"`{name}`" for name in touched) + ". "
        caption += f"The smaller network answers the same: largest difference ${tex(difference, 2)}$."
    else:
        caption = (
            f"Channel {row} of `{layer}` **must stay**: {leaving.group.reason}. It is one of the network's answers."
        )
    facts = {
        "layer": layer,
        "channel": str(row),
        "group": leaving.group.id,
        "units": str(leaving.group.units),
        "before": f"{before:,}",
        "after": f"{after:,}",
        "removed": f"{before - after:,}",
        "columns": f"{answer().value:.0f}",
    }
    return View(figure.channels_figure(lanes), caption, facts, figure.rows(lanes))


@lru_cache(maxsize=256)
def _without(parts: tuple[str, ...], group: str, unit: int) -> tuple[int, int, float]:
    """Parameters before and after, and how far the really smaller network is from the one with the unit at zero."""
    graph = network(parts)[1]
    if not graph.group(group).prunable:
        return graph.params, graph.params, 0.0
    net = demo_network.build(parts)[0]
    zero_units(net, graph, {group: [unit]})
    report = slim_report(net, graph)[1]
    return graph.params, cost(graph, {group: [unit]}).params, report.equality


def answer() -> Number:
    """How many input columns ``head`` loses with one channel of ``first``, behind a residual add and a flatten."""
    graph = network(("residual", "flatten"))[1]
    lost = demo_network.dependents(graph, "first.weight", 1).positions["head.weight", 1]
    return Number(len(lost), 0, "columns")


LESSON = Lesson(fields, show, answer, (Link("groups", "See the groups of {run}", "gallery.resnet8-mnist5k.geta"),))
