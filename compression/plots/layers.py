"""Layer by layer, dense and compressed: bytes, output channels, weights that are not zero, bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme, words
from compression.plots.base import go

FULL_BITS = 32
MOST_ROWS = 30


@dataclass(frozen=True)
class LayerChange:
    """One layer: shapes of its weight, values not zero, bit-widths (``None``: fp32) and bytes in the packed file.

    ``before`` is ``None`` where the dense network is not at hand; ``axis`` is the one of the output channels. Of a
    layer that is two now ``first`` is the shape of the first one's weight, ``after`` that of the last one's.
    """

    layer: str
    before: tuple[int, ...] | None
    after: tuple[int, ...]
    alive: int
    weight_bits: float | None
    activation_bits: float | None
    bytes: int
    axis: int = 0
    first: tuple[int, ...] | None = None

    @classmethod
    def of_factors(
        cls, layer: str, before: tuple[int, ...] | None, first: LayerChange, last: LayerChange
    ) -> LayerChange:
        """The layer that two layers stand for now: weights and bytes are of both, bits their mean over all weights."""
        sizes, widths = zip(*((math.prod(e.after), e.weight_bits or FULL_BITS) for e in (first, last)), strict=True)
        bits = sum(size * width for size, width in zip(sizes, widths, strict=True)) / sum(sizes)
        alive, size = first.alive + last.alive, first.bytes + last.bytes
        return cls(layer, before, last.after, alive, bits, first.activation_bits, size, last.axis, first.after)

    @property
    def shapes(self) -> str:
        """The shape of the weight, or of both weights, as text."""
        return (
            words.shape(self.after) if self.first is None else f"{words.shape(self.first)} · {words.shape(self.after)}"
        )

    @property
    def dense_bytes(self) -> int | None:
        """Bytes of the fp32 weight in the dense network."""
        return None if self.before is None else math.prod(self.before) * FULL_BITS // 8


@dataclass(frozen=True)
class Measure:
    """What the bars show: values of a layer before (``None``: not known) and after."""

    label: str
    title: str
    before: Callable[[LayerChange], float | None]
    after: Callable[[LayerChange], float]
    show: Callable[[float], str]
    suffix: str = ""


MEASURES = {
    "bytes": Measure(
        "Bytes", "bytes of the layer's weights", lambda c: c.dense_bytes, lambda c: c.bytes, words.size, "B"
    ),
    "channels": Measure(
        "Channels",
        "output channels",
        lambda c: c.before[c.axis] if c.before else None,
        lambda c: c.after[c.axis],
        lambda v: f"{v:,.0f}",
    ),
    "weights": Measure(
        "Weights",
        "weights that are not zero",
        lambda c: math.prod(c.before) if c.before else None,
        lambda c: c.alive,
        lambda v: f"{v:,.0f}",
    ),
    "bits": Measure(
        "Bits", "bits per weight", lambda c: FULL_BITS, lambda c: c.weight_bits or FULL_BITS, lambda v: f"{v:g}"
    ),
}


@dataclass(frozen=True)
class LayersInfo:
    """Layers in the order of the network; ``packed`` where they were read from the packed file.

    Else only shapes and bits are known: ``alive`` then counts all remaining weights, ``bytes`` are nominal.
    """

    changes: tuple[LayerChange, ...]
    method: str
    packed: bool = True

    @property
    def measures(self) -> tuple[str, ...]:
        """What is known well enough to be drawn: names in :data:`MEASURES`."""
        return tuple(MEASURES) if self.packed else ("channels", "bits")

    @property
    def drawn(self) -> tuple[LayerChange, ...]:
        """The largest layers, as many as fit a chart, in the order of the network."""
        largest = sorted(self.changes, key=lambda c: -(c.dense_bytes or math.prod(c.after)))[:MOST_ROWS]
        return tuple(c for c in self.changes if c in largest)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All layers as a table."""
        alive, size = ("weights not zero", "bytes") if self.packed else ("weights left", "nominal bytes")
        return [
            {
                "layer": c.layer,
                "dense shape": words.shape(c.before) if c.before else "",
                "shape": c.shapes,
                alive: c.alive,
                "weight bits": c.weight_bits or FULL_BITS,
                "activation bits": c.activation_bits or FULL_BITS,
                "dense bytes": c.dense_bytes,
                size: c.bytes,
            }
            for c in self.changes
        ]

    @property
    def sentence(self) -> str:
        """Which layer takes most of the compressed file, and which shrank most."""
        if not self.changes:
            return "This network has no convolution or linear layer."
        largest = max(self.changes, key=lambda c: c.bytes)
        total = sum(c.bytes for c in self.changes)
        share = words.share(largest.bytes / total if total else 0.0, 0)
        kind = "bytes" if self.packed else "nominal bytes"
        return f"Most {kind} are in {largest.layer}: {words.size(largest.bytes)}, {share} of all weights."


