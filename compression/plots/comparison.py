"""A compressed model beside the dense one: every figure of both in words, and the score's change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compression.plots import words
from compression.tasks import Metric


def comparison(
    first: Mapping[str, Any], last: Mapping[str, Any], metric: Metric, coded: float | None = None
) -> list[dict[str, str]]:
    """Dense and compressed side by side, in words with units; ``coded``: bits of a weight in the packed file."""
    pairs = [
        ("size of the file", words.size(first["bytes"]), words.size(last["bytes"])),
        ("nominal size", words.size(first["nominal_bytes"]), words.size(last["nominal_bytes"])),
        (f"test {metric.label}", metric.show(first["score"], 1), metric.show(last["score"], 1)),
        ("test loss", _loss(first), _loss(last)),
        ("MACs", words.count(first["macs"]), words.count(last["macs"])),
        ("BOPs, relative", words.share(first["rel_bops"], 2), words.share(last["rel_bops"], 2)),
        ("units removed", words.share(first["unit_sparsity"], 2), words.share(last["unit_sparsity"], 2)),
        (zeros(last), words.share(first["weight_sparsity"], 2), words.share(last["weight_sparsity"], 2)),
        ("bits of the weights", "32", _bits(last, "weight")),
        ("bits of the activations", "32", _bits(last, "activation")),
    ]
    if coded is not None:
        pairs.append(("coded bits of a weight", "32", f"{coded:.2f}"))
    return [{"": name, "dense": before, "compressed": after} for name, before, after in pairs]


def zeros(*points: Mapping[str, Any]) -> str:
    """What the share of weights that are zero is called: those of removed units count among them."""
    if any(point["unit_sparsity"] > 0 for point in points):
        return "weights removed or rounded to zero"
    return "weights at zero"


def change(metric: Metric, before: float, after: float) -> str:
    """``−0.80 points from 97.8 %``: what the score of the dense model has become."""
    difference = metric.shown(after) - metric.shown(before)
    dense = metric.show(before)
    if abs(difference) < 0.5 * 10**-metric.decimals:
        return f"same as the dense model ({dense})"
    return f"{words.signed(difference, lambda value: f'{value:.{metric.decimals}f} {metric.points}')} from {dense}"


def _loss(point: Mapping[str, Any]) -> str:
    """With four decimals; a dash for one that was not finite."""
    return "–" if point["loss"] is None else f"{point['loss']:.4f}"


def _bits(point: Mapping[str, Any], kind: str) -> str:
    """The bit-widths of the layers that have one, from the lowest to the highest."""
    widths = [entry[kind] for entry in (point.get("bits") or {}).values() if entry.get(kind) is not None]
    return words.bits((min(widths), max(widths))).removesuffix(" bits") if widths else "32"
