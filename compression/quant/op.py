"""The fake quantizer as one registered operator: what the recorder, autograd and exporters see is a single node.

``Q(x) = sgn(x) * d * round(v(x) / d)`` with ``v(x) = min(|x|, q_m) ** t`` (GETA section 3.1, after DJPQ). Gradients
are straight-through in ``round``: the rounding residue is held fixed. Values beyond the clipping bound pass their
gradient to ``q_m`` and not to ``x``, so that what saturates in the forward pass is what is masked in the backward
pass.
"""

from __future__ import annotations

import torch

SMALLEST = 1e-10
"""Steps, clipping bounds and exponents below this are read as this, so that they are always positive."""


def working_dtype(x: torch.Tensor) -> torch.dtype:
    """fp32 for everything but fp64: half precision has too few digits to round at 16 bits."""
    return torch.promote_types(x.dtype, torch.float32)


def round_to_codes(
    x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor, exponent: torch.Tensor | None = None
) -> torch.Tensor:
    """``sgn(x) * round(v(x) / d)``: whole numbers in :func:`working_dtype`, a fresh tensor of the shape of ``x``.

    ``step_size`` and ``clip`` (and ``exponent``, absent for the uniform quantizer) have shape [] or broadcast to
    ``x``.
    """
    codes, step, bound = _prepared(x, step_size, clip)
    if exponent is None:
        return torch.clamp(codes, -bound, bound).div_(step).round_()
    magnitude = torch.minimum(codes.abs(), bound).pow_(exponent.to(codes.dtype).clamp(min=SMALLEST))
    return magnitude.div_(step).round_().mul_(codes.sign())


@torch.library.custom_op("compression::fake_quantize", mutates_args=())
def fake_quantize(
    x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor, exponent: torch.Tensor | None = None
) -> torch.Tensor:
    """Round ``x`` to the quantizer's values; fp32 (fp64 for fp64 ``x``), differentiable in every argument.

    Adding zero turns -0 into +0, which makes the result equal to integer codes times the step bit for bit.
    """
    codes = round_to_codes(x, step_size, clip, exponent)
    return codes.mul_(step_size.to(codes.dtype).clamp(min=SMALLEST)).add_(0.0)


@fake_quantize.register_fake
def _shape_only(
    x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor, exponent: torch.Tensor | None = None
) -> torch.Tensor:
    return torch.empty_like(x, dtype=working_dtype(x))


def _prepared(
    x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    dtype = working_dtype(x)
    return x.to(dtype), step_size.to(dtype).clamp(min=SMALLEST), clip.to(dtype).clamp(min=SMALLEST)


def _remember(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _backward(ctx, upstream):  # type: ignore[no-untyped-def]
    x, step_size, clip, exponent = ctx.saved_tensors
    if exponent is None:
        return (*_uniform_gradients(upstream, x, step_size, clip), None)
    return _power_gradients(upstream, x, step_size, clip, exponent)


def _uniform_gradients(
    upstream: torch.Tensor, x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients for t = 1: three temporaries of the size of ``x`` beside the result."""
    value, step, bound = _prepared(x, step_size, clip)
    clipped = torch.clamp(value, -bound, bound)
    to_x = upstream * clipped.eq(value)
    outside = (upstream - to_x).mul_(clipped.sign())
    position = clipped.div_(step)
    residue = position.round().sub_(position).mul_(upstream)
    return to_x.to(x.dtype), _reduce(residue, step_size), _reduce(outside, clip)


def _power_gradients(
    upstream: torch.Tensor, x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor, exponent: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    value, step, bound = _prepared(x, step_size, clip)
    power = exponent.to(value.dtype).clamp(min=SMALLEST)
    magnitude, signed = value.abs(), upstream * value.sign()
    inside = magnitude <= bound
    clipped = torch.minimum(magnitude, bound)
    raised = clipped.pow(power)
    position = raised / step
    nonzero = magnitude > 0
    slope = torch.where(nonzero, power * clipped.pow(power - 1), torch.zeros_like(clipped))
    logarithm = torch.where(nonzero, clipped, torch.ones_like(clipped)).log()
    return (
        (upstream * slope * inside).to(x.dtype),
        _reduce(signed * (position.round() - position), step_size),
        _reduce(signed * slope * ~inside, clip),
        _reduce(signed * raised * logarithm, exponent),
    )


def _reduce(gradient: torch.Tensor, scalar: torch.Tensor) -> torch.Tensor:
    return gradient.sum_to_size(scalar.shape).to(scalar.dtype)


fake_quantize.register_autograd(_backward, setup_context=_remember)
