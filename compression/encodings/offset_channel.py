"""``offset-channel``: levels that begin at an offset, with a step for each channel; offsets shared or by channel."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from compression.encodings.base import Layout, Row
from compression.encodings.grid import ChannelRow, Grid, channels
from compression.encodings.offset import offset
from compression.encodings.onnx_form import Nodes, OnnxForm
from compression.quant.integers import IntegerWeight

REASON = "codes whose values are computed by channel, because levels counted from an offset are no multiples of a step"


class OffsetChannel(Grid):
    """A step for each channel along ``axis``, and an offset for each or for all (or the other way round)."""

    kind: ClassVar[str] = "offset-channel"
    row: ClassVar[type] = ChannelRow
    decode = staticmethod(offset)

    def layout(self, row: Row) -> Layout:
        """A code for each weight, a step and an offset for each channel or for all."""
        size, numbers = channels(row), row["numbers"]
        counts = {name: 1 if numbers.get(name) == 1 else size for name in ("step", "offset")}
        return Layout({"codes": math.prod(row["shape"])}, counts)

    def onnx(self, weight: IntegerWeight) -> OnnxForm | str:
        """No table serves all channels: the formula in nodes, which runtimes work out once when they load the file."""
        numbers = [np.asarray(number, dtype=np.float32) for number in (weight.step, weight.offset)]

        def expand(nodes: Nodes, stored: Any) -> Any:
            step, offset = map(nodes.constant, ("step", "offset"), numbers)
            codes = nodes.node("Cast", stored, to=np.float32)
            middle = nodes.node("Sub", nodes.node("Abs", codes), nodes.constant("half", np.array(0.5, np.float32)))
            magnitude = nodes.node("Add", nodes.node("Mul", middle, step), offset)
            return nodes.node("Mul", magnitude, nodes.node("Sign", codes))

        return OnnxForm(weight.codes.cpu().numpy(), weight.weight().cpu().numpy(), expand, "levels", REASON)


ENCODING = OffsetChannel()