def layers_figure(info: LayersInfo, measure: Measure) -> go.Figure:
    """A wide grey bar for the dense layer, in it a narrow one in the method's colour; activation bits as diamonds."""
    look, dense, drawn = theme.style(info.method), theme.style(theme.DENSE), info.drawn
    fig = base.figure(90 + 26 * len(drawn), barmode="overlay")
    before, after = [measure.before(c) for c in drawn], [measure.after(c) for c in drawn]
    if any(value is not None for value in before):
        fig.add_trace(_bars(drawn, before, measure, "dense, fp32", theme.rgba(dense.color, 0.3), 0.8))
    fig.add_trace(_bars(drawn, after, measure, look.label, look.color, 0.4))
    fig.add_trace(_numbers(drawn, after, measure))
    if measure is MEASURES["bits"] and any(c.activation_bits for c in drawn):
        fig.add_trace(_activations(drawn, look))
    most = max((value for value in (*before, *after) if value is not None), default=1.0)
    fig.update_xaxes(title=measure.title, range=[0, 1.22 * most], nticks=5, tickformat="~s", ticksuffix=measure.suffix)
    base.layer_axis(fig)
    return fig


def _describe(change: LayerChange, measure: Measure) -> str:
    before, after = measure.before(change), measure.show(measure.after(change))
    values = after if before is None else f"{measure.show(before)} → {after}"
    return f"<b>{change.layer}</b><br>{measure.title}: {values}"


def _bars(
    drawn: Sequence[LayerChange], values: Sequence[float | None], measure: Measure, name: str, color: str, width: float
) -> go.Bar:
    texts = {"hovertext": base.tooltips([_describe(c, measure) for c in drawn]), "hoverinfo": "text"}
    names = [c.layer for c in drawn]
    return go.Bar(x=values, y=names, orientation="h", name=name, width=width, marker={"color": color}, **texts)


def _numbers(drawn: Sequence[LayerChange], values: Sequence[float], measure: Measure) -> go.Scatter:
    """The compressed values beside their bars; a separate text trace, because bar labels shrink with the bars."""
    bits = measure is MEASURES["bits"]
    ends = [max(v, (c.activation_bits or 0) if bits else 0) for v, c in zip(values, drawn, strict=True)]
    texts = [f"{'   ' if bits else ' '}{measure.show(v)}" for v in values]
    place = {"textposition": "middle right", "textfont": {"size": 11}, "cliponaxis": False, "showlegend": False}
    return base.scatter(ends, [c.layer for c in drawn], "text", text=texts, **place)


def _activations(drawn: Sequence[LayerChange], look: theme.Style) -> go.Scatter:
    quantized = [c for c in drawn if c.activation_bits]
    return base.scatter(
        [c.activation_bits for c in quantized],
        [c.layer for c in quantized],
        name="activations",
        marker={"symbol": "diamond-open", "size": 11, "color": look.color, "line": {"width": 2}},
        hovertext=[f"<b>{c.layer}</b><br>activations: {c.activation_bits:g} bits" for c in quantized],
    )
