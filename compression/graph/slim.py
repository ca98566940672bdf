"""Zeroing units, finding zero units, and cutting them out: a smaller network that computes the same function."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph.modules import cut_tensors
from compression.graph.modules import refresh_attributes
from compression.graph.names import parameter_map
from compression.graph.types import Graph

TOLERANCE = 1e-4  # of the output's largest magnitude (or absolute below 1): above it the slim model is refused


@dataclass(frozen=True)
class SlimReport:
    """``removed``: how many units of each group were cut; ``equality``: max |masked - slim| over a seeded random
    input.
    """

    removed: dict[str, int]
    equality: float


@torch.no_grad()
def zero_units(model: nn.Module, graph: Graph, units: Mapping[str, Sequence[int]]) -> None:
    """Set the named units to zero in place: all their producer and norm slices, so that they output exactly 0.

    Raises:
        CompressionError: an unknown group, or a unit out of range.
    """
    tensors = parameter_map(model)
    for group_id, chosen in units.items():
        group = graph.group(group_id)
        if any(not 0 <= unit < group.units for unit in chosen):
            raise CompressionError(f"group {group_id} has units 0..{group.units - 1}, not {list(chosen)}")
        for member in group.zeroed_members:
            tensor = tensors[member.name]
            where = member.positions[list(chosen)].flatten().to(tensor.device)
            tensor.index_fill_(member.dim, where, 0)


@torch.no_grad()
def zeroed_units(model: nn.Module, graph: Graph) -> dict[str, list[int]]:
    """For every prunable group the units that are exactly zero; groups without any are left out."""
    tensors = parameter_map(model)
    found = {}
    for group in graph.prunable:
        alive = torch.zeros(group.units, dtype=torch.bool)
        for member in group.zeroed_members:
            alive |= _alive(tensors[member.name], member.dim, member.positions)
        if not bool(alive.all()):
            found[group.id] = torch.nonzero(~alive).flatten().tolist()
    return found


def _alive(tensor: torch.Tensor, dim: int, positions: torch.Tensor) -> torch.Tensor:
    """Which units have any non-zero element in this member: bool [units]."""
    others = [d for d in range(tensor.ndim) if d != dim]
    used = tensor.detach().ne(0)
    along = used.any(dim=others) if others else used
    return along.cpu()[positions].any(dim=1)


def slim(
    model: nn.Module, graph: Graph, example_inputs: torch.Tensor | tuple[torch.Tensor, ...] | None = None,
    *, verify: bool = True,
) -> nn.Module:  # fmt: skip
    """A smaller deep copy without the units that are exactly zero; the model given is left as it is.

    Args:
        model: the network the graph was traced from, with zero units (see :func:`zero_units`), quantizers allowed.
        graph: its graph.
        example_inputs: what to compare both on; by default a seeded random tensor of the traced input's shape.
        verify: compare outputs and refuse a result that differs.

    Raises:
        CompressionError: the smaller network does not run, or computes something else.
    """
    return slim_report(model, graph, example_inputs, verify=verify)[0]


def slim_report(
    model: nn.Module, graph: Graph, example_inputs: torch.Tensor | tuple[torch.Tensor, ...] | None = None,
    *, verify: bool = True,
) -> tuple[nn.Module, SlimReport]:  # fmt: skip
    """Like :func:`slim`, and also says what was removed and how equal the result is (NaN when not verified)."""
    units = {name: chosen for name, chosen in zeroed_units(model, graph).items() if graph.group(name).exact}
    small = copy.deepcopy(model)
    drops: dict[tuple[str, int], list[torch.Tensor]] = defaultdict(list)
    for group_id, chosen in units.items():
        group = graph.group(group_id)
        if len(chosen) == group.units:
            raise CompressionError(
                f"all {group.units} units of group {group_id} are zero: the network is cut through there"
            )
        for member in group.members:
            drops[(member.name, member.dim)].append(member.positions[chosen].flatten())
    cut_tensors(small, {key: torch.cat(some) for key, some in drops.items()})
    refresh_attributes(small, [(graph.group(name), len(chosen)) for name, chosen in units.items()])
    equality = _compare(model, small, _inputs(model, graph, example_inputs)) if verify else float("nan")
    return small, SlimReport({name: len(chosen) for name, chosen in units.items()}, equality)


def _inputs(
    model: nn.Module, graph: Graph, given: torch.Tensor | tuple[torch.Tensor, ...] | None
) -> tuple[torch.Tensor, ...]:
    if given is not None:
        return given if isinstance(given, tuple) else (given,)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(4, *graph.input, generator=generator).to(device),)


@torch.no_grad()
def _compare(full: nn.Module, small: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    modes = {module: module.training for module in full.modules()}
    try:
        expected = _tensors(full.eval()(*inputs))
        training, small = small.training, small.eval()
        try:
            got = _tensors(small(*inputs))
        except (RuntimeError, AssertionError, ValueError, TypeError) as error:
            line = str(error).strip().splitlines()[0]
            raise CompressionError(
                f"the slim model does not run ({line}); forward() may contain a fixed size"
            ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    small.train(training)
    worst = 0.0
    for left, right in zip(expected, got, strict=True):
        if left.shape != right.shape:
            raise CompressionError(f"the slim model's output has shape {tuple(right.shape)}, not {tuple(left.shape)}")
        difference = float((left - right).abs().max()) if left.numel() else 0.0
        if not difference <= TOLERANCE * max(1.0, float(left.abs().max())):
            raise CompressionError(f"the slim model differs from the masked one by {difference:.2e}: refused")
        worst = max(worst, difference)
    return worst


def _tensors(output: object) -> list[torch.Tensor]:
    leaves = torch.utils._pytree.tree_leaves(output)
    return [leaf.float() for leaf in leaves if isinstance(leaf, torch.Tensor)]
