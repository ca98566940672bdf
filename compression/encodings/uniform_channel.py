"""``uniform-channel``: integer codes times the fp32 step of their channel, one bit-width for all channels."""

from __future__ import annotations

import math
from typing import ClassVar

from compression.encodings.base import Layout, Row
from compression.encodings.grid import ChannelRow, Grid, channels
from compression.encodings.uniform import uniform


class UniformChannel(Grid):
    """A step for each channel along ``axis``."""

    kind: ClassVar[str] = "uniform-channel"
    row: ClassVar[type] = ChannelRow
    decode = staticmethod(uniform)

    def layout(self, row: Row) -> Layout:
        """A code for each weight and a step for each channel."""
        return Layout({"codes": math.prod(row["shape"])}, {"step": channels(row)})


ENCODING = UniformChannel()
