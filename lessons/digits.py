"""The real weights that lessons work on: the shipped, trained resnet8 (handwritten digits), read and sorted once."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

from compression import data, tasks, zoo
from compression.data import Batches
from compression.graph.trace import trace
from compression.posttraining.grams import LayerInputs, collect
from compression.quant.tables import LayerTables, layer_weights
from compression.zoo import weights
from lessons.lesson import Choice

MODEL, DATA, INPUT, CLASSES = "resnet8", "mnist5k", (1, 28, 28), 10
IMAGES = 64


@lru_cache(maxsize=1)
def network() -> nn.Module:
    """The trained network, in evaluation mode; never changed."""
    model = zoo.build(MODEL, INPUT, CLASSES)
    weights.load(model, weights.SHIPPED / f"{MODEL}-{DATA}.safetensors")
    return model.eval()


@lru_cache(maxsize=1)
def layers() -> dict[str, torch.Tensor]:
    """Layer name → trained weight, in the order of the network; never written to."""
    return layer_weights(network())


@lru_cache(maxsize=1)
def _all_inputs() -> dict[str, LayerInputs]:
    images, _ = Batches(data.load(DATA), "train", IMAGES, augment=False).batch(0, 0)
    return collect(network(), {name: name for name in layers()}, [images])


def inputs(layer: str) -> LayerInputs:
    """What flows into a layer while the network looks at :data:`IMAGES` digits."""
    return _all_inputs()[layer]


@lru_cache(maxsize=1)
def gradients() -> dict[str, torch.Tensor]:
    """Parameter name → gradient of the loss over :data:`IMAGES` digits, as training would send it."""
    task = tasks.load(DATA)
    images, labels = Batches(task.data, "train", IMAGES, augment=False).batch(0, 0)
    named = dict(network().named_parameters())
    loss = task.loss(task.answer(network(), images), labels)
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@lru_cache(maxsize=1)
def tables() -> LayerTables:
    """The sorted magnitudes of all layers and their prefix sums."""
    return LayerTables.prepare(layers())


@lru_cache(maxsize=1)
def macs() -> dict[str, int]:
    """Layer name → multiply-accumulates for one image."""
    return {layer.name: layer.macs for layer in trace(network(), torch.zeros(1, *INPUT)).layers}


def layer_field(default: str, smallest: int = 0) -> Choice:
    """A choice among the layers of at least so many weights."""
    sizes = {name: weight.numel() for name, weight in layers().items()}
    names = {name: f"{name}, {size:,} weights" for name, size in sizes.items() if size >= smallest}
    return Choice("layer", "Layer of ResNet-8 (real, trained weights)", names, default)
