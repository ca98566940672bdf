"""``offset``: levels that begin beyond a threshold: a code k stands for sign(k)·((abs(k) - 1/2)·step + offset)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch

from compression.encodings.base import Integers, Layout, Numbers, Row
from compression.encodings.grid import Grid
from compression.encodings.onnx_form import Nodes, OnnxForm
from compression.quant.integers import IntegerWeight

REASON = "codes that look their values up in a table, because levels counted from an offset are no multiples of a step"


def offset(row: Row, codes: Integers, step: Numbers, offset: Numbers) -> Numbers:
    """Levels begin at the offset: sign(k) ((abs(k) - 1/2) step + offset)."""
    k = codes.reshape(row["shape"]).astype("f4")
    return ((abs(k) - np.float32(0.5)) * step + offset) * np.sign(k) + 0.0


class Offset(Grid):
    """One step and one offset for the whole weight."""

    kind: ClassVar[str] = "offset"
    decode = staticmethod(offset)

    def layout(self, row: Row) -> Layout:
        """A code for each weight, one step and one offset."""
        return Layout({"codes": math.prod(row["shape"])}, {"step": 1, "offset": 1})

    def onnx(self, weight: IntegerWeight) -> OnnxForm | str:
        """The levels are no multiples of anything: codes look them up in a table, negative ones from its end."""
        codes, table = weight.codes.cpu().numpy(), table_of(weight)

        def expand(nodes: Nodes, stored: Any) -> Any:
            return nodes.node("Gather", nodes.constant("table", table), nodes.node("Cast", stored, to=np.int32))

        return OnnxForm(codes, table[codes], expand, "table", REASON)


def table_of(weight: IntegerWeight) -> Numbers:
    """What each code stands for: fp32 [2Q + 1], at place k for code k, negative ones counted from the end."""
    levels = int(weight.codes.abs().max()) if weight.codes.numel() else 0
    codes = torch.cat([torch.arange(levels + 1), torch.arange(-levels, 0)]).to(torch.int32)
    return weight.dequantize(codes).numpy()


ENCODING = Offset()
