"""The data flow of a recording: which call returns and which calls read every value, and what an operation does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from compression.graph.recording import Call, Recording, Ref

ROUNDING = frozenset({"round", "floor", "ceil", "trunc"})
SAME = frozenset({"detach", "alias", "clone", "_to_copy", "lift_fresh", "contiguous", "positive"})
MADE_LIKE = frozenset({"zeros_like", "ones_like", "full_like", "empty_like", "fill"})
RANGE = frozenset({"max", "min", "amax", "amin", "aminmax"})
RESHAPES = frozenset({"view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "expand"})


def name_of(call: Call) -> str:
    """The operation without its namespace and in-place underscore: ``aten.add_`` → ``add``."""
    return call.op.split(".")[1].rstrip("_")


def quantizes(call: Call) -> bool:
    """Whether the operation is a whole fake quantizer: this project's own, or one of torch's."""
    return "fake_quant" in call.op or "obs_fq" in call.op


def rounds(call: Call) -> bool:
    """Whether the operation rounds: a rounding function, or a whole fake quantizer."""
    return _rounds(call.op)


@cache
def _rounds(op: str) -> bool:
    return op.split(".")[1].rstrip("_") in ROUNDING or "fake_quant" in op or "obs_fq" in op


def written(call: Call) -> list[Ref]:
    """Tensors an operation writes to besides what it returns; what a fake quantizer writes is its state."""
    return [] if quantizes(call) else [alias for write in call.writes for alias in write.aliases]


def refs(call: Call) -> Iterator[Ref]:
    """All tensors among the arguments, in order, lists flattened."""
    return _refs((*call.args, *call.kwargs.values()))


def _refs(argument: Any) -> Iterator[Ref]:
    if isinstance(argument, Ref):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for item in argument:
            yield from _refs(item)


@dataclass
class Flow:
    """``maker``: value id → number of the call that returned it; ``readers``: value id → the calls that read it.

    ``data``: ids of the values that depend on the model's input; ``leaves``: the values that no call returned, by id.
    """

    recording: Recording
    maker: dict[int, int] = field(default_factory=dict)
    readers: dict[int, list[int]] = field(default_factory=dict)
    data: set[int] = field(default_factory=set)
    leaves: dict[int, Ref] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the recording once."""
        self.data.update(ref.id for ref in self.recording.inputs)
        for number, call in enumerate(self.calls):
            from_data = False
            for ref in refs(call):
                self.readers.setdefault(ref.id, []).append(number)
                from_data |= ref.id in self.data
                if ref.id not in self.maker:
                    self.leaves[ref.id] = ref
            if from_data:
                self.data.update(ref.id for ref in (*self.outputs_of(number), *written(call)))
            self.maker.update((output.id, number) for output in self.outputs_of(number))

    @property
    def calls(self) -> list[Call]:
        """The recording's."""
        return self.recording.calls

    @cached_property
    def returned(self) -> frozenset[int]:
        """Ids of what the model returns."""
        return frozenset(ref.id for ref in self.recording.outputs)

    def runs_on_data(self, number: int) -> bool:
        """Whether a call reads anything that depends on the model's input."""
        return any(ref.id in self.data for ref in refs(self.calls[number]))

    def outputs_of(self, number: int) -> list[Ref]:
        """The tensors a call returns."""
        return [output for output in self.calls[number].out if output is not None]

    def past(self, ids: Iterator[int] | list[int]) -> tuple[set[int], dict[int, Ref]]:
        """The calls without data that these values come from, and the leaves they begin with, in order of discovery."""
        calls: set[int] = set()
        leaves: dict[int, Ref] = {}
        todo = [i for i in ids if i not in self.data]
        while todo:
            value = todo.pop(0)
            if value not in self.maker:
                leaves.setdefault(value, self.leaves[value])
            elif self.maker[value] not in calls:
                calls.add(self.maker[value])
                todo[:0] = [ref.id for ref in refs(self.calls[self.maker[value]])]
        return calls, leaves

    def names(self, leaves: dict[int, Ref]) -> tuple[str, ...]:
        """Paths of these tensors in the model; constants have none."""
        return tuple(self.recording.paths[i] for i in leaves if i in self.recording.paths)
