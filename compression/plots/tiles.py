"""One image, and which of its pixels count for the original and for the compressed model, on one colour scale."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.plots import base, theme
from compression.plots.base import go

HEIGHT = 146
MOST_CELLS = 64  # a side of a drawn map: larger ones are averaged over blocks
PERCENTILE = 99
GHOST = 0.28  # how much of the image shows through its maps
GAP = 0.025
TITLES = ("image", "original", "compressed")
_CLEAR = "rgba(138, 145, 156, 0)"
SIGNED = ((0.0, theme.ACCENT), (0.5, _CLEAR), (1.0, theme.HIGHLIGHT))
PLAIN = ((0.0, _CLEAR), (1.0, theme.HIGHLIGHT))

Maps = NDArray[Any]


@dataclass(frozen=True, eq=False)
class TileInfo:
    """``image``: its place in the test split, none for one from elsewhere. ``picture``: uint8 [H, W, 3];
    ``dense`` and ``small``: maps [h, w]; ``most`` is full colour in both."""

    image: int | None
    picture: NDArray[np.uint8]
    dense: Maps
    small: Maps
    signed: bool
    most: float
    label: str
    before: str
    after: str
    alike: float

    @property
    def changed(self) -> bool:
        """Do the two models answer different classes?"""
        return self.before != self.after

    @property
    def row(self) -> dict[str, Any]:
        """The same in words, for the table."""
        return {
            "test image": self.image,
            "class": self.label,
            "original says": self.before,
            "compressed says": self.after,
            "class changed": "yes" if self.changed else "no",
            "rank correlation of the maps": round(self.alike, 3),
        }

    @property
    def sentence(self) -> str:
        """What is drawn, for those who cannot see it."""
        which = "A picture" if self.image is None else f"Test image {self.image} of class {self.label}"
        return (
            f"{which}; the original says {self.before}, the compressed model "
            f"{self.after}; rank correlation of the two maps {self.alike:.2f}."
        )


def tile_info(
    image: int | None, pixels: NDArray[np.uint8], maps: Sequence[Maps], signed: bool, names: Sequence[str], alike: float
) -> TileInfo:
    """From an image [C, H, W], its two maps [H, W], and the names of its class and of the two answers."""
    dense, small = (_blocks(np.asarray(values, dtype=np.float64)) for values in maps)
    most = float(np.percentile(np.abs(np.stack([dense, small])), PERCENTILE))
    most = most or float(max(np.abs(dense).max(), np.abs(small).max())) or 1.0
    return TileInfo(image, _rgb(pixels), dense, small, signed, most, names[0], names[1], names[2], alike)


def tile_figure(info: TileInfo) -> go.Figure:
    """Three squares in a row: the image, then the two maps over a faint copy of it without its colours."""
    fig = base.figure(HEIGHT, uirevision="tile", showlegend=False, margin={"l": 0, "r": 0, "t": 20, "b": 0})
    width = (1 - 2 * GAP) / 3
    colours, ghost = _png(info.picture), _png(_grey(info.picture))
    for place, title in enumerate(TITLES):
        number = "" if place == 0 else str(place + 1)
        start = place * (width + GAP)
        _axes(fig, number, (start, start + width))
        axes = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
        source, opacity = (ghost, GHOST) if place else (colours, 1.0)
        fig.add_trace(go.Image(source=source, opacity=opacity, hoverinfo="skip", **axes))
        if place:
            fig.add_trace(_map(info, info.dense if place == 1 else info.small, axes))
        fig.add_annotation(
            text=title, x=start + width / 2, y=1, xref="paper", yref="paper", xanchor="center", yanchor="bottom",
            showarrow=False, font={"size": 12, "color": theme.MUTED},
        )  # fmt: skip
    return fig


def _axes(fig: go.Figure, number: str, domain: tuple[float, float]) -> None:
    hidden = {"visible": False, "fixedrange": True, "constrain": "domain"}
    fig.update_layout(
        {
            f"xaxis{number}": {**hidden, "domain": domain, "anchor": f"y{number}"},
            f"yaxis{number}": {**hidden, "autorange": "reversed", "scaleanchor": f"x{number}", "anchor": f"x{number}"},
        }
    )


def _map(info: TileInfo, values: Maps, axes: dict[str, str]) -> go.Heatmap:
    rows, columns = values.shape
    height, width = info.picture.shape[:2]
    step_y, step_x = height / rows, width / columns
    return go.Heatmap(
        z=np.round(values / info.most, 3).astype(np.float32),
        x0=(step_x - 1) / 2, dx=step_x, y0=(step_y - 1) / 2, dy=step_y,
        zmin=-1 if info.signed else 0, zmax=1, colorscale=SIGNED if info.signed else PLAIN, showscale=False,
        hovertemplate="row %{y:.0f}, column %{x:.0f}: %{z:.2f} of full colour<extra></extra>", **axes,
    )  # fmt: skip


def _blocks(values: Maps) -> Maps:
    """The map, averaged over square blocks where it has more cells than are drawn; odd rows at the end are omitted."""
    size = -(-max(values.shape) // MOST_CELLS)
    if size == 1:
        return values
    rows, columns = (side // size for side in values.shape)
    whole = values[: rows * size, : columns * size]
    return whole.reshape(rows, size, columns, size).mean(axis=(1, 3))


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    channels = pixels if len(pixels) == 3 else np.repeat(pixels[:1], 3, axis=0)
    return np.ascontiguousarray(channels.transpose(1, 2, 0))


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(picture.mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)


def _png(picture: NDArray[np.uint8]) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
