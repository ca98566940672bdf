"""What pages pass to the views of runs, which know neither the Budget page nor models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app import nav
from app.budget import rerun
from app.model import catalog
from compression.budget import Budget
from compression.errors import CompressionError


def query(run: str) -> nav.Query:
    """What the Budget page opens with to set up this run once more."""
    return rerun.query(rerun.of_run(run))


def units(budget: Mapping[str, Any]) -> dict[str, int]:
    """How many units each prunable group of a run's network has; nothing where the app may not build it."""
    try:
        requested = Budget.from_dict(budget)
        catalog.allow(requested.model or "", catalog.NO_DATA)
        graph = catalog.traced(catalog.of_budget(requested)).graph
    except CompressionError:
        return {}
    return {group.id: group.units for group in graph.prunable}
