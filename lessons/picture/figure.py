"""The original beside the compressed picture, and below them the score over the bits."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image
from plotly.subplots import make_subplots

from compression.plots import base, theme

HEIGHT = 440


@dataclass(frozen=True, eq=False)
class PictureInfo:
    """``original`` and ``picture`` as :func:`source` gives them; ``psnr`` at each of ``widths``, ``dense`` before."""

    original: str
    picture: str
    widths: Sequence[int]
    psnr: Sequence[float]
    bits: int
    dense: float

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lower chart as a table."""
        return [{"bits": bits, "PSNR, dB": round(value, 2)} for bits, value in zip(self.widths, self.psnr, strict=True)]


def picture_figure(info: PictureInfo) -> go.Figure:
    """Pictures in the upper row, the curve in the lower one."""
    titles = ("the picture", f"its network at {info.bits} bits", "")
    grid = [[{}, {}], [{"colspan": 2}, None]]
    space = {"row_heights": [0.6, 0.4], "vertical_spacing": 0.12, "horizontal_spacing": 0.02}
    fig = make_subplots(2, 2, specs=grid, subplot_titles=titles, **space)
    fig.update_layout(base.figure(HEIGHT, uirevision="picture").layout, overwrite=False)
    for column, picture in ((1, info.original), (2, info.picture)):
        fig.add_trace(go.Image(source=picture, hoverinfo="skip"), 1, column)
        fig.update_xaxes(visible=False, row=1, col=column)
        fig.update_yaxes(visible=False, row=1, col=column)
    hover = "%{y:.1f} dB at %{x} bits<extra></extra>"
    look = {"color": theme.ACCENT, "width": 2}
    plain = {"hovertemplate": hover, "showlegend": False}
    fig.add_trace(go.Scatter(x=info.widths, y=info.psnr, mode="lines+markers", line=look, **plain), 2, 1)
    now = info.psnr[list(info.widths).index(info.bits)]
    here = {"color": theme.HIGHLIGHT, "size": 14}
    fig.add_trace(go.Scatter(x=[info.bits], y=[now], mode="markers", marker=here, **plain), 2, 1)
    fig.add_hline(info.dense, line={"color": theme.MUTED, "width": 1, "dash": "dash"}, row=2, col=1)
    fig.update_layout(margin={"t": 30})
    fig.update_xaxes(title="bits of each weight", dtick=1, row=2, col=1)
    fig.update_yaxes(title="PSNR", ticksuffix=" dB", row=2, col=1)
    return fig


def source(pixels: NDArray[np.uint8]) -> str:
    """A picture, uint8 [height, width, 3], as an address that holds it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
