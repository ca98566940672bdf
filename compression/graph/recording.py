"""The parts of a recording: calls, the tensors between them, and the model's own tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import TreeSpec


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor in a recorded call: its value id and shape."""

    id: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Write:
    """A tensor written in place: its value before and after, and the other tensors that share its storage."""

    before: Ref
    after: Ref | None
    aliases: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded operation; tensors in ``args``, ``kwargs`` and ``out`` are replaced by :class:`Ref`."""

    op: str
    func: Any
    module: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: tuple[Ref | None, ...]
    pointwise: bool
    constants: dict[int, torch.Tensor]  # small tensors whose values matter: indices, and what no operation returned
    writes: tuple[Write, ...] = ()
    random: bool = False  # draws random numbers


@dataclass
class Recording:
    """All calls of one forward pass, the value ids of parameters, buffers, inputs and outputs."""

    calls: list[Call] = field(default_factory=list)
    parameters: dict[int, str] = field(default_factory=dict)
    buffers: dict[int, str] = field(default_factory=dict)
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of parameters
    buffer_sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    # value id -> where the module holds it, quantizers' own included
    paths: dict[int, str] = field(default_factory=dict)
    inputs: list[Ref] = field(default_factory=list)
    outputs: list[Ref] = field(default_factory=list)
    structure: TreeSpec | None = None  # of what forward() returns
    complete: bool = True  # whether everything returned is a tensor
    modules: dict[str, str] = field(default_factory=dict)  # path -> class name
    leaves: set[str] = field(default_factory=set)
    replaced: dict[str, Ref] = field(default_factory=dict)  # parameters that forward() replaces -> their last value
    switched: list[str] = field(default_factory=list)  # parameters that train() and eval() write to
    uncuttable: list[str] = field(default_factory=list)  # parameters of a type that few operations take
    shared: dict[str, str] = field(default_factory=dict)  # further names of a parameter -> its first one
    values_read: str = ""  # the line that needed values, if the model had to be run on real tensors
    returned: str = ""  # the type of what forward() returns


def replace_all(argument: Any, kind: type, replace: Callable[[Any], Any]) -> Any:
    """The argument of an operation with every ``kind`` in it, also in lists, replaced."""
    if isinstance(argument, kind):
        return replace(argument)
    if isinstance(argument, (tuple, list)):
        return tuple([replace_all(item, kind, replace) for item in argument])
    return argument
