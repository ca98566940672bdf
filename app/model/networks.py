"""A traced network as the pages need it: its graph, and tables of layers and modules made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compression.graph import Graph


@dataclass(frozen=True, eq=False)
class Network:
    """A graph with what the figures need of it as plain values."""

    graph: Graph

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The ``graph`` JSON."""
        return self.graph.to_dict()

    @cached_property
    def node_groups(self) -> dict[str, tuple[str, ...]]:
        """Node id → the groups whose units its output carries."""
        return {node.id: self.graph.group_of_node(node.id) for node in self.graph.nodes}

    @cached_property
    def group_of_layer(self) -> dict[str, str]:
        """Layer name → the group that its output units belong to."""
        producers = {m.name: g.id for g in self.graph.groups for m in g.members if m.role == "producer"}
        return {layer.name: producers[layer.weight] for layer in self.graph.layers if layer.weight in producers}

    @cached_property
    def modules(self) -> list[dict[str, Any]]:
        """Parameters and MACs of every module that holds parameters itself, in the order of the network."""
        macs = {layer.name: layer.macs for layer in self.graph.layers}
        params: dict[str, int] = {}
        for name, sizes in self.graph.sizes.items():
            module, count = name.rpartition(".")[0], 1
            for length in sizes:
                count *= length
            params[module] = params.get(module, 0) + count
        return [{"name": name or "(own)", "params": count, "macs": macs.get(name, 0)} for name, count in params.items()]


def layer_rows(network: Network) -> list[dict[str, Any]]:
    """One row per conv and linear layer, for tables."""
    params = {name: _product(sizes) for name, sizes in network.graph.sizes.items()}
    total, work = max(network.graph.params, 1), max(network.graph.macs, 1)
    return [
        {
            "layer": layer.name,
            "kind": layer.kind,
            "shape": "×".join(str(size) for size in layer.shape),
            "parameters": _own(params, layer.weight, layer.bias),
            "of all, %": round(100 * _own(params, layer.weight, layer.bias) / total, 1),
            "MACs": layer.macs,
            "of all MACs, %": round(100 * layer.macs / work, 1),
            "group": network.group_of_layer.get(layer.name, ""),
        }
        for layer in network.graph.layers
    ]


def _own(params: Mapping[str, int], weight: str, bias: str | None) -> int:
    return params[weight] + (params.get(bias, 0) if bias else 0)


def _product(sizes: tuple[int, ...]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total
