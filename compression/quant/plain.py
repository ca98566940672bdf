"""The same quantizer written in plain operations, as other projects write theirs: what a graph looks like before its
quantizers are merged.
"""

from __future__ import annotations

import torch
from torch import nn

from compression.quant.op import working_dtype
from compression.quant.quantizer import Quantizer


class PlainQuantizer(Quantizer):
    """:class:`Quantizer` without its single operator: ``sgn(x) * d * round(min(|x|, q_m) ** t / d)`` step by step.

    The power is ``exp(t * log(.))``, as GETA's reference computes it. Values are those of :class:`Quantizer` up to
    rounding in fp32 for positive scalars; gradients of ``round`` are zero, so it is for looking at, not for training.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` rounded to the quantizer's values, fp32 (fp64 for fp64)."""
        value, steps = x.to(working_dtype(x)), self.steps()
        magnitude = torch.minimum(torch.abs(value), self.clip)
        if self.exponent is not None:
            magnitude = torch.exp(self.exponent * torch.log(magnitude))
        return torch.sign(value) * (steps * torch.round(magnitude / steps))


def written_out(model: nn.Module) -> nn.Module:
    """Let every :class:`Quantizer` of a model compute in plain operations from now on, in place; returns ``model``."""
    for module in model.modules():
        if type(module) is Quantizer:
            module.__class__ = PlainQuantizer
    return model
