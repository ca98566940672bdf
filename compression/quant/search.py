"""The minimum of many one-dimensional functions at once, none of which need be unimodal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def nested_minimum(
    errors: Callable[[Floats], Floats], low: Floats, high: Floats, points: int = 40, rounds: int = 3, finer: int = 13
) -> tuple[Floats, Floats]:
    """Search a geometric grid between ``low`` and ``high``, then finer grids around each row's best point.

    Args:
        errors: maps candidates [rows, G] to values [rows, G], row by row.
        low, high: positive bounds [rows].
        points, rounds, finer: size of the first grid, number of refinements, size of each.

    Returns:
        The best candidate and its value, each [rows].
    """
    rows = np.arange(len(low))
    for size in (points, *[finer] * rounds):
        grid = low[:, None] * (high / low)[:, None] ** np.linspace(0.0, 1.0, size)
        values = errors(grid)
        best = values.argmin(axis=1)
        low, high = grid[rows, np.maximum(best - 1, 0)], grid[rows, np.minimum(best + 1, size - 1)]
    return grid[rows, best], values[rows, best]
