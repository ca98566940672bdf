"""Outputs of the commonest operations on the meta device, made directly: torch's own way takes most of a trace's time.

Only shapes, strides and types matter there. Each entry gives what torch's kernel gives; whatever is not here runs
as usual.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

aten = torch.ops.aten


def _same(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _unary(*args: Any) -> torch.Tensor:
    return _same(args[0])


def _in_place(*args: Any) -> torch.Tensor:
    found: torch.Tensor = args[0]
    return found


def _batch_norm(*args: Any) -> tuple[torch.Tensor, ...]:
    channels = args[0].shape[1]
    return _same(args[0]), torch.empty(channels, device="meta"), torch.empty(channels, device="meta")


def _layer_norm(*args: Any) -> tuple[torch.Tensor, ...]:
    x, over = args[0], args[1]
    statistics = (*x.shape[: x.ndim - len(over)], *(1 for _ in over))
    whole = torch.empty(x.shape, dtype=x.dtype, device="meta")
    return whole, torch.empty(statistics, device="meta"), torch.empty(statistics, device="meta")


_PLAIN = "relu gelu silu sigmoid tanh hardswish hardsigmoid"
_WRITING = "relu_ silu_ sigmoid_ tanh_ hardswish_ hardsigmoid_"
SHORTCUTS: dict[Any, Callable[..., Any]] = {
    **{getattr(aten, name).default: _unary for name in _PLAIN.split()},
    **{getattr(aten, name).default: _in_place for name in _WRITING.split()},
    aten.native_batch_norm.default: _batch_norm,
    aten.native_layer_norm.default: _layer_norm,
}


def run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation's result: a shortcut's for floats on the meta device (batch norm in evaluation mode), else its
    own.
    """
    found = SHORTCUTS.get(func)
    if found is None or not args or not isinstance(args[0], torch.Tensor):
        return func(*args, **kwargs)
    x = args[0]
    if x.device.type != "meta" or not x.is_floating_point() or not _dense(x):
        return func(*args, **kwargs)
    if func is aten.native_batch_norm.default and args[5]:
        return func(*args, **kwargs)
    return found(*args)


def _dense(x: torch.Tensor) -> bool:
    """Whether its elements lie without gaps, so that a result has its strides."""
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))
