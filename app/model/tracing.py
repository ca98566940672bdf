"""Graphs of networks of any size: the weights of large ones are never made, and never worked on here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compression import zoo
from compression.errors import CompressionError

if TYPE_CHECKING:
    from app.model.catalog import Subject
    from compression.graph import Graph

OF_ANY_SIZE = ("torchvision:", "timm:")
LARGEST = 350_000_000  # parameters of a model whose weights the app itself works on, several copies of them at times


def graph(of: Subject, merge: bool = True) -> Graph:
    """Trace a model without its weights where that will do: they make no difference to the graph.

    Raises:
        CompressionError: the model cannot be built at this size or does not run.
    """
    from compression.graph import trace

    example = zoo.example(of.model, input=of.input)
    if of.model.startswith(OF_ANY_SIZE):
        empty = zoo.build(of.model, of.input, of.classes, empty=True)
        try:
            return trace(empty, example, merge=merge)
        except CompressionError:  # it may look at values, which an empty one has not
            if sum(parameter.numel() for parameter in empty.parameters()) > LARGEST:
                raise
    return trace(zoo.build(of.model, of.input, of.classes), example, merge=merge)


def bearable(of: Subject, parameters: int) -> None:
    """Refuse to make the weights of a model that would fill this server's memory.

    Raises:
        CompressionError: with the command line as the way out.
    """
    if parameters > LARGEST:
        raise CompressionError(
            f"{of.model} has {parameters / 1e6:,.0f} million parameters: its groups can be explored here, its weights "
            "are too large for the app; use the command line on a machine of your own"
        )
