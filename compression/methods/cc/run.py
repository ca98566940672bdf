"""The run of collaborative compression: plan, remove and factor, quantize the factors, then train what remains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from compression.budget import Budget
from compression.counting.cost import cost
from compression.errors import CompressionError
from compression.graph import Example, Graph, factored, factored_graph, zero_units
from compression.graph.factors import factors_of
from compression.methods.cc.options import SAVED, WEIGHT_BITS, CcOptions
from compression.methods.cc.plan import Plan, Planner
from compression.posttraining.rows import weight_of
from compression.pruning.removal import HeldUnits
from compression.quant.allocation import Allocation
from compression.quant.fixed_steps import attach
from compression.quant.nearest import rounding
from compression.quant.tables import LayerTables
from compression.training.allocated import begin, fine_tune, refit
from compression.training.preparation import few_inputs
from compression.training.setup import Compressed, Reporter, Setup
from compression.training.trainer import Algorithm

_ROUNDING = 1e-9
PLAN = "plan"


@dataclass(frozen=True)
class Structure:
    """What a checkpoint has to hold for the network to be built again: JSON values."""

    units: Mapping[str, list[int]]
    ranks: Mapping[str, int]
    allocation: Mapping[str, Any]
    facts: Mapping[str, Any]

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: the network was built by what the checkpoint holds."""


@dataclass(frozen=True)
class Held(Algorithm):
    """Removed units are held at zero."""

    units: HeldUnits

    def after_step(self, step: int) -> None:
        """Momentum and decay must not bring them back."""
        self.units.hold()


def run(setup: Setup, report: Reporter, options: CcOptions) -> Compressed:
    """Compress ``setup.model`` in place within ``setup.budget``.

    Raises:
        CompressionError: the budget cannot be reached. RunFailed: training diverged.
    """
    trainer = begin(setup, report, options) if options.tuning == "weights" else None
    if trainer is None:
        report.plan(1)
        report.phase("allocation", 0)
    model = setup.model
    structure = _saved(report)
    if structure is None:
        graph, structure = _built(setup, report, options)
    else:
        planner = Planner(model, setup.graph, setup.budget, options, few_inputs(setup, report, options.samples))
        graph = carried_out(model, setup.graph, planner.restored(structure.units, structure.ranks))
    allocation = Allocation.from_dict(structure.allocation)
    attach(model, allocation)
    small = replace(setup, graph=graph)
    if trainer is None:
        refit(small, report)
    else:
        trainer.setup = small
        held = Held(HeldUnits(model, graph, structure.units))
        fine_tune(trainer, held, plan=structure)
    facts: dict[str, Any] = {"plan": dict(structure.facts), "allocation": dict(structure.allocation)}
    removed = {name: list(units) for name, units in structure.units.items()}
    facts |= {"units": graph.prunable_units, "removed": sum(map(len, removed.values())), "removed_units": removed}
    facts |= trainer.facts() if trainer is not None else {}
    return Compressed(model, facts, dict(structure.ranks), graph)


def _saved(report: Reporter) -> Structure | None:
    """What the checkpoint of an interrupted run says of the network.

    Raises:
        CompressionError: it does not.
    """
    if report.saved is None:
        return None
    try:
        return Structure(**report.saved["parts"][PLAN])
    except (KeyError, TypeError) as error:
        raise CompressionError("the checkpoint does not say which layers have factors; start the run again") from error


def _built(setup: Setup, report: Reporter, options: CcOptions) -> tuple[Graph, Structure]:
    """Plan, then change ``setup.model`` in place."""
    model, budget = setup.model, setup.budget
    inputs = few_inputs(setup, report, options.samples)
    best, compared = planned(model, setup.graph, budget, options, inputs, report.check)
    for plan in compared:
        report.log(f"units take {100 * plan.share:.4g} % of the saving: error {plan.error:.4g}")
    graph = carried_out(model, setup.graph, best)
    counted = checked(graph, best, budget)
    removed = sum(map(len, best.units.values()))
    report.log(
        f"{removed} of {setup.graph.prunable_units} units removed, {len(best.ranks)} of {len(setup.graph.layers)} "
        f"layers factored: {counted:,.0f} of {setup.graph.macs:,} MACs remain"
    )
    if best.ranks:
        report.log(f"ranks: {', '.join(f'{name} {rank}' for name, rank in best.ranks.items())}")
    if best.units:
        report.decision(0, removed=best.units)
        report.log(f"units removed: {', '.join(f'{name} {units}' for name, units in best.units.items())}")
    facts = {
        "share": best.share, "error": best.error, "macs": counted, "ranks": best.ranks,
        "compared": [{"share": plan.share, "error": plan.error} for plan in compared],
    }  # fmt: skip
    allocation = widths(model, setup.graph, budget, best.ranks)
    structure = Structure(best.units, best.ranks, allocation.to_dict(budget.model, budget.weights), facts)
    return graph, structure


def planned(
    model: nn.Module,
    graph: Graph,
    budget: Budget,
    options: CcOptions,
    inputs: Iterable[Example],
    check: Callable[[], None] = lambda: None,
) -> tuple[Plan, list[Plan]]:
    """The best plan, and those that it was compared with; ``model`` does not change.

    Raises:
        CompressionError: the budget cannot be reached.
    """
    return Planner(model, graph, budget, options, inputs, check).best(check)


def carried_out(model: nn.Module, graph: Graph, plan: Plan) -> Graph:
    """Factor layers and set units to zero, in place; returns the graph of what that makes."""
    shapes = {layer.name: layer.shape for layer in graph.layers}
    factored(model, plan.ranks)
    result = factored_graph(model, graph, plan.ranks)
    with torch.no_grad():
        for name, rank in plan.ranks.items():
            first, last = factors_of(model.get_submodule(name))
            n, *inputs = shapes[name]
            pair = plan.curves[name].factors(rank, n, math.prod(inputs))
            for layer, values in zip((first, last), pair, strict=True):
                layer.get_parameter("weight").copy_(weight_of(layer, values[None]))
    zero_units(model, result, plan.units)
    return result


def checked(graph: Graph, plan: Plan, budget: Budget) -> float:
    """The MACs that remain, counted on the graph of the factored network.

    Raises:
        CompressionError: they are more than the budget allows.
    """
    counted, allowed = cost(graph, plan.units).macs, (1 - SAVED.value(budget.asks)) * graph.origin.macs
    if counted > allowed * (1 + _ROUNDING):
        raise CompressionError(f"the factored network takes {counted:,.0f} MACs, above the {allowed:,.0f} allowed")
    return counted


def widths(model: nn.Module, graph: Graph, budget: Budget, ranks: Mapping[str, int]) -> Allocation:
    """The step of every layer of the factored ``model`` at the bits of the budget; both factors have a layer's bits."""
    tables = LayerTables.prepare(model)
    owner = {table.name: _owner(table.name, ranks) for table in tables.layers}
    names = {*(layer.name for layer in graph.layers), *owner.values()}
    bits = WEIGHT_BITS.widths(budget.asks, budget.layers, names)
    return rounding(tables, {name: bits[layer] for name, layer in owner.items()})


def _owner(name: str, ranks: Mapping[str, int]) -> str:
    """The layer that a factor is of."""
    layer = name.rpartition(".")[0]
    return layer if layer in ranks else name
