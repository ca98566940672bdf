"""A model for commands that only look at it: with the weights at hand, else with initial ones, and saying which."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

RANDOM, PUBLISHED = "random", "published"


@dataclass(frozen=True, eq=False)
class Picked:
    """``weights`` names the file, or is ``published`` for those ``train`` starts from, ``random`` for initial ones."""

    model: nn.Module
    weights: str
    input: tuple[int, ...]


def pick(asked: argparse.Namespace) -> Picked:
    """Build the model that ``asked.model``, ``input``, ``classes`` and ``weights`` name.

    Without ``--weights`` those trained on ``--data`` (if absent: on a data set the model goes with) are taken.

    Raises:
        CompressionError: unknown model or data set, an impossible size, missing or wrong-shaped weights.
    """
    from compression import data
    from compression import zoo
    from compression.data.catalogue import text_installed

    spec = zoo.spec(asked.model)
    if asked.data is not None and "/" not in asked.data and not Path(asked.data).is_dir():
        data.info(asked.data)
    input, classes = zoo.resolve(asked.model, asked.input, asked.classes)
    model = zoo.build(asked.model, input, classes).eval()

    from compression.zoo import weights

    path = asked.weights
    if path is None:
        sources = spec.data if asked.data is None else (asked.data,)
        path = next((found for name in sources if (found := weights.find(asked.model, name, input, classes))), None)
    if path is None and spec.pretrained is not None and text_installed():
        spec.pretrained(model)
        return Picked(model, PUBLISHED, input)
    if path is None:
        return Picked(model, RANDOM, input)
    weights.load(model, path)
    return Picked(model, str(path), input)
