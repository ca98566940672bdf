"""A price on the bit operations of bit-widths: each quantizer has the bits that its layer's loss is worth.

Learnt bits b minimise the loss under a bound on the bit operations of the layers that carry quantizers,

    v(b) = sum_l MACs_l b_w,l b_a,l / budget - 1 <= 0,

with 32 for a side without a quantizer. Its Lagrangian is L + mu v with a multiplier mu >= 0; where v = 0 that is
also L + mu max(0, v), of which every share 0..1 of mu is a subgradient. With s_i = dv/db_i, a step is

    b_i <- b_i + RATE (-dL/db_i / (mu s_i) - 1),    mu <- mu exp(rho v):

the gradient of the Lagrangian, divided by mu s_i. The error of rounding falls four times with each bit, so the second
derivative of L is ln 4 |dL/db_i|, at the optimum ln 4 mu s_i: this is Newton's step times RATE ln 4, and neither the
scale of the loss nor that of a layer's MACs has to be known. With rho = RATE (ln 4)^2 / sum_i s_i the pair settles at
half of critical damping, in about 2 / (RATE ln 4) steps.

Any trainer can use it: it reads bits and dL/db, and returns bits (:func:`bit_slope` has dL/db of dL/dd).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from compression.counting.cost import FULL_BITS
from compression.errors import CompressionError
from compression.quant.kernels import SMALLEST
from compression.quant.quantizer import Quantizer

RATE = 0.05
"""Share of Newton's step (over ln 4) that one step takes: gradients of one batch are as noisy as they are large."""
LARGEST_CHANGE = 0.1
"""Largest change of a bit-width in one step, in bits."""
_ROUNDING = 1e-9


