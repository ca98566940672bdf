"""An addition, not part of OPQ: one codebook for a layer, and a scale for each of its output channels.

A weight of channel c is s_c·Δ·k with integer k. The scale s_c is the mean magnitude of the channel's survivors, so that
the best Δ is that of the survivors divided by their channel's scale, each counting s_c² in the squared error.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from compression.quant.steps import Survivors
from compression.quant.tables import LayerTable, prefix_sums, survivors

Floats = NDArray[np.float64]


def rescaled(
    table: LayerTable, pruned: int, lowest: int, by_largest: bool = False
) -> tuple[Survivors, tuple[float, ...]]:
    """The survivors divided by their channels' scales, as weights to find a step for, and the scales (fp32 [C]).

    ``by_largest``: a scale is the largest magnitude of a channel's survivors instead of their mean. A channel without
    survivors, whose scale nothing depends on, gets the layer's.
    """
    assert table.weight is not None, "the tables were prepared for channels"
    size = table.weight.shape[table.axis]
    mask = survivors(table.weight, pruned).movedim(table.axis, 0).reshape(size, -1).numpy()
    rows = table.weight.movedim(table.axis, 0).reshape(size, -1).numpy()
    scales = _scales(rows, mask, by_largest)
    channel = np.nonzero(mask)[0]
    values = (rows[mask] / scales[channel]).astype(np.float32)
    order = np.argsort(values)
    magnitudes, counts = values[order], np.square(scales)[channel[order]]
    wide = magnitudes.astype(np.float64)
    first, second, mass = (prefix_sums(torch.from_numpy(x)) for x in (counts * wide, counts * wide * wide, counts))
    bar = float((counts / scales[channel[order]]).sum() / max(counts.sum(), 1e-300)) * table.threshold(pruned)
    scaled = LayerTable(table.name, magnitudes, first, second, mass)
    return Survivors(scaled, 0, lowest, bar=bar), tuple(scales.tolist())


def _scales(rows: NDArray[np.float32], mask: NDArray[np.bool_], by_largest: bool) -> Floats:
    """The mean or the largest magnitude of each row's survivors, as fp32 numbers above 0."""
    sums, counts = np.where(mask, rows, 0.0).sum(axis=1, dtype=np.float64), mask.sum(axis=1)
    whole = sums.sum() / max(1, counts.sum())
    means = np.divide(sums, counts, out=np.full(len(rows), whole), where=counts > 0)
    if by_largest:
        means = np.where(mask, rows, 0.0).max(axis=1).astype(np.float64)
    means = np.where(means > 0, means, whole if whole > 0 else 1.0)
    return np.maximum(means, np.finfo(np.float32).tiny).astype(np.float32).astype(np.float64)
