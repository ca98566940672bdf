"""Steps in proportion to the norms of the layers, and the one number behind them that a file's size allows (RIQ).

RIQ (arXiv 2303.03106) measures the distortion of a layer by an angle, which no scale changes, and gives it the step

    Δ_l = ‖w_l‖ (1/k + ε √(24/n_l))

with one k for the network. For fine steps the error is noise of variance Δ²/12, so that 1 - cos(w, ŵ) ≈ nΔ²/24‖w‖² =
(√(n/24)/k + ε)²: ε² is what no k can go below. Entropy-coded, a weight takes about h(w) - log2 Δ bits, so that with
equal shapes of distribution the bits depend on the layer's size alone, one less for each factor 4. A step in proportion
to the norm is where Σ nΔ²/24‖w‖² is least for a given Σ n (h - log2 Δ) (by its Lagrangian; derived here): an allocation
of OPQ whose layers count by their energy (ω = 1/‖w‖²) and whose cost is coded bits rather than widths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from compression.asks import Bounds
from compression.bounds import HIGHEST_BITS, LOWEST_BITS
from compression.counting.entropy import entropy_bits
from compression.errors import CompressionError
from compression.pack.streams import encode
from compression.quant.allocation import Allocation, LayerAllocation
from compression.quant.fixed_steps import FixedQuantizer
from compression.quant.laplace import levels_of
from compression.quant.nearest import rounding
from compression.quant.steps import Survivors
from compression.quant.tables import LayerTable, LayerTables

SMALL_BITS = 8
COARSEST = 0.25  # k at which Δ is at least 4‖w‖, so that every code is 0
CLOSE, TRIALS = 5e-4, 8  # how near the size is worth coming, as a share of it, and how often all weights are coded
WORD, HEAD = 32, 2  # of an entropy-coded stream: bits of a word, bytes before the counts


@dataclass(frozen=True, eq=False)
class NormLayer:
    """One layer: its sorted magnitudes, its ``weight`` on the CPU, bounds of its integers' width, and ε as ``floor``.

    A ``fixed`` layer has a step that no k changes.
    """

    table: LayerTable
    weight: torch.Tensor
    widths: tuple[int, int] = (LOWEST_BITS, HIGHEST_BITS)
    floor: float = 0.0
    fixed: LayerAllocation | None = None

    @property
    def norm(self) -> float:
        """‖w‖."""
        return math.sqrt(float(self.table.second[-1]))

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The finest and the coarsest step whose codes are of a width within bounds."""
        low, high = self.widths
        largest = float(self.table.magnitudes[-1])
        coarsest = math.inf if low <= LOWEST_BITS else largest / (levels_of(low - 1) + 0.6)
        return largest / (levels_of(high) + 0.5), coarsest

    def step(self, k: float) -> float:
        """Δ, an fp32 number; 1 for a layer of zeros."""
        if self.fixed is not None:
            return self.fixed.step
        if self.norm == 0:
            return 1.0
        finest, coarsest = self.ends
        followed = self.norm * (1 / k + self.floor * math.sqrt(24 / self.table.size))
        step = np.float32(min(max(followed, finest), coarsest, float(np.finfo(np.float32).max)))
        return float(max(step, np.finfo(np.float32).tiny))

    def codes(self, k: float) -> torch.Tensor:
        """int32, the weight's shape: exactly those of the quantizer that the layer gets."""
        most = self.widths[1] if self.fixed is None else self.fixed.bits
        everywhere = torch.ones_like(self.weight, dtype=torch.bool)
        return FixedQuantizer(everywhere, self.step(k), most, lowest=0).codes(self.weight)

    def coded(self, k: float) -> int:
        """Bytes of its codes as the packed file holds them."""
        return len(encode(self.codes(k).reshape(-1).numpy()).data)

    def distortion(self, k: float) -> float:
        """1 - cos(w, ŵ); 1 where every code is 0, whose angle is not defined."""
        weight, codes = self.weight.double().flatten(), self.codes(k).double().flatten()
        length = float(codes.norm())
        return 1 - float(weight @ codes) / (self.norm * length) if length and self.norm else 1.0

    def expected(self, k: float) -> float:
        """About :meth:`coded`, from where steps fall in the sorted magnitudes, as if half of each had either sign."""
        step, table = self.step(k), self.table
        highest = round(float(table.magnitudes[-1]) / step)
        ends = np.searchsorted(table.magnitudes, ((np.arange(highest) + 0.5) * step).astype(np.float32), side="right")
        counts = np.diff(np.concatenate([[0], ends, [table.size]]))
        nonzero, width = table.size - int(counts[0]), (2 * highest).bit_length()
        varints = 2 * int((1 + (counts[1:] >= 1 << 8) + (counts[1:] >= 1 << 15)).sum()) + 3
        coded = varints + WORD / 8 * math.ceil((entropy_bits(counts) + nonzero) / WORD)
        bitmap = table.size / 8 + nonzero * width / 8
        return HEAD + min(coded, bitmap, table.size * width / 8)

    def plan(self, k: float) -> LayerAllocation:
        """Step, width, error and coded bytes: the width is what the largest code needs."""
        codes, step = self.codes(k), self.step(k)
        needed = int(codes.abs().max()).bit_length() + 1
        bits = max(needed, self.widths[0]) if self.fixed is None else self.fixed.bits
        error = float(Survivors(self.table, 0, lowest=0).errors(np.array([step]), bits)[0])
        coded = len(encode(codes.reshape(-1).numpy()).data)
        return LayerAllocation(self.table.name, self.table.size, 0, 0.0, bits, step, error, 0.0, coded=coded)


