"""A layer once its smallest weights are removed: its survivors, and each bit-width's best step and error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compression.errors import CompressionError
from compression.quant.allocation import LayerAllocation
from compression.quant.channel_scales import rescaled
from compression.quant.laplace import levels_of
from compression.quant.steps import Survivors, best_steps, laplace_steps
from compression.quant.tables import LayerTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """``pruned`` weights of ``table`` are removed, ``survivors`` remain, divided by their channels' ``scales`` if any.

    ``choices`` are the bit-widths to choose from, ``steps`` and ``errors`` [choices] what each of them gives.
    """

    table: LayerTable
    pruned: int
    survivors: Survivors
    scales: tuple[float, ...] | None
    choices: tuple[int, ...]
    steps: Floats
    errors: Floats

    @property
    def costs(self) -> Ints:
        """Value bits that each choice takes: int64 [choices]."""
        return self.survivors.count * np.array(self.choices, dtype=np.int64)

    def plan(self, pick: int) -> LayerAllocation:
        """The layer with one of its choices taken."""
        lost = float(self.table.second[self.pruned])
        return LayerAllocation(
            name=self.table.name,
            numel=self.table.size,
            pruned=self.pruned,
            threshold=self.table.threshold(self.pruned),
            bits=self.choices[pick],
            step=float(self.steps[pick]),
            error=lost + float(self.errors[pick]),
            pruning_error=lost,
            offset=self.survivors.offset,
            scales=self.scales,
            axis=0 if self.scales is None else self.table.axis,
        )


def parts(
    tables: Sequence[LayerTable],
    counts: Sequence[int],
    choices: Sequence[tuple[int, ...]],
    *,
    grid: str,
    codebook: str,
    zeros: str,
    modelled: bool = False,
    clip: str = "mse",
) -> list[Part]:
    """Every layer without its smallest ``counts`` weights, on the levels that the options give it.

    ``modelled`` takes steps from the Laplace model instead of searching; errors are measured either way. With ``clip``
    ``max`` no weight saturates: the last level is the largest weight of what shares a step.

    Raises:
        CompressionError: scales for channels are requested, but the tables were prepared without channels.
    """
    lowest = 1 if zeros == "exact" else 0
    layers = [
        _survivors(table, count, lowest, grid, codebook, clip) for table, count in zip(tables, counts, strict=True)
    ]
    proposed: Sequence[Floats | None] = [None] * len(layers)
    if modelled:
        proposed = laplace_steps([survivors for survivors, _ in layers], choices)
    elif clip == "max":
        proposed = [_widest(survivors, bits) for (survivors, _), bits in zip(layers, choices, strict=True)]
    result = []
    for i, (survivors, scales) in enumerate(layers):
        steps, errors = best_steps(survivors, choices[i], proposed[i])
        result.append(Part(tables[i], counts[i], survivors, scales, choices[i], steps, errors))
    return result


def _widest(survivors: Survivors, choices: tuple[int, ...]) -> Floats:
    """The step at which the largest magnitude is the last level, for each bit-width."""
    largest = float(survivors.table.magnitudes.max(initial=0.0))
    return (largest or 1.0) / np.array([levels_of(bits) for bits in choices])


def _survivors(
    table: LayerTable, pruned: int, lowest: int, grid: str, codebook: str, clip: str
) -> tuple[Survivors, tuple[float, ...] | None]:
    if codebook != "channel":
        return Survivors(table, pruned, lowest, table.threshold(pruned) if grid == "survivor" else None), None
    if table.weight is None:
        raise CompressionError("codebook channel: these tables were prepared without channels")
    return rescaled(table, pruned, lowest, clip == "max")
