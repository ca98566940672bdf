"""Charts that change while they are looked at, under a run or a slider: they change in place.

``st.plotly_chart`` makes a new chart of every change and hides it until it is drawn, so that a chart with a new point
each second blinks. Here the browser keeps one chart and Plotly changes it; what a visitor zoomed to or hid stays.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from starlette.requests import Request
from starlette.responses import FileResponse

from app import components
from compression.plots import base

if TYPE_CHECKING:
    import plotly.graph_objects as go

SCRIPT = f"/plotly-{importlib.metadata.version('plotly')}.min.js"
"""Where the server has the script that the package ``plotly`` brings."""


def plot(fig: go.Figure, key: str, alt: str) -> None:
    """A figure that is redrawn in place; ``alt`` says it in words."""
    data = {"figure": fig.to_json(), "config": base.CONFIG, "alt": alt, "plotly": SCRIPT}
    _component()(key=key, data=data, height=int(fig.layout.height or 450))


async def script(request: Request) -> FileResponse:
    """Plotly for the browser, kept there for as long as its version is the same."""
    spec = importlib.util.find_spec("plotly")
    assert spec is not None and spec.origin is not None
    file = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    return FileResponse(file, headers={"Cache-Control": "public, max-age=31536000, immutable"})


@st.cache_resource(show_spinner=False)
def _component() -> Any:
    return components.component("chart", isolated=False)
