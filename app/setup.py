"""The address of the Budget page with the budget of a run: passed to the views that link there."""

from __future__ import annotations

from app import nav
from app.budget import rerun


def query(run: str) -> nav.Query:
    """What the Budget page opens with to set up this run once more."""
    return rerun.query(rerun.of_run(run))
