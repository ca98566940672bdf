"""A result in a few lines for people."""

from __future__ import annotations

from typing import Any

from compression.cli.output import columns, percent, table
from compression.preprocess import words

POINTS = {
    "": "{name}", "accuracy": "{accuracy:percent}", "bytes": "{bytes:size}", "kind": "{bytes_kind}",
    "MACs": "{macs:,.0f}", "rel. BOPs": "{rel_bops:percent}", "units removed": "{unit_sparsity:percent}",
    "zero weights": "{weight_sparsity:percent}",
}  # fmt: skip


def summary(result: dict[str, Any]) -> str:
    """How a run or a sweep ended and how long it took, its points in a table, and what else there is to say."""
    lines = [f"{result['run']}: {result['status']}, {result['seconds']:.1f} s"]
    if result.get("error"):
        lines.append(str(result["error"]))
    ends = {run["run"]: run["final"] for run in result["runs"]} if "runs" in result else {"final": result["final"]}
    points = {"baseline": result["baseline"], **ends}
    rows = [{"name": name, **point} for name, point in points.items() if point]
    if rows:
        lines += ["", columns(POINTS, rows)]
    return "\n".join(lines + (_sweep_lines(result) if "runs" in result else _run_lines(result)))


def _run_lines(result: dict[str, Any]) -> list[str]:
    lines = ["", _bits(result["final"]["bits"])] if result["final"] else []
    if result.get("preprocess"):
        lines.append(f"started from {result['weights']}; images: {words(result['preprocess'])}")
    if result["equality"] is not None:
        lines.append(f"largest difference to the masked model: {result['equality']:.1e}")
    if result["ledger"]:
        rows = [(name, f"{count:,.0f}") for name, count in result["ledger"].items() if isinstance(count, (int, float))]
        lines += ["", table(("packed file", "bytes"), rows)]
    return lines


def _sweep_lines(result: dict[str, Any]) -> list[str]:
    lines = [f"{run['run']}: {run['status']}" for run in result["runs"] if not run["final"]]
    if "found" in result:
        what = f"with {percent(result['min_accuracy'])} or more on validation"
        lines += ["", f"the smallest {what}: {result['found']}" if result["found"] else f"none of them is {what}"]
    return lines


def _bits(widths: dict[str, dict[str, float | None]]) -> str:
    parts = []
    for side in ("weight", "activation"):
        values = [bits for width in widths.values() if (bits := width.get(side)) is not None]
        if values:
            parts.append(f"{side} bits {min(values):g}..{max(values):g} on {len(values)} layers")
    return "; ".join(parts) or "no quantized layers"
