"""How one run went: score, loss and sparsity over the steps with the stages shaded, bits per layer as a heat map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme
from compression.plots.base import go
from compression.tasks import Metric

MOST_STEPS = 1500
STEP = "step"

Events = Sequence[Mapping[str, Any]]


def counted(unit: str) -> str:
    """What a run's axis of progress counts: ``steps`` of training, or the ``layers`` that a method goes through."""
    return STEP if unit == "steps" else f"{unit} done"


@dataclass(frozen=True)
class Curve:
    """One line: ``x`` are steps; ``markers`` for measured points, a plain line for every training step."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    color: str
    markers: bool = True


@dataclass(frozen=True)
class CurvesInfo:
    """Lines over the steps of a run, its stages behind them; ``suffix`` is the unit on the y axis.

    ``log``: that axis is logarithmic; ``from_zero``: it begins there. ``dashed``: every second line is dotted.
    ``unit`` is what is counted on the x axis: ``step``, or what a method counts.
    """

    title: str
    suffix: str
    curves: tuple[Curve, ...]
    stages: tuple[base.RunStage, ...]
    unit: str = STEP
    log: bool = False
    from_zero: bool = True
    dashed: bool = False

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The chart as a table: one row per step and line."""
        return [
            {self.unit: x, "what": curve.name, self.title: round(y, 4)}
            for curve in self.curves
            for x, y in zip(curve.x, curve.y, strict=True)
        ]


@dataclass(frozen=True)
class BitsInfo:
    """Bit-widths of every layer at every point: ``bits[layer][point]``; ``None`` where a layer has none yet."""

    layers: tuple[str, ...]
    steps: tuple[float, ...]
    bits: tuple[tuple[float | None, ...], ...]
    kind: str
    unit: str = STEP

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The heat map as a table: a row per layer, a column per point."""
        return [
            {"layer": layer, **{f"{self.unit} {step:g}": value for step, value in zip(self.steps, values, strict=True)}}
            for layer, values in zip(self.layers, self.bits, strict=True)
        ]


def score_info(
    points: Events, steps: Events, stages: Sequence[base.RunStage], metric: Metric, unit: str = STEP
) -> CurvesInfo:
    """The score on training batches (not smoothed, thinned) and on validation."""
    curves = _trained(points, steps, "score", metric.scale)
    return CurvesInfo(metric.axis, metric.unit, curves, tuple(stages), unit, from_zero=False)


def loss_info(points: Events, steps: Events, stages: Sequence[base.RunStage], unit: str = STEP) -> CurvesInfo:
    """The loss on training batches and on validation; it falls by factors, so the axis is logarithmic."""
    return CurvesInfo("loss", "", _trained(points, steps, "loss", 1), tuple(stages), unit, log=True)


def _trained(points: Events, steps: Events, field: str, factor: float) -> tuple[Curve, ...]:
    """A field of the training steps, and of what was measured on validation."""
    validation = [p for p in points if p.get("split", "validation") == "validation"]
    train = _curve("training batch", steps, field, theme.rgba(theme.MUTED, 0.55), factor, markers=False)
    return _drawn(train, _curve("validation", validation, field, theme.ACCENT, factor))


def sparsity_info(points: Events, stages: Sequence[base.RunStage], unit: str = STEP) -> CurvesInfo:
    """Share of units removed and of weights that are zero."""
    units = _curve("units removed", points, "unit_sparsity", theme.SERIES[0], 100)
    weights = _curve("weights at zero", points, "weight_sparsity", theme.SERIES[1], 100)
    return CurvesInfo("sparsity %", " %", _drawn(units, weights), tuple(stages), unit, dashed=True)


def curves_figure(info: CurvesInfo, height: int = 260) -> go.Figure:
    """Draw lines over steps."""
    fig = base.figure(height, uirevision=info.title, hovermode="x unified", showlegend=len(info.curves) > 1)
    base.shade(fig, info.stages)
    fig.update_layout(margin={"t": 24})
    for i, curve in enumerate(info.curves):
        dash = "dot" if info.dashed and i % 2 else "solid"
        fig.add_trace(
            base.scatter(
                curve.x,
                curve.y,
                "lines+markers" if curve.markers else "lines",
                name=curve.name,
                line={"color": curve.color, "width": 2 if curve.markers else 1, "dash": dash},
                marker={"size": 5},
                hovertemplate="%{y:.3g}" + info.suffix,
            )
        )
    if not info.curves:
        base.empty(fig)
    fig.update_xaxes(title=info.unit, range=_span(info))
    fig.update_yaxes(title=None, ticksuffix=info.suffix, rangemode="tozero" if info.from_zero else "normal")
    if info.log:
        values = [y for curve in info.curves for y in curve.y]
        ticks, texts = base.log_ticks(values, lambda tick: f"{tick:g}")
        fig.update_yaxes(type="log", tickvals=ticks, ticktext=texts, range=base.log_range(values, 0.05))
    return fig


def bits_info(points: Events, kind: str = "weight", layers: Sequence[str] = (), unit: str = STEP) -> BitsInfo:
    """Bit-widths over time from the points' ``bits``; ``layers`` gives the order, others follow as they appear."""
    chosen = [p for p in points if p.get("bits")]
    names = dict.fromkeys([*layers, *(name for p in chosen for name in p["bits"])])
    grid = {name: tuple(bits_at(p, name, kind) for p in chosen) for name in names}
    known = {name: row for name, row in grid.items() if any(value is not None for value in row)}
    return BitsInfo(tuple(known), tuple(p["step"] for p in chosen), tuple(known.values()), kind, unit)


