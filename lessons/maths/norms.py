"""Steps of layers and what they cost once coded: in proportion to norms (RIQ), and by an allocation of coded bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compression.counting.entropy import entropy_bits
from compression.quant.spending import Problem, choose
from compression.quant.tables import LayerTable

Floats = NDArray[np.float64]
FINENESS = 16  # steps that the allocation may choose from, for each factor of 2
FINEST, COARSEST = 2.0**-9, 2.0  # the range of steps, relative to the layer's largest weight


@dataclass(frozen=True, eq=False)
class Steps:
    """A step for each layer, with the coded bits of all its weights and their squared error; each is fp64 [layers]."""

    steps: Floats
    bits: Floats
    errors: Floats

    def average(self, sizes: Sequence[int]) -> float:
        """Coded bits a weight."""
        return float(self.bits.sum() / sum(sizes))


def coded(table: LayerTable, step: float) -> tuple[float, float]:
    """The entropy of a layer's codes in bits, for all its weights together, and Σ (w - Δ round(w / Δ))²."""
    magnitudes = table.magnitudes.astype(np.float64)
    codes = np.rint(magnitudes / step)
    counts = np.bincount(codes.astype(np.int64))
    signs = magnitudes.size - int(counts[0])  # codes other than 0 have a sign, as likely plus as minus
    return entropy_bits(counts) + signs, float(np.square(magnitudes - step * codes).sum())


def at(tables: Sequence[LayerTable], steps: Sequence[float] | Floats) -> Steps:
    """The layers at these steps."""
    bits, errors = np.array([coded(table, step) for table, step in zip(tables, steps, strict=True)]).T
    return Steps(np.array(steps), bits, errors)


def norms(tables: Sequence[LayerTable]) -> Floats:
    """‖w‖ of each layer."""
    return np.sqrt([float(table.second[-1]) for table in tables])


def by_norm(tables: Sequence[LayerTable], budget: float) -> tuple[float, Steps]:
    """The one number k, and Δ_l = ‖w_l‖ / k, that spend ``budget`` bits for all weights, by bisection of log k.

    RIQ (arXiv 2303.03106) without its floor (ε = 0).
    """
    lengths, low, high = norms(tables), 1e-2, 1e6
    for _ in range(40):
        k = math.sqrt(low * high)
        low, high = (k, high) if at(tables, lengths / k).bits.sum() <= budget else (low, k)
    return low, at(tables, lengths / low)


@dataclass(frozen=True, eq=False)
class Curves:
    """Layer by layer the steps it may have, finest last, with coded bits (whole ones) and squared errors of each."""

    steps: list[Floats]
    bits: list[NDArray[np.int64]]
    errors: list[Floats]

    def cheapest(self, budget: float, importance: Floats) -> list[float]:
        """The steps of least Σ ω_l error_l whose coded bits stay within ``budget``; ω is ``importance`` [layers]."""
        weighted = [omega * errors for omega, errors in zip(importance, self.errors, strict=True)]
        picks = choose(Problem(self.bits, weighted, math.floor(budget))).picks
        return [float(steps[pick]) for steps, pick in zip(self.steps, picks, strict=True)]


def curves(tables: Sequence[LayerTable]) -> Curves:
    """What every step of a grid common to all layers comes to, where it is of use to the layer."""
    steps, bits, errors = [], [], []
    for table in tables:
        most = float(table.magnitudes[-1])
        ends = (math.ceil(FINENESS * math.log2(most * end)) for end in (FINEST, COARSEST))
        grid = 2.0 ** (np.arange(*ends)[::-1] / FINENESS)
        taken = np.array([coded(table, step) for step in grid])
        steps.append(grid)
        bits.append(np.ceil(taken[:, 0]).astype(np.int64))
        errors.append(taken[:, 1])
    return Curves(steps, bits, errors)
