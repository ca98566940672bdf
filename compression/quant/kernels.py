"""The arithmetic of the uniform quantizer (t = 1), three times: for every device, for the processor, and compiled.

All give the same values bit for bit and the same gradients up to the order of sums. On the processor, scalars are read
as numbers and the passes go over pieces of flat memory that stay in the cache; compiled (:func:`compile_kernels`), the
forward and the backward pass are one loop each. A step and a bound for each row (a weight's output channel, dimension
0) are compiled too; where channels lie along another dimension (transposed convolutions), and without a compiler, the
way for every device takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from compression.errors import CompressionError
from compression.quant.native import Native

SMALLEST = 1e-10
"""Steps, clipping bounds and exponents below this are read as this, so that they are always positive."""
PIECE = 1 << 17
"""Elements that a pass works on at a time, so that the next pass finds them in the cache."""

COMPILED = "quantizers are computed in one compiled loop a pass"

Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

_native: Native | None = None
_use_native = False


def compile_kernels() -> str | None:
    """Compile the kernels for this process and use them from now on; ``None``, or in one line why that cannot be."""
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
    """Within the block, use the compiled kernels (if :func:`compile_kernels` made them) or do not."""
    global _use_native
    before, _use_native = _use_native, compiled
    try:
        yield
    finally:
        _use_native = before


def working_dtype(x: torch.Tensor) -> torch.dtype:
    """fp32 for everything but fp64: half precision has too few digits to round at 16 bits."""
    return torch.promote_types(x.dtype, torch.float32)


def prepared(
    x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The three in :func:`working_dtype`, step and bound positive."""
    dtype = working_dtype(x)
    return x.to(dtype), step_size.to(dtype).clamp(min=SMALLEST), clip.to(dtype).clamp(min=SMALLEST)


def codes(x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor) -> torch.Tensor:
    """``round(clamp(x, -q_m, q_m) / d)``, a fresh tensor of the shape of ``x`` in :func:`working_dtype`."""
    value, step, bound = prepared(x, step_size, clip)
    return torch.clamp(value, -bound, bound).div_(step).round_()


def values(x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor) -> torch.Tensor:
    """Codes times the step. Adding zero turns -0 into +0: equal to integer codes times the step bit for bit."""
    if (rows := _rows(x, step_size, clip)) is not None and _native is not None:
        return _native.row_values(*rows)
    if not _plain(x, step_size, clip):
        rounded = codes(x, step_size, clip)
        return rounded.mul_(step_size.to(rounded.dtype).clamp(min=SMALLEST)).add_(0.0)
    value, step, limit = _flattenable(x), _number(step_size), _number(clip)
    if _use_native and _native is not None and value.dtype == torch.float32:
        return _native.values(value, step, limit)
    result = torch.empty_like(value)
    for source, target in zip(_pieces(value), _pieces(result), strict=True):
        torch.clamp(source, -limit, limit, out=target).div_(step).round_().mul_(step).add_(0.0)
    return result


def gradients(
    upstream: torch.Tensor, x: torch.Tensor, output: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor
) -> Gradients:
    """Gradients of x, d and q_m; ``output`` is what :func:`values` gave for ``x``."""
    if (rows := _rows(x, step_size, clip)) is not None and _native is not None and upstream.dtype == torch.float32:
        to_rows, sums = _native.row_gradients(_laid_out(upstream, rows[0]), *rows)
        of_steps, of_clips = (sums[:, i].reshape(clip.shape) for i in range(2))
        return to_rows.to(x.dtype), of_steps.to(step_size.dtype), of_clips.to(clip.dtype)
    if not _plain(x, step_size, clip):
        return _broadcast_gradients(upstream, x, output, step_size, clip)
    value, step, limit = _flattenable(x), _number(step_size), _number(clip)
    upstream = _laid_out(upstream, value)
    if _use_native and _native is not None and value.dtype == upstream.dtype == torch.float32:
        to_x, to_step, to_clip = _native.gradients(upstream, value, step, limit)
    else:
        to_x, to_step, to_clip = _processor_gradients(upstream, value, _laid_out(output, value), step, limit)
    return to_x.to(x.dtype), torch.full_like(step_size, to_step), torch.full_like(clip, to_clip)


def _processor_gradients(
    upstream: torch.Tensor, x: torch.Tensor, output: torch.Tensor, step: float, limit: float
) -> tuple[torch.Tensor, float, float]:
    """Two temporaries of one piece beside the result, six passes, no masks."""
    result, beyond = torch.empty_like(x), _next_above(limit, x.dtype)
    spare = [x.new_empty(min(PIECE, x.numel())) for _ in range(2)]
    to_step = to_clip = 0.0
    for g, value, rounded, to_x in zip(*map(_pieces, (upstream, x, output, result)), strict=True):
        outside, clipped = (each[: len(value)] for each in spare)
        torch.ops.aten.hardtanh_backward.grad_input(g, value, -beyond, beyond, grad_input=to_x)
        torch.sub(g, to_x, out=outside)
        torch.clamp(value, -limit, limit, out=clipped)
        to_clip += torch.dot(outside, clipped).item()
        to_step += torch.dot(g, torch.sub(rounded, clipped, out=clipped)).item()
    return result, to_step / step, to_clip / limit


def _broadcast_gradients(
    upstream: torch.Tensor, x: torch.Tensor, output: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor
) -> Gradients:
    value, step, bound = prepared(x, step_size, clip)
    clipped = torch.clamp(value, -bound, bound)
    to_x = upstream * clipped.eq(value)
    outside = (upstream - to_x).mul_(clipped.sign())
    residue = (output - clipped).div_(step).mul_(upstream)
    return to_x.to(x.dtype), reduced(residue, step_size), reduced(outside, clip)


def reduced(gradient: torch.Tensor, scalar: torch.Tensor) -> torch.Tensor:
    """``gradient`` summed to the shape of what it belongs to."""
    return gradient.sum_to_size(scalar.shape).to(scalar.dtype)


def _plain(x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor) -> bool:
    """One step and one bound for all of ``x``, on the processor (elsewhere reading a number would stall the device)."""
    return x.device.type == "cpu" and step_size.numel() == 1 and clip.numel() == 1


def _rows(
    x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """``x`` and flat fp32 steps and bounds for the compiled loops, where each row of ``x`` has its own."""
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
    """The smallest number of ``dtype`` above ``value``: ``x < it`` says ``x <= value``."""
    kind = np.float64 if dtype == torch.float64 else np.float32
    return float(np.nextafter(kind(value), kind(np.inf)))


def _flattenable(x: torch.Tensor) -> torch.Tensor:
    """``x`` in :func:`working_dtype`, its elements filling their memory without gaps in one of the usual orders."""
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
    """The memory of a dense tensor in flat pieces, without copying."""
    flat = x.as_strided((x.numel(),), (1,))
    return (flat,) if len(flat) <= PIECE else flat.split(PIECE)


def _laid_out(other: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """``other`` with its elements in memory in the order of ``x``."""
    if other.stride() == x.stride():
        return other.detach()
    return torch.empty_like(x, dtype=other.dtype).copy_(other)
