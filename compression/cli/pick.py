"""A model for commands that only look at it: with the weights at hand, else with initial ones, and saying which."""

from __future__ import annotations

import argparse
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


def pick(asked: argparse.Namespace) -> Picked:
    """Build the model that ``asked.model``, ``input``, ``classes`` and ``weights`` name.

    Without ``--weights`` those trained on ``--data`` (if absent: on a data set the model goes with) are taken.

    Raises:
        CompressionError: unknown model or data set, an impossible size, missing or wrong-shaped weights.
    """
    from compression import zoo
    from compression.data import catalogue
    from compression.zoo.origin import weighted

    spec = zoo.spec(asked.model)
    sources = spec.data if asked.data is None else (catalogue.absolute(asked.data),)
    input, classes = zoo.resolve(asked.model, asked.input, asked.classes)
    found = weighted(asked.model, input, classes, asked.weights, sources)
    if found is not None:
        return Picked(found.model, str(found.file or found.name), input)
    model = zoo.build(asked.model, input, classes).eval()
    if spec.pretrained is not None and catalogue.text_installed():
        spec.pretrained(model)
        return Picked(model, PUBLISHED, input)
    return Picked(model, RANDOM, input)
