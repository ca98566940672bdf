"""Which recorded operations are convolution or linear layers, and how many multiply-accumulates each takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from compression.graph.recording import Call, Recording
from compression.graph.types import Layer
from compression.graph.values import Value


@dataclass
class _Entry:
    weight: str
    kind: str
    macs: int
    nonnegative_input: bool


@dataclass
class LayerCollector:
    """Layers in forward order, collected while a recording is replayed; a layer that runs twice counts twice."""

    entries: dict[str, _Entry] = field(default_factory=dict)

    def note(self, call: Call, operands: list[Value], out: tuple[int, ...]) -> str | None:
        """Record a call that multiplies data with one parameter; returns the layer's name, ``None`` for other calls.

        Convolution: MACs = output positions x weight elements; linear: rows x in x out (biases and the rest count 0).
        """
        short = call.op.split(".")[1]
        if short == "convolution":
            weight = operands[1]
            if weight.origin is None:
                return None
            transposed = bool(call.args[6])
            positions = math.prod(operands[0].shape[2:] if transposed else out[2:]) * out[0]
            return self._add(weight.origin, "conv", positions * math.prod(weight.shape), operands[0])
        if short in ("addmm", "mm", "linear"):
            left, right = (operands[1], operands[2]) if short == "addmm" else (operands[0], operands[1])
            if right.origin is None or left.origin is not None:
                return None
            return self._add(right.origin, "linear", math.prod(left.shape[:-1]) * math.prod(right.shape), left)
        return None

    def _add(self, weight: str, kind: str, macs: int, data: Value) -> str:
        name = weight.removesuffix(".weight")
        entry = self.entries.setdefault(name, _Entry(weight, kind, 0, True))
        entry.macs += macs
        entry.nonnegative_input &= data.nonnegative
        return name

    def layers(self, recording: Recording, batch: int) -> tuple[Layer, ...]:
        """The layers, with MACs for one example."""
        sizes = recording.sizes
        return tuple(
            Layer(
                name=name,
                weight=entry.weight,
                bias=f"{name}.bias" if f"{name}.bias" in sizes else None,
                kind=entry.kind,
                shape=sizes.get(entry.weight, ()),
                macs=entry.macs // batch,
                nonnegative_input=entry.nonnegative_input,
            )
            for name, entry in self.entries.items()
        )
