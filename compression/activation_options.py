"""The options of methods that quantize activations."""

from __future__ import annotations

from pydantic import Field

from compression.options import Options
from compression.reading import Flag


class ActivationOptions(Options):
    """What methods that quantize the inputs of layers take."""

    unsigned: Flag = Field(
        False,
        description="Inputs that are never negative, as behind a ReLU, are quantized without a sign: all codes are for "
        "values from 0 up, so that steps are half as large at the same bit-width.",
    )
