"""The real weights that lessons work on: the shipped, trained resnet8 (handwritten digits), read and sorted once."""

from __future__ import annotations

from functools import lru_cache

import torch

from compression import zoo
from compression.quant.tables import LayerTables, layer_weights
from compression.zoo import weights
from lessons.lesson import Choice

MODEL, DATA, INPUT, CLASSES = "resnet8", "mnist5k", (1, 28, 28), 10


@lru_cache(maxsize=1)
def layers() -> dict[str, torch.Tensor]:
    """Layer name → trained weight, in the order of the network; never written to."""
    model = zoo.build(MODEL, INPUT, CLASSES)
    weights.load(model, weights.SHIPPED / f"{MODEL}-{DATA}.safetensors")
    return layer_weights(model)


@lru_cache(maxsize=1)
def tables() -> LayerTables:
    """The sorted magnitudes of all layers and their prefix sums."""
    return LayerTables.prepare(layers())


def layer_field(default: str) -> Choice:
    """A choice among the layers."""
    names = {name: f"{name}, {weight.numel():,} weights" for name, weight in layers().items()}
    return Choice("layer", "Layer of resnet8 (real, trained weights)", names, default)
