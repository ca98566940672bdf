"""``offset``: levels that begin beyond a threshold: a code k stands for sign(k)·((abs(k) - 1/2)·step + offset)."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch

from compression.encodings.base import Integers, Layout, Numbers, Row
from compression.encodings.grid import Grid
from compression.encodings.onnx_form import OnnxForm, table_form
from compression.quant.integers import IntegerWeight

REASON = "codes that look their values up in a table, because levels counted from an offset are no multiples of a step"


def offset(row: Row, codes: Integers, step: Numbers, offset: Numbers) -> Numbers:
    """Levels begin at the offset: sign(k) ((abs(k) - 1/2) step + offset)."""
    one = [-1 if dim == row.get("axis") else 1 for dim in range(len(row["shape"]))]
    k, step, offset = codes.reshape(row["shape"]).astype("f4"), step.reshape(one), offset.reshape(one)
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
        return table_form(
            weight.codes.cpu().numpy(), lambda codes: weight.dequantize(torch.from_numpy(codes)).numpy(), REASON
        )


ENCODING = Offset()
