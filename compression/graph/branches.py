"""The quantizers in a recording: which operations belong to each, so that each can be one node.

GETA (section 4.1) calls them branches, and this is the first half of its quantization-aware dependency graph:

*attached*: operations computed without data that end in the weight or bias of a convolution, matrix product or
embedding and round a parameter of that size on the way, in torch's or this project's fake quantizer or in plain
operations.

*inserted*: operations on the data between one tensor and one other of the same shape, all elementwise (the largest or
smallest of the tensor may be read for a range), nothing between the two being read elsewhere. They contain a whole
fake quantizer, or a rounding between a division by a step and a multiplication with the same step (or the reverse);
and what comes out is the rounded value alone, with its sign or a mask: ``x + (q(x) - x)`` is a quantizer, ``x + q(x)``
is a quantizer and a sum. So rounding by itself, rounding to positions, a ReLU6 before a quantizer or a residual add
around it stay what they are.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from compression.graph.flow import Flow, refs, rounds
from compression.graph.insertions import around
from compression.graph.names import canonical
from compression.graph.recording import Ref

WEIGHTED = frozenset(
    f"aten.{name}"
    for name in "convolution _convolution addmm mm bmm baddbmm matmul linear embedding".split()
)  # fmt: skip


@dataclass(frozen=True)
class RecordedBranch:
    """A quantizer among the calls of a recording.

    ``calls``: their numbers in order; ``end``: the last call of an inserted branch, the call an attached branch leads
    to; ``parameters``: names of the quantizer's parameters in the model.
    """

    id: str
    kind: str
    calls: tuple[int, ...]
    end: int
    parameters: tuple[str, ...]


def find_branches(flow: Flow) -> tuple[RecordedBranch, ...]:
    """Every quantizer of a recorded pass, in the order in which they run."""
    seeds = [number for number, call in enumerate(flow.calls) if rounds(call)]
    regions = _inserted(flow, seeds)
    claimed = {number for calls, _ in regions for number in calls}
    branches = [*_attached(flow, claimed), *(_named(flow, calls, end) for calls, end in regions)]
    return _numbered(flow, sorted(branches, key=lambda branch: branch.calls[0]))


def _inserted(flow: Flow, seeds: list[int]) -> list[tuple[set[int], int]]:
    """The calls and the last call of every quantizer on the data, with what computes its step."""
    inserted: list[tuple[set[int], int]] = []
    for seed in seeds:
        if any(seed in calls for calls, _ in inserted) or not flow.runs_on_data(seed):
            continue
        region = around(flow, seed)
        if region is not None:
            past, _ = flow.past([ref.id for number in sorted(region) for ref in refs(flow.calls[number])])
            inserted.append((region | past, max(region)))
    return inserted


def _named(flow: Flow, calls: set[int], end: int) -> RecordedBranch:
    _, leaves = flow.past([ref.id for number in sorted(calls) for ref in refs(flow.calls[number])])
    module = flow.calls[end].module
    return RecordedBranch(f"{module}:quantizer" if module else "quantizer", "inserted", tuple(sorted(calls)), end,
                 flow.names(leaves))  # fmt: skip


def _attached(flow: Flow, claimed: set[int]) -> list[RecordedBranch]:
    attached: list[RecordedBranch] = []
    for number, call in enumerate(flow.calls):
        if call.op not in WEIGHTED or not flow.runs_on_data(number):
            continue
        for ref in refs(call):
            calls, _ = flow.past([ref.id])
            weights, own = _rounded_parameters(flow, calls)
            remaining = calls - claimed
            if weights and remaining:
                claimed |= remaining
                name = canonical(flow.recording.paths[weights[0]])
                attached.append(RecordedBranch(name, "attached", tuple(sorted(remaining)), number, own))
    return attached


def _rounded_parameters(flow: Flow, calls: set[int]) -> tuple[list[int], tuple[str, ...]]:
    """The parameters that are rounded element by element on the way, and the names of what they are rounded with.

    A rounded parameter has as many elements as the result of the rounding. What is only combined with a rounded weight
    (another weight, a mask, a low-rank update) belongs to the network.
    """
    weights: list[int] = []
    operands: dict[int, Ref] = {}
    for number in sorted(calls):
        if rounds(flow.calls[number]):
            size = math.prod(flow.outputs_of(number)[0].shape)
            _, leaves = flow.past([ref.id for ref in refs(flow.calls[number])])
            same = (i for i, leaf in leaves.items() if i in flow.recording.paths and math.prod(leaf.shape) == size)
            weight = next(same, None)
            if weight is not None:
                weights.append(weight)
                operands |= leaves
    return weights, flow.names({i: leaf for i, leaf in operands.items() if i not in weights})


def _numbered(flow: Flow, branches: list[RecordedBranch]) -> tuple[RecordedBranch, ...]:
    """Number repeated names; a parameter that the network also uses elsewhere is not counted as a quantizer's."""
    shared = {flow.recording.paths[i] for i in _used_elsewhere(flow, branches) if i in flow.recording.paths}
    count: Counter[str] = Counter()
    result = []
    for branch in branches:
        count[branch.id] += 1
        name = branch.id if count[branch.id] == 1 else f"{branch.id}#{count[branch.id]}"
        own = tuple(path for path in branch.parameters if path not in shared)
        result.append(replace(branch, id=name, parameters=own))
    return tuple(result)


def _used_elsewhere(flow: Flow, branches: list[RecordedBranch]) -> set[int]:
    """The leaves that reach the data without being rounded, outside the quantizers."""
    inside = {number for branch in branches for number in branch.calls}
    used: set[int] = set()
    for number, call in enumerate(flow.calls):
        for ref in refs(call) if number not in inside and flow.runs_on_data(number) else ():
            calls, leaves = flow.past([ref.id])
            if not any(rounds(flow.calls[n]) for n in calls):
                used |= leaves.keys()
    return used
