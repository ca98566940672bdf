"""A network rebuilt from its recording without the removed units, for models whose ``forward`` contains fixed sizes.

The recorded ATen operations become a ``torch.fx`` graph whose sizes (views, splits, groups, …) are adapted to the
remaining units; two batch sizes are recorded, so that the batch size stays free. Other sizes are those of the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx, nn

from compression.errors import CompressionError
from compression.graph import user_frame
from compression.graph.builder import Builder, Linear, UnknownOrigin
from compression.graph.flow import name_of
from compression.graph.inputs import Inputs
from compression.graph.live import live_calls
from compression.graph.record import record
from compression.graph.recording import Call, Ref
from compression.graph.replay import Replay, replay
from compression.graph.running import DoesNotRun
from compression.graph.types import Graph

BATCHES = (2, 3)
RESHAPES = frozenset({"view", "_unsafe_view", "reshape", "expand", "_reshape_alias"})


@dataclass
class _Side:
    """The replay at one batch size, and which units are removed: bool [units]."""

    replayed: Replay
    units: NDArray[np.int64]
    is_removed: NDArray[np.bool_]

    def remaining(self, ref: Ref, dim: int) -> NDArray[np.bool_]:
        """Which positions of a tensor's dimension remain: bool [size]."""
        remaining = np.ones(ref.shape[dim], dtype=np.bool_)
        for factor in self.replayed.values[ref.id].along(dim) if ref.id in self.replayed.values else ():
            absent = np.where(factor.atoms >= 0, self.is_removed[self.units[factor.atoms]], False)
            remaining &= ~absent.all(axis=tuple(d for d in range(absent.ndim) if d != dim))
        return remaining

    def shape(self, ref: Ref) -> tuple[int, ...]:
        """A tensor's shape without the removed units."""
        return tuple(int(self.remaining(ref, dim).sum()) for dim in range(len(ref.shape)))


def rebuild(
    full: nn.Module,
    small: nn.Module,
    graph: Graph,
    removed: Mapping[str, Sequence[int]],
    inputs: Inputs,
) -> fx.GraphModule:
    """The slim network as a graph of plain operations over ``small``'s tensors.

    Args:
        full: the masked model, recorded again at two batch sizes.
        small: its copy with the tensors already cut.
        graph: the trace of ``full``.
        removed: group id → removed units.
        inputs: example inputs; their first dimension is the batch.

    Raises:
        CompressionError: the model's operations depend on the batch size in a way that is not linear, or have arguments
            that a graph cannot contain.
    """
    plan = full, small, graph, removed, inputs
    try:
        return _rebuilt_from(*plan, [inputs.batch_of(size) for size in BATCHES])
    except DoesNotRun:  # a forward for one batch size; so is the replay
        return _rebuilt_from(*plan, [inputs, inputs])


def _rebuilt_from(
    full: nn.Module, small: nn.Module, graph: Graph, removed: Mapping[str, Sequence[int]], inputs: Inputs,
    pair: Sequence[Inputs],
) -> fx.GraphModule:  # fmt: skip
    """The network rebuilt from two recordings on these inputs."""
    try:
        try:
            return _rebuild([_side(full, graph, removed, each, False) for each in pair], small, inputs)
        except UnknownOrigin:  # its values are not known on the meta device
            return _rebuild([_side(full, graph, removed, each, True) for each in pair], small, inputs)
    except CompressionError:
        raise
    except Exception as error:  # an argument that no graph of plain operations can contain
        raise CompressionError(f"its operations cannot be replayed ({user_frame.first_line(error)})") from error


def regrouped(
    full: nn.Module, small: nn.Module, graph: Graph, removed: Mapping[str, Sequence[int]], inputs: Inputs
) -> bool:
    """Whether the cut modules ``small`` work on other shapes than the replay: with channels grouped differently.

    A ``forward`` that splits into a fixed number of heads runs with fewer rows, but with narrower heads.
    """
    side = _side(full, graph, removed, inputs, False)
    calls = live_calls(record(small, inputs))
    expected = side.replayed.recording.calls
    if [call.op for call in calls] != [call.op for call in expected]:
        return True
    return any(
        one is not None and two is not None and one.shape != side.shape(two)
        for call, like in zip(calls, expected, strict=True)
        for one, two in zip(call.out, like.out, strict=True)
    )


