"""Recording what a network does: every ATen operation of one forward pass, on the meta device where that works."""

from __future__ import annotations

import copy
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec
from torch.utils._pytree import tree_flatten

from compression.errors import CompressionError
from compression.graph import blame
from compression.graph.names import canonical
from compression.graph.names import is_quantizer_name
from compression.graph.shapes import run


@dataclass(frozen=True)
class Ref:
    """A tensor in a recorded call: its value id and shape."""

    id: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One recorded operation; tensors in ``args``, ``kwargs`` and ``out`` are replaced by :class:`Ref`."""

    op: str
    func: Any
    module: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: tuple[Ref | None, ...]
    pointwise: bool
    constants: dict[int, torch.Tensor]  # small tensors whose values matter: indices, and what no operation made
    writes: tuple[Write, ...] = ()


@dataclass(frozen=True)
class Write:
    """A tensor written in place: its value before and after, and the other tensors that share its storage."""

    before: Ref
    after: Ref | None
    aliases: tuple[Ref, ...]


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
    shared: dict[str, str] = field(default_factory=dict)  # further names of a parameter -> its first one
    values_read: str = ""  # the line that needed values, if the model had to be run on real tensors
    returned: str = ""  # the type of what forward() returns


def replace_all(argument: Any, kind: type, replace: Callable[[Any], Any]) -> Any:
    """The argument of an operation with every ``kind`` in it, also in lists, replaced."""
    if isinstance(argument, kind):
        return replace(argument)
    if isinstance(argument, (tuple, list)):
        return tuple(replace_all(item, kind, replace) for item in argument)
    return argument


class _Recorder(TorchDispatchMode):
    """Gives every tensor object a value id (a new one when an operation writes to it) and appends each call."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self.recording = recording
        self.path: list[str] = [""]
        self._ids: dict[int, int] = {}
        self._alive: list[torch.Tensor] = []
        self._sharing: dict[int, list[torch.Tensor]] = {}  # storage -> the tensors that look at it
        self._next = 0

    def ref(self, tensor: torch.Tensor, *, fresh: bool = False) -> Ref:
        """The tensor's present value id; ``fresh`` gives it a new one."""
        key = id(tensor)
        if fresh or key not in self._ids:
            if key not in self._ids:
                self._alive.append(tensor)  # its id() must not be reused while recording
                self._sharing.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)
            self._ids[key] = self._next
            self._next += 1
        return Ref(self._ids[key], tuple(tensor.shape))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        constants: dict[int, torch.Tensor] = {}

        def seen(value: Any) -> Any:
            unmade = id(value) not in self._ids  # by no recorded operation: torch.tensor([…]) inside forward()
            found = self.ref(value)
            if (unmade or not value.is_floating_point()) and value.device.type != "meta" and value.numel() <= 1 << 20:
                constants[found.id] = value
            return found

        before = (
            replace_all(args, torch.Tensor, seen),
            {k: replace_all(v, torch.Tensor, seen) for k, v in kwargs.items()},
        )
        if func in _PRODUCTS:
            _check_types(args)
        writing = [(x, self.ref(x)) for x in _written(func, args, kwargs)] if func._schema.is_mutable else []
        result = run(func, args, kwargs)
        flat = result if isinstance(result, (tuple, list)) else (result,)
        out = tuple(self.ref(value, fresh=True) if isinstance(value, torch.Tensor) else None for value in flat)
        name = f"{func.namespace}.{func._schema.name.split('::')[1]}"
        pointwise = torch.Tag.pointwise in func.tags
        writes = tuple(self._write(x, ref, flat) for x, ref in writing)
        self.recording.calls.append(
            Call(name, func, self.path[-1], before[0], before[1], out, pointwise, constants, writes)
        )
        return result

    def _write(self, tensor: torch.Tensor, before: Ref, returned: Sequence[Any]) -> Write:
        after = self.ref(tensor) if any(value is tensor for value in returned) else None
        others = self._sharing[tensor.untyped_storage()._cdata]
        aliases = tuple(self.ref(x) for x in others if x is not tensor or after is None)
        return Write(before, after, aliases)


_PRODUCTS = frozenset(getattr(torch.ops.aten, name).default for name in "addmm mm bmm baddbmm convolution".split())


