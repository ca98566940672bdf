"""A point: accuracy and size of a model at one moment of a run. It is what every curve is drawn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any


@dataclass(frozen=True)
class Point:
    """One measured moment.

    ``accuracy`` is a share in 0..1 on ``split`` (``validation`` while a run goes, ``test`` for final points);
    ``bytes`` is an estimate from the codes' entropy until the model is packed, then the size of the packed file
    (``bytes_kind``); ``nominal_bytes`` is the sum of numel x bits / 8 over quantized weights plus 4 per fp32 leftover;
    ``rel_bops`` is relative to the dense model in fp32; ``bits`` maps a layer to its weight and activation bit-width
    (``None`` means 32-bit float).
    """

    step: int
    epoch: float
    phase: str
    split: str
    accuracy: float
    loss: float
    bytes: float
    bytes_kind: str
    nominal_bytes: float
    macs: float
    bops: float
    rel_bops: float
    unit_sparsity: float
    weight_sparsity: float
    bits: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Point:
        """Read a point; fields added by later versions are ignored."""
        names = {f.name for f in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in raw.items() if name in names})
