"""The arithmetic of the uniform quantizer (t = 1), in three versions: for any device, for the CPU, and compiled.

All return the same values bit for bit and the same gradients up to the order of sums. The CPU version reads scalars as
numbers and works on pieces of flat memory that fit the cache; the compiled one (:func:`compile_kernels`) is one loop
for the forward and one for the backward pass, also with a separate step and bound for each row (output channels along
dimension 0). Channels along another dimension (transposed convolutions), and machines without a compiler, use the
version for any device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from compression.errors import CompressionError
from compression.quant.native import Native

SMALLEST = 1e-10
"""Lower bound of steps, clipping bounds and exponents, so that they are always positive."""
PIECE = 1 << 17
"""Elements a pass processes at a time, so that they are in the cache for the next pass."""

COMPILED = "quantizers are computed in one compiled loop a pass"

Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

_native: Native | None = None
_use_native = False


def compile_kernels() -> str | None:
    """Compile the kernels and use them in this process from now on; returns ``None``, or one line why it failed."""
    global _native, _use_native
    if _native is None:
        try:
            _native = Native()
        except CompressionError as problem:
            return f"quantizers are computed pass by pass: {problem}"
    _use_native = True
    return None


@contextmanager
def using(compiled: bool) -> Iterator[None]:
    """Within the block, use the compiled kernels (if :func:`compile_kernels` was called), or do not."""
    global _use_native
    before, _use_native = _use_native, compiled
    try:
        yield
    finally:
        _use_native = before


def working_dtype(x: torch.Tensor) -> torch.dtype:
    """Return fp64 for fp64 and fp32 for all other types: half precision has too few digits to round at 16 bits."""
    return torch.promote_types(x.dtype, torch.float32)


def prepared(
    x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the arguments in :func:`working_dtype`, step and bound positive."""
    dtype = working_dtype(x)
    return x.to(dtype), step_size.to(dtype).clamp(min=SMALLEST), clip.to(dtype).clamp(min=SMALLEST)


def codes(x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor, unsigned: bool = False) -> torch.Tensor:
    """Return ``round(clamp(x, low, q_m) / d)``, a new tensor of the shape of ``x`` in :func:`working_dtype`.

    ``low`` is -q_m; 0 for an ``unsigned`` quantizer.
    """
    value, step, bound = prepared(x, step_size, clip)
    return torch.clamp(value, _low(bound, unsigned), bound).div_(step).round_()


def values(x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor, unsigned: bool = False) -> torch.Tensor:
    """Return codes times the step, bit for bit what integer codes give (adding zero turns -0 into +0)."""
    if not unsigned and (rows := _rows(x, step_size, clip)) is not None and _native is not None:
        return _native.row_values(*rows)
    if not _per_tensor_on_cpu(x, step_size, clip):
        rounded = codes(x, step_size, clip, unsigned)
        return rounded.mul_(step_size.to(rounded.dtype).clamp(min=SMALLEST)).add_(0.0)
    value, step, limit = _flattenable(x), _number(step_size), _number(clip)
    low = 0.0 if unsigned else -limit
    if _use_native and _native is not None and value.dtype == torch.float32:
        return _native.values(value, step, low, limit)
    result = torch.empty_like(value)
    for source, target in zip(_pieces(value), _pieces(result), strict=True):
        torch.clamp(source, low, limit, out=target).div_(step).round_().mul_(step).add_(0.0)
    return result


def gradients(
    upstream: torch.Tensor,
    x: torch.Tensor,
    output: torch.Tensor,
    step_size: torch.Tensor,
    clip: torch.Tensor,
    unsigned: bool = False,
) -> Gradients:
    """Return the gradients of x, d and q_m; ``output`` is the result of :func:`values` for ``x``."""
    rows = None if unsigned or upstream.dtype != torch.float32 else _rows(x, step_size, clip)
    if rows is not None and _native is not None:
        x_gradient, sums = _native.row_gradients(_in_order_of(upstream, rows[0]), *rows)
        step_gradients, clip_gradients = (sums[:, i].reshape(clip.shape) for i in range(2))
        return x_gradient.to(x.dtype), step_gradients.to(step_size.dtype), clip_gradients.to(clip.dtype)
    if not _per_tensor_on_cpu(x, step_size, clip):
        return _broadcast_gradients(upstream, x, output, step_size, clip, unsigned)
    value, step, limit = _flattenable(x), _number(step_size), _number(clip)
    low = 0.0 if unsigned else -limit
    upstream = _in_order_of(upstream, value)
    if _use_native and _native is not None and value.dtype == upstream.dtype == torch.float32:
        x_gradient, step_gradient, clip_gradient = _native.gradients(upstream, value, step, low, limit)
    else:
        output = _in_order_of(output, value)
        x_gradient, step_gradient, clip_gradient = _cpu_gradients(upstream, value, output, step, low, limit)
    return x_gradient.to(x.dtype), torch.full_like(step_size, step_gradient), torch.full_like(clip, clip_gradient)


