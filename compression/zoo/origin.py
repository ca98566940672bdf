"""Where the weights of a model come from: a file, the function that returned the model, or chance.

Weights that a function returns are its weights, unless two calls under different seeds return different ones: then the
network draws initial weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from compression import zoo
from compression.budget import INITIAL_WEIGHTS, OWN_WEIGHTS, PUBLISHED_WEIGHTS
from compression.errors import CompressionError
from compression.graph.copies import deep_copy
from compression.reading import expanded
from compression.zoo import weights as files
from compression.zoo.published import published

OTHER_SEED = 1


@dataclass(frozen=True, eq=False)
class Weighted:
    """A model in evaluation mode with trained weights: ``name`` is their source, ``digest`` a hash of their values."""

    model: nn.Module
    name: str
    file: Path | None = None

    @property
    def digest(self) -> str:
        """Of the model's state, see :func:`compression.zoo.weights.digest`."""
        return files.digest(self.model)


def weighted(
    name: str, input: tuple[int, ...], classes: int, weights: str | None, data: tuple[str, ...]
) -> Weighted | None:
    """The model with the weights named, else those written by ``train`` or shipped, else those of its function.

    ``weights``: a file, ``function``, ``initial`` or ``pretrained`` (see :class:`compression.budget.Budget`), or
    ``None``; ``data``: the data sets whose trained weights are searched for. Returns ``None`` when only initial weights
    exist.

    Raises:
        CompressionError: unknown model, missing or wrong-shaped file, or a ``function`` without trained weights.
    """
    if weights in (OWN_WEIGHTS, INITIAL_WEIGHTS) and zoo.spec(name).family != "file":
        raise CompressionError(f"weights {weights!r} is for a function of your own, and {name} is none: name a file")
    if weights == OWN_WEIGHTS:
        own = returned(name, input, classes)
        if own is None:
            raise CompressionError(f"weights: {name} returns no trained weights: others at each call, or initial ones")
        return own
    if weights == PUBLISHED_WEIGHTS:
        origin = published(name)
        model = zoo.build(name, input, classes)
        files.load(model, origin.path, origin.tensors)
        return Weighted(model.eval(), origin.name, origin.path)
    path = _file(name, input, classes, weights, data)
    if path is None:
        return None if weights == INITIAL_WEIGHTS else returned(name, input, classes)
    model = zoo.build(name, input, classes)
    files.load(model, path)
    return Weighted(model.eval(), path.name, path)


def _file(name: str, input: tuple[int, ...], classes: int, weights: str | None, data: tuple[str, ...]) -> Path | None:
    if weights not in (None, INITIAL_WEIGHTS):
        path = expanded(str(weights))
        if not path.is_file():
            raise CompressionError(f"weights file {weights} does not exist")
        return path
    candidates = (files.find(name, each, input, classes) for each in data)
    return next((path for path in candidates if path is not None), None)


def returned(name: str, input: tuple[int, ...], classes: int) -> Weighted | None:
    """The model with the weights that its own function returns; ``None`` where these are initial ones.

    Raises:
        CompressionError: unknown model, or its function fails.
    """
    known = zoo.spec(name)
    if known.family != "file" or known.initial:
        return None
    model = zoo.build(name, input, classes).eval()
    again = zoo.build(name, input, classes, seed=OTHER_SEED)
    if files.digest(model) != files.digest(again):
        return None
    return Weighted(model, f"returned by {known.title}")


@torch.no_grad()
def redrawn(model: nn.Module, seed: int) -> nn.Module:
    """A copy of the network with untrained weights; the caller's random state is restored.

    Layers with ``reset_parameters`` are initialized again; all other parameters are shuffled.
    """
    model = deep_copy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                continue
            for parameter in module.parameters(recurse=False):
                parameter.copy_(parameter.flatten()[torch.randperm(parameter.numel())].view_as(parameter))
    return model
