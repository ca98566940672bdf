"""A result in a few lines for people."""

from __future__ import annotations

from typing import Any

from compression.cli.output import percent, size, table
from compression.preprocess import words

HEAD = ("", "accuracy", "bytes", "kind", "MACs", "rel. BOPs", "units removed", "zero weights")


def summary(result: dict[str, Any]) -> str:
    """The points that count, the ledger, and how long it took."""
    if "runs" in result:
        return _of_sweep(result)
    lines = [f"{result['run']}: {result['status']}, {result['seconds']:.1f} s"]
    if result.get("error"):
        lines.append(str(result["error"]))
    points = [(name, result[name]) for name in ("baseline", "final") if result[name]]
    if points:
        lines += ["", table(HEAD, [_row(name, point) for name, point in points])]
    if result["final"]:
        lines += ["", _bits(result["final"]["bits"])]
    if result.get("preprocess"):
        lines.append(f"started from {result['weights']}; images: {words(result['preprocess'])}")
    if result["equality"] is not None:
        lines.append(f"largest difference to the masked model: {result['equality']:.1e}")
    if result["ledger"]:
        rows = [(name, f"{count:,.0f}") for name, count in result["ledger"].items() if isinstance(count, (int, float))]
        lines += ["", table(("packed file", "bytes"), rows)]
    return "\n".join(lines)


def _of_sweep(result: dict[str, Any]) -> str:
    lines = [f"{result['run']}: {result['status']}, {result['seconds']:.1f} s"]
    if result.get("error"):
        lines.append(str(result["error"]))
    rows = [_row("baseline", result["baseline"])] if result["baseline"] else []
    rows += [_row(run["run"], run["final"]) for run in result["runs"] if run["final"]]
    if rows:
        lines += ["", table(HEAD, rows)]
    lines += [f"{run['run']}: {run['status']}" for run in result["runs"] if not run["final"]]
    if "found" in result:
        what = f"with {percent(result['min_accuracy'])} or more on validation"
        lines += ["", f"the smallest {what}: {result['found']}" if result["found"] else f"none of them is {what}"]
    return "\n".join(lines)


def _row(name: str, point: dict[str, Any]) -> tuple[str, ...]:
    numbers = (percent(point["accuracy"]), size(point["bytes"]), point["bytes_kind"], f"{point['macs']:,.0f}")
    return (
        name,
        *numbers,
        percent(point["rel_bops"]),
        percent(point["unit_sparsity"]),
        percent(point["weight_sparsity"]),
    )


def _bits(widths: dict[str, dict[str, float | None]]) -> str:
    words = []
    for side in ("weight", "activation"):
        found = [bits for width in widths.values() if (bits := width.get(side)) is not None]
        if found:
            words.append(f"{side} bits {min(found):g}..{max(found):g} on {len(found)} layers")
    return "; ".join(words) or "no quantized layers"
