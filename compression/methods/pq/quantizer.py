"""The quantizer of product quantization: every block of a weight is the mean of its cluster, rounded to 8 bits.

Assignments are fixed. Because a centroid is *computed* as the mean of its raw blocks, each of these gets the mean of
the cluster's gradients, and the centroid moves by that mean whatever the optimizer: not by the sum, under which popular
centroids would explode (Stock et al., arXiv 1907.05686, section 3.3). Weight decay and the moving average are linear:
they act on the centroid as they do on the raw blocks; with quantization noise, blocks that are not quantized in
a step keep their own value and gradient (Fan et al., arXiv 2004.07320, section 4.2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from compression.encodings.codebook import BOOK_BITS, CodebookWeight
from compression.graph.rules import Step as Traced
from compression.graph.rules import rule
from compression.graph.values import Value
from compression.quant.integers import values
from compression.quant.kernels import working_dtype

LEVELS = 2 ** (BOOK_BITS - 1) - 1


class BookQuantizer(nn.Module):
    """Parametrization of a weight: block j becomes Δ · codes of the mean of all blocks assigned as j is.

    ``assignments`` int32 [blocks] are of the weight's blocks of ``length`` d in the order of its memory; Δ is fixed,
    the smallest at which no code of the initial book exceeds 127. A block that is exactly 0 stays 0 and counts in no
    mean, so that units that were zero remain so. The gradient passes straight through the rounding, and is 0 where a
    number of the book is more than half a step beyond the last level.
    """

    assignments: torch.Tensor
    step_size: torch.Tensor

    def __init__(self, assignments: torch.Tensor, book: torch.Tensor) -> None:
        """``book``: the centroids at the beginning, fp32 [K, d]."""
        super().__init__()
        self.centroids, self.length = book.shape
        self.register_buffer("assignments", assignments.detach().to(torch.int32))
        self.register_buffer("step_size", book_step(book))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight that the layer computes with, in the weight's type."""
        wide = weight.to(working_dtype(weight))
        result: torch.Tensor = book_quantize(wide, self.assignments, self.step_size, self.centroids, self.length)
        return result.to(weight.dtype)

    @property
    def encoding(self) -> str:
        """The kind of encoding of its weights."""
        return CodebookWeight.kind

    @torch.no_grad()
    def encode(self, name: str, weight: torch.Tensor) -> CodebookWeight:
        """The weight of layer ``name`` as a book and indices into it; blocks zeroed since get a row at its end."""
        wide = weight.detach().to(working_dtype(weight))
        book, _, live = _book(wide, self.assignments, self.centroids, self.length)
        codes, assignments = _codes(book, self.step_size).to(torch.int32), self.assignments.clone()
        zeroed = ~live & (codes != 0).any(1).index_select(0, assignments)
        if bool(zeroed.any()):
            codes = torch.cat([codes, codes.new_zeros(1, self.length)])
            assignments[zeroed] = self.centroids
        return CodebookWeight(name, assignments, codes, float(self.step_size), tuple(weight.shape))

    def step(self) -> float:
        """Δ, exactly an fp32 number."""
        return float(self.step_size)

    def bits(self) -> float:
        """Those of a number of the book, with which integer arithmetic computes."""
        return float(BOOK_BITS)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"{len(self.assignments)} blocks of {self.length}, {self.centroids} centroids"


def book_step(book: torch.Tensor) -> torch.Tensor:
    """Δ of a book, fp32 []."""
    return (book.abs().amax() / LEVELS).clamp(min=torch.finfo(torch.float32).tiny).to(torch.float32)


def rounded_book(book: torch.Tensor) -> torch.Tensor:
    """What a book's numbers become: multiples of its Δ."""
    return values(_codes(book, book_step(book)), book_step(book))


def _book(
    weight: torch.Tensor, assignments: torch.Tensor, centroids: int, length: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Means of the clusters [K, d], how many blocks each is of [K, 1], and which blocks are not 0 (bool [blocks])."""
    blocks = weight.reshape(-1, length)
    live = (blocks != 0).any(1)
    sizes = weight.new_zeros(centroids).index_add_(0, assignments, live.to(weight.dtype)).clamp_(min=1).unsqueeze(1)
    return weight.new_zeros(centroids, length).index_add_(0, assignments, blocks).div_(sizes), sizes, live


def _codes(book: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Whole numbers in -127..127, in the book's dtype."""
    return (book / step).round_().clamp_(-LEVELS, LEVELS)


@torch.library.custom_op("compression::book_quantize", mutates_args=())
def book_quantize(
    weight: torch.Tensor, assignments: torch.Tensor, step: torch.Tensor, centroids: int, length: int
) -> torch.Tensor:
    """A weight of blocks of a book, as one operator; it equals the encoded weight bit for bit."""
    book, _, live = _book(weight, assignments, centroids, length)
    blocks = values(_codes(book, step), step).index_select(0, assignments)
    return blocks.mul_(live.unsqueeze(1)).add_(0.0).reshape(weight.shape)


@book_quantize.register_fake
def _shape_only(
    weight: torch.Tensor, assignments: torch.Tensor, step: torch.Tensor, centroids: int, length: int
) -> torch.Tensor:
    return torch.empty_like(weight)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.centroids, ctx.length = inputs[3:]


def _backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """Each block's gradient: the mean over its cluster, 0 where the book saturates or the block is 0."""
    weight, assignments, step = ctx.saved_tensors
    book, sizes, live = _book(weight, assignments, ctx.centroids, ctx.length)
    blocks = upstream.reshape(-1, ctx.length) * live.unsqueeze(1)
    mean = torch.zeros_like(book).index_add_(0, assignments, blocks).div_(sizes)
    mean.mul_(book.abs() <= (LEVELS + 0.5) * step)
    gradient = mean.index_select(0, assignments).mul_(live.unsqueeze(1))
    return gradient.reshape(upstream.shape), None, None, None, None


book_quantize.register_autograd(_backward, setup_context=_remember)


@rule("compression.book_quantize")
def _traced(step: Traced) -> Value:
    """To the graph a quantized weight is owned as the weight is, and rows of zeros stay zeros."""
    return step.output(*step.operands[0].factors)
