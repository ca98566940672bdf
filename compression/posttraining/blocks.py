"""Blocks of a network: the modules around whose layers a residual sum leads (Li et al., BRECQ, arXiv 2102.05426).

The recorded graph knows the sums, and which layers lie between the place where the paths of a sum part and the sum: the
smallest module that holds them all is the block. Of an encoder layer, whose two sums may be in modules of their own,
that is the whole encoder layer.
"""

from __future__ import annotations

from collections import Counter

from torch import nn

from compression.graph import Graph

SUMS = frozenset({"aten.add", "aten.add_"})
MOST_LAYERS = 16
"""Of a block: a larger module, such as a network with a sum around all of it, is taken apart into those within it."""
_CONTAINERS = (nn.ModuleList, nn.ModuleDict)  # these are never called


def residual_blocks(model: nn.Module, graph: Graph) -> tuple[str, ...]:
    """Paths of the blocks, in the order in which their first layers run; none lies within another.

    Of modules within each other the largest with at most :data:`MOST_LAYERS` layers is the block. A module is none
    whose layers run more than once in a forward pass, nor is the network itself.
    """
    calls = Counter(node.layer for node in graph.nodes if node.layer)
    layers = [layer.name for layer in graph.layers]
    paths = dict.fromkeys(_callable(model, path) for path in _around_sums(graph))

    def within(path: str) -> list[str]:
        return [name for name in layers if name.startswith(f"{path}.")]

    fit = [
        path for path in paths if path and len(within(path)) <= MOST_LAYERS and all(calls[n] == 1 for n in within(path))
    ]
    outermost = [path for path in fit if not any(path.startswith(f"{other}.") for other in fit)]
    return tuple(sorted(outermost, key=lambda path: layers.index(within(path)[0])))


def _around_sums(graph: Graph) -> list[str]:
    """For every sum of two paths that part and have layers on them, the smallest path of a module around all of it."""
    places = {node.id: index for index, node in enumerate(graph.nodes)}
    parents: list[list[int]] = [[] for _ in graph.nodes]
    for source, target in graph.edges:
        parents[places[target]].append(places[source])
    before: list[int] = []  # of each node: itself and all that it is computed from, as the bits of a number
    paths = []
    for place, node in enumerate(graph.nodes):
        mask = 1 << place
        for parent in parents[place]:
            mask |= before[parent] if parent < place else 0
        before.append(mask)
        if node.op not in SUMS or len(parents[place]) != 2:
            continue
        first, second = (before[parent] for parent in parents[place])
        # What lies on one of the paths alone, after the place where they part
        between = [graph.nodes[each].layer for each in _bits(first ^ second)] if first & second else []
        if layers := [layer for layer in between if layer]:
            paths.append(_common([node.module, *layers]))
    return paths


def _bits(mask: int) -> list[int]:
    return [place for place, bit in enumerate(reversed(bin(mask)[2:])) if bit == "1"]


def _common(paths: list[str]) -> str:
    """The path of the smallest module that holds all of these."""
    parts = [path.split(".") for path in paths]
    shared = 0
    while all(len(each) > shared and each[shared] == parts[0][shared] for each in parts):
        shared += 1
    return ".".join(parts[0][:shared])


def _callable(model: nn.Module, path: str) -> str:
    """The path itself or that of the nearest module around it which is called; empty: the network."""
    while path and isinstance(model.get_submodule(path), _CONTAINERS):
        path = path.rpartition(".")[0]
    return path
