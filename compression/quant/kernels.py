"""The arithmetic of the uniform quantizer (t = 1): for any device, for the CPU, compiled for it, and for accelerators.

All return the same values bit for bit and the same gradients up to the order of sums. The CPU version reads scalars as
numbers and works on pieces of flat memory that fit the cache; the compiled one (:func:`compile_kernels`) is one loop
for the forward and one for the backward pass, also with a separate step and bound for each row (output channels along
dimension 0). So is that for accelerators (:mod:`.fused`). Channels along another dimension (transposed convolutions),
and machines without a compiler, use the version for any device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from compression.errors import CompressionError
from compression.quant.fused import SMALLEST, Fused, Gradients
from compression.quant.native import Native

CPU = torch.device("cpu")
PIECE = 1 << 17
"""Elements a pass processes at a time, so that they are in the cache for the next pass."""

COMPILED = "quantizers are computed in one compiled loop a pass"
LONG = 1000
"""Steps of a run from which compiling for an accelerator pays: it takes about as long as some hundred of them."""

Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
_native: Native | None = None
_fused: dict[str, Fused] = {}
_use_compiled = False


def compile_kernels(device: torch.device = CPU, steps: int = LONG) -> str | None:
    """Compile the kernels for a device and use them in this process from now on, for a run of so many ``steps``.

    Returns ``None``, or one line why quantizers are computed pass by pass.
    """
    global _native, _use_compiled
    try:
        if device.type == CPU.type:
            _native = _native or Native()
        elif steps < LONG:
            return f"quantizers are computed pass by pass: {steps} steps are too few to compile for {device}"
        elif device.type not in _fused:
            _fused[device.type] = Fused(device)
    except CompressionError as problem:
        return f"quantizers are computed pass by pass: {problem}"
    _use_compiled = True
    return None


@contextmanager
def using(compiled: bool) -> Iterator[None]:
    """Within the block, use the compiled kernels (if :func:`compile_kernels` was called), or do not."""
    global _use_compiled
    before, _use_compiled = _use_compiled, compiled
    try:
        yield
    finally:
        _use_compiled = before


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
    if (fused := _fused_for(x)) is not None and (rows := _rows(x, step_size, clip)) is not None:
        value, steps, clips = rows
        return _shaped(fused.values(_matrix(value, clips), steps.view(-1, 1), clips.view(-1, 1), unsigned), value)
    if not unsigned and (rows := _native_rows(x, step_size, clip)) is not None and _native is not None:
        return _native.row_values(*rows)
    if not _per_tensor_on_cpu(x, step_size, clip):
        rounded = codes(x, step_size, clip, unsigned)
        return rounded.mul_(step_size.to(rounded.dtype).clamp(min=SMALLEST)).add_(0.0)
    value, step, limit = _flattenable(x), _number(step_size), _number(clip)
    low = 0.0 if unsigned else -limit
    if _use_compiled and _native is not None and value.dtype == torch.float32:
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
    if (fused := _fused_for(x)) is not None and (rows := _rows(x, step_size, clip)) is not None:
        value, steps, clips = rows
        parts = (_matrix(_in_order_of(part, value), clips) for part in (upstream.float(), value, output))
        x_gradient, *sums = fused.gradients(*parts, steps.view(-1, 1), clips.view(-1, 1), unsigned)
        of_steps, of_clips = (each.reshape(clip.shape) for each in sums)
        x_gradient = _shaped(x_gradient, value).to(x.dtype)
        return x_gradient, of_steps.to(step_size.dtype), of_clips.to(clip.dtype)
    rows = None if unsigned or upstream.dtype != torch.float32 else _native_rows(x, step_size, clip)
    if rows is not None and _native is not None:
        x_gradient, totals = _native.row_gradients(_in_order_of(upstream, rows[0]), *rows)
        step_gradients, clip_gradients = (totals[:, i].reshape(clip.shape) for i in range(2))
        return x_gradient.to(x.dtype), step_gradients.to(step_size.dtype), clip_gradients.to(clip.dtype)
    if not _per_tensor_on_cpu(x, step_size, clip):
        return _broadcast_gradients(upstream, x, output, step_size, clip, unsigned)
    value, step, limit = _flattenable(x), _number(step_size), _number(clip)
    low = 0.0 if unsigned else -limit
    upstream = _in_order_of(upstream, value)
    if _use_compiled and _native is not None and value.dtype == upstream.dtype == torch.float32:
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


def _fused_for(x: torch.Tensor) -> Fused | None:
    """The compiled functions for the device of ``x``, if they are to be used."""
    return _fused.get(x.device.type) if _use_compiled else None


def _native_rows(x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor) -> Rows | None:
    """:func:`_rows` for the loops in C, which have others for a single row."""
    if not (_use_compiled and x.device == CPU and clip.numel() > 1):
        return None
    if (rows := _rows(x, step_size, clip)) is None:
        return None
    value, steps, bounds = rows
    return value, steps.clamp(min=SMALLEST).contiguous(), bounds.clamp(min=SMALLEST).contiguous()


def _rows(x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor) -> Rows | None:
    """Return ``x``, flat fp32 steps and bounds; ``None`` unless each row of ``x``, or all of it, has one of both."""
    count = clip.numel()
    if step_size.shape != clip.shape or not x.numel():
        return None
    if count > 1 and not (clip.dim() == x.dim() and len(clip) == len(x) == count):
        return None
    value = _flattenable(x)
    if value.dtype != torch.float32 or (count > 1 and value.stride(0) * count != value.numel()):
        return None
    steps, bounds = (t.detach().reshape(-1).to(torch.float32) for t in (step_size, clip))
    return value, steps, bounds


def _matrix(x: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
    """The memory of a dense tensor as one row for each of the ``clips``, without a copy."""
    size = x.numel() // len(clips)
    return x.as_strided((len(clips), size), (size, 1))


def _shaped(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """What :func:`_matrix` made, in the shape and memory order of ``like`` again."""
    return rows.as_strided(like.shape, like.stride())


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