class PricedSite(Protocol):
    """One quantizer of a layer: ``kind`` is ``weight`` or ``activation``, ``bits`` the range it may end in."""

    @property
    def layer(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def quantizer(self) -> Quantizer: ...
    @property
    def bits(self) -> tuple[float, float]: ...


def bit_slope(slope: torch.Tensor, step: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
    """dL/db of dL/dd (``slope``) at a fixed range ``top`` = q_m^t: with N = top / d, dd/db = -ln 2 d (1 + 1/N)."""
    return -math.log(2) * slope * step * (1 + step / top.clamp(min=SMALLEST))


class BitPrice:
    """The multiplier, and what it has to know of the network; all vectors are fp64 [sites].

    Args:
        sites: the quantizers; those of a shared quantizer have one bit-width.
        macs: layer → multiply-accumulates; a layer that is not named costs nothing.
        mean_bits: ``reference`` of every site, inside its range; the budget is the bit operations at these bits, so
            that with weights alone it is their mean over all multiply-accumulates. 0: the middle of each range.
    """

    def __init__(self, sites: Sequence[PricedSite], macs: Mapping[str, float], mean_bits: float = 0.0) -> None:
        self.low, self.high = (torch.tensor([site.bits[i] for site in sites], dtype=torch.float64) for i in (0, 1))
        middle = (self.low + self.high) / 2 if mean_bits <= 0 else torch.full_like(self.low, mean_bits)
        self.reference = torch.minimum(torch.maximum(middle, self.low.ceil()), self.high)
        self.multiplier: float | None = None
        layers = list(dict.fromkeys(site.layer for site in sites))
        at = {(site.layer, site.kind): index for index, site in enumerate(sites)}
        self._layers = layers
        # Of each layer, the site of its weight and that of its input; one behind the last stands for 32 bits
        self._sides = [
            torch.tensor([at.get((layer, kind), len(sites)) for layer in layers], dtype=torch.int64)
            for kind in ("weight", "activation")
        ]
        first: dict[Quantizer, int] = {}
        self._same = torch.tensor([first.setdefault(site.quantizer, i) for i, site in enumerate(sites)])
        self.set_macs(macs)

    def set_macs(self, macs: Mapping[str, float]) -> None:
        """What the network costs now; the budget is that of the reference bits in this network."""
        self._macs = torch.tensor([macs.get(layer, 0.0) for layer in self._layers], dtype=torch.float64)
        self.budget = self.bops(self.reference)

    def bops(self, bits: torch.Tensor) -> float:
        """Bit operations of the layers that carry quantizers."""
        weight, activation = self._of_layers(bits)
        return float((self._macs * weight * activation).sum())

    def violation(self, bits: torch.Tensor) -> float:
        """v: by what share the bit operations exceed the budget; below 0 where they do not."""
        return self.bops(bits) / self.budget - 1 if self.budget > 0 else 0.0

    def shares(self, bits: torch.Tensor) -> torch.Tensor:
        """s = dv/db of every site; all sites of a shared quantizer have the sum of theirs."""
        both = torch.zeros(len(bits) + 1, dtype=torch.float64)
        if self.budget > 0:
            weight, activation = self._of_layers(bits)
            both.index_add_(0, self._sides[0], self._macs * activation / self.budget)
            both.index_add_(0, self._sides[1], self._macs * weight / self.budget)
        return torch.zeros(len(bits), dtype=torch.float64).index_add_(0, self._same, both[:-1])[self._same]

    def update(self, bits: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        """The next bits, inside their ranges, and the next multiplier; ``slopes``: dL/db of every site.

        The first call lowers what is above its reference bits, so that the second one has gradients at these.
        """
        shares = self.shares(bits)
        total = float(shares.sum())
        if total <= 0:
            return bits
        # 1. Begin at the reference; the first multiplier is the price at which that would be right on the whole
        if self.multiplier is None:
            self.multiplier = 0.0
            return torch.minimum(bits, self.reference)
        if self.multiplier == 0:
            self.multiplier = max(float(slopes.abs().sum()) / total, SMALLEST)
        # 2. b <- b + RATE (-dL/db / (mu s) - 1); what costs nothing has as many bits as it may
        worth = torch.where(shares > 0, -slopes / (self.multiplier * shares).clamp(min=1e-300), math.inf)
        change = (RATE * (worth - 1)).clamp(-LARGEST_CHANGE, LARGEST_CHANGE)
        new = torch.minimum(torch.maximum(bits + change, self.low), self.high)
        # 3. mu <- mu exp(rho v): dearer where the budget is exceeded, cheaper where it is not used
        self.multiplier *= math.exp(RATE * math.log(4) ** 2 / total * self.violation(new))
        return new

    def whole(self, bits: torch.Tensor) -> torch.Tensor:
        """Whole bits in range, of which the bit operations are within the budget and cannot be raised anywhere.

        From the lowest bits on, the site that is furthest below its learnt bits gets one more, as long as that fits:
        at the learnt bits a bit operation is worth mu everywhere, and four times less with each further bit, so the
        next bit is worth mu s_i 4^(b_i - n_i) per s_i. Nothing that fits is left out.

        Raises:
            CompressionError: the lowest whole bits exceed the budget.
        """
        lowest, highest = self.low.ceil(), self.high.floor()
        chosen, allowed = lowest.clone(), self.budget * (1 + _ROUNDING)
        if self.bops(chosen) > allowed:
            raise CompressionError("the lowest whole bits of the range are above the bit operations of mean_bits")
        distance = torch.where(chosen < highest, bits - chosen, -math.inf)
        while len(distance) and float(distance.max()) > -math.inf:
            index = int(distance.argmax())
            same = self._same == self._same[index]
            raised = torch.where(same, chosen + 1, chosen)
            if self.bops(raised) <= allowed and bool((raised <= highest).all()):
                chosen = raised
                distance = torch.where(same, torch.where(chosen < highest, bits - chosen, -math.inf), distance)
            else:  # it fits less and less
                distance[same] = -math.inf
        return chosen

    def _of_layers(self, bits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        padded = torch.cat([bits.double(), torch.tensor([float(FULL_BITS)], dtype=torch.float64)])
        return padded[self._sides[0]], padded[self._sides[1]]
