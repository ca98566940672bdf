"""What the channels of a layer make of one picture: a tile for each channel, original above compressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.plots import base, theme
from compression.plots.base import go
from compression.plots.tiles import SIGNED

MOST_CHANNELS = 64
IN_A_ROW = 8
MOST_CELLS = 32  # a side of a tile; larger maps are thinned
PIXELS = 84  # of a tile on a desk
Maps = NDArray[Any]


@dataclass(frozen=True, eq=False)
class FeaturesInfo:
    """``dense``, ``small``: [C, h, w] of the first channels, each over its largest value; ``removed``: bool [C].

    ``changes``: how far each channel's map moved, as a share of the original's root mean square.
    """

    layer: str
    dense: Maps
    small: Maps
    removed: NDArray[np.bool_]
    changes: tuple[float | None, ...]
    channels: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row for each channel that is drawn."""
        return [
            {"channel": channel, "removed": "yes" if is_removed else "no", "change of its map, %": change}
            for channel, (is_removed, change) in enumerate(zip(self.removed.tolist(), self.changes, strict=True))
        ]

    @property
    def sentence(self) -> str:
        """What is drawn, for those who cannot see it."""
        return (
            f"{len(self.removed)} of {self.channels} channels of {self.layer}: {int(self.removed.sum())} removed; "
            "each channel's map of the original above that of the compressed model."
        )


def features_info(layer: str, dense: Maps, small: Maps, removed: NDArray[np.bool_]) -> FeaturesInfo:
    """From all maps of a layer, [C, h, w] each; NaN in ``small`` where a channel is removed."""
    channels = len(dense)
    dense, small, removed = (each[:MOST_CHANNELS] for each in (dense, small, removed))
    power = np.sqrt(np.square(dense).mean((1, 2)))
    moved = np.sqrt(np.square(small - dense).mean((1, 2)))
    changes = tuple(
        None if is_removed or not base_power else round(100 * float(by / base_power), 1)
        for by, base_power, is_removed in zip(moved, power, removed.tolist(), strict=True)
    )
    stride = max(1, -(-max(dense.shape[1:]) // MOST_CELLS))
    largest = np.maximum(np.abs(dense).max((1, 2)), np.abs(np.nan_to_num(small)).max((1, 2)))[:, None, None]
    scaled = [(each / np.where(largest > 0, largest, 1.0))[:, ::stride, ::stride] for each in (dense, small)]
    return FeaturesInfo(layer, scaled[0], scaled[1], removed, changes, channels)


def features_figure(info: FeaturesInfo) -> go.Figure:
    """Rows of tiles on one colour scale for each channel; a removed channel is crossed out below."""
    count, high, wide = info.dense.shape
    columns = min(IN_A_ROW, count)
    lines = -(-count // columns)
    gap = max(1, high // 8)
    sheet = np.full((lines * (2 * high + 3 * gap), columns * (wide + gap)), np.nan)
    channel_at = np.full(sheet.shape, -1)
    crosses: list[tuple[float, float]] = []
    for channel in range(count):
        line, column = divmod(channel, columns)
        left, top = column * (wide + gap), line * (2 * high + 3 * gap)
        below = top + high + gap
        for start, maps in ((top, info.dense), (below, info.small)):
            sheet[start : start + high, left : left + wide] = maps[channel]
            channel_at[start : start + high, left : left + wide] = channel
        if info.removed[channel]:
            crosses.append((left + (wide - 1) / 2, below + (high - 1) / 2))
    fig = base.figure(max(200, lines * (2 * PIXELS + 24)), uirevision="features", showlegend=False)
    text = [
        ["" if place < 0 else f"channel {place}{', removed' if info.removed[place] else ''}" for place in row]
        for row in channel_at
    ]
    fig.add_trace(
        go.Heatmap(
            z=sheet, zmin=-1, zmax=1, colorscale=SIGNED, showscale=False, text=text, hoverongaps=True,
            hovertemplate="%{text}<extra></extra>",
        )
    )  # fmt: skip
    if crosses:
        xs, ys = zip(*crosses, strict=True)
        marker = {"symbol": "x-thin", "size": 26, "line": {"width": 2, "color": theme.MUTED}}
        fig.add_trace(base.scatter(xs, ys, marker=marker))
    hidden = {"visible": False, "fixedrange": True, "constrain": "domain"}
    fig.update_layout(xaxis=hidden, yaxis={**hidden, "autorange": "reversed", "scaleanchor": "x"}, dragmode=False)
    return fig
