"""``uniform-channel``: integer codes times the fp32 step of their channel, one bit-width for all channels."""

from __future__ import annotations

import math
from typing import ClassVar

from compression.encodings.base import Integers, Layout, Numbers, Row
from compression.encodings.grid import ChannelRow, Grid, channels


def uniform_channel(row: Row, codes: Integers, step: Numbers) -> Numbers:
    """A code times its channel's step."""
    one = [-1 if dim == row["axis"] else 1 for dim in range(len(row["shape"]))]
    return codes.reshape(row["shape"]).astype("f4") * step.reshape(one) + 0.0


class UniformChannel(Grid):
    """A step for each channel along ``axis``."""

    kind: ClassVar[str] = "uniform-channel"
    row: ClassVar[type] = ChannelRow
    decode = staticmethod(uniform_channel)

    def layout(self, row: Row) -> Layout:
        """A code for each weight and a step for each channel."""
        return Layout({"codes": math.prod(row["shape"])}, {"step": channels(row)})


ENCODING = UniformChannel()
