"""The quantizer written in elementary operations, as in other projects: the graph before its quantizers are merged."""

from __future__ import annotations

import torch
from torch import nn

from compression.quant.op import working_dtype
from compression.quant.quantizer import Quantizer


class PlainQuantizer(Quantizer):
    """:class:`Quantizer` as separate operations: ``sgn(x) * d * round(min(|x|, q_m) ** t / d)``.

    The power is ``exp(t * log(.))``, as in GETA's reference. Values are those of :class:`Quantizer` up to rounding in
    fp32 for positive scalars; the gradient of ``round`` is zero, so it serves to draw graphs, not to train.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` rounded to the quantizer's values, fp32 (fp64 for fp64)."""
        value, steps = x.to(working_dtype(x)), self.steps()
        magnitude = torch.minimum(torch.abs(value), self.clip)
        if self.exponent is not None:
            magnitude = torch.exp(self.exponent * torch.log(magnitude))
        return torch.sign(value) * (steps * torch.round(magnitude / steps))


def written_out(model: nn.Module) -> nn.Module:
    """Make every :class:`Quantizer` of a model a :class:`PlainQuantizer`, in place; returns ``model``."""
    for module in model.modules():
        if type(module) is Quantizer:
            module.__class__ = PlainQuantizer
    return model
