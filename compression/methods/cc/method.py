"""Collaborative compression as a method: units removed and layers factored until a share of the MACs is saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compression.budget import Budget
from compression.commands import line
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject
from compression.methods.base import Compressed, Info, Method, Reporter, Setup
from compression.methods.cc.options import SAVED, WEIGHT_BITS, CcOptions, refuse_contradictions
from compression.training.setup import ALLOCATED_STAGES

if TYPE_CHECKING:
    import torch
    from torch import nn


class Cc(Method):
    """Whole units and singular components are removed together, by the error that each costs for the MACs it saves."""

    info = Info(
        name="cc",
        label="Collaborative compression",
        sentence="**Collaborative compression** removes channels and splits layers into two thinner ones of lower rank "
        "until a share of the arithmetic is saved, then trains what remains.",
        family="low-rank",
        slot=11,
        lesson="rank",
        stages=ALLOCATED_STAGES,
        paper="arXiv 2105.11228",
    )
    asks = (SAVED, WEIGHT_BITS)
    Config = CcOptions

    @property
    def removes_units(self) -> bool:
        """Units may be removed."""
        return True

    def check_budget(self, budget: Budget) -> None:
        """Refuse what is wrong in a budget whatever the network, bounds that the option ``units`` forbids included.

        Raises:
            CompressionError: naming the ask, the option, the layer or the group.
        """
        super().check_budget(budget)
        refuse_contradictions(budget, self.options(budget))

    def check(self, setup: Setup) -> None:
        """Refuse a saving that this network's units and ranks do not reach, and bounds that cannot hold.

        Raises:
            CompressionError: saying how much can be saved, or naming the layer.
        """
        from compression.methods.cc.reach import refuse_impossible

        super().check(setup)
        refuse_impossible(setup.model, setup.graph, setup.budget, self.options(setup.budget))

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """The same share of every layer saved by its rank or, where ranks alone do not reach that, of every group.

        Raises:
            CompressionError: what a run would refuse, too.
        """
        from compression.methods.cc.forecast import even_forecast
        from compression.methods.cc.reach import refuse_impossible

        self.check_budget(budget)
        options = self.options(budget)
        refuse_impossible(subject.model, subject.graph, budget, options)
        forecast = even_forecast(subject, self.bounded(budget, subject.graph), options)
        unused = [field for field in self.unused(budget) if field != "sparsity"]  # a share of units stands for MACs
        note = f"{self.info.label} does not use {', '.join(unused)} of this budget."
        return replace(forecast, notes=(*forecast.notes, note)) if unused else forecast

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Compress ``setup.model`` in place until its MACs are within the budget.

        Raises:
            CompressionError: an unknown option, or a budget that cannot be reached. RunFailed: training diverged.
        """
        from compression.methods.cc.run import run

        self.check_budget(setup.budget)
        return run(self.bounded_setup(setup), report, self.options(setup.budget))

    def prepare(self, model: nn.Module, budget: Budget, calibration: Iterable[torch.Tensor] | None = None) -> nn.Module:
        """Factor the layers of ``model``, in place, and fix their steps: with ``units`` none, as a loop of one's own
        cannot hold removed units at zero.

        Raises:
            CompressionError: units may be removed, no batch was given, or the saving cannot be reached.
        """
        self.check_own_loop(budget)
        options = self.options(budget)
        if options.units != "none":
            raise CompressionError(
                f"units: a loop of your own cannot hold removed units at zero: set this option of {self.info.name} to "
                f"'none', so that ranks save it all; with {options.units!r} it runs as a whole only",
                line("run", options={"method": self.info.name, "model": budget.model, "data": budget.data}),
            )
        from compression.methods.cc.own_loop import prepare

        if calibration is None:
            use = "looks at what flows into layers" if options.harm == "output" else "counts MACs on a traced network"
            raise CompressionError(f"{self.info.label} {use}: pass calibration batches")
        return prepare(model, budget, calibration, options)

    def trains(self, budget: Budget) -> bool:
        """Not where the option ``tuning`` is none."""
        return budget.options.get("tuning") != "none"

    def caveats(self, result: Mapping[str, Any]) -> list[str]:
        """Where ranks do little, and what saved MACs mean."""
        factored = len(result.get("ranks") or {})
        return [
            "Fewer MACs are counted on the smaller network, and it computes no others. How much time they save depends "
            "on the machine: two thin layers read and write more than one.",
            f"{factored} {'layer is' if factored == 1 else 'layers are'} split into factors here. Small convolutions "
            "are close to full rank: wide linear layers gain most.",
            *super().caveats(result),
        ]


METHOD = CC = Cc()
