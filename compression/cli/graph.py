"""``graph``: the groups of a model, what is frozen and why."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from compression.cli.options import Commands, add_json, add_shape, check_target
from compression.cli.output import answer, shape, table
from compression.errors import CompressionError

if TYPE_CHECKING:
    from compression.graph import Graph, Group


def add(commands: Commands[Any]) -> None:
    """Register the command."""
    parser = commands.add_parser("graph", help="groups, units, what is frozen and why")
    parser.add_argument(
        "model", metavar="MODEL", help="a model of the zoo, torchvision:NAME or path/to/file.py:function"
    )
    parser.add_argument("--data", help="take the weights trained on this data set")
    parser.add_argument("--dot", metavar="FILE", help="write the graph for Graphviz; - is standard output")
    parser.add_argument(
        "--inexact", action="store_true", help="also allow units that a norm or a mean averages over: the others notice"
    )
    add_shape(parser)
    add_json(parser)
    parser.set_defaults(command=graph)


def graph(asked: argparse.Namespace) -> int:
    """Trace the model and tell its groups."""
    for option in ("json", "dot"):
        check_target(getattr(asked, option), f"--{option}")
    if asked.json == asked.dot == "-":
        raise CompressionError("--json and --dot cannot both go to standard output; give one of them a file")
    from compression.cli.pick import pick

    picked = pick(asked)
    from compression import zoo
    from compression.graph import trace

    found = trace(picked.model, zoo.example(asked.model, input=picked.input), inexact=asked.inexact)
    if asked.dot is not None:
        _write(dot(found, asked.model), asked.dot)
    text = "" if asked.dot == "-" else describe(found, asked.model, picked.weights)
    value = {"model": asked.model, "weights": picked.weights, **found.to_dict()}
    if asked.dot != "-" or asked.json is not None:
        answer(value, text, asked.json)
    return 0


def describe(found: Graph, model: str, weights: str) -> str:
    """The model in one line and its groups in a table."""
    units = f"{found.prunable_units} prunable units in {len(found.prunable)} group{'s' * (len(found.prunable) != 1)}"
    head = (
        f"{model}: {shape(found.input)}, {found.params:,} parameters, {found.macs:,} MACs, {units}; weights: {weights}"
    )
    if found.values_read:
        head += f"\nforward() looks at tensor values, at {found.values_read}: this is the way the example input took"
    rows = []
    for group in found.groups:
        parameters = sum(not member.buffer for member in group.members)
        rows.append((group.id, group.units, _state(group), parameters, _why(group)))
    return f"{head}\n\n" + table(("group", "units", "", "slices", "why"), rows)


def _state(group: Group) -> str:
    if not group.prunable:
        return "frozen"
    return "prunable" if group.exact else "inexact"


def _why(group: Group) -> str:
    if group.reason is None:
        return "; ".join(dict.fromkeys(tie.why for tie in group.ties))
    return f"{group.reason} (at {group.place})" if group.place not in ("", group.id, "output") else group.reason


def dot(found: Graph, name: str) -> str:
    """The graph in Graphviz's language: one box a node, with its shape and the groups that flow through it."""
    lines = [f"digraph {_quoted(name)} {{", "  rankdir=TB;", '  node [shape=box, fontname="sans-serif"];']
    for node in found.nodes:
        groups = ", ".join(found.group_of_node(node.id))
        label = "\n".join(part for part in (node.id, f"{node.kind} {shape(node.shape)}", groups) if part)
        lines.append(f"  {_quoted(node.id)} [label={_quoted(label)}];")
    lines += [f"  {_quoted(source)} -> {_quoted(target)};" for source, target in found.edges]
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _write(text: str, target: str) -> None:
    if target == "-":
        print(text)
        return
    try:
        with open(target, "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
    except OSError as error:
        raise CompressionError(f"--dot {target}: {error.strerror or error}") from error
