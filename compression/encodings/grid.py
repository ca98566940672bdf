"""What the encodings of weights on a grid share: int32 codes, fp32 steps, perhaps offsets, by tensor or channel."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from compression.counting.sizes import Dropped
from compression.encodings.base import Arrays, Encoding, Layout, Numbers, Row, WeightRow
from compression.encodings.onnx_form import OnnxForm
from compression.graph.cuts import along, put_back, without
from compression.quant.integers import IntegerWeight, Step
from compression.reading import Whole, cut


class ChannelRow(WeightRow):
    """``axis``: the dimension of the weight along which its channels lie."""

    axis: Whole


class Grid(Encoding[IntegerWeight]):
    """Stream ``codes``, numbers ``step``; a weight is 0 where its code is."""

    def fields(self, weight: IntegerWeight) -> dict[str, Any]:
        """The ``axis`` of channels where there is one."""
        return {} if weight.axis is None else {"axis": weight.axis}

    def arrays(self, weight: IntegerWeight) -> Arrays:
        """The codes; the steps, then the offsets."""
        codes = weight.codes.detach().cpu().contiguous().reshape(-1).numpy()
        numbers = {"step": weight.step} if weight.offset is None else {"step": weight.step, "offset": weight.offset}
        return Arrays({"codes": codes}, {name: _flat(number) for name, number in numbers.items()})

    def layout(self, row: Row) -> Layout:
        """A code for each weight and one step."""
        return Layout({"codes": math.prod(row["shape"])}, {"step": 1})

    def restore(self, layer: str, row: Row, arrays: Arrays) -> IntegerWeight:
        """Steps and offsets that are one number become one, others broadcast to the weight."""
        codes = torch.from_numpy(arrays.streams["codes"]).reshape(row["shape"])
        step, offset = (_shaped(arrays.numbers.get(name), row) for name in ("step", "offset"))
        assert step is not None
        return IntegerWeight(layer, codes, step, row["bits"], offset)

    def cut(self, weight: IntegerWeight, dropped: Dropped) -> IntegerWeight:
        """Codes and the steps and offsets of channels without these positions."""
        step, offset = (
            along(number, dropped) if isinstance(number, torch.Tensor) else number
            for number in (weight.step, weight.offset)
        )
        assert step is not None
        return dataclasses.replace(weight, codes=without(weight.codes, dropped), step=step, offset=offset)

    def put_back(self, weight: IntegerWeight, dropped: Dropped, shape: Sequence[int]) -> IntegerWeight:
        """Codes of 0 there, with a step and an offset of 1."""
        axis = weight.axis
        lost = [(dim, positions) for dim, positions in dropped if dim == axis]
        full = [size if dim == axis else 1 for dim, size in enumerate(shape)]
        step, offset = (
            put_back(number, lost, full, 1.0) if isinstance(number, torch.Tensor) and number.numel() > 1 else number
            for number in (weight.step, weight.offset)
        )
        assert step is not None
        codes = put_back(weight.codes, dropped, shape, 0)
        return dataclasses.replace(weight, codes=codes, step=step, offset=offset)

    def onnx(self, weight: IntegerWeight) -> OnnxForm | str:
        """A multiple of its codes."""
        return OnnxForm(weight.codes.cpu().numpy())

    def describe(self, weight: IntegerWeight) -> dict[str, Any]:
        """``step`` is a number, or a list with one for each position along ``axis``; so is ``offset``, or ``None``."""
        step, offset = (
            number.reshape(-1).tolist() if isinstance(number, torch.Tensor) and number.numel() != 1 else _number(number)
            for number in (weight.step, weight.offset)
        )
        return {**super().describe(weight), "step": step, "axis": weight.axis, "offset": offset}


def channels(row: Row) -> int:
    """How many channels a weight has along its ``axis``.

    Raises:
        ValueError: it has no such dimension.
    """
    shape, axis = row["shape"], row["axis"]
    if axis >= len(shape):
        raise ValueError(f"{cut(row['name'])} has {len(shape)} dimensions, no dimension {axis}")
    return int(shape[axis])


def _flat(number: Step) -> Numbers:
    return torch.as_tensor(number, dtype=torch.float32).detach().cpu().reshape(-1).numpy()


def _shaped(numbers: Numbers | None, row: Row) -> Step | None:
    if numbers is None:
        return None
    if "axis" not in row or numbers.size == 1:
        return float(numbers[0])
    shape = [-1 if dim == row["axis"] else 1 for dim in range(len(row["shape"]))]
    return torch.from_numpy(np.array(numbers, dtype=np.float32)).reshape(shape)


def _number(number: Step | None) -> float | None:
    return None if number is None else float(number)
