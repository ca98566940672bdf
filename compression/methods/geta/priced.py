"""Bit-widths under a price, within QASSO: the price takes the place of d's own step between projection and cool-down.

Bits and ranges are the variables then: d = q_m^t / (2^(b-1) - 1) follows both (eq. G15 and G16 of
``docs/derivations/geta-joint-step.md``). See :mod:`compression.quant.bit_price`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from compression.counting.cost import remaining_macs
from compression.graph.types import Graph
from compression.methods.geta.bounds import BitBounds
from compression.quant.bit_price import BitPrice, bit_slope


class PricedBits:
    """A :class:`BitPrice` on the sites of a :class:`BitBounds`, in the network without the units removed so far.

    The price is settled on the CPU: on an accelerator a step under it waits for the device once.
    """

    def __init__(self, bounds: BitBounds, graph: Graph, mean_bits: float) -> None:
        self.bounds, self.graph = bounds, graph
        self.price = BitPrice(bounds.sites, remaining_macs(graph, {}), mean_bits)
        bounds.falls_to = self.price.reference.to(bounds.low)
        self._values, self._bits, self._slopes = (torch.zeros(0),) * 3

    def removed(self, units: Mapping[str, Sequence[int]]) -> None:
        """These units are removed by now: the layers that had them cost less."""
        self.price.set_macs(remaining_macs(self.graph, units))

    def read(self) -> None:
        """Read the bits before an update, and the gradients of the loss with respect to them."""
        steps, tops = self.bounds.steps(), self.bounds.tops()
        self._values, self._bits = tops / steps + 1, self.bounds.bits()
        self._slopes = bit_slope(self.bounds.slopes(), steps, tops)

    def write(self) -> None:
        """After the update of ranges and exponents: d of every site by its next bits."""
        bits, slopes = torch.stack([self._bits, self._slopes]).cpu().double()
        change = (self.price.update(bits, slopes) - bits).to(self._bits)
        self.bounds.write(self.bounds.tops() / (self._values * 2**change - 1))

    def round_bits(self) -> None:
        """Choose whole bits within the budget, once."""
        if self.bounds.sites:
            self.bounds.whole_bits = self.price.whole(self.bounds.bits().cpu().double()).to(self.bounds.low)
