"""SBS as a method: a search with gates for units and bits, then training of the network that they chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compression.asks import BOPS_SAVED, REMOVAL, in_place_of_others
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject, even_pruning_forecast, spread_units
from compression.methods.base import Compressed, Info, Method, Reporter, Setup, Stage
from compression.methods.sbs.asks import ACTIVATION_BITS, WEIGHT_BITS
from compression.methods.sbs.options import FINE_TUNING, RATE, SEARCH, SbsOptions


class Sbs(Method):
    """Structured pruning and mixed bit-widths together, by gates with trained thresholds."""

    info = Info(
        name="sbs",
        label="Bit sharing",
        sentence="**Bit sharing** learns for each channel whether it stays and for each layer whether 2 bits, 4 or 8 "
        "count, by gates that weigh the loss against bit operations.",
        family="structured",
        slot=18,
        stages=(Stage(SEARCH, "Search", 2), Stage(FINE_TUNING, "Fine-tuning", 3)),
        paper="arXiv 2101.04935",
        lesson="spending",
    )
    asks = (*REMOVAL, WEIGHT_BITS, ACTIVATION_BITS, RATE)
    Config = SbsOptions
    encodings = frozenset({"offset"})

    def check_budget(self, budget: Budget) -> None:
        """Refuse moreover a mean width beside a share of the BOPs, which says the same in another way."""
        super().check_budget(budget)
        if self.options(budget).mean_bits > 0 and BOPS_SAVED.value(budget.asks) is not None:
            raise CompressionError(
                "mean_bits: bops says already what bit operations are to remain: leave one of the two out"
            )

    def check(self, setup: Setup) -> None:
        """Refuse units and bit operations that this network cannot save.

        Raises:
            CompressionError: saying how many it can, or naming the layers whose bounds do not go together.
        """
        from compression.asks import check_taking_part
        from compression.methods.sbs.goal import Goal
        from compression.methods.sbs.layers import layer_candidates
        from compression.pruning.choose import UnitLimits, unit_bounds
        from compression.quant.attach import quantizable_layers

        super().check(setup)
        budget, graph, model = self.bounded(setup.budget, setup.graph), setup.graph, setup.model
        check_taking_part(budget.layers, list(quantizable_layers(model)))
        for ask in (WEIGHT_BITS, ACTIVATION_BITS):
            layer_candidates(ask, budget, model)
        goal = Goal.read(graph, model, budget, self.options(budget))
        goal.units.check(UnitLimits.from_groups(graph.prunable, unit_bounds(budget.groups)))

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """Units spread evenly, bits between the bounds: which units and bits, only the run decides.

        Raises:
            CompressionError: bounds that cannot be met.
        """
        from compression.methods.sbs.goal import mean_widths
        from compression.pruning.target import CostShare

        options, budget, graph = self.options(budget), self.bounded(budget, subject.graph), subject.graph
        share = BOPS_SAVED.value(budget.asks)
        if share is None:
            forecast = even_pruning_forecast(subject, budget, WEIGHT_BITS, ACTIVATION_BITS)
            bits = f"{options.mean_bits:g} bits" if options.mean_bits else "the middle of each range"
            note = f"Bit operations end at those of {bits} or below."
        else:
            from compression.methods.sbs.goal import fewest_bits
            from compression.pruning.choose import UnitLimits, unit_bounds

            limits = UnitLimits.from_groups(graph.prunable, unit_bounds(budget.groups))
            CostShare(graph, BOPS_SAVED.field, share, fewest_bits(graph, subject.model, budget)).check(limits)
            by_mean = CostShare(graph, BOPS_SAVED.field, share, mean_widths(graph, subject.model, budget, 0.0))
            most = sum(limits.highest)
            try:
                removed = sum(spread_units(graph, by_mean, budget.groups).values())
            except CompressionError:
                removed = most
            sparsity = removed / max(1, graph.prunable_units)
            counted = budget.replace(asks={**in_place_of_others(budget.asks, "sparsity"), "sparsity": sparsity})
            forecast = even_pruning_forecast(subject, counted, WEIGHT_BITS, ACTIVATION_BITS)
            note = (
                f"At most {100 * (1 - share):.4g} % of the dense network's bit operations remain. Units are counted as "
                "if every layer had the middle of its range: the run takes fewer with fewer bits."
            )
        return replace(forecast, notes=(*forecast.notes, note))

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Compress ``setup.model`` in place: units as asked, 2, 4 or 8 bits a layer, bit operations at most as asked.

        Raises:
            CompressionError: the budget cannot be reached. RunFailed: training diverged.
        """
        from compression.methods.sbs.run import run

        self.check_budget(setup.budget)
        return run(self.bounded_setup(setup), report, self.options(setup.budget))

    def caveats(self, result: Mapping[str, Any]) -> list[str]:
        """What a grid without zero means for runtimes."""
        return [
            "Weights are odd multiples of half a step. ONNX looks them up in a table and computes in floats: the "
            "file is smaller, the arithmetic is not.",
            *super().caveats(result),
        ]


METHOD = SBS = Sbs()
