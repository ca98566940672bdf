"""The quantizer's loops for accelerators: the operations of :mod:`.kernels` fused by torch's compiler.

Eager torch starts about ten kernels for the forward and twenty for the backward pass of one quantizer; fused they are
one and two. The compiler writes Triton for GPUs (and C++ for CPUs, where :mod:`.native` is built in less than a second
and this takes about 20).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from compression.errors import CompressionError

SMALLEST = 1e-10
"""Lower bound of steps, clipping bounds and exponents, so that they are always positive."""

Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
_ROUNDING = "eager_numerics.division_rounding"


def _values(x: torch.Tensor, steps: torch.Tensor, clips: torch.Tensor, unsigned: bool) -> torch.Tensor:
    step, high = steps.clamp(min=SMALLEST), clips.clamp(min=SMALLEST)
    low = torch.zeros_like(high) if unsigned else -high
    codes = torch.clamp(x, low, high).div(step).round()
    return (
        torch.where(codes == 0, 0.0, codes) * step
    )  # no -0; a compiler drops the addition of 0 that is done elsewhere


def _gradients(
    upstream: torch.Tensor,
    x: torch.Tensor,
    output: torch.Tensor,
    steps: torch.Tensor,
    clips: torch.Tensor,
    unsigned: bool,
) -> Gradients:
    step, high = steps.clamp(min=SMALLEST), clips.clamp(min=SMALLEST)
    low = torch.zeros_like(high) if unsigned else -high
    clipped = torch.clamp(x, low, high)
    passed = upstream * clipped.eq(x)
    of_steps = ((output - clipped) / step * upstream).sum(1, keepdim=True)
    of_clips = ((upstream - passed) * clipped.sign()).sum(1, keepdim=True)
    return passed, of_steps, of_clips


class Fused:
    """The compiled functions of one type of device, for fp32 rows [R, N] with a step and a bound each, fp32 [R, 1].

    Raises:
        CompressionError: torch cannot compile for this device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        try:
            known = torch._inductor.list_options()
            compiled = partial(torch.compile, dynamic=True, options={_ROUNDING: True} if _ROUNDING in known else None)
            self._values: Callable[..., torch.Tensor] = compiled(_values)
            self._gradients: Callable[..., Gradients] = compiled(_gradients)
            for rows, unsigned in ((1, False), (1, True), (4, False)):  # one step for a tensor, one for each channel
                self._try(rows, unsigned)
        except Exception as error:  # whatever a compiler and its tools raise
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CompressionError(f"torch cannot compile for {device}: {line}") from error

    def values(self, *arguments: Any) -> torch.Tensor:
        """(x, steps, clips, unsigned) → codes times steps. Always in one mode: each would be compiled for itself."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self._values(*arguments)

    def gradients(self, *arguments: Any) -> Gradients:
        """(upstream, x, values, steps, clips, unsigned) → gradients of x, steps and clips."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self._gradients(*arguments)

    def _try(self, rows: int, unsigned: bool) -> None:
        """Compile for this many rows; what does not give the values of the eager operations is not used."""
        x = torch.linspace(-2, 2, 64 * rows).view(rows, 64).to(self.device)
        steps, clips = (torch.full((rows, 1), number).to(self.device) for number in (0.15, 1.0))
        compiled, eager = (function(x, steps, clips, unsigned) for function in (self.values, _values))
        if not torch.equal(compiled.view(torch.int32), eager.view(torch.int32)):
            raise CompressionError("compiled, quantizers give other values")
        self.gradients(x, x, compiled, steps, clips, unsigned)
