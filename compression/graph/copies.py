"""Copies of a model, so that the model itself stays as it is: a deep one, and one that has shapes but no storage."""

from __future__ import annotations

import copy
import copyreg
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from compression.errors import CompressionError
from compression.graph import user_frame

_UNCHANGING = frozenset({type(None), bool, int, float, complex, str, bytes, type, FunctionType, BuiltinFunctionType})
_TABLES = frozenset({dict, OrderedDict, set})


def deep_copy(model: nn.Module) -> nn.Module:
    """``copy.deepcopy`` that also takes tensors with a gradient history (pruning masks, weight norm, caches).

    Raises:
        CompressionError: a part of the model, named in the message, cannot be copied.
    """
    with _copying(model):
        twin: nn.Module = copy.deepcopy(model)
    return twin


def meta_copy(model: nn.Module) -> nn.Module:
    """A deep copy whose parameters and buffers are on the meta device; integer buffers keep their values.

    The same as :func:`deep_copy` (hooks, caches and sharing included), in a fraction of its time.

    Raises:
        CompressionError: a part of the model, named in the message, cannot be copied.
    """
    memo: dict[int, Any] = {}
    with _copying(model):
        for module in model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # its tensors are copied with it
            for parameter in module._parameters.values():
                if parameter is not None and id(parameter) not in memo:
                    memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
            for buffer in module._buffers.values():
                if buffer is not None and id(buffer) not in memo:
                    memo[id(buffer)] = _to_meta(buffer)
        twin: nn.Module = _Copier(memo).copied(model)
    return twin


def _to_meta(tensor: torch.Tensor) -> torch.Tensor:
    """Without values, except integers: they may be used as an index, whose values matter."""
    return torch.empty_like(tensor, device="meta") if tensor.is_floating_point() else tensor.clone()


class _Detaching(TorchFunctionMode):
    """Copies the values of a tensor with a gradient history, which torch refuses to copy."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not torch.Tensor.__deepcopy__ or args[0].is_leaf:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        memo[id(tensor)] = copy.deepcopy(tensor.detach(), memo)
        return memo[id(tensor)]


@contextmanager
def _copying(model: nn.Module) -> Iterator[None]:
    """Raises a CompressionError that names what cannot be copied."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise CompressionError(f"{name} has no shape yet: run the model once on real inputs, then trace it")
        if tensor.layout != torch.strided:
            raise CompressionError(f"{name} is a sparse tensor, whose units cannot be cut: make it dense (to_dense())")
    for name, module in model.named_modules():
        if isinstance(module, DistributedDataParallel):
            raise CompressionError(
                f"{name or 'the model'} is wrapped in {type(module).__name__}, which talks to other processes: "
                "hand over the network inside (model.module)"
            )
    try:
        with _Detaching():
            yield
    except Exception as error:
        raise CompressionError(
            f"the model cannot be copied{_obstacle(model)}: {user_frame.first_line(error)}; remove it while tracing, "
            "or give its class a __deepcopy__"
        ) from error


def _obstacle(model: nn.Module) -> str:
    """The attribute that cannot be copied, in words; empty if each can be copied by itself."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name in ("_modules", "_parameters", "_buffers"):
                continue
            try:
                with _Detaching():
                    copy.deepcopy(value)
            except Exception:  # whatever it raises, this is the one
                return f" because of its attribute {f'{path}.{name}'.lstrip('.')} (a {type(value).__name__})"
    return ""


class _Copier:
    """``copy.deepcopy`` with a fast path for modules, which are dictionaries of mostly empty dictionaries."""

    def __init__(self, memo: dict[int, Any]) -> None:
        self.memo = memo
        self.alive: list[Any] = []  # objects in the memo are keyed by id() and must stay alive

    def copied(self, value: Any) -> Any:
        """The copy of anything."""
        kind = type(value)
        if kind in _UNCHANGING:
            return value
        known = self.memo.get(id(value))
        if known is not None:
            return known
        if kind in _TABLES and not value:
            twin = self.memo[id(value)] = kind()
            return twin
        if kind is tuple and all(type(item) in _UNCHANGING for item in value):
            return value
        if isinstance(value, nn.Module):
            return self._module(value)
        if kind is dict or (kind is OrderedDict and not value.__dict__):
            twin = self.memo[id(value)] = kind()
            for key, item in value.items():
                twin[self.copied(key)] = self.copied(item)
            return twin
        return copy.deepcopy(value, self.memo)

    def _module(self, module: nn.Module) -> nn.Module:
        if isinstance(module, torch.jit.ScriptModule):
            scripted: nn.Module = copy.deepcopy(module, self.memo)
            for part in scripted.modules():
                for name, parameter in part.named_parameters(recurse=False):
                    part._parameters[name] = nn.Parameter(_to_meta(parameter), requires_grad=False)
                for name, buffer in part.named_buffers(recurse=False):
                    part._buffers[name] = _to_meta(buffer)
            return scripted
        state = _state(module)
        if state is None:
            return copy.deepcopy(module, self.memo)
        self.alive.append(state)
        kind = type(module)
        twin: nn.Module = kind.__new__(kind)
        self.memo[id(module)] = twin
        twin.__setstate__({key: self.copied(item) for key, item in state.items()})
        return twin


def _state(module: nn.Module) -> dict[str, Any] | None:
    """A module's state by Python's copy protocol; ``None`` where the protocol returns more than class and state."""
    kind = type(module)
    if hasattr(kind, "__deepcopy__") or "__deepcopy__" in vars(module) or kind in copyreg.dispatch_table:
        return None
    reduced: Any = module.__reduce_ex__(4)
    if not isinstance(reduced, tuple) or reduced[:2] != (copyreg.__newobj__, (kind,)):  # type: ignore[attr-defined]
        return None
    state, *rest = (*reduced[2:], None)
    return state if type(state) is dict and not any(x is not None for x in rest) else None