def _cpu_gradients(
    upstream: torch.Tensor, x: torch.Tensor, output: torch.Tensor, step: float, low: float, limit: float
) -> tuple[torch.Tensor, float, float]:
    """Six passes without masks; the memory beside the result is two pieces."""
    result, beyond, below = torch.empty_like(x), _next_above(limit, x.dtype), -_next_above(-low, x.dtype)
    buffers = [x.new_empty(min(PIECE, x.numel())) for _ in range(2)]
    step_gradient = clip_gradient = 0.0
    for g, value, rounded, x_gradient in zip(*map(_pieces, (upstream, x, output, result)), strict=True):
        outside, clipped = (buffer[: len(value)] for buffer in buffers)
        torch.ops.aten.hardtanh_backward.grad_input(g, value, below, beyond, grad_input=x_gradient)
        torch.sub(g, x_gradient, out=outside)
        torch.clamp(value, low, limit, out=clipped)
        clip_gradient += torch.dot(outside, clipped).item()
        step_gradient += torch.dot(g, torch.sub(rounded, clipped, out=clipped)).item()
    return result, step_gradient / step, clip_gradient / limit


def _broadcast_gradients(
    upstream: torch.Tensor,
    x: torch.Tensor,
    output: torch.Tensor,
    step_size: torch.Tensor,
    clip: torch.Tensor,
    unsigned: bool,
) -> Gradients:
    value, step, bound = prepared(x, step_size, clip)
    clipped = torch.clamp(value, _low(bound, unsigned), bound)
    x_gradient = upstream * clipped.eq(value)
    outside = (upstream - x_gradient).mul_(clipped.sign())
    residue = (output - clipped).div_(step).mul_(upstream)
    return x_gradient.to(x.dtype), reduced(residue, step_size), reduced(outside, clip)


def _low(bound: torch.Tensor, unsigned: bool) -> torch.Tensor:
    """The least value of a quantizer whose largest is ``bound``."""
    return torch.zeros_like(bound) if unsigned else -bound


def reduced(gradient: torch.Tensor, scalar: torch.Tensor) -> torch.Tensor:
    """Return ``gradient`` summed to the shape of ``scalar``, in its type."""
    return gradient.sum_to_size(scalar.shape).to(scalar.dtype)


def _per_tensor_on_cpu(x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor) -> bool:
    """Whether ``x`` is on the CPU and has one step and one bound (reading a number would stall other devices)."""
    return x.device.type == "cpu" and step_size.numel() == 1 and clip.numel() == 1


def _rows(
    x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Return ``x``, flat fp32 steps and bounds for the compiled loops; ``None`` unless each row of ``x`` has both."""
    count = clip.numel()
    if not (_use_native and x.device.type == "cpu" and count > 1 and clip.dim() == x.dim() and len(clip) == count):
        return None
    if step_size.shape != clip.shape or len(x) != count or not x.numel():
        return None
    value = _flattenable(x)
    if value.dtype != torch.float32 or value.stride(0) * count != value.numel():
        return None
    steps, bounds = (
        t.detach().reshape(-1).to(torch.float32).clamp(min=SMALLEST).contiguous() for t in (step_size, clip)
    )
    return value, steps, bounds


def _number(scalar: torch.Tensor) -> float:
    value: float = scalar.item()
    return SMALLEST if value < SMALLEST else value


def _next_above(value: float, dtype: torch.dtype) -> float:
    """Return the smallest number of ``dtype`` above ``value``: x is below it exactly if ``x <= value``."""
    kind = np.float64 if dtype == torch.float64 else np.float32
    return float(np.nextafter(kind(value), kind(np.inf)))


def _flattenable(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` in :func:`working_dtype`, contiguous in one of torch's memory formats."""
    value = x.detach()
    if value.dtype not in (torch.float32, torch.float64):
        value = value.to(working_dtype(x))
    if (
        value.is_contiguous()
        or (value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last))
        or (value.dim() == 5 and value.is_contiguous(memory_format=torch.channels_last_3d))
    ):
        return value
    return value.contiguous()


def _pieces(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the memory of a dense tensor in flat pieces, without a copy."""
    flat = x.as_strided((x.numel(),), (1,))
    return (flat,) if len(flat) <= PIECE else flat.split(PIECE)


def _in_order_of(other: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return ``other`` with its elements in memory in the order of ``x``."""
    if other.stride() == x.stride():
        return other.detach()
    return torch.empty_like(x, dtype=other.dtype).copy_(other)
