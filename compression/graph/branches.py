"""The quantizers in a recording: which operations make one up, so that each can stand as one node.

GETA (section 4.1) calls them branches, and this is the first half of its quantization-aware dependency graph:

*attached*: operations computed without data that end in the weight or bias of a convolution, matrix product or
embedding and round a parameter of that size on the way, in torch's or this project's fake quantizer or in plain
operations.

*inserted*: operations on the data between one tensor and one other of the same shape, all elementwise (the largest or
smallest of the tensor may be read for a range), nothing between the two being read elsewhere. They hold a whole fake
quantizer, or a rounding between a division by a step and a multiplication with the same step (or the other way round);
and what comes out is the rounded value alone, with its sign or a mask: ``x + (q(x) - x)`` is a quantizer, ``x + q(x)``
is a quantizer and a sum. So rounding by itself, rounding to positions, a ReLU6 before a quantizer or a residual add
around it stay what they are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from dataclasses import replace

from compression.graph.flow import Flow
from compression.graph.flow import numel
from compression.graph.flow import refs
from compression.graph.flow import rounds
from compression.graph.insertions import around
from compression.graph.names import canonical

WEIGHTED = frozenset(
    f"aten.{name}"
    for name in "convolution _convolution addmm mm bmm baddbmm matmul linear embedding".split()
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A quantizer among the calls of a recording.

    ``calls``: their numbers in order; ``end``: the last call of an inserted branch, the call an attached branch leads
    to; ``parameters``: where the model holds the quantizer's own numbers.
    """

    id: str
    kind: str
    calls: tuple[int, ...]
    end: int
    parameters: tuple[str, ...]


def find_branches(flow: Flow) -> tuple[Found, ...]:
    """Every quantizer of a recorded pass, in the order in which they run."""
    seeds = [number for number, call in enumerate(flow.calls) if rounds(call)]
    regions = _inserted(flow, seeds)
    taken = {number for calls, _ in regions for number in calls}
    found = [*_attached(flow, taken), *(_named(flow, calls, end) for calls, end in regions)]
    return _numbered(flow, sorted(found, key=lambda branch: branch.calls[0]))


def _inserted(flow: Flow, seeds: list[int]) -> list[tuple[set[int], int]]:
    """The calls and the last call of every quantizer on the data, with what computes its step."""
    found: list[tuple[set[int], int]] = []
    for seed in seeds:
        if any(seed in calls for calls, _ in found) or not flow.runs_on_data(seed):
            continue
        region = around(flow, seed)
        if region is not None:
            past, _ = flow.past([ref.id for number in sorted(region) for ref in refs(flow.calls[number])])
            found.append((region | past, max(region)))
    return found


def _named(flow: Flow, calls: set[int], end: int) -> Found:
    _, leaves = flow.past([ref.id for number in sorted(calls) for ref in refs(flow.calls[number])])
    module = flow.calls[end].module
    return Found(f"{module}:quantizer" if module else "quantizer", "inserted", tuple(sorted(calls)), end,
                 flow.names(leaves))  # fmt: skip


def _attached(flow: Flow, taken: set[int]) -> list[Found]:
    found: list[Found] = []
    for number, call in enumerate(flow.calls):
        if call.op not in WEIGHTED or not flow.runs_on_data(number):
            continue
        for ref in refs(call):
            if ref.id in flow.data or ref.id not in flow.maker:
                continue
            calls, leaves = flow.past([ref.id])
            same_size = [i for i, leaf in leaves.items() if _is_weight(flow, i, leaf.shape, ref.shape)]
            weight = next((i for i in same_size if _is_rounded(flow, calls, i)), None)
            left = calls - taken
            if weight is not None and left:
                taken |= left
                name = canonical(flow.recording.paths[weight])
                own = flow.names({i: leaf for i, leaf in leaves.items() if i != weight})
                found.append(Found(name, "attached", tuple(sorted(left)), number, own))
    return found


def _is_weight(flow: Flow, leaf: int, shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return leaf in flow.recording.paths and numel(shape) == numel(wanted)


def _is_rounded(flow: Flow, calls: set[int], leaf: int) -> bool:
    seeds = [n for n in calls if rounds(flow.calls[n])]
    return any(leaf in flow.past([ref.id for ref in refs(flow.calls[n])])[1] for n in seeds)


def _numbered(flow: Flow, found: list[Found]) -> tuple[Found, ...]:
    """Names that occur again get a number; a parameter that the network uses besides is no quantizer's own."""
    inside = {number for branch in found for number in branch.calls}
    paths = {name: i for i, name in flow.recording.paths.items()}
    seen: Counter[str] = Counter()
    result = []
    for branch in found:
        seen[branch.id] += 1
        name = branch.id if seen[branch.id] == 1 else f"{branch.id}#{seen[branch.id]}"
        own = tuple(p for p in branch.parameters if inside.issuperset(flow.readers[paths[p]]))
        result.append(replace(branch, id=name, parameters=own))
    return tuple(result)
