"""Zeroing units, finding zero units, and cutting them out: a smaller network that computes the same function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph.copies import deep_copy
from compression.graph.cuts import cuts
from compression.graph.equality import check_equal, difference, outputs
from compression.graph.inputs import Example, Inputs
from compression.graph.modules import cut_tensors, refresh_attributes
from compression.graph.names import parameter_map
from compression.graph.rebuild import rebuild, regrouped
from compression.graph.running import DoesNotRun
from compression.graph.types import Graph, Group
from compression.graph.user_frame import first_line

MASKED = "the masked one"


@dataclass(frozen=True)
class SlimReport:
    """The result of slimming.

    ``units``: group id → units cut; ``equality``: max |masked - slim| over the inputs compared on, of the units whose
    groups are exact; ``change``: the same of all units, larger where inexact ones went too; ``rebuilt``: the model's
    ``forward`` has sizes written into it, so the result is a graph of plain operations (``torch.fx``) for inputs of
    the traced shape, any batch size that the model takes.
    """

    units: dict[str, list[int]]
    equality: float
    rebuilt: bool
    change: float

    @property
    def removed(self) -> dict[str, int]:
        """How many units of each group were cut."""
        return {name: len(chosen) for name, chosen in self.units.items()}


@torch.inference_mode()  # so that inference tensors can be written to
def zero_units(model: nn.Module, graph: Graph, units: Mapping[str, Sequence[int]]) -> None:
    """Set the named units to zero in place: all their producer and norm slices, so that they output exactly 0.

    Raises:
        CompressionError: an unknown group, a unit out of range, or a model without values.
    """
    tensors = _values(model)
    for group_id, chosen in units.items():
        group = graph.group(group_id)
        if any(not 0 <= unit < group.units for unit in chosen):
            raise CompressionError(f"group {group_id} has units 0..{group.units - 1}, not {list(chosen)}")
        for member in group.zeroed_members:
            with _refusing(f"{member.name} cannot be set to zero"):
                tensor = tensors[member.name]
                where = member.positions[list(chosen)].flatten().to(tensor.device)
                tensor.index_fill_(member.dim, where, 0)


@torch.no_grad()
def zeroed_units(model: nn.Module, graph: Graph) -> dict[str, list[int]]:
    """For every prunable group the units that are exactly zero; groups without any are omitted.

    Raises:
        CompressionError: the model has no values.
    """
    tensors = _values(model)
    zeroed = {}
    for group in graph.prunable:
        alive = torch.zeros(group.units, dtype=torch.bool)
        for member in group.zeroed_members:
            with _refusing(f"{member.name} cannot be read"):
                alive |= _alive(tensors[member.name], member.dim, member.positions)
        if not bool(alive.all()):
            zeroed[group.id] = torch.nonzero(~alive).flatten().tolist()
    return zeroed


def _values(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's tensors by canonical name, with values."""
    tensors = parameter_map(model)
    empty = next((name for name, tensor in tensors.items() if tensor.is_meta), None)
    if empty is not None:
        raise CompressionError(f"{empty} is on the meta device, which holds no values: load the model's weights first")
    return tensors


def _alive(tensor: torch.Tensor, dim: int, positions: torch.Tensor) -> torch.Tensor:
    """Which units have any non-zero element in this member: bool [units]."""
    others = [d for d in range(tensor.ndim) if d != dim]
    used = tensor.detach().ne(0)
    along = used.any(dim=others) if others else used
    return along.cpu()[positions].any(dim=1)


def slim(
    model: nn.Module, graph: Graph, example_inputs: Example | None = None,
    *, multiple: int = 1,
) -> nn.Module:  # fmt: skip
    """A smaller deep copy without the units that are exactly zero; the given model is not changed.

    The copy keeps the model's classes wherever these allow it (see :attr:`SlimReport.rebuilt`). It must compute what
    the masked model computes; only units of inexact groups (``trace(…, inexact=True)``) may change the output, and
    their cut must come out the same in two ways of making it.

    Args:
        model: the network the graph was traced from, with zero units (see :func:`zero_units`), quantizers allowed.
        graph: its graph.
        example_inputs: what to compare both on, as for :func:`trace`; by default a seeded random tensor of the traced
            input's shape.
        multiple: round the channels that stay up to a multiple of this in every group (8 or 16 suit most processors),
            by keeping some zero units; heads are not rounded.

    Raises:
        CompressionError: the smaller network does not run, or computes something else.
    """
    return slim_report(model, graph, example_inputs, multiple=multiple)[0]