def norm_layers(
    tables: LayerTables, weights: Mapping[str, torch.Tensor], bounds: Bounds, floor: float, smallest: int
) -> tuple[NormLayer, ...]:
    """The layers of a network; those of fewer than ``smallest`` weights get :data:`SMALL_BITS` and their best step.

    ``bounds``: layer → its bounds of widths as ``weight_bits``, where it has some.
    """
    layers = []
    for table in tables.layers:
        low, high = bounds.get(table.name, {}).get("weight_bits") or (LOWEST_BITS, HIGHEST_BITS)
        widths = math.ceil(low), math.floor(high)
        fixed = None
        if table.size < smallest:
            bits = min(max(SMALL_BITS, widths[0]), widths[1])
            fixed = rounding(LayerTables((table,)), {table.name: bits}).layers[0]
        layers.append(NormLayer(table, weights[table.name].detach().cpu(), widths, floor, fixed))
    return tuple(layers)


def finest_number(layers: Sequence[NormLayer]) -> float:
    """A k beyond which no step becomes finer, but for what the floor adds."""
    return max((layer.norm / layer.ends[0] for layer in layers if layer.norm and layer.fixed is None), default=1.0)


def number_for_size(layers: Sequence[NormLayer], size: int, check: Callable[[], None] = lambda: None) -> float:
    """The largest k, near enough, whose codes take at most ``size`` bytes: coded and counted, not estimated.

    ``check`` is called before all weights are coded once more; it may raise to stop.

    Raises:
        CompressionError: even the coarsest steps take more.
    """

    def actual(k: float) -> int:
        check()
        return sum(layer.coded(k) for layer in layers)

    least, low, high = actual(COARSEST), COARSEST, finest_number(layers)
    if least > size:
        numel = sum(layer.table.size for layer in layers)
        raise CompressionError(
            f"coded_bits: these layers take at least {_up(8 * least / numel)} coded bits a weight, of which small ones "
            f"at {SMALL_BITS} bits are a part: ask for that many, lower smallest, or loosen bounds of layers"
        )
    # Search by what is expected, corrected by how far that is from what comes out; what was coded brackets the answer.
    k, trials = _expected_number(layers, size, low, high), 0
    while high / low > 1 + 1e-9 and (trials < TRIALS or low == COARSEST):
        taken, trials = actual(k), trials + 1
        low, high = (k, high) if taken <= size else (low, k)
        if size * (1 - CLOSE) <= taken <= size:
            break
        correction = taken - sum(layer.expected(k) for layer in layers)
        k = _expected_number(layers, size * (1 - CLOSE / 2) - correction, low, high)
        if trials >= TRIALS or not low < k < high:
            k = math.sqrt(low * high)
    return low


def allocate(layers: Sequence[NormLayer], k: float, notes: tuple[str, ...] = ()) -> Allocation:
    """Steps, widths and coded bytes of all layers at this k; nothing is pruned."""
    plans = tuple(layer.plan(k) for layer in layers)
    numel, spent = sum(plan.numel for plan in plans), sum(plan.numel * plan.bits for plan in plans)
    return Allocation(
        sparsity=0.0,
        bits=spent / numel,
        layers=plans,
        pruned=0,
        numel=numel,
        value_bits=spent,
        budget_bits=spent,
        exact=False,
        zeros="rounded",
        notes=notes,
    )


def coded_bits(allocation: Allocation) -> float:
    """Bits a weight of all layers, as they are coded."""
    return 8 * sum(layer.coded or 0 for layer in allocation.layers) / allocation.numel


def _expected_number(layers: Sequence[NormLayer], size: float, low: float, high: float) -> float:
    """The k between ``low`` and ``high`` at which about ``size`` bytes are expected, by bisection of log k."""
    if sum(layer.expected(high) for layer in layers) <= size:
        return high
    for _ in range(40):
        middle = math.sqrt(low * high)
        fits = sum(layer.expected(middle) for layer in layers) <= size
        low, high = (middle, high) if fits else (low, middle)
    return low


def _up(bits: float) -> str:
    """Rounded up to hundredths, so that whoever asks for it gets it."""
    return f"{math.ceil(100 * bits) / 100:g}"
