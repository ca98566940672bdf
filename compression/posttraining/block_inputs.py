"""What flows into a block and what the dense block answers, stored for as many examples as memory is granted for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from compression.errors import CompressionError
from compression.graph.inputs import Example, Inputs, call, first_tensor
from compression.graph.running import in_mode
from compression.posttraining.block_problem import BlockBatch

TOGETHER = 32
"""Examples of a step in which a block is learned."""
MOST_BYTES = 512 << 20
"""Of the stored inputs and answers of one block, on the device of the model; of more examples the first are taken."""
_PLAIN = (torch.Tensor, int, float, str, type(None))


class Unfit(Exception):
    """A block cannot be run by itself; the message says why, as the end of a sentence."""


class _Reached(Exception):
    """What was looked for is there: the rest of the network need not be computed."""


@torch.no_grad()
def block_batches(
    model: nn.Module, dense: nn.Module, path: str, batches: Iterable[Example], most: int = MOST_BYTES
) -> list[BlockBatch]:
    """Inputs of block ``path`` as they are in ``model``, and what that block of ``dense`` answers on the same examples.

    Raises:
        Unfit: the block is not called, or not with and for tensors alone.
        CompressionError: an answer that is not finite.
    """
    stored, taken = list[BlockBatch](), 0
    for x in _few(batches):
        inputs, target = _inputs(model, path, x), _answer(dense, path, x)
        if not bool(torch.isfinite(target).all()):
            raise CompressionError(f"block {path}: its outputs are not finite; check the model and the data")
        taken += sum(each.numel() * each.element_size() for each in (*inputs.tensors, target))
        if stored and taken > most:
            break
        stored.append(BlockBatch(inputs, target))
    return stored


def _few(batches: Iterable[Example]) -> Iterator[Example]:
    """The same examples, at most :data:`TOGETHER` at a time."""
    for x in batches:
        count = len(first_tensor(x))
        for begin in range(0, count, TOGETHER):
            yield Inputs.read(x).map(partial(_cut, count, slice(begin, begin + TOGETHER))).example


def _cut(count: int, part: slice, tensor: torch.Tensor) -> torch.Tensor:
    """Some of its examples; a tensor of another length is none of examples."""
    return tensor[part] if tensor.dim() and len(tensor) == count else tensor


def _inputs(model: nn.Module, path: str, x: Example) -> Inputs:
    seen: list[Inputs] = []

    def see(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not all(isinstance(each, _PLAIN) for each in tree_leaves((args, kwargs))):
            raise Unfit("is called with more than tensors and numbers")
        seen.append(Inputs(args, kwargs).map(lambda tensor: tensor.detach().clone()))
        raise _Reached

    _run(model, model.get_submodule(path).register_forward_pre_hook(see, with_kwargs=True), x)
    if not seen:
        raise Unfit("is never called")
    return seen[0]


def _answer(dense: nn.Module, path: str, x: Example) -> torch.Tensor:
    seen: list[torch.Tensor] = []

    def see(_: nn.Module, __: tuple[Any, ...], answer: Any) -> None:
        try:
            tensor = first_tensor(answer)
        except TypeError:
            raise Unfit("does not answer with a tensor") from None
        seen.append(tensor.detach().clone())
        raise _Reached

    _run(dense, dense.get_submodule(path).register_forward_hook(see), x)
    if not seen:
        raise Unfit("is never called")
    return seen[0]


def _run(model: nn.Module, handle: Any, x: Example) -> None:
    with _removing(handle), in_mode(model):
        try:
            call(model, x)
        except _Reached:
            return


@contextmanager
def _removing(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