def _check_types(args: tuple[Any, ...]) -> None:
    """The meta device multiplies tensors of any two types; no other does.

    Raises:
        TypeError: the operands differ.
    """
    types = {argument.dtype for argument in args if isinstance(argument, torch.Tensor)}
    if len(types) > 1:
        raise TypeError(f"a product of {' and '.join(sorted(map(str, types)))}")


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The tensor arguments that an operation writes to."""
    found = []
    for index, argument in enumerate(func._schema.arguments):
        if argument.is_write:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            found += [x for x in (value if isinstance(value, (tuple, list)) else [value]) if x is not None]
    return found


def record(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], *, on_values: bool = False) -> Recording:
    """Run the model once, in evaluation mode, and write down every ATen operation.

    The model itself is not touched: a copy without storage runs on the meta device; a model that looks at tensor values
    is run once on a real copy instead, and so is any other ``on_values``.

    Raises:
        CompressionError: the model does not run on these inputs.
    """
    unlike = ""
    if not on_values:
        try:
            return _record(_meta_copy(model), tuple(x.to("meta") for x in example_inputs))
        except Exception as error:  # data-dependent or without a meta kernel: the real run tells what is really wrong
            unlike = blame.place(error) or blame.first_line(error)
    try:
        recording = _record(copy.deepcopy(model), example_inputs)
    except Exception as error:  # whatever a user's forward() raises is the answer
        raise _refusal(error, example_inputs) from error
    recording.values_read = unlike
    return recording


def _refusal(error: Exception, inputs: tuple[torch.Tensor, ...]) -> CompressionError:
    """What a user's forward() raised, where, and what to change."""
    shapes = ", ".join("x".join(map(str, x.shape)) for x in inputs)
    where = blame.place(error)
    advice = "give example inputs of the number, shapes and types that forward() takes, or mend that line"
    told = f"the model does not run on inputs of shape {shapes}: {blame.first_line(error).rstrip('.')}"
    return CompressionError(f"{told}{f', at {where}' if where else ''}; {advice}")


def _meta_copy(model: nn.Module) -> nn.Module:
    """A deep copy whose parameters and buffers have shapes but no storage."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    for buffer in model.buffers():
        # integer buffers may be used as an index, whose values matter
        memo[id(buffer)] = torch.empty_like(buffer, device="meta") if buffer.is_floating_point() else buffer.clone()
    return copy.deepcopy(model, memo)


def _record(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Recording:
    model.eval()
    recording = Recording()
    recorder = _Recorder(recording)
    for name, module in model.named_modules():
        recording.modules[name] = type(module).__name__
        if all(child in ("parametrizations", "input_quantizer") for child, _ in module.named_children()):
            recording.leaves.add(name)
    for name, parameter in model.named_parameters():
        _enter(recording, recorder, recording.parameters, name, parameter)
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first[id(parameter)] != name:
            recording.shared[canonical(name)] = canonical(first[id(parameter)])
    for name, buffer in model.named_buffers():
        _enter(recording, recorder, recording.buffers, name, buffer)
    recording.inputs = [recorder.ref(x) for x in inputs]
    with _module_paths(model, recorder), _plain_attention(), torch.no_grad(), recorder:
        result = model(*inputs)
    leaves, recording.structure = tree_flatten(result)
    recording.returned = type(result).__name__
    recording.outputs = [recorder.ref(value) for value in leaves if isinstance(value, torch.Tensor)]
    recording.complete = len(leaves) == len(recording.outputs)
    return recording


def _enter(recording: Recording, recorder: _Recorder, table: dict[int, str], name: str, tensor: torch.Tensor) -> None:
    ref = recorder.ref(tensor)
    recording.paths[ref.id] = name
    if is_quantizer_name(name) and canonical(name) == name:
        if table is recording.parameters and tensor.numel() > 1:  # a step per channel is cut with its channel
            recording.buffers[ref.id], recording.buffer_sizes[name] = name, tuple(tensor.shape)
        return  # a quantizer's own scalars and masks are no part of the network
    table[ref.id] = canonical(name)
    sizes = recording.sizes if table is recording.parameters else recording.buffer_sizes
    sizes[canonical(name)] = tuple(tensor.shape)


@contextmanager
def _module_paths(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Keep ``recorder.path`` at the innermost running module; quantizers do not count as modules."""

    def entered(path: str) -> Callable[..., None]:
        return lambda *_: recorder.path.append(path)

    def left(*_: Any) -> None:
        recorder.path.pop()

    handles = []
    for name, module in model.named_modules():
        if name and not is_quantizer_name(f"{name}."):
            handles.append(module.register_forward_pre_hook(entered(name), prepend=True))
            handles.append(module.register_forward_hook(left))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as single operations, not as one fused kernel without insides."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
