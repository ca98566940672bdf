"""A trial of what a graph promises: cut random units out of a copy and see that the network computes the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph.copies import deep_copy
from compression.graph.inputs import Example
from compression.graph.slim import slim_report, zero_units, zeroed_units
from compression.graph.types import Graph

SHARE = 0.5


def prove(
    model: nn.Module, graph: Graph, example_inputs: Example | None = None, *, without: Collection[str] = ()
) -> None:
    """Cut half the units of every prunable group at random (always the same ones), as a run does at its end.

    The model and the state of all random generators stay as they are. It takes about as long as :func:`slim`; only
    after a failure every group is tried by itself, to name those that are to blame.

    Args:
        model: the network the graph was traced from.
        graph: its graph.
        example_inputs: what to compare on, as for :func:`slim`.
        without: ids of groups that nothing will be removed from.

    Raises:
        CompressionError: the smaller network computes something else or does not run; the groups are named.
    """
    units = _some_units(model, graph, without)
    refusal = _refusal(model, graph, units, example_inputs)
    if refusal is None:
        return
    if not units:
        raise CompressionError(
            f"this model cannot be cut, even with all its units, as a trial before the first step shows: {refusal}"
        ) from refusal
    alone = {name: _refusal(model, graph, {name: chosen}, example_inputs) for name, chosen in units.items()}
    blamed = [name for name, reason in alone.items() if reason is not None] or list(units)
    cause = next((reason for reason in alone.values() if reason is not None), refusal)
    raise CompressionError(
        f"units of {', '.join(blamed)} cannot be removed from this model, as a trial before the first step shows "
        f'({cause}): keep them, in the budget with groups {{name: {{"sparsity": [0, 0]}}}}'
    ) from cause


def _some_units(model: nn.Module, graph: Graph, without: Collection[str]) -> dict[str, list[int]]:
    """Half of the units that are not zero already, of each group at least one and never the last one."""
    generator = torch.Generator().manual_seed(0)
    zero = zeroed_units(model, graph)
    chosen: dict[str, list[int]] = {}
    for group in graph.prunable:
        alive = sorted(set(range(group.units)) - set(zero.get(group.id, ())))
        order = torch.randperm(len(alive), generator=generator).tolist()
        if group.id not in without and len(alive) > 1:
            chosen[group.id] = sorted(alive[place] for place in order[: max(1, int(SHARE * len(alive)))])
    return chosen


def _refusal(
    model: nn.Module, graph: Graph, units: Mapping[str, list[int]], example_inputs: Example | None
) -> CompressionError | None:
    """Why these units cannot be cut out; ``None`` if they can."""
    masked = deep_copy(model)
    zero_units(masked, graph, units)
    try:
        slim_report(masked, graph, example_inputs)
    except CompressionError as error:
        return error
    return None
