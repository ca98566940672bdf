"""The forecast of a budget while sliders move: the method's own, on tables that the server keeps in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app import live
from app.model import catalog
from compression import methods
from compression.budget import Budget
from compression.forecast import Forecast, Subject

if TYPE_CHECKING:
    from torch import nn

    from compression.quant.tables import LayerTables

BYTES = 7 * live.WEIGHTS  # of a parameter: itself, five times itself in the tables, once more for channels


class LiveSubject(Subject):
    """A network of the pages: its weights are loaded, and tables of them made, only where a method asks for them."""

    def __init__(self, subject: catalog.ChosenModel, path: Path | None) -> None:
        """``path``: the trained weights; without them seeded initial ones are taken."""
        super().__init__(None, catalog.traced(subject).graph)
        self._subject, self._path = subject, str(path) if path else None
        self._changed = path.stat().st_mtime if path else 0.0

    @property
    def model(self) -> nn.Module:
        """The network with its weights."""
        if self._model is None:
            with live.memory().work(self._subject.model, live.WEIGHTS * self.graph.params):
                self._model = catalog.loaded(self._subject, self._path)
        return self._model

    @property
    def need(self) -> int:
        """Bytes that its tables take while they are made."""
        return BYTES * self.graph.params

    def prepare_tables(self, skip: tuple[str, ...], channels: bool) -> LayerTables:
        """See :class:`compression.forecast.Subject`.

        Raises:
            TooLarge: they would take more memory than this server gives.
        """
        from compression.quant.tables import LayerTables

        def make() -> LayerTables:
            return LayerTables.prepare(catalog.loaded(self._subject, self._path), skip, channels)

        key = ("tables", self._subject, self._path, self._changed, skip, channels)
        with st.spinner("Reading the weights…"):
            return live.memory().hold(key, self._subject.model, self.need, make)

    def derived(self, key: str, change: Callable[[nn.Module], None]) -> Subject:
        """See :class:`compression.forecast.Subject`.

        Raises:
            TooLarge: it would take more memory than this server gives.
        """
        _ = self.model  # loaded in a turn of its own
        place = ("derived", self._subject, self._path, self._changed, key)
        with st.spinner("Changing the weights…"):
            return live.memory().hold(
                place, self._subject.model, self.need + live.WEIGHTS * self.graph.params, lambda: self.changed(change)
            )


def forecast(subject: catalog.ChosenModel, path: Path | None, budget: Budget) -> Forecast:
    """What the budget's method says that it comes to.

    Raises:
        TooLarge: only a run can say it. CompressionError: the budget cannot be met.
    """
    return methods.get(budget.method).forecast(LiveSubject(subject, path), budget)