def slim_report(
    model: nn.Module, graph: Graph, example_inputs: Example | None = None,
    *, multiple: int = 1,
) -> tuple[nn.Module, SlimReport]:  # fmt: skip
    """Like :func:`slim`, and also reports what was removed, how equal the result is, and how it was built."""
    zero = zeroed_units(model, graph)
    units = {name: cut for name, chosen in zero.items() if (cut := to_multiple(graph.group(name), chosen, multiple))}
    for name, chosen in units.items():
        if len(chosen) == graph.group(name).units:
            raise CompressionError(f"all {len(chosen)} units of group {name} are zero: the network is cut through")
    inputs = _inputs(model, graph, example_inputs)
    try:
        expected = outputs(model, inputs)
    except DoesNotRun as error:
        which = "the inputs given" if example_inputs is not None else "random images"
        raise CompressionError(f"{error} on {which}: pass example_inputs that it accepts") from error
    exact = {name: chosen for name, chosen in units.items() if graph.group(name).exact}
    small, equality, rebuilt = _equal(model, graph, exact, inputs, expected)
    change = equality
    if exact != units:
        small, rebuilt = _agreed(model, graph, units, inputs)
        change = difference(expected, outputs(small, inputs))
    return small, SlimReport(units, equality, rebuilt, change)


def _edited(model: nn.Module, graph: Graph, units: Mapping[str, Sequence[int]]) -> nn.Module:
    """A copy of the model with its modules cut; it may not run where forward() contains sizes."""
    small = deep_copy(model)
    positions = cuts(graph, units)
    with _refusing(f"units of {', '.join(units)} cannot be cut"):
        cut_tensors(small, positions)
        refresh_attributes(small, positions, [(graph.group(name), len(chosen)) for name, chosen in units.items()])
    return small


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Whatever a tensor's or module's type raises against being cut is a refusal in one line."""
    try:
        yield
    except CompressionError:
        raise
    except Exception as error:
        raise CompressionError(f"{what} ({first_line(error)}): was the graph traced from this model?") from error


def _equal(
    model: nn.Module, graph: Graph, units: Mapping[str, Sequence[int]], inputs: Inputs, expected: list[torch.Tensor]
) -> tuple[nn.Module, float, bool]:
    """The slim model without these units, its largest difference to the masked one, and whether it was rebuilt."""
    small = _edited(model, graph, units)
    try:
        return small, check_equal(model, small, inputs, expected, MASKED), False
    except CompressionError as error:
        if not units:
            raise
        # forward() contains sizes that no attribute stores: replay its operations with the remaining sizes
        try:
            small = rebuild(model, small, graph, units, inputs)
            return small, check_equal(model, small, inputs, expected, MASKED), True
        except CompressionError as refusal:
            raise _refused(units, error, refusal) from error


def _refused(units: Mapping[str, Sequence[int]], first: CompressionError, second: CompressionError) -> CompressionError:
    """One refusal for both ways of cutting, with a remedy."""
    reasons = " and, rebuilt from its operations, ".join(dict.fromkeys((str(first), str(second))))
    groups = ", ".join(list(units)[:4]) + (", …" if len(units) > 4 else "")
    return CompressionError(f"units of {groups} cannot be cut: {reasons}; freeze their parameters: trace(…, frozen=…)")


def _agreed(
    model: nn.Module, graph: Graph, units: Mapping[str, Sequence[int]], inputs: Inputs
) -> tuple[nn.Module, bool]:
    """The slim model where the masked one is no measure, and whether it was rebuilt.

    It is built in both ways, by cutting the modules and by replaying the operations, and both must compute the same,
    unless the modules do not run or group the remaining units differently (another number of heads).
    """
    replayed = rebuild(model, _edited(model, graph, units), graph, units, inputs)
    small = _edited(model, graph, units)
    try:
        result = outputs(small, inputs)
    except DoesNotRun:
        return replayed, True
    try:
        check_equal(small, replayed, inputs, result, "the same cut made in another way")
    except CompressionError:
        if not regrouped(model, small, graph, units, inputs):
            raise
        return replayed, True
    return small, False


def to_multiple(group: Group, zero: list[int], multiple: int) -> list[int]:
    """The zero units to cut so that what stays is a multiple (all units, if the group has too few).

    Raises:
        CompressionError: the multiple is below 1.
    """
    if multiple < 1:
        raise CompressionError(f"multiple must be at least 1, not {multiple}")
    if any(member.positions.shape[1] > 1 for member in group.zeroed_members):
        return zero  # a unit of several rows is a head or a block, no channel
    stay = group.units - len(zero)
    return zero[: max(0, group.units - -(-stay // multiple) * multiple)]


def _inputs(model: nn.Module, graph: Graph, example_inputs: Example | None) -> Inputs:
    if example_inputs is not None:
        return Inputs.read(example_inputs)
    inputs = Inputs.read(graph.example(4))
    parameter = next((x for x in model.parameters() if x.is_floating_point()), inputs.tensors[0])
    return inputs.map(lambda x: x.to(parameter.device, parameter.dtype if x.is_floating_point() else x.dtype))
