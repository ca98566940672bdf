"""Outputs of the commonest operations on the meta device, created directly, as torch's kernels take most of a trace.

Only shapes, strides and types matter there. A shortcut returns what torch's kernel returns, or ``None`` for arguments
that it does not cover; those, and operations without a shortcut, run as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

aten = torch.ops.aten
META = torch.device("meta")
Result = torch.Tensor | None


def run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation's result: from a shortcut for floats on the meta device, else from torch."""
    shortcut = SHORTCUTS.get(func)
    if shortcut is None or (kwargs and shortcut not in (_unary, _in_place)) or not args:
        return func(*args, **kwargs)
    result = shortcut(*args)
    return func(*args, **kwargs) if result is None else result


def _floats(*tensors: Any) -> bool:
    """Whether these are tensors of one floating-point type on the meta device."""
    return all(isinstance(x, torch.Tensor) and x.is_meta and x.is_floating_point() for x in tensors) and all(
        x.dtype == tensors[0].dtype for x in tensors[1:]
    )


def _contiguous(x: torch.Tensor) -> bool:
    """Whether its strides are those of a new tensor, also along axes of size 1."""
    expected = 1
    for size, stride in zip(reversed(x.shape), reversed(x.stride()), strict=True):
        if stride != expected or not size:
            return False
        expected *= size
    return True


def _channels_last(x: torch.Tensor) -> bool:
    """The same for [N, C, H, W] whose channels lie innermost, with no axis of size 1 that leaves this open."""
    if x.ndim != 4 or min(x.shape[1:]) < 2 or not x.shape[0]:
        return False
    _, channels, height, width = x.shape
    return x.stride() == (channels * height * width, 1, channels * width, channels)


def _layout(*tensors: torch.Tensor) -> torch.memory_format | None:
    """The one layout without gaps that all of them have, if there is one."""
    if all(_contiguous(x) for x in tensors):
        return torch.contiguous_format
    return torch.channels_last if all(_channels_last(x) for x in tensors) else None


