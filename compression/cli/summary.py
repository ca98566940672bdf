"""A result in a few lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compression import tasks
from compression.aligned import table
from compression.cli.output import columns
from compression.devices import CPU
from compression.preprocess import words
from compression.tasks import Metric

POINTS = {
    "": "{name}", "score": "{score}", "bytes": "{bytes:size}", "kind": "{bytes_kind}",
    "MACs": "{macs:,.0f}", "rel. BOPs": "{rel_bops:percent}", "units removed": "{unit_sparsity:percent}",
    "zero weights": "{weight_sparsity:percent}",
}  # fmt: skip

FEWER_WEIGHTS = "fewer weights"
"""In the place of ``zero weights`` where layers have factors: most weights are not zero but replaced by fewer."""


def summary(result: dict[str, Any]) -> str:
    """How a run or a sweep ended and how long it took, its points in a table, and what else there is to say."""
    device = result.get("device", CPU)
    lines = [
        f"{result['run']}: {result['status']}, {result['seconds']:.1f} s{'' if device == CPU else f' on {device}'}"
    ]
    if result.get("error"):
        lines.append(str(result["error"]))
    ends = {run["run"]: run["final"] for run in result["runs"]} if "runs" in result else {"final": result["final"]}
    points = {"baseline": result["baseline"], **ends}
    metric = Metric.from_result(result)
    rows = [{"name": name, **point, "score": scored(point, metric)} for name, point in points.items() if point]
    if rows:
        names = {"score": metric.label} | ({"zero weights": FEWER_WEIGHTS} if _factored(result) else {})
        heads = {names.get(head, head): cell for head, cell in POINTS.items()}
        lines += ["", columns(heads, rows)]
    return "\n".join(lines + (_sweep_lines(result) if "runs" in result else _run_lines(result)))


def scored(point: Mapping[str, Any], metric: Metric | None = None) -> str:
    """The score of a point in the unit of its metric, by default that of its name; a dash for none."""
    if point.get("score") is None:
        return "–"
    return (metric or tasks.metric_of(point)).show(point["score"])


def _factored(result: Mapping[str, Any]) -> bool:
    """Whether layers of a run, or of one of a sweep, have factors."""
    return any(run.get("ranks") for run in result.get("runs", [result]))


def _run_lines(result: dict[str, Any]) -> list[str]:
    lines = ["", _bits(result["final"]["bits"], result.get("facts", {}))] if result["final"] else []
    if result.get("ranks"):
        lines.append(
            f"ranks of factored layers: {', '.join(f'{name} {rank}' for name, rank in result['ranks'].items())}"
        )
    if result.get("preprocess"):
        lines.append(f"started from {result['weights']}; images: {words(result['preprocess'])}")
    if wire := result.get("wire"):
        sizes = f"{wire['bytes_per_step']:,.0f} bytes a step and process, {wire['fp32_bytes_per_step']:,.0f} in fp32"
        lines.append(f"gradients of {wire['gradient_bits']}-bit values: {sizes}")
    if result["equality"] is not None:
        lines.append(f"largest difference to the masked model: {result['equality']:.1e}")
    if result["ledger"]:
        rows = [(name, f"{count:,.0f}") for name, count in result["ledger"].items() if isinstance(count, (int, float))]
        lines += ["", table(("packed file", "bytes"), rows)]
    return lines


def _sweep_lines(result: dict[str, Any]) -> list[str]:
    lines = [f"{run['run']}: {run['status']}" for run in result["runs"] if not run["final"]]
    if "found" in result:
        metric = Metric.from_result(result)
        least = result["min_score"]
        what = f"with {metric.show(least)} or {'more' if metric.better == 'higher' else 'less'} on validation"
        lines += ["", f"the smallest {what}: {result['found']}" if result["found"] else f"none of them is {what}"]
    return lines


def _bits(widths: dict[str, dict[str, float | None]], facts: Mapping[str, Any]) -> str:
    parts = []
    for side in ("weight", "activation"):
        values = [bits for width in widths.values() if (bits := width.get(side)) is not None]
        if values:
            parts.append(f"{side} bits {min(values):g}..{max(values):g} on {len(values)} layers")
    if "coded_bits" in facts:
        parts.append(f"{facts['coded_bits']:.3f} coded bits a weight in the packed file")
    return "; ".join(parts) or "no quantized layers"