def bits_figure(info: BitsInfo, stages: Sequence[base.RunStage] = (), height: int | None = None) -> go.Figure:
    """A row per layer, a column per point; the same scale, 2 to 16 bits, on every chart."""
    tall = height or min(720, max(200, 90 + 18 * len(info.layers)))
    fig = base.figure(tall, uirevision=f"bits {info.kind}")
    fig.add_trace(
        go.Heatmap(
            x=info.steps, y=info.layers, z=info.bits, zmin=2, zmax=16, colorscale=theme.BITS_SCALE, xgap=0, ygap=1,
            colorbar={"title": "bits", "thickness": 12, "tickvals": [2, 4, 8, 16]},
            hovertemplate=f"%{{y}}<br>{info.unit} %{{x}}: %{{z:.3g}} bits<extra></extra>",
        )
    )  # fmt: skip
    base.shade(fig, stages, tint=False)
    fig.update_layout(margin={"t": 24})
    fig.update_xaxes(title=info.unit, showgrid=False, range=[0, stages[-1].end] if stages else None)
    fig.update_yaxes(autorange="reversed", showgrid=False)
    return fig


def bits_at(point: Mapping[str, Any], layer: str, kind: str = "weight") -> float | None:
    """A layer's bit-width at a point; ``None`` where it is not quantized."""
    value = point["bits"].get(layer, {}).get(kind)
    return round(value, 2) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _curve(
    name: str, rows: Sequence[Mapping[str, Any]], field: str, color: str, factor: float, markers: bool = True
) -> Curve | None:
    pairs = [
        (row["step"], factor * row[field]) for row in rows if _finite(row.get(field)) and row.get("step") is not None
    ]
    stride = max(1, math.ceil(len(pairs) / MOST_STEPS))
    thinned = pairs if stride == 1 else [*pairs[:-1:stride], pairs[-1]]
    xs, ys = zip(*thinned, strict=True) if thinned else ((), ())
    return Curve(name, xs, ys, color, markers) if thinned else None


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _drawn(*curves: Curve | None) -> tuple[Curve, ...]:
    return tuple(curve for curve in curves if curve is not None)


def _span(info: CurvesInfo) -> list[float] | None:
    """From the first stage's start to the furthest step known, so that the axis holds still during a run."""
    ends = [stage.end for stage in info.stages] + [x for curve in info.curves for x in curve.x]
    return [0, max(ends)] if max(ends, default=0) > 0 else None
