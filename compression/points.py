"""A point: score and size of a model at one moment of a run, the data of every curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AliasChoices, Field, TypeAdapter

from compression.reading import Measured, Number, Text, Whole, typed

ACCURACY = "accuracy"
"""The metric of points stored before there were others."""
Score = Annotated[Number, Field(validation_alias=AliasChoices("score", ACCURACY))]


@dataclass(frozen=True)
class Point:
    """One measured moment.

    ``score`` is that of the task on ``split`` (``validation`` during a run, ``test`` for final points), in the unit of
    ``metric`` (such as ``accuracy``, a share in 0..1);
    ``bytes`` is an estimate from the codes' entropy until the model is packed, then the size of the packed file
    (``bytes_kind``); ``nominal_bytes`` is the sum of numel x bits / 8 over quantized weights plus 4 per fp32 leftover;
    ``rel_bops`` is relative to the dense model in fp32; ``bits`` maps a layer to its weight and activation bit-width
    (``None`` means 32-bit float).
    """

    step: Whole
    epoch: Number
    phase: Text
    split: Text
    score: Score
    loss: Measured
    bytes: Number
    bytes_kind: Text
    nominal_bytes: Number
    macs: Number
    bops: Number
    rel_bops: Measured
    unit_sparsity: Number
    weight_sparsity: Number
    bits: Mapping[Text, Mapping[Text, Number | None]]
    metric: Text = ACCURACY

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the score is there by the metric's name, too."""
        return {self.metric: self.score, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Point:
        """Read a point; fields added by later versions are ignored.

        Raises:
            CompressionError: naming the field that is missing or of the wrong kind.
        """
        return typed(_POINT, raw, "point")


def with_score(point: dict[str, Any]) -> dict[str, Any]:
    """A stored point or step with its ``score``, which versions up to 0.1.0 call ``accuracy``."""
    if "score" not in point and ACCURACY in point:
        point["score"] = point[ACCURACY]
    return point


_POINT = TypeAdapter(Point)
