"""Affine groups: a step and a zero point for every few neighbouring weights of a row, and how they are fitted.

Weights of a group go to (q - z)·s, q = 0..2^b - 1. The zero point z is a whole number, so that 0 is on every grid. Then
the levels are the multiples k·s, -z <= k < 2^b - z, and k = q - z is all that has to be stored: z only says where the
range begins. A row is a position along dimension 0; its last group may be shorter.

HQQ (Badri and Shaji 2023, mobiusml.github.io/hqq_blog) minimises Σ|w - ŵ|^p, p < 1, by half-quadratic splitting: e =
shrink(w - ŵ), then least squares for what remains of the error, w - e. It moves z and leaves s. Here z is whole, and
with a whole z the range can only slide along the same levels: rounding z undoes the gain. The same iteration is
therefore taken for s, the unknown that is free: s = Σ(w - e)k / Σk².
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from compression.graph.rules import Step as Traced
from compression.graph.rules import rule
from compression.graph.values import Value
from compression.quant.kernels import working_dtype

SHRINKS = [1 - 0.05 * i for i in range(11)]
"""Shares of the range from least to largest weight, of which ``mse`` takes the best for each group."""
POWER, BETA, GROWTH, ROUNDS = 0.7, 10.0, 1.01, 20
"""Of HQQ: p, the weight β of the quadratic term, by which it grows a round, and the most rounds."""
HALF_TOP = 1 << 15
"""Steps of a layer are fp16 times one power of two, with which the largest is about this."""


class Groups(NamedTuple):
    """What a layer's groups store: ``halves`` int32 [rows, groups], the bits of fp16 numbers that ``scale`` multiplies
    (a power of two, so that no bit is lost), and the whole ``zeros`` fp32 [rows, groups]."""

    halves: torch.Tensor
    scale: float
    zeros: torch.Tensor

    @property
    def steps(self) -> torch.Tensor:
        """s of each group, fp32 [rows, groups]."""
        return steps_of(self.halves, self.scale)


def steps_of(halves: torch.Tensor, scale: float) -> torch.Tensor:
    """fp16 numbers from their bits, times the scale: fp32."""
    return halves.to(torch.int16).view(torch.float16).float() * scale


def grouped(weight: torch.Tensor, group: int) -> torch.Tensor:
    """The weight as [rows, groups, group], zeros behind the end of a row, which change no range and no error."""
    length = math.prod(weight.shape[1:])
    count = max(1, math.ceil(length / group))
    rows = functional.pad(weight.reshape(len(weight), length), (0, count * group - length))
    return rows.reshape(len(weight), count, group)


def fit_groups(weight: torch.Tensor, bits: int, group: int, clip: str) -> Groups:
    """Steps and zero points of a weight of two or more dimensions.

    ``clip``: ``max`` reaches from the least to the largest weight of a group, ``mse`` shrinks that to the least squared
    error, ``hqq`` refines the steps for the least |w - ŵ|^p.
    """
    blocks, top = grouped(weight.detach().float(), group), 2.0**bits - 1
    low, high = blocks.amin(2).clamp(max=0), blocks.amax(2).clamp(min=0)
    steps = (high - low) / top
    largest = float(steps.max()) if steps.numel() else 0.0
    largest = largest or 1.0
    steps = torch.where(steps > 0, steps, largest)
    zeros = (-low / steps).round().clamp(0, top)
    if clip == "mse":
        steps = _least_error(blocks, steps, zeros, top)
    elif clip == "hqq":
        steps, _ = half_quadratic(blocks, steps, zeros, top)
    scale = 2.0 ** math.ceil(math.log2(largest / HALF_TOP))
    halves = (steps / scale).half().view(torch.int16).int().clamp(min=1)
    return Groups(halves, scale, zeros)


def _least_error(blocks: torch.Tensor, steps: torch.Tensor, zeros: torch.Tensor, top: float) -> torch.Tensor:
    best, least = steps, torch.full_like(steps, torch.inf)
    for share in SHRINKS:
        errors = (blocks - rounded(blocks, steps * share, zeros, top)).square_().sum(2)
        best, least = torch.where(errors < least, steps * share, best), torch.minimum(errors, least)
    return best


def half_quadratic(
    blocks: torch.Tensor, steps: torch.Tensor, zeros: torch.Tensor, top: float
) -> tuple[torch.Tensor, list[float]]:
    """HQQ's iteration for the steps, all groups together; also Σ|w - ŵ| before and after each round that lowered it."""
    beta, best, sums = BETA, steps, list[float]()
    for _ in range(ROUNDS + 1):
        codes = _codes(blocks, steps, zeros, top)
        errors = blocks - codes * steps.unsqueeze(2)
        total = float(errors.abs().sum(dtype=torch.float64))
        if sums and total >= sums[-1]:  # the stop: the error of all groups no longer falls
            break
        best = steps
        sums.append(total)
        # e: the proximal operator of |x|^p, in units of the step, so that β means the same in every layer
        units = errors / steps.unsqueeze(2)
        size = units.abs().clamp_(min=1e-12)  # |x|^(p - 1) is infinite at 0
        shrunk = units.sign() * (size - size.pow(POWER - 1) / beta).clamp_(min=0) * steps.unsqueeze(2)
        # s = Σ (w - e) k / Σ k², where a group has codes other than 0
        below = codes.square().sum(2)
        refit = ((blocks - shrunk) * codes).sum(2) / below.clamp(min=1)
        steps = torch.where((below > 0) & (refit > 0), refit, steps)
        beta *= GROWTH
    return best, sums


