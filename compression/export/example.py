"""``example.safetensors``: the first test inputs, and the compressed model's outputs for them.

``input`` is the model's only one; where it takes several, ``input.0``, ``input.1`` … are its positional arguments, and
``input.NAME`` its keyword arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn
from torch.func import functional_call

from compression.data import Batches
from compression.errors import CompressionError
from compression.export.manifest import NetworkFacts
from compression.export.source import Source
from compression.graph.inputs import Inputs, first_tensor

COUNT = 4
MOST_NUMBERS = 1 << 24
DIFFERENT = 0.2
"""Relative to the norm of the stored outputs. Processors round differently, which moves quantized values by a step;
another network, or other weights, differ far more."""
Example = Mapping[str, torch.Tensor]


@torch.no_grad()
def example(model: nn.Module, source: Source) -> dict[str, torch.Tensor]:
    """The first test images, normalised (or sentences as token ids), and the outputs of ``model`` for them."""
    images, _ = next(iter(Batches(source.data, "test", COUNT, augment=False)))
    return {**_named(images), "output": source.task.answer(model, images).contiguous()}


def _named(x: Any) -> dict[str, torch.Tensor]:
    """The tensors of a batch by what they are called in the file."""
    if isinstance(x, torch.Tensor):
        return {"input": x}
    named = x.items() if isinstance(x, Mapping) else enumerate(x)
    return {f"input.{name}": value for name, value in named if isinstance(value, torch.Tensor)}


def stored_inputs(stored: Example) -> Any:
    """The batch of a stored example: a tensor, a tuple of arguments, or a dict of keyword arguments."""
    if "input" in stored:
        return stored["input"]
    named = {name.removeprefix("input."): value for name, value in stored.items() if name != "output"}
    if all(name.isdecimal() for name in named):
        return tuple(named[str(place)] for place in sorted(map(int, named)))
    return named


def read_example(data: bytes, about: NetworkFacts, path: object) -> Example:
    """The stored example, checked for the bundle's input shape and number of classes.

    Raises:
        CompressionError: it cannot be read, or is for another network.
    """
    what = f"bundle {path}: example.safetensors"
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CompressionError(f"{what} cannot be read: {error}") from error
    inputs = [tensor for name, tensor in tensors.items() if name == "input" or name.startswith("input.")]
    if not inputs or "output" not in tensors or sum(tensor.numel() for tensor in inputs) > MOST_NUMBERS:
        raise CompressionError(f"{what} holds no input and output, or more than a few")
    given, answer = [tuple(tensor.shape) for tensor in inputs], tuple(tensors["output"].shape)
    count = answer[0] if answer else 0
    fits = (count, *about.input) in given and about.outputs in (answer[1:] or (1,))
    if not 0 < count <= COUNT or not fits:
        raise CompressionError(
            f"{what} has inputs {', '.join(map(str, given))} and outputs {answer}, which are not those of inputs "
            f"{about.input} and {about.outputs} classes"
        )
    return tensors


@torch.no_grad()
def check_answers(model: nn.Module, stored: Example, path: object) -> None:
    """Refuse a model whose outputs for its bundle's example differ from the stored ones.

    Raises:
        CompressionError: naming the relative difference.
    """
    own = {name: buffer.clone() for name, buffer in model.named_buffers()}  # forward() may update them
    try:
        given = Inputs.read(stored_inputs(stored))
        output = first_tensor(functional_call(model, own, given.args, given.kwargs))
    except (RuntimeError, IndexError, TypeError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CompressionError(f"the model of bundle {path} does not take the bundle's own example: {line}") from error
    if output.shape != stored["output"].shape:
        raise CompressionError(
            f"the model of bundle {path} answers its stored example with {tuple(output.shape)}, not with logits of "
            f"shape {tuple(stored['output'].shape)}: pass the network that the bundle was made from"
        )
    expected, answers = (tensor.double().nan_to_num(0, 0, 0) for tensor in (stored["output"], output))
    differs = float((answers - expected).norm() / expected.norm().clamp(min=1e-6))
    if not differs <= DIFFERENT:
        raise CompressionError(
            f"the model of bundle {path} answers its stored example otherwise than when it was exported (by "
            f"{differs:.0%}): its files do not belong together"
        )
