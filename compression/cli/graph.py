"""``graph``: the groups of a model, what is frozen and why."""

from __future__ import annotations

from functools import partial
from json import dumps
from typing import TYPE_CHECKING, Annotated, Unpack

from cyclopts import Parameter

from compression.aligned import table
from compression.cli import options
from compression.cli.output import answer, shape, write
from compression.cli.pick import pick
from compression.errors import CompressionError
from compression.widgets.rich_graph import standing, why

if TYPE_CHECKING:
    from compression.graph import Graph

Inexact = Annotated[bool, Parameter(help="also allow units that a norm or a mean averages over: the others change")]


def graph(
    model: options.Model, /, *, data: options.TrainedOn = None, dot: options.Dot = None, inexact: Inexact = False,
    json: options.Json = None, **shape: Unpack[options.Shape],
) -> None:  # fmt: skip
    """Trace the model and show its groups."""
    if json == dot == "-":
        raise CompressionError("--json and --dot cannot both go to standard output; give one of them a file")
    subject, origin = pick(model, data, **shape, inexact=inexact)
    if dot is not None:
        write(graphviz(subject.graph, model), dot, "--dot")
    text = "" if dot == "-" else describe(subject.graph, model, origin)
    if dot != "-" or json is not None:
        answer({"model": model, "weights": origin, **subject.graph.to_dict()}, text, json)


def describe(graph: Graph, model: str, weights: str) -> str:
    """The model in one line and its groups in a table."""
    units = f"{graph.prunable_units} prunable units in {len(graph.prunable)} group{'s' * (len(graph.prunable) != 1)}"
    head = (
        f"{model}: {shape(graph.input)}, {graph.params:,} parameters, {graph.macs:,} MACs, {units}; weights: {weights}"
    )
    if graph.values_read:
        head += f"\nforward() looks at tensor values, at {graph.values_read}: this is the way the example input took"
    rows = []
    for group in graph.groups:
        parameters = sum(not member.buffer for member in group.members)
        rows.append((group.id, group.units, standing(group), parameters, why(group)))
    return f"{head}\n\n" + table(("group", "units", "", "slices", "why"), rows)


def graphviz(graph: Graph, name: str) -> str:
    """The graph in Graphviz's language: one box a node, with its shape and the groups that flow through it."""
    quoted = partial(dumps, ensure_ascii=False)  # texts are quoted there as in JSON
    lines = [f"digraph {quoted(name)} {{", "  rankdir=TB;", '  node [shape=box, fontname="sans-serif"];']
    for node in graph.nodes:
        groups = ", ".join(graph.group_of_node(node.id))
        label = "\n".join(part for part in (node.id, f"{node.kind} {shape(node.shape)}", groups) if part)
        lines.append(f"  {quoted(node.id)} [label={quoted(label)}];")
    lines += [f"  {quoted(source)} -> {quoted(target)};" for source, target in graph.edges]
    return "\n".join([*lines, "}"])
