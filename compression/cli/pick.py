"""A model for commands that only look at it: with the weights at hand, else with initial ones, and saying which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

RANDOM, PUBLISHED = "random", "published"


@dataclass(frozen=True, eq=False)
class Picked:
    """``weights`` names the file or function, or is ``published`` for those ``train`` starts from, else ``random``."""

    model: nn.Module
    weights: str
    input: tuple[int, ...]


def pick(
    name: str, data: str | None, input: tuple[int, ...] | None, classes: int | None, weights: str | None
) -> Picked:
    """Build the model ``name`` with ``weights``; without, those trained on ``data`` (on any it goes with) are taken.

    Raises:
        CompressionError: unknown model or data set, an impossible size, missing or wrong-shaped weights.
    """
    from compression import zoo
    from compression.data import catalogue
    from compression.zoo.origin import weighted

    spec = zoo.spec(name)
    sources = spec.data if data is None else (catalogue.absolute(data),)
    input, classes = zoo.resolve(name, input, classes)
    trained = weighted(name, input, classes, weights, sources)
    if trained is not None:
        return Picked(trained.model, str(trained.file or trained.name), input)
    model = zoo.build(name, input, classes).eval()
    if spec.pretrained is not None and catalogue.text_installed():
        spec.pretrained(model)
        return Picked(model, PUBLISHED, input)
    return Picked(model, RANDOM, input)
