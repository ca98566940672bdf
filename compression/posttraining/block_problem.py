"""A block of layers that is to be brought onto its grids together, what it is run on, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from compression.graph.inputs import Inputs, first_tensor
from compression.posttraining.problems import LayerProblem
from compression.posttraining.rows import weight_of
from compression.quant.integers import WEIGHT


@dataclass(frozen=True, eq=False)
class BlockBatch:
    """What a block is called with for a few examples, and ``target``: what the dense block answered."""

    inputs: Inputs
    target: torch.Tensor


class _Given(nn.Module):
    """Stands in for the quantizer of a weight: whatever the weight, the layer computes with this one."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        """The weight."""
        return self.weight


@dataclass(eq=False)
class BlockProblem:
    """``module``, whose ``layers`` are to be brought onto their grids so that it answers as the dense block did.

    ``places``: of each layer the modules that compute with its weight; ``batches``: see :class:`BlockBatch`;
    ``generator``: of this block and the seed of the run, on the CPU; ``check``: may raise to stop.
    """

    name: str
    module: nn.Module
    layers: Sequence[LayerProblem]
    places: Sequence[Sequence[nn.Module]]
    batches: Sequence[BlockBatch]
    generator: torch.Generator
    check: Callable[[], None] = lambda: None

    def answer(self, batch: BlockBatch) -> torch.Tensor:
        """What the block answers; the stored inputs are safe from operations in place."""
        return first_tensor(batch.inputs.map(torch.clone).call(self.module))

    def error(self, difference: torch.Tensor) -> torch.Tensor:
        """Of a difference of answers the sum of squares over channels, mean over examples and positions."""
        squares = difference.float().square()
        return squares.sum() * squares.shape[self.channels(squares)] / squares.numel()

    def channels(self, answer: torch.Tensor) -> int:
        """The axis of the channels: the second behind convolutions, else the last."""
        kernels = {len(place.kernel_size) for each in self.places for place in each if isinstance(place, _ConvNd)}
        return 1 if answer.dim() - 2 in kernels else answer.dim() - 1

    @contextmanager
    def computing_with(self, weights: Sequence[torch.Tensor]) -> Iterator[None]:
        """Meanwhile the layers compute with these weights [groups, N, d], through which gradients pass."""
        before = []
        try:
            for places, weight in zip(self.places, weights, strict=True):
                for place in places:
                    quantizers: Any = place.get_submodule(f"parametrizations.{WEIGHT}")
                    before.append((quantizers, quantizers[0]))
                    quantizers[0] = _Given(weight_of(place, weight).to(quantizers.original.dtype))
            yield
        finally:
            for quantizers, quantizer in before:
                quantizers[0] = quantizer

    @torch.no_grad()
    def mean_error(self, weights: Sequence[torch.Tensor], reference: Sequence[torch.Tensor] | None = None) -> float:
        """:meth:`error` of the answers with these weights, to the targets or to the answers with ``reference``."""
        total, examples = 0.0, 0
        for batch in self.batches:
            self.check()
            target = batch.target
            if reference is not None:
                with self.computing_with(reference):
                    target = self.answer(batch)
            with self.computing_with(weights):
                total += float(self.error(self.answer(batch) - target)) * len(target)
            examples += len(target)
        return total / examples


@dataclass(frozen=True)
class BlockOutcome:
    """What became of a block of ``layers``: Σ(y - y*)² / Σ y*² of its answers y to those of the dense network, over
    ``examples``, with ``nearest`` rounding of its layers on the same grids and with the method (``error``).
    """

    layers: tuple[str, ...]
    nearest: float
    error: float
    examples: int


Values = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Of each layer the values [groups, N, d] and which weights survive (bool, of the same shape)."""
SolveBlock = Callable[[BlockProblem], Values]
