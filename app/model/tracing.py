"""Graphs of networks of any size: the weights of large ones are never made, and never worked on here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import live
from compression import zoo
from compression.errors import CompressionError

if TYPE_CHECKING:
    from torch import nn

    from app.model.catalog import ChosenModel
    from compression.graph import Graph

OF_ANY_SIZE = ("torchvision:", "timm:")
COPIES = 3  # of its weights that working on a model takes at a time


def graph(subject: ChosenModel, merge: bool = True) -> Graph:
    """Trace a model without its weights where that will do: they make no difference to the graph.

    Raises:
        CompressionError: the model cannot be built at this size or does not run.
    """
    from compression.graph import trace

    example = zoo.example(subject.model, input=subject.input)
    if subject.model.startswith(OF_ANY_SIZE):
        empty = zoo.build(subject.model, subject.input, subject.classes, empty=True)
        try:
            return trace(empty, example, merge=merge)
        except CompressionError:  # it may look at values, which an empty one has not
            need = _bytes(empty)
            if not live.memory().fits(need):
                raise
        with live.memory().work(subject.model, need):
            return trace(zoo.build(subject.model, subject.input, subject.classes), example, merge=merge)
    return trace(zoo.build(subject.model, subject.input, subject.classes), example, merge=merge)


def need(model: str, input: tuple[int, ...], classes: int) -> int:
    """The bytes that work on the weights of a model takes; nothing for what the operator chose to offer."""
    if not model.startswith(OF_ANY_SIZE):
        return 0
    return _bytes(zoo.build(model, input, classes, empty=True))


def _bytes(model: nn.Module) -> int:
    return COPIES * live.WEIGHTS * sum(parameter.numel() for parameter in model.parameters())