def rounded(blocks: torch.Tensor, steps: torch.Tensor, zeros: torch.Tensor, top: float) -> torch.Tensor:
    """What the weights [rows, groups, group] become."""
    return (_codes(blocks, steps, zeros, top) * steps.unsqueeze(2)).add_(0.0)


def _codes(blocks: torch.Tensor, steps: torch.Tensor, zeros: torch.Tensor, top: float) -> torch.Tensor:
    """k = q - z, whole numbers in floating point."""
    low = -zeros.unsqueeze(2)
    return torch.minimum(torch.maximum((blocks / steps.unsqueeze(2)).round_(), low), low + top)


@dataclass(frozen=True, eq=False)
class GroupWeight:
    """``codes`` int32 in the weight's shape times the step of each one's group.

    ``sizes``: int32 [groups], how many weights of a row each of its groups has; ``halves`` int32 [rows, groups] and
    ``scale`` as in :class:`Groups`. In each group codes and 0 span at most 2^bits numbers.
    """

    name: str
    codes: torch.Tensor
    halves: torch.Tensor
    scale: float
    sizes: torch.Tensor
    bits: int
    kind: ClassVar[str] = "groups"

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
        steps = steps_of(self.halves, self.scale).repeat_interleave(self.sizes.long(), 1)
        return self.codes.float().mul_(steps.reshape(self.codes.shape)).add_(0.0)


class GroupQuantizer(nn.Module):
    """Parametrization of a weight: each group on its own affine grid, fixed; the gradient passes straight through."""

    halves: torch.Tensor
    zeros: torch.Tensor

    def __init__(self, groups: Groups, bits: int, group: int) -> None:
        super().__init__()
        self.register_buffer("halves", groups.halves)
        self.register_buffer("zeros", groups.zeros)
        self.scale, self.width, self.group = groups.scale, bits, group

    encoding = GroupWeight.kind

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that the layer computes with, in the weight's type."""
        wide, steps = weight.to(working_dtype(weight)), steps_of(self.halves, self.scale)
        result: torch.Tensor = group_quantize(wide, steps, self.zeros, self.group, 2**self.width - 1)
        return result.to(weight.dtype)

    @torch.no_grad()
    def encode(self, name: str, weight: torch.Tensor) -> GroupWeight:
        """The weight of layer ``name`` as codes and steps."""
        blocks = grouped(weight.detach().to(working_dtype(weight)), self.group)
        codes = _codes(blocks, steps_of(self.halves, self.scale).to(blocks), self.zeros.to(blocks), 2**self.width - 1)
        length, count = math.prod(weight.shape[1:]), blocks.shape[1]
        sizes = torch.full((count,), self.group, dtype=torch.int32)
        sizes[-1] = length - (count - 1) * self.group
        codes = codes.to(torch.int32).flatten(1)[:, :length].reshape(weight.shape)
        return GroupWeight(name, codes, self.halves, self.scale, sizes.to(codes.device), self.width)

    def bits(self) -> float:
        """Those of a code."""
        return float(self.width)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"bits={self.width}, {self.halves.numel()} groups of {self.group}"


@torch.library.custom_op("compression::group_quantize", mutates_args=())
def group_quantize(
    weight: torch.Tensor, steps: torch.Tensor, zeros: torch.Tensor, group: int, top: int
) -> torch.Tensor:
    """A weight on the grids of its groups, as one operator; it equals the encoded weight bit for bit."""
    blocks = rounded(grouped(weight, group), steps.to(weight.dtype), zeros.to(weight.dtype), float(top))
    return blocks.flatten(1)[:, : math.prod(weight.shape[1:])].reshape(weight.shape).contiguous()


@group_quantize.register_fake
def _shape_only(weight: torch.Tensor, steps: torch.Tensor, zeros: torch.Tensor, group: int, top: int) -> torch.Tensor:
    return torch.empty_like(weight)


group_quantize.register_autograd(lambda ctx, upstream: (upstream, None, None, None, None))


@rule("compression.group_quantize")
def _traced(step: Traced) -> Value:
    """To the graph a quantized weight is owned as the weight is, and its zeros stay zeros."""
    return step.output(*step.operands[0].factors)
