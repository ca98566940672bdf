"""Graphs and groups as notebooks show them: what hangs together, and why."""

from __future__ import annotations

from compression.graph.types import Graph, Group
from compression.plots import words
from compression.widgets.view import Table, View

MOST_LAYERS = 3
GROUPS = ("group", "kind", "units", "", "layers", "why")
MEMBERS = ("parameter", "role", "dimension", "numbers a unit")


def standing(group: Group) -> str:
    """Whether units of a group can be removed, in one word."""
    if not group.prunable:
        return "frozen"
    return "prunable" if group.exact else "inexact"


def why(group: Group) -> str:
    """Why a group is frozen or inexact and where, else what ties its units."""
    if group.reason is None:
        return "; ".join(dict.fromkeys(tie.why for tie in group.ties))
    return f"{group.reason} (at {group.place})" if group.place not in ("", group.id, "output") else group.reason


def graph_view(graph: Graph) -> View:
    """The network in figures and a row for each group."""
    kinds = {layer.name: layer.kind for layer in graph.layers}
    rows = [
        (
            group.id, ", ".join(dict.fromkeys(kinds.get(name, "") for name in group.layers)), f"{group.units:,}",
            standing(group), _listed(group.layers), why(group),
        )
        for group in graph.groups
    ]  # fmt: skip
    units = f"{words.plural(graph.prunable_units, 'unit')} in {words.plural(len(graph.prunable), 'group')}"
    facts = (
        ("input", ", ".join(words.shape(each) for each in graph.inputs)),
        ("layers", f"{len(graph.layers):,}"),
        ("parameters", words.count(graph.params)),
        ("MACs", words.count(graph.macs)),
        ("prunable", units),
    )
    read = f"forward() looks at tensor values, at {graph.values_read}: this is the way the example input took"
    return View("Graph", facts, (Table(GROUPS, rows),), (read,) if graph.values_read else ())


def group_view(group: Group) -> View:
    """The layers of a group, what ties its units, and the slices of which they are made."""
    facts = (("", standing(group)), ("units", f"{group.units:,}"), ("layers", _listed(group.layers)))
    notes = (why(group),) if group.reason is not None else ()
    members = [
        (member.name, member.role, member.dim, f"{member.numel:,}") for member in group.members if not member.buffer
    ]
    ties = [(tie.op, tie.why) for tie in group.ties]
    tables = (Table(("tied at", "why"), ties), Table(MEMBERS, members))
    return View(f"Group {group.id}", facts, tables, notes)


def _listed(layers: tuple[str, ...]) -> str:
    """The first layers by name, and how many more."""
    more = len(layers) - MOST_LAYERS
    return ", ".join(layers[:MOST_LAYERS]) + (f" and {more} more" if more > 0 else "")
