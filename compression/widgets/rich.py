"""Which function draws which object, and the drawing in the forms that notebooks ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from compression.budget import Budget
from compression.errors import CompressionError
from compression.export.bundle import Bundle
from compression.forecast import Forecast
from compression.graph.types import Graph, Group
from compression.one_call import CompressedNetwork
from compression.quant.allocation import Allocation
from compression.runs.folder import RunFolder
from compression.runs.listing import RunsTable
from compression.widgets.rich_graph import graph_view, group_view
from compression.widgets.rich_plan import allocation_view, budget_view, forecast_view
from compression.widgets.rich_runs import bundle_view, network_view, run_view, runs_view
from compression.widgets.view import View

VIEWS: Mapping[type, Callable[[Any], View]] = {
    Allocation: allocation_view,
    Budget: budget_view,
    Bundle: bundle_view,
    CompressedNetwork: network_view,
    Forecast: forecast_view,
    Graph: graph_view,
    Group: group_view,
    RunFolder: run_view,
    RunsTable: runs_view,
}
"""Class → what its objects look like; a subclass looks like the class."""


def view(shown: object) -> View:
    """The drawing of an object of one of :data:`VIEWS`; of one that cannot be read (a damaged run), the reason."""
    draw = next(VIEWS[each] for each in type(shown).__mro__ if each in VIEWS)
    try:
        return draw(shown)
    except CompressionError as error:
        return View(type(shown).__name__, notes=(str(error),))


def mimebundle(shown: object) -> dict[str, str]:
    """The drawing by media type."""
    drawn = view(shown)
    return {"text/html": drawn.html(), "text/plain": drawn.text()}
