"""A price on the bit operations of bit-widths: each quantizer has the bits that its layer's loss is worth.

Learnt bits b minimise the loss under a bound on the bit operations of the layers that carry quantizers,

    v(b) = sum_l MACs_l b_w,l b_a,l / budget - 1 <= 0,

with 32 for a side without a quantizer. Its Lagrangian is L + mu v with a multiplier mu >= 0; where v = 0 that is
also L + mu max(0, v), of which every share 0..1 of mu is a subgradient. With s_i = dv/db_i, a step is

    b_i <- b_i + RATE (-dL/db_i / (mu s_i) - 1),    mu <- mu exp(rho v):

the gradient of the Lagrangian, divided by mu s_i. The error of rounding falls about four times with each bit, so the
second derivative of L is ln 4 |dL/db_i|, at the optimum ln 4 mu s_i: this is Newton's step times RATE ln 4, and
neither the scale of the loss nor that of a layer's MACs has to be known. With rho = RATE (ln 4)^2 / sum_i s_i the pair
settles at half of critical damping, in about 2 / (RATE ln 4) steps.

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
        self._signs = torch.tensor([not site.quantizer.is_unsigned for site in sites], dtype=torch.float64)
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

        The harm of n bits is taken as A / N(n)^2, the squared error of steps q_m / N(n). One more bit is worth mu s at
        the learnt bits b, which gives A. First, from the lowest bits on, the site whose next bit is worth most for
        the bit operations it costs gets it, as long as that fits. Then a site gets one more where the sum of harms
        falls although others are lowered for it, those first that lose least for what they save, until no such
        exchange remains. Nothing that fits is left out.

        Raises:
            CompressionError: the lowest whole bits exceed the budget.
        """
        chosen = self.low.ceil()
        if not self._fits(chosen):
            raise CompressionError("the lowest whole bits of the range are above the bit operations of mean_bits")
        learnt = self._values(bits)
        scale = learnt**3 / (learnt + 1)  # A / s, but for factors that are the same everywhere
        harm, shares = scale * self.shares(bits), self.shares(bits).clamp(min=1e-300)
        chosen = self._filled(chosen, scale)
        while True:
            exchanges = (self._exchanged(chosen, site, harm, shares) for site in range(len(bits)))
            before = float((harm / self._values(chosen) ** 2).sum()) * (1 - _ROUNDING)
            better = next(
                (e for e in exchanges if e is not None and float((harm / self._values(e) ** 2).sum()) < before), None
            )
            if better is None:
                return chosen
            chosen = self._filled(better, scale)

    def _filled(self, chosen: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """``chosen`` with every bit more that fits, that which is worth most for its bit operations first."""
        closed = torch.zeros(len(chosen), dtype=torch.bool)
        while True:
            closed |= chosen >= self.high.floor()
            worth = torch.where(closed, 0.0, scale * self._gain(chosen))
            if not len(worth) or float(worth.max()) <= 0:
                return chosen
            same = self._same == self._same[int(worth.argmax())]
            raised = torch.where(same, chosen + 1, chosen)
            if bool((closed & same).any()) or not self._fits(raised):
                closed |= same  # it fits less and less
            else:
                chosen = raised

    def _exchanged(
        self, chosen: torch.Tensor, site: int, harm: torch.Tensor, shares: torch.Tensor
    ) -> torch.Tensor | None:
        """``chosen`` with one bit more of ``site``, and others lowered until that fits; ``None`` if it cannot be."""
        same = self._same == self._same[site]
        result = torch.where(same, chosen + 1, chosen)
        if bool((result > self.high.floor()).any()):
            return None
        while not self._fits(result):
            loss = torch.where(same | (result <= self.low.ceil()), math.inf, harm * self._gain(result - 1) / shares)
            least = int(loss.argmin())
            if not math.isfinite(float(loss[least])):
                return None
            result = torch.where(self._same == self._same[least], result - 1, result)
        return result

    def _values(self, bits: torch.Tensor) -> torch.Tensor:
        """N(b), the number of positive values: 2^(b-1) - 1, and 2^b - 1 without a sign."""
        return 2 ** (bits.double() - self._signs) - 1

    def _gain(self, bits: torch.Tensor) -> torch.Tensor:
        """By how much 1 / N^2 falls with one more bit."""
        return self._values(bits) ** -2 - self._values(bits + 1) ** -2

    def _fits(self, bits: torch.Tensor) -> bool:
        return self.bops(bits) <= self.budget * (1 + _ROUNDING)

    def _of_layers(self, bits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        padded = torch.cat([bits.double(), torch.tensor([float(FULL_BITS)], dtype=torch.float64)])
        return padded[self._sides[0]], padded[self._sides[1]]
