"""What each marker of the graph is: its role, its label, its sentence, whether it is lit or matched by the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from compression.plots import words

LONGEST_LABEL = 22
MODULE = "module:"  # prefix of the id of a box that is a module

Group = Mapping[str, Any]
Point = tuple[float, float]  # column, row


class Box(Protocol):
    """The operations of one marker: ``path`` is the module's, ``None`` for a single operation."""

    @property
    def id(self) -> str: ...
    @property
    def members(self) -> tuple[str, ...]: ...
    @property
    def path(self) -> str | None: ...


@dataclass(frozen=True)
class NodeMark:
    """One marker on the page: ``lit`` when it carries the selected group, ``matched`` when the search matches it.

    ``path`` is the module it represents, ``None`` for a single operation.
    """

    id: str
    x: float
    y: float
    role: str
    label: str
    groups: tuple[str, ...]
    sentence: str
    lit: bool = False
    matched: bool = False
    path: str | None = None


@dataclass(frozen=True)
class Facts:
    """What markers are described from: nodes and groups by id, groups of every node, parameters of every module."""

    nodes: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, Group]
    node_groups: Mapping[str, Sequence[str]]
    parameters: Mapping[str, int]

    def carried(self, members: Sequence[str]) -> list[Group]:
        """The groups whose units leave any of these operations."""
        ids = dict.fromkeys(g for member in members for g in self.node_groups.get(member, ()))
        return [self.groups[i] for i in ids if i in self.groups]


def brief(label: str) -> str:
    """A label with only the last part of the name, for rows where boxes stand close."""
    name, gap, amounts = label.partition("  ")
    before, _, last = name.rpartition(".")
    if last[:1].isdigit():
        last = before.rpartition(".")[2] + "." + last if before else last
    return (name if last == name else f"…{last}") + gap + amounts.partition(" ·")[0]


def node_mark(box: Box, place: Point, facts: Facts, selected: str | None, search: str) -> NodeMark:
    """Describe one box."""
    groups = facts.carried(box.members)
    ids = tuple(group["id"] for group in groups)
    if box.path is None:
        node = facts.nodes[box.id]
        role, label, sentence = _role(node, groups), _label(node, groups), _operation(node, groups)
    else:
        role, label, sentence = _module(box, facts)
    lit = selected is not None and selected in ids
    return NodeMark(box.id, *place, role, label, ids, sentence, lit, matches(box, facts.nodes, search), box.path)


def matches(box: Box, nodes: Mapping[str, Mapping[str, Any]], search: str) -> bool:
    """Is the searched text part of the name, kind or ATen name of an operation in this box?"""
    text = search.strip().lower()
    if not text:
        return False
    return any(text in f"{m} {nodes[m]['kind']} {nodes[m]['op']}".lower() for m in box.members)


def _role(node: Mapping[str, Any], groups: Sequence[Group]) -> str:
    if node.get("branch"):
        return "quantizer"
    if not groups:
        return "plain"
    if not any(group["prunable"] for group in groups):
        return "frozen"
    return "prunable" if node.get("layer") else "join"


def _label(node: Mapping[str, Any], groups: Sequence[Group]) -> str:
    units = " + ".join(str(group["units"]) for group in groups[:3]) + (" + …" if len(groups) > 3 else "")
    return f"{_short(node['id'])}  {units}" if groups else _short(node["id"])


def _short(name: str) -> str:
    """The end of a long name, cut where one of its parts begins."""
    name = name.rpartition("/")[2]  # an operation of a quantizer
    while len(name) > LONGEST_LABEL and "." in name:
        name = name.removeprefix("…").partition(".")[2]
        name = "…" + name
    return name


def _operation(node: Mapping[str, Any], groups: Sequence[Group]) -> str:
    lines = [f"<b>{node['id']}</b>", f"{node['kind']}, output {words.shape(node['shape'])}"]
    if node.get("quantizers"):
        lines.append(
            f"with its quantizer's {words.plural(len(node['quantizers']), 'number')}: "
            + ", ".join(name.rpartition(".")[2] for name in node["quantizers"])
        )
    for group in groups[:4]:
        state = "can be removed" if group["prunable"] else f"must stay: {group['reason'] or 'not prunable'}"
        lines.append(f"group {group['id']}: {words.plural(group['units'], 'unit')}, {state}")
    if len(groups) > 4:
        lines.append(f"and {len(groups) - 4} more groups")
    return "<br>".join(lines)


def _module(box: Box, facts: Facts) -> tuple[str, str, str]:
    """Role, label and sentence of a module: the sums over its layers."""
    assert box.path is not None
    layers = [m for m in box.members if facts.nodes[m].get("layer")]
    groups = facts.carried(layers)
    units = sum(group["units"] for group in groups if group["prunable"])
    inside = f"{box.path}."
    params = sum(n for name, n in facts.parameters.items() if name == box.path or name.startswith(inside))
    role = "module" if units else "frozen module" if layers else "plain module"
    amounts = [*([f"{units:,}"] if units else []), *([words.count(params)] if params else [])]
    lines = [
        f"<b>{box.path}</b>",
        f"module of {words.plural(len(box.members), 'operation')}, {words.plural(len(layers), 'layer')}, "
        f"{words.plural(params, 'parameter')}",
        f"its layers make {words.plural(len(groups), 'group')}, {words.plural(units, 'unit')} can be removed",
        "click to open it",
    ]
    return role, f"{_short(box.path)}  {' · '.join(amounts)}".rstrip(), "<br>".join(lines)
