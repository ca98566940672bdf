"""``uniform``: integer codes times one fp32 step (GETA section 3.1 with t = 1, OPQ's plain grid)."""

from __future__ import annotations

from typing import ClassVar

from compression.encodings.base import Integers, Numbers, Row
from compression.encodings.grid import Grid


def uniform(row: Row, codes: Integers, step: Numbers) -> Numbers:
    """A code times the step, or that of its channel."""
    one = [-1 if dim == row.get("axis") else 1 for dim in range(len(row["shape"]))]
    return codes.reshape(row["shape"]).astype("f4") * step.reshape(one) + 0.0


class Uniform(Grid):
    """One step for the whole weight."""

    kind: ClassVar[str] = "uniform"
    decode = staticmethod(uniform)


ENCODING = Uniform()
