"""A finished run whose weights serve several bit-widths, as the result of the one that is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compression.errors import CompressionError

_OF_THE_FINAL_ONE = ("confusion", "beside", "precisions")


def widths_served(result: Mapping[str, Any]) -> list[float]:
    """The average bits that this run's weights can be read at, ascending; empty where there is only one model."""
    return [row["bits"] for row in result.get("precisions", ())]


def row_at(result: Mapping[str, Any], bits: float) -> Mapping[str, Any]:
    """The precision with the most bits of at most ``bits``.

    Raises:
        CompressionError: the run has a single precision, or none of so few bits.
    """
    served = widths_served(result)
    if not served:
        raise CompressionError(f"run {result['run']} has one precision, its own: leave the bits out")
    fitting = [row for row in result["precisions"] if row["bits"] <= bits + 1e-6]
    if not fitting:
        raise CompressionError(
            f"run {result['run']} has {served[0]:.2f} to {served[-1]:.2f} bits a weight, not {bits:g}"
        )
    chosen: Mapping[str, Any] = max(fitting, key=lambda row: row["bits"])
    return chosen


def read_at(result: Mapping[str, Any], bits: float) -> dict[str, Any]:
    """The result with the figures of the precision at most ``bits``; ``read_at`` are its bits.

    What was counted of the final model alone, such as confusions, is not there.

    Raises:
        CompressionError: see :func:`row_at`.
    """
    row = row_at(result, bits)
    rest = {name: value for name, value in result.items() if name not in _OF_THE_FINAL_ONE}
    chosen = {"final": row["point"], "ledger": row["ledger"], "packed_sha256": row["sha256"], "read_at": row["bits"]}
    return {**rest, **chosen}
