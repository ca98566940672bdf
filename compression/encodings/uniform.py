"""``uniform``: integer codes times one fp32 step (GETA section 3.1 with t = 1, OPQ's plain grid)."""

from __future__ import annotations

from typing import ClassVar

from compression.encodings.base import Integers, Numbers, Row
from compression.encodings.grid import Grid


def uniform(row: Row, codes: Integers, step: Numbers) -> Numbers:
    """A code times the step."""
    return (codes.astype("f4") * step + 0.0).reshape(row["shape"])


class Uniform(Grid):
    """One step for the whole weight."""

    kind: ClassVar[str] = "uniform"
    decode = staticmethod(uniform)


ENCODING = Uniform()
