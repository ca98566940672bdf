"""Writes down every ATen operation that runs, and follows tensors through views, writes and exchanged storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from compression.graph.recording import Call, Recording, Ref, Write
from compression.graph.shapes import run


@dataclass(frozen=True, slots=True)
class _Facts:
    """What every call of one operation shares: its name, and place and name of each argument it writes to."""

    op: str
    pointwise: bool
    random: bool
    written: tuple[tuple[int, str], ...]


@cache
def _facts(func: Any) -> _Facts:
    schema = func._schema
    written = tuple((i, argument.name) for i, argument in enumerate(schema.arguments) if argument.is_write)
    name = schema.name.split("::")[1]
    random = torch.Tag.nondeterministic_seeded in func.tags and "attention" not in name  # without dropout in evaluation
    return _Facts(f"{func.namespace}.{name}", torch.Tag.pointwise in func.tags, random, written)


class Recorder(TorchDispatchMode):
    """Gives every tensor object a value id (a new one when an operation writes to it) and appends each call."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self.recording = recording
        self.path: list[str] = [""]
        self._refs: dict[int, Ref] = {}
        self._alive: list[torch.Tensor] = []
        self._sharing: dict[int, list[torch.Tensor]] = {}  # storage -> the tensors that look at it
        self._storages: dict[int, int] = {}  # id of a parameter or buffer -> its storage
        self.exchanged: set[int] = set()  # ids of parameters and buffers that got another storage
        self._next = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled while recording, so torch need not guard every call against it."""
        return False

    def enter(self, tensor: torch.Tensor) -> Ref:
        """The first value id of a parameter or buffer, whose storage may be exchanged later (``.data = …``)."""
        self._storages[id(tensor)] = _storage(tensor)
        return self.ref(tensor, fresh=True)

    def ref(self, tensor: torch.Tensor, *, fresh: bool = False) -> Ref:
        """The tensor's present value id and shape; ``fresh`` assigns a new id."""
        key = id(tensor)
        known = self._refs.get(key)
        if known is not None and key in self._storages and self._moved(tensor):
            known = None
        if known is None:
            known = None if fresh else self._twin(tensor)
            self._alive.append(tensor)  # its id() must not be reused while recording
            self._sharing.setdefault(_storage(tensor), []).append(tensor)
        if known is None or fresh:
            known = Ref(self._next, tuple(tensor.shape))
            self._next += 1
        elif known.shape != tensor.shape:
            known = Ref(known.id, tuple(tensor.shape))
        self._refs[key] = known
        return known

    def _moved(self, tensor: torch.Tensor) -> bool:
        """Whether a parameter or buffer has got another storage since it was last seen."""
        before, now = self._storages[id(tensor)], _storage(tensor)
        if before == now:
            return False
        self._sharing[before] = [other for other in self._sharing[before] if other is not tensor]
        self._storages[id(tensor)] = now
        self.exchanged.add(id(tensor))
        return True

    def _twin(self, tensor: torch.Tensor) -> Ref | None:
        """The value of another object that is the same view of the same storage (``.data``, a parameter made of it)."""
        view = tensor.shape, tensor.stride(), tensor.storage_offset()
        for other in reversed(self._sharing.get(_storage(tensor), ())):
            if (other.shape, other.stride(), other.storage_offset()) == view and other.dtype == tensor.dtype:
                return self._refs[id(other)]
        return None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        constants: dict[int, torch.Tensor] = {}
        positional = tuple([self._argument(value, constants) for value in args])
        named = {name: self._argument(value, constants) for name, value in kwargs.items()}
        if func in _PRODUCTS:
            _check_types(args)
        facts = _facts(func)
        writing = [(x, self.ref(x)) for x in _written(facts, args, kwargs)]
        result = run(func, args, kwargs)
        flat = result if isinstance(result, (tuple, list)) else (result,)
        out = tuple([self.ref(value, fresh=True) if isinstance(value, torch.Tensor) else None for value in flat])
        writes = tuple([self._write(x, ref, flat) for x, ref in writing])
        arguments = positional, named, out, facts.pointwise, constants, writes, facts.random
        self.recording.calls.append(Call(facts.op, func, self.path[-1], *arguments))
        return result

    def _argument(self, value: Any, constants: dict[int, torch.Tensor]) -> Any:
        """An argument with references for tensors, lists as tuples; adds small tensors that matter to ``constants``."""
        if isinstance(value, torch.Tensor):
            is_new = id(value) not in self._refs  # by no recorded operation: torch.tensor([…]) inside forward()
            ref = self.ref(value)
            if not value.is_meta and (is_new or not value.is_floating_point()) and value.numel() <= 1 << 20:
                constants[ref.id] = value
            return ref
        if isinstance(value, (tuple, list)):
            return tuple([self._argument(item, constants) for item in value])
        return value

    def _write(self, tensor: torch.Tensor, before: Ref, returned: Sequence[Any]) -> Write:
        after = self.ref(tensor) if any(value is tensor for value in returned) else None
        others = self._sharing[_storage(tensor)]
        aliases = tuple(self.ref(x) for x in others if x is not tensor or after is None)
        return Write(before, after, aliases)


def _storage(tensor: torch.Tensor) -> int:
    """What tensors that share their values have in common; a sparse tensor shares them with none."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else -id(tensor)


_PRODUCTS = frozenset(getattr(torch.ops.aten, name).default for name in "addmm mm bmm baddbmm convolution".split())


def _check_types(args: tuple[Any, ...]) -> None:
    """The meta device multiplies tensors of any two types; no other does.

    Raises:
        TypeError: the operands differ.
    """
    types = {argument.dtype for argument in args if isinstance(argument, torch.Tensor)}
    if len(types) > 1:
        raise TypeError(f"a product of {' and '.join(sorted(map(str, types)))}")


def _written(facts: _Facts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The tensor arguments that an operation writes to."""
    tensors = []
    for index, name in facts.written:
        value = args[index] if index < len(args) else kwargs.get(name)
        tensors += [x for x in (value if isinstance(value, (tuple, list)) else [value]) if x is not None]
    return tensors
