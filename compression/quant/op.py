"""The fake quantizer as one registered operator: the recorder, autograd and exporters see a single node.

``Q(x) = sgn(x) * d * round(v(x) / d)`` with ``v(x) = min(|x|, q_m) ** t`` (GETA, arXiv 2502.16638, section 3.1, after
DJPQ, arXiv 2007.10463). An ``unsigned`` quantizer takes negative numbers to 0, and they get no gradient. Gradients are
straight-through in ``round``: the rounding residue is a constant. Values beyond the clipping bound pass their gradient
to ``q_m`` and not to ``x``, so that the values that saturate in the forward pass are those masked in the backward pass.
The arithmetic for ``t = 1`` is in :mod:`.kernels`.
"""

from __future__ import annotations

import torch

from compression.quant import kernels
from compression.quant.kernels import SMALLEST, prepared, reduced, working_dtype


def round_to_codes(
    x: torch.Tensor,
    step_size: torch.Tensor,
    clip: torch.Tensor,
    exponent: torch.Tensor | None = None,
    unsigned: bool = False,
) -> torch.Tensor:
    """Return ``sgn(x) * round(v(x) / d)``: whole numbers in :func:`.kernels.working_dtype`, a new tensor.

    ``step_size`` and ``clip`` (and ``exponent``, absent for the uniform quantizer) have shape [] or broadcast to
    ``x``.
    """
    if exponent is None:
        return kernels.codes(x, step_size, clip, unsigned)
    value, step, bound = prepared(x.clamp(min=0) if unsigned else x, step_size, clip)
    magnitude = torch.minimum(value.abs(), bound).pow_(exponent.to(value.dtype).clamp(min=SMALLEST))
    return magnitude.div_(step).round_().mul_(value.sign())


@torch.library.custom_op("compression::fake_quantize", mutates_args=())
def fake_quantize(
    x: torch.Tensor,
    step_size: torch.Tensor,
    clip: torch.Tensor,
    exponent: torch.Tensor | None = None,
    unsigned: bool = False,
) -> torch.Tensor:
    """Round ``x`` to the quantizer's values; fp32 (fp64 for fp64 ``x``), differentiable in every argument.

    The result equals integer codes times the step bit for bit.
    """
    if exponent is None:
        return kernels.values(x, step_size, clip, unsigned)
    codes = round_to_codes(x, step_size, clip, exponent, unsigned)
    return codes.mul_(step_size.to(codes.dtype).clamp(min=SMALLEST)).add_(0.0)


@fake_quantize.register_fake
def _shape_only(
    x: torch.Tensor,
    step_size: torch.Tensor,
    clip: torch.Tensor,
    exponent: torch.Tensor | None = None,
    unsigned: bool = False,
) -> torch.Tensor:
    return torch.empty_like(x, dtype=working_dtype(x))


@torch.library.custom_op("compression::fake_quantize_backward", mutates_args=())
def fake_quantize_backward(
    upstream: torch.Tensor,
    x: torch.Tensor,
    output: torch.Tensor,
    step_size: torch.Tensor,
    clip: torch.Tensor,
    unsigned: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of ``x``, ``d`` and ``q_m`` for ``t = 1``: an operator that compilers do not trace."""
    return kernels.gradients(upstream, x, output, step_size, clip, unsigned)


@fake_quantize_backward.register_fake
def _shapes_only(
    upstream: torch.Tensor,
    x: torch.Tensor,
    output: torch.Tensor,
    step_size: torch.Tensor,
    clip: torch.Tensor,
    unsigned: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.empty_like(x), torch.empty_like(step_size), torch.empty_like(clip)


class _Direct(torch.autograd.Function):
    """The same autograd node without the operator, whose overhead is measurable in a training step."""

    @staticmethod
    def forward(x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor, unsigned: bool) -> torch.Tensor:
        return kernels.values(x, step_size, clip, unsigned)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        *tensors, ctx.unsigned = inputs
        ctx.save_for_backward(*tensors, output)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream):  # type: ignore[no-untyped-def]
        x, step_size, clip, output = ctx.saved_tensors
        return (*kernels.gradients(upstream, x, output, step_size, clip, ctx.unsigned), None)


def unobserved(x: torch.Tensor) -> bool:
    """Whether operations on ``x`` are not recorded: no tracer, compiler, dispatch mode or tensor subclass."""
    return (
        type(x) in (torch.Tensor, torch.nn.Parameter)
        and not torch.compiler.is_compiling()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._get_tracing_state()
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def quantized(
    x: torch.Tensor,
    step_size: torch.Tensor,
    clip: torch.Tensor,
    exponent: torch.Tensor | None = None,
    unsigned: bool = False,
) -> torch.Tensor:
    """Return the result of :func:`fake_quantize`, without the operator where nothing records it."""
    if exponent is None and unobserved(x):
        result: torch.Tensor = _Direct.apply(x, step_size, clip, unsigned)
        return result
    return fake_quantize(x, step_size, clip, exponent, unsigned)


def _save_for_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.unsigned = inputs
    ctx.save_for_backward(*tensors, output if tensors[3] is None else None)


def _backward(ctx, upstream):  # type: ignore[no-untyped-def]
    x, step_size, clip, exponent, output = ctx.saved_tensors
    if exponent is None:
        return (*fake_quantize_backward(upstream, x, output, step_size, clip, ctx.unsigned), None, None)
    read = x.clamp(min=0) if ctx.unsigned else x
    return (*_power_gradients(upstream, read, step_size, clip, exponent), None)


def _power_gradients(
    upstream: torch.Tensor, x: torch.Tensor, step_size: torch.Tensor, clip: torch.Tensor, exponent: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    value, step, bound = prepared(x, step_size, clip)
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
        reduced(signed * (position.round() - position), step_size),
        reduced(signed * slope * ~inside, clip),
        reduced(signed * raised * logarithm, exponent),
    )


fake_quantize.register_autograd(_backward, setup_context=_save_for_backward)
