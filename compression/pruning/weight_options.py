"""The option of methods that remove single weights by magnitude."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Scope = Annotated[
    Literal["network", "layer"],
    Field(
        title="Magnitudes compared in",
        description="Where magnitudes are compared: over the whole network, or within each layer, which then all lose "
        "one share.",
    ),
]