def _rebuild(sides: list[_Side], small: nn.Module, inputs: Inputs) -> fx.GraphModule:
    first, second = (side.replayed.recording for side in sides)
    if [call.op for call in first.calls] != [call.op for call in second.calls]:
        raise CompressionError("the model runs other operations for another batch size: it cannot be rebuilt")
    builder = Builder(first, small)
    builder.place(inputs, first.inputs)
    for one, two in zip(first.calls, second.calls, strict=True):
        builder.add(one, _fit(_adapted(sides[0], one), _adapted(sides[1], two)))
    return builder.finish()


def _side(
    model: nn.Module, graph: Graph, removed: Mapping[str, Sequence[int]], inputs: Inputs, on_values: bool
) -> _Side:
    inexact = any(not graph.group(name).exact for name in removed)
    replayed = replay(model, inputs, inexact=inexact, on_values=on_values)
    units = replayed.provenance.resolve()
    starts = {(slot.name, slot.dim): slot.start for slot in replayed.provenance.slots}
    is_removed = np.zeros(int(units.max()) + 1, dtype=np.bool_)
    for group_id, chosen in removed.items():
        for member in graph.group(group_id).members:
            atoms = starts[(member.name, member.dim)] + member.positions[list(chosen)].numpy().ravel()
            is_removed[units[atoms]] = True
    return _Side(replayed, units, is_removed)


def _fit(one: Any, two: Any) -> Any:
    """Arguments at both batch sizes → arguments in which what differs is linear in the batch."""
    if isinstance(one, (tuple, list)):
        return tuple(_fit(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, dict):
        return {name: _fit(value, two[name]) for name, value in one.items()}
    if isinstance(one, int) and not isinstance(one, bool) and one != two:
        slope = (two - one) // (BATCHES[1] - BATCHES[0])
        return Linear(slope, one - slope * BATCHES[0])
    return one


def _adapted(side: _Side, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call's arguments with every size as it is after the removal."""
    name, args = name_of(call), list(call.args)
    out = call.out[0]
    if name in RESHAPES and out is not None:
        shape = side.shape(out)
        args[1] = tuple(size if size == -1 else shape[d] for d, size in enumerate(args[1]))
    elif name in ("slice", "select", "narrow"):
        _move_positions(side, name, args)
    elif name == "roll":
        ndim = len(args[0].shape)
        args[1] = tuple(_shift(side.remaining(args[0], d % ndim), n) for n, d in zip(*args[1:3], strict=True))
    elif name in ("split", "split_with_sizes") and out is not None:
        dim = (args[2] if len(args) > 2 else 0) % len(out.shape)
        sizes = tuple(side.shape(ref)[dim] for ref in call.out if ref is not None)
        args[1] = sizes[0] if name == "split" else sizes
    elif name == "convolution" and args[8] > 1 and args[8] == args[0].shape[1]:
        args[8] = side.shape(args[0])[1]
    elif name == "native_group_norm":
        remaining = side.remaining(args[0], 1)
        args[6] = int(remaining.reshape(args[6], -1).any(axis=1).sum())
        args[4] = int(remaining.sum())
    elif name in ("native_layer_norm", "_fused_rms_norm"):
        args[1] = side.shape(args[0])[-len(args[1]) :]
    return tuple(args), dict(call.kwargs)


def _shift(remaining: NDArray[np.bool_], places: int) -> int:
    """How far the positions that remain roll: as many as remain of those that come round."""
    return places if remaining.all() else int(remaining[remaining.size - places % remaining.size :].sum())


def _move_positions(side: _Side, name: str, args: list[Any]) -> None:
    """Positions along a cut axis move by what was cut before them."""
    source, dim = args[0], (args[1] if len(args) > 1 else 0) % len(args[0].shape)
    remaining = side.remaining(source, dim)
    for place in (2,) if name == "select" else (2, 3):
        if len(args) > place and isinstance(args[place], int) and 0 <= args[place] <= len(remaining):
            args[place] = int(remaining[: args[place]].sum())
