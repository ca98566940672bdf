"""Weights on levels of any magnitude: the value of a code is its sign times a number of a short table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from compression.graph.rules import Step as Traced
from compression.graph.rules import rule
from compression.graph.values import Value
from compression.quant.integers import IntegerWeight, QuantizedWeight, values
from compression.quant.kernels import working_dtype


@dataclass(frozen=True, eq=False)
class LevelWeight:
    """``codes`` int32 in the weight's shape; code k stands for sign(k)·``levels``[abs(k) - 1], code 0 for 0.

    ``levels``: fp32 [K], ascending, above 0.
    """

    name: str
    codes: torch.Tensor
    levels: torch.Tensor
    kind: ClassVar[str] = "levels"

    @property
    def bits(self) -> int:
        """Those of a sign and a level."""
        return bits_for(len(self.levels))

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the weight."""
        return tuple(self.codes.shape)

    @property
    def zeros(self) -> int:
        """How many codes are 0."""
        return self.codes.numel() - int(torch.count_nonzero(self.codes))

    def weight(self) -> torch.Tensor:
        """The fp32 weight."""
        return valued(self.codes, self.levels)


def bits_for(count: int) -> int:
    """The bits of a sign and one of ``count`` levels."""
    return 1 + max(count - 1, 0).bit_length()


def valued(codes: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """What codes stand for, in the type of the levels."""
    table = torch.cat([levels.new_zeros(1), levels])
    return table[codes.abs().long()].mul_(codes.sign()).add_(0.0)


class LevelQuantizer(nn.Module):
    """Parametrization of a weight: the nearest of ± a few magnitudes; what is exactly 0 stays 0.

    ``levels``: fp32 [K], ascending. With a ``step`` in their place they are (k - 1/2)·step, k = 1..``count``, and
    weights are encoded as such. Nothing is trained; the gradient passes straight through up to the last level.
    """

    levels: torch.Tensor
    step_size: torch.Tensor  # 0: levels of their own

    def __init__(self, levels: torch.Tensor | None = None, *, step: float = 0.0, count: int = 0) -> None:
        super().__init__()
        self.register_buffer("step_size", torch.tensor(step, dtype=torch.float32))
        if levels is None:
            levels = values(torch.arange(1, count + 1, dtype=torch.float32), self.step_size, torch.tensor(0.0))
        self.register_buffer("levels", levels.detach().to(torch.float32))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that the layer computes with, in the weight's type."""
        result: torch.Tensor = level_quantize(weight.to(working_dtype(weight)), self.levels)
        return result.to(weight.dtype)

    @property
    def encoding(self) -> str:
        """The kind of encoding of its weights."""
        return "offset" if float(self.step_size) else LevelWeight.kind

    @torch.no_grad()
    def encode(self, name: str, weight: torch.Tensor) -> QuantizedWeight:
        """The weight of layer ``name`` as codes."""
        codes = _codes(weight.detach().to(working_dtype(weight)), self.levels).to(torch.int32)
        if step := float(self.step_size):
            return IntegerWeight(name, codes, step, round(self.bits()), 0.0)
        return LevelWeight(name, codes, self.levels)

    def bits(self) -> float:
        """Those of a code."""
        return float(bits_for(len(self.levels)))

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"levels=±[{', '.join(f'{level:.4g}' for level in self.levels[:8].tolist())}{', …' * self._long}]"

    @property
    def _long(self) -> bool:
        return len(self.levels) > 8


def _codes(weight: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Signed numbers of the nearest levels, int64; 0 where the weight is 0."""
    middles = (levels[1:] + levels[:-1]) / 2
    return torch.bucketize(weight.abs(), middles.to(weight.dtype)).add_(1).mul_(weight.sign().long())


@torch.library.custom_op("compression::level_quantize", mutates_args=())
def level_quantize(weight: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """A weight on ± these levels, as one operator; it equals the encoded weight bit for bit."""
    return valued(_codes(weight, levels), levels).to(weight.dtype)


@level_quantize.register_fake
def _shape_only(weight: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(weight)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    weight, levels = inputs
    ctx.save_for_backward((weight != 0) & (weight.abs() <= levels[-1]))


def _backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    (passes,) = ctx.saved_tensors
    return upstream * passes, None


level_quantize.register_autograd(_backward, setup_context=_remember)


@rule("compression.level_quantize")
def _traced(step: Traced) -> Value:
    """To the graph a quantized weight is owned as the weight is, and its zeros stay zeros."""
    return step.output(*step.operands[0].factors)
