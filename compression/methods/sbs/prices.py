"""Bits of layers by their open gates, the bit operations that they come to, and what one more gate costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from compression.methods.sbs.layers import SharedLayer
from compression.methods.sbs.operations import Floats, Operations
from compression.methods.sbs.path import chained, gate_steps, opened

Widths = Sequence[tuple[int, int]]
"""(weight bits, input bits) of every layer."""
Open = tuple[list[tuple[bool, ...]], list[tuple[bool, ...]]]
"""Which gates are open: of weights by layer, of inputs by layer."""


@dataclass(frozen=True)
class Prices:
    """d log R / dg of the gates of weights, of inputs, and of units; and how gates of one path depend on each other.

    ``chains``: block-diagonal, :func:`.path.chained` of every layer: of weights, of inputs.
    """

    weights: torch.Tensor
    inputs: torch.Tensor
    units: torch.Tensor
    chains: tuple[torch.Tensor, torch.Tensor]


class Ledger:
    """Counts bit operations for ``layers`` in the network of ``operations``."""

    def __init__(self, operations: Operations, layers: Sequence[SharedLayer], group_of: Sequence[int]) -> None:
        self.operations, self.layers, self.group_of = operations, layers, group_of

    def widths(self, gates: Open) -> list[tuple[int, int]]:
        """What open gates come to."""
        triples = zip(self.layers, *gates, strict=True)
        return [(opened(each.weight.candidates, w), opened(each.input_candidates, i)) for each, w, i in triples]

    def most(self) -> list[tuple[int, int]]:
        """The most bits."""
        return [(layer.weight.candidates[-1], layer.input_candidates[-1]) for layer in self.layers]

    def total(self, counts: Sequence[int], widths: Widths) -> float:
        """R without so many units of each group, at these bits."""
        return self.operations.total(counts, *self._vectors(widths))

    def macs(self, counts: Sequence[int]) -> list[float]:
        """MACs of every layer, or of those together that share its weight."""
        each = dict(zip(self.operations.layers, self.operations.macs(counts), strict=True))
        return [sum(float(each.get(name, 0.0)) for name in layer.names) for layer in self.layers]

    def prices(self, counts: Sequence[int], gates: Open, device: torch.device) -> Prices:
        """Slopes of log R where so many units are closed and these gates are open."""
        *of_bits, of_groups = self.operations.slopes(counts, *self._vectors(self.widths(gates)))
        at = {name: index for index, name in enumerate(self.operations.layers)}
        slopes, chains = [], []
        for kind in (0, 1):
            parts, blocks = [torch.zeros(0)], []
            for layer, own in zip(self.layers, gates[kind], strict=True):
                block = chained(own)
                slope = sum(float(of_bits[kind][at[name]]) for name in layer.names if name in at)
                parts.append(block @ gate_steps((layer.weight.candidates, layer.input_candidates)[kind]) * slope)
                blocks += [block] if len(block) else []
            slopes.append(torch.cat(parts).to(device))
            chains.append((torch.block_diag(*blocks) if blocks else torch.zeros(0, 0)).to(device))
        owner = torch.tensor(self.group_of, dtype=torch.int64)
        units = torch.tensor(of_groups, dtype=torch.float32)[owner].to(device)
        return Prices(slopes[0], slopes[1], units, (chains[0], chains[1]))

    def _vectors(self, widths: Widths) -> tuple[Floats, Floats]:
        pairs = list(zip(self.layers, widths, strict=True))
        weights = {name: float(bits) for layer, (bits, _) in pairs for name in layer.names}
        inputs = {name: float(bits) for layer, (_, bits) in pairs if layer.inputs for name in layer.names}
        return self.operations.bits(weights), self.operations.bits(inputs)
