"""``levels``: a code's sign times one of a few fp32 magnitudes: powers of two, sums of scales, or any others."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from compression.counting.sizes import Dropped
from compression.encodings.base import Arrays, Encoding, Integers, Layout, Numbers, Row
from compression.encodings.onnx_form import OnnxForm, table_form
from compression.graph.cuts import put_back, without
from compression.quant.levels import LevelWeight, bits_for, valued

REASON = "codes that look their values up in a table, because levels are no multiples of a step"


def levels(row: Row, codes: Integers, level: Numbers) -> Numbers:
    """A code's sign times the magnitude of its level."""
    return (np.append(np.float32(0), level)[abs(codes)] * np.sign(codes).astype("f4") + 0.0).reshape(row["shape"])


class Levels(Encoding[LevelWeight]):
    """Stream ``codes``, numbers ``level``, ascending; a weight is 0 where its code is."""

    kind: ClassVar[str] = "levels"
    decode = staticmethod(levels)

    def fields(self, weight: LevelWeight) -> dict[str, Any]:
        """None: how many levels there are follows from the numbers."""
        return {}

    def arrays(self, weight: LevelWeight) -> Arrays:
        """The codes and the levels."""
        codes, table = (part.detach().cpu().contiguous().reshape(-1).numpy() for part in (weight.codes, weight.levels))
        return Arrays({"codes": codes}, {"level": table})

    def layout(self, row: Row) -> Layout:
        """A code for each weight, and as many levels as its bits are for."""
        count = row["numbers"].get("level", 0)
        if count < 1 or bits_for(count) != row["bits"]:
            raise ValueError(f"{count} levels are not those of {row['bits']} bits")
        return Layout({"codes": math.prod(row["shape"])}, {"level": count})

    def verify(self, row: Row, arrays: Arrays) -> None:
        """Codes have a level."""
        codes, count = arrays.streams["codes"], arrays.numbers["level"].size
        if codes.size and max(int(codes.max()), -int(codes.min())) > count:
            raise ValueError(f"a code lies beyond {count} levels")

    def restore(self, layer: str, row: Row, arrays: Arrays) -> LevelWeight:
        """Codes in the weight's shape."""
        codes = torch.from_numpy(arrays.streams["codes"]).reshape(row["shape"])
        return LevelWeight(layer, codes, torch.from_numpy(np.array(arrays.numbers["level"], np.float32)))

    def cut(self, weight: LevelWeight, dropped: Dropped) -> LevelWeight:
        """The levels stay."""
        return dataclasses.replace(weight, codes=without(weight.codes, dropped))

    def put_back(self, weight: LevelWeight, dropped: Dropped, shape: Sequence[int]) -> LevelWeight:
        """Codes of 0 there."""
        return dataclasses.replace(weight, codes=put_back(weight.codes, dropped, shape, 0))

    def onnx(self, weight: LevelWeight) -> OnnxForm | str:
        """Gathered from a table of both signs."""
        table = weight.levels.cpu()
        return table_form(
            weight.codes.cpu().numpy(), lambda codes: valued(torch.from_numpy(codes), table).numpy(), REASON
        )

    def describe(self, weight: LevelWeight) -> dict[str, Any]:
        """``levels``: the magnitudes."""
        return {**super().describe(weight), "levels": weight.levels.tolist()}


ENCODING = Levels()
