"""Lesson 1, channels that hang together: build a small network, try to remove one channel, see what must go with it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module

from app.figures.learn import channels as figures
from app.learn.lessons.answers import Number
from app.learn.lessons.fields import Choice, Field, Several, Slider, Values
from app.learn.lessons.lesson import Lesson, See, Shown
from app.learn.lessons.numbers import sig
from compression.counting.cost import cost
from compression.graph import demo_network
from compression.graph.slim import slim_report, zero_units
from compression.graph.types import Graph

LABELS = {
    "residual": "residual add",
    "concat": "concat",
    "depthwise": "depthwise",
    "heads": "attention heads",
    "flatten": "flatten",
}
Built = tuple[demo_network.PartsNet, Graph]


@lru_cache(maxsize=64)
def built(chosen: tuple[str, ...]) -> Built:
    """The network of these parts and its graph, made once."""
    return demo_network.build(chosen)


@lru_cache(maxsize=1)
def ahead() -> threading.Thread:
    """Begin to import, beside all else, what torch needs to trace concat or attention for the first time: seconds."""
    loading = threading.Thread(target=import_module, args=("torch._dynamo",), daemon=True)
    loading.start()
    return loading


def fields(values: Values) -> Sequence[Field]:
    """The parts; then a layer of the network they make; then one of its channels."""
    first = Several("parts", "Parts between the first convolution and the head", LABELS, ("residual",))
    if "parts" not in values:
        return (first,)
    layers = built(tuple(values["parts"]))[1].layers
    names = {layer.name: f"{layer.name}, {layer.shape[0]} outputs" for layer in layers}
    second = Choice("remove", "Remove a channel of", names, "first", half=True)
    if "remove" not in values:
        return (first, second)
    rows = next(layer.shape[0] for layer in layers if layer.name == values["remove"])
    return (first, second, Slider("channel", "Which one", 0, rows - 1, 1, 1, half=True))


def show(values: Values) -> Shown:
    """Every layer's channels as squares, those that go lit; and what the network is without them."""
    ahead()
    chosen, layer, row = tuple(values["parts"]), str(values["remove"]), int(values["channel"])
    graph = built(chosen)[1]
    going = demo_network.leaving(graph, f"{layer}.weight", row)
    lanes = figures.lanes(graph, going.positions)
    before, after, equality = _without(chosen, going.group.id, going.unit)
    if going.group.prunable:
        touched = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in going.positions))
        said = f"Channel {row} of `{layer}` cannot go alone: it takes slices of **{len(touched)}** modules with it: "
        said += ", ".join(f"`{name}`" for name in touched) + ". "
        said += f"The smaller network answers the same: largest difference **{sig(equality, 2)}**."
    else:
        said = f"Channel {row} of `{layer}` **must stay**: {going.group.reason}. It is one of the network's answers."
    facts = {
        "layer": layer,
        "channel": str(row),
        "group": going.group.id,
        "units": str(going.group.units),
        "before": f"{before:,}",
        "after": f"{after:,}",
        "gone": f"{before - after:,}",
        "columns": f"{answer().value:.0f}",
    }
    return Shown(figures.channels_figure(lanes), said, facts, figures.rows(lanes))


@lru_cache(maxsize=256)
def _without(chosen: tuple[str, ...], group: str, unit: int) -> tuple[int, int, float]:
    """Parameters before and after, and how equal the really smaller network is to the one with the unit at zero."""
    graph = built(chosen)[1]
    if not graph.group(group).prunable:
        return graph.params, graph.params, 0.0
    net = demo_network.build(chosen)[0]
    zero_units(net, graph, {group: [unit]})
    report = slim_report(net, graph)[1]
    return graph.params, cost(graph, {group: [unit]}).params, report.equality


def answer() -> Number:
    """How many input columns ``head`` loses with one channel of ``first``, behind a residual add and a flatten."""
    graph = built(("residual", "flatten"))[1]
    lost = demo_network.leaving(graph, "first.weight", 1).positions["head.weight", 1]
    return Number(len(lost), 0, "columns")


LESSON = Lesson(fields, show, answer, (See("groups", "See the groups of {run}", "gallery.resnet8-mnist5k.geta"),))