def _empty(shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    return torch.empty(shape, dtype=like.dtype, device=META)


def _same(x: torch.Tensor, *others: torch.Tensor) -> Result:
    """A tensor of ``x``'s shape, type and layout, if the others have that layout, too."""
    layout = _layout(x, *others)
    if layout is None or layout is torch.contiguous_format:
        return None if layout is None else _empty(x.shape, x)
    return torch.empty(x.shape, dtype=x.dtype, device=META, memory_format=layout)


def _unary(x: Any, *_: Any) -> Result:
    return _same(x) if _floats(x) else None


def _in_place(x: Any, *_: Any) -> Result:
    return x if _floats(x) and _layout(x) is not None else None


def _clamped(x: Any, low: Any = None, high: Any = None) -> Result:
    numbers = [bound for bound in (low, high) if bound is not None]
    return _unary(x) if numbers and all(type(bound) in (int, float) for bound in numbers) else None


def _binary(x: Any, y: Any) -> Result:
    """Two tensors with one layout, two contiguous ones that broadcast, or a tensor and a number."""
    if type(y) in (int, float):
        return _unary(x)
    if not _floats(x, y):
        return None
    if x.shape == y.shape:
        return _same(x, y)
    shape = _broadcast(x.shape, y.shape)
    return _empty(shape, x) if shape is not None and _contiguous(x) and _contiguous(y) else None


def _binary_in_place(x: Any, y: Any) -> Result:
    if type(y) in (int, float):
        return _in_place(x)
    return _in_place(x) if _floats(x, y) and _broadcast(x.shape, y.shape) == x.shape else None


def _broadcast(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...] | None:
    """The common shape of two tensors; ``None`` when there is none."""
    if len(left) < len(right):
        left, right = right, left
    padded = (1,) * (len(left) - len(right)) + tuple(right)
    if any(a != b and a != 1 and b != 1 for a, b in zip(left, padded, strict=True)):
        return None
    return tuple([b if a == 1 else a for a, b in zip(left, padded, strict=True)])


def _masked_fill(x: Any, mask: Any, value: Any) -> Result:
    fits = _floats(x) and mask.is_meta and mask.dtype == torch.bool and mask.shape == x.shape and _contiguous(mask)
    return _empty(x.shape, x) if fits and _contiguous(x) and type(value) in (int, float) else None


def _roll(x: Any, shifts: Sequence[int], dims: Sequence[int] = ()) -> Result:
    whole = _floats(x) and _contiguous(x) and len(shifts) == len(dims) > 0
    return _empty(x.shape, x) if whole and all(-x.ndim <= d < x.ndim for d in dims) else None


def _softmax(x: Any, dim: int) -> Result:
    return _empty(x.shape, x) if _floats(x) and _contiguous(x) and -x.ndim <= dim < x.ndim else None


def _mean(x: Any, dims: Sequence[int] | None, keepdim: bool = False) -> Result:
    if not _floats(x) or not _contiguous(x) or not dims or not all(-x.ndim <= d < x.ndim for d in dims):
        return None
    over = {d % x.ndim for d in dims}
    if len(over) < len(dims):
        return None
    sizes = [1 if d in over else size for d, size in enumerate(x.shape) if keepdim or d not in over]
    return _empty(sizes, x)


def _norm(x: Any, order: Any = 2, dims: Sequence[int] | None = None, keepdim: bool = False) -> Result:
    return _mean(x, dims, keepdim) if type(order) in (int, float) and x.numel() else None


def _cat(tensors: Sequence[torch.Tensor], dim: int = 0) -> Result:
    first = tensors[0] if tensors else None
    if first is None or not _floats(*tensors) or not -first.ndim <= dim < first.ndim:
        return None
    axis = dim % first.ndim
    rest = [(*x.shape[:axis], *x.shape[axis + 1 :]) for x in tensors]
    if any(x.ndim != first.ndim or not _contiguous(x) or 0 in x.shape for x in tensors) or len(set(rest)) > 1:
        return None
    return _empty((*first.shape[:axis], sum(x.shape[axis] for x in tensors), *first.shape[axis + 1 :]), first)


def _mm(left: Any, right: Any) -> Result:
    if not _floats(left, right) or left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
        return None
    return _empty((left.shape[0], right.shape[1]), left)


def _addmm(bias: Any, left: Any, right: Any) -> Result:
    return _mm(left, right) if _floats(bias, left) and right.ndim == 2 and bias.shape == right.shape[1:] else None


def _bmm(left: Any, right: Any) -> Result:
    if not _floats(left, right) or left.ndim != 3 or right.ndim != 3:
        return None
    fits = left.shape[0] == right.shape[0] and left.shape[2] == right.shape[1]
    return _empty((*left.shape[:2], right.shape[2]), left) if fits else None


def _convolution(
    x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, _: Any, groups: int
) -> Result:
    """A convolution that is not transposed, of contiguous tensors, with all its sizes written out."""
    tensors = (x, weight) if bias is None else (x, weight, bias)
    if transposed or not _floats(*tensors) or not _contiguous(x) or not _contiguous(weight) or x.ndim < 3:
        return None
    space, rows = x.ndim - 2, weight.shape[0]
    if weight.ndim != x.ndim or not len(stride) == len(padding) == len(dilation) == space or 0 in x.shape:
        return None
    if x.shape[1] != weight.shape[1] * groups or rows % groups or (bias is not None and bias.shape != (rows,)):
        return None
    if min(stride) < 1 or min(dilation) < 1 or min(padding) < 0:
        return None
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    room = [n + 2 * p - r for n, p, r in zip(x.shape[2:], padding, reach, strict=True)]
    if min(room) < 0:
        return None
    return _empty([x.shape[0], rows, *(n // s + 1 for n, s in zip(room, stride, strict=True))], x)


def _batch_norm(x: Any, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *_: Any) -> Any:
    whole = _unary(x) if not training and _one_type(x, weight, bias, mean, var) else None
    if whole is None:
        return None
    channels = (x.shape[1],)
    return whole, _empty(channels, x), _empty(channels, x)


def _layer_norm(x: Any, over: Sequence[int], weight: Any, bias: Any, *_: Any) -> Any:
    over = tuple(over)
    if not over or not _one_type(x, weight, bias) or tuple(x.shape[x.ndim - len(over) :]) != over or not x.numel():
        return None
    if any(p is not None and tuple(p.shape) != over for p in (weight, bias)):
        return None
    if x.is_contiguous() != _contiguous(x):  # strides of axes of size 1 are kept
        return None
    statistics = (*x.shape[: x.ndim - len(over)], *(1 for _ in over))
    return _empty(x.shape, x), _empty(statistics, x), _empty(statistics, x)


def _one_type(x: Any, *parameters: Any) -> bool:
    """Whether a norm of ``x`` with these, of which some may be absent, has statistics of ``x``'s type."""
    present = [p for p in parameters if p is not None]
    return _floats(x, *present) and x.dtype in (torch.float32, torch.float64)


_UNARY = "relu gelu silu sigmoid tanh hardswish hardsigmoid"
_TABLE: dict[Callable[..., Any], str] = {
    _unary: " ".join(f"{name}.default" for name in _UNARY.split()),
    _in_place: " ".join(f"{name}_.default" for name in _UNARY.split() if name not in ("gelu",)),
    _clamped: "hardtanh.default clamp.default clamp_min.default",
    _binary: "add.Tensor sub.Tensor mul.Tensor div.Tensor mul.Scalar",
    _binary_in_place: "add_.Tensor mul_.Tensor",
    _masked_fill: "masked_fill.Scalar",
    _roll: "roll.default",
    _softmax: "_safe_softmax.default",
    _mean: "mean.dim",
    _norm: "linalg_vector_norm.default",
    _cat: "cat.default",
    _mm: "mm.default",
    _addmm: "addmm.default",
    _bmm: "bmm.default",
    _convolution: "convolution.default",
    _batch_norm: "native_batch_norm.default",
    _layer_norm: "native_layer_norm.default",
}


def _named(name: str) -> Any:
    packet, overload = name.split(".")
    return getattr(getattr(aten, packet), overload)


SHORTCUTS: dict[Any, Callable[..., Any]] = {
    _named(name): shortcut for shortcut, names in _TABLE.items() for name in names.split()
}
SHORTCUTS[aten.hardtanh_.default] = _in_place
