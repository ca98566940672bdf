"""Bit operations R of a network by how many units are removed and which bits its layers have, with its slopes.

R = Σ_l MACs_l · keep_l · b_w,l · b_x,l, where keep_l is the product, over the dimensions of the layer's weight, of the
share that remains: :func:`compression.counting.cost.cost` in a form that is differentiated (eq. S5 of
``docs/derivations/sbs.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from compression.counting.cost import FULL_BITS
from compression.graph.types import Graph

Floats = NDArray[np.float64]
FLOAT = float(FULL_BITS)


class Operations:
    """Vectors have an entry for each of the graph's ``layers``, or for each of its prunable groups."""

    def __init__(self, graph: Graph) -> None:
        self.layers = [layer.name for layer in graph.layers]
        self.dense = float(sum(layer.macs for layer in graph.layers)) * FLOAT**2
        self._macs = np.array([layer.macs for layer in graph.layers], dtype=np.float64)
        # One row for each dimension of each layer's weight: its size, and what one unit of each group takes of it
        rows = [
            (index, layer.weight, dim) for index, layer in enumerate(graph.layers) for dim in range(len(layer.shape))
        ]
        self._owner = np.array([index for index, _, _ in rows], dtype=np.int64)
        self._sizes = np.array([graph.sizes[name][dim] for _, name, dim in rows], dtype=np.float64)
        self._takes = np.zeros((len(rows), len(graph.prunable)))
        at: dict[tuple[str, int], list[int]] = {}
        for row, (_, name, dim) in enumerate(rows):
            at.setdefault((name, dim), []).append(row)
        for number, group in enumerate(graph.prunable):
            for member in group.members:
                if not member.buffer:
                    self._takes[at.get((member.name, member.dim), []), number] += member.positions.shape[1]

    def bits(self, widths: Mapping[str, float]) -> Floats:
        """Widths by layer as a vector; 32 where a layer has none."""
        return np.array([widths.get(name, FLOAT) for name in self.layers])

    def macs(self, removed: Sequence[int]) -> Floats:
        """MACs of every layer without so many units of each prunable group."""
        remaining = self._sizes - self._takes @ np.asarray(removed, dtype=np.float64)
        macs = self._macs.copy()
        np.multiply.at(macs, self._owner, remaining / self._sizes)
        return macs

    def total(self, removed: Sequence[int], weights: Floats, inputs: Floats) -> float:
        """R."""
        return float((self.macs(removed) * weights * inputs).sum())

    def slopes(self, removed: Sequence[int], weights: Floats, inputs: Floats) -> tuple[Floats, Floats, Floats]:
        """d log R / d b_w and d log R / d b_x of every layer, and d log R / dn of the units that remain, by group."""
        each = self.macs(removed) * weights * inputs
        shares = each / max(float(each.sum()), 1e-300)
        remaining = self._sizes - self._takes @ np.asarray(removed, dtype=np.float64)
        of_units = (shares[self._owner] / np.maximum(remaining, 1.0)) @ self._takes
        return shares / weights, shares / inputs, of_units
