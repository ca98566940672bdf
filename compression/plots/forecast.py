"""A forecast in figures with their units, and what they rest on: the same words on pages and in notebook panels."""

from __future__ import annotations

from dataclasses import dataclass

from compression.forecast import Forecast
from compression.plots import words

SIZES = {
    "nominal": "The size is nominal: all weights at their bits, with steps and what stays in floats. The packed file "
    "codes the weights and adds names and a header: it may be smaller or larger.",
    "ideal": "The size is values and positions of zeros, coded ideally.",
    "coded": "The size is that of the codes as the packed file holds them.",
}
"""By :attr:`Forecast.bytes_kind`."""


@dataclass(frozen=True)
class Figure:
    """One figure: ``value`` with its unit, ``note`` beside it; ``kind``: ``bytes``, ``macs``, ``bops``, ``error`` or
    ``unit``.
    """

    kind: str
    label: str
    value: str
    note: str


def figures(forecast: Forecast, prunable_units: int) -> list[Figure]:
    """Size, MACs, BOPs and, where known, the error or the units removed; none of what is unknown."""
    if forecast.bytes is None or forecast.dense is None or forecast.low is None or forecast.high is None:
        return []
    (low, high), whole = forecast.bytes, forecast.dense.nominal_bytes
    smaller = f"{words.between(whole / high, whole / low, words.ratio)} smaller"
    work = f"{words.share(forecast.low.macs / forecast.dense.macs, 0)} of dense"
    bops = words.between(100 * forecast.low.rel_bops, 100 * forecast.high.rel_bops, lambda share: f"{share:.3g} %")
    cells = [
        Figure("bytes", "Size", words.between(low, high, words.size), smaller),
        Figure("macs", "MACs", words.count(forecast.low.macs), work),
        Figure("bops", "BOPs", bops, "of the dense fp32 model"),
    ]
    if forecast.error is not None:
        cells.append(Figure("error", "Error of the weights", f"{100 * forecast.error:.3g} %", "before any training"))
    elif forecast.certainty == "even" and forecast.removed:
        cells.append(Figure("unit", "Channels removed", f"{forecast.units}", f"of {prunable_units:,}"))
    return cells


def basis(forecast: Forecast, trained: bool) -> str:
    """What the figures rest on; empty where nothing is known. ``trained``: the weights are not initial ones."""
    if forecast.certainty == "unknown":
        return ""
    counted = SIZES.get(forecast.bytes_kind or "", "")
    if forecast.certainty == "even":
        even = (
            "Counted for channels removed evenly; the run picks them by what they contribute."
            if forecast.removed
            else "Counted evenly over the layers; the run decides which get how much."
        )
        return f"{even} {counted}"
    if forecast.certainty == "bound":
        return "The most that the budget allows; which layers get how much of it, the run decides when it begins."
    if not trained:
        return "Computed on untrained weights, since there are no trained ones: only a rough guide."
    return f"Computed on the trained weights. {counted}"
