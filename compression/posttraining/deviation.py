"""How far the outputs of a quantized network are from those of the dense one, and the coarsest steps that go so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from compression import devices
from compression.data import Batches
from compression.errors import CompressionError
from compression.graph.running import in_mode
from compression.posttraining.norm_steps import NormLayer, finest_number
from compression.quant.tables import layer_weights
from compression.tasks import Task

MOST_NUMBERS = 1 << 26  # of the dense outputs that are held for comparison: 256 MB
ROUNDS = 12
NARROW = 1e-4  # of the floor, for where the search begins: without a floor the finest steps would be those of 16 bits


class Outputs:
    """The outputs of a network on the first ``limit`` inputs of the validation split, to compare others with.

    Fewer inputs are taken where their outputs would be more than :data:`MOST_NUMBERS` numbers.
    """

    def __init__(self, model: nn.Module, task: Task, limit: int, check: Callable[[], None] = lambda: None) -> None:
        """``check`` is called before every batch; it may raise to stop."""
        self.task, self.check = task, check
        self.limit, self.dense = task.count("validation", limit), list[torch.Tensor]()
        numbers = 0
        for answer in self._answers(model):
            self.dense.append(answer)
            numbers += answer.numel()
            if numbers >= MOST_NUMBERS:
                break
        self.limit = sum(len(answer) for answer in self.dense)

    def deviation(self, model: nn.Module) -> float:
        """1 - the mean cosine of the two networks' outputs, each input's flattened; an output of zeros counts as 1."""
        cosines = [
            F.cosine_similarity(answer.double(), dense.double(), dim=1)
            for dense, answer in zip(self.dense, self._answers(model), strict=True)
        ]
        return 1 - float(torch.cat(cosines).mean())

    @torch.no_grad()
    def _answers(self, model: nn.Module) -> Iterator[torch.Tensor]:
        """[batch, outputs] on the CPU, in evaluation mode."""
        size, device = self.task.evaluation_batch, devices.device_of(model)
        with in_mode(model):
            for x, _ in Batches(self.task.data, "validation", size, augment=False, limit=self.limit, device=device):
                self.check()
                yield self.task.answer(model, x).float().flatten(1).cpu()


@contextmanager
def rounded(model: nn.Module, layers: Sequence[NormLayer], k: float) -> Iterator[None]:
    """Meanwhile the weights of ``model`` are what their codes at this k stand for; its buffers may change meanwhile."""
    weights = layer_weights(model)
    before = {layer.table.name: weights[layer.table.name].clone() for layer in layers}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        for layer in layers:
            weights[layer.table.name].copy_(layer.codes(k) * layer.step(k))
        yield
    finally:
        for name, values in before.items():
            weights[name].copy_(values)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


def number_for_deviation(layers: Sequence[NormLayer], measured: Callable[[float], float], most: float) -> float:
    """The smallest k, near enough, whose deviation is at most ``most``, as ``measured`` says.

    The search starts where the largest layer's distortion is 1, and ends with a k that was measured.

    Raises:
        CompressionError: even the finest steps deviate more.
    """
    floor = max(layer.floor for layer in layers)
    low = math.sqrt(max(layer.table.size for layer in layers) / 24)
    high = min(finest_number(layers), low / max(floor, NARROW) ** 1.5)
    reached = measured(high)
    if not reached <= most:
        raise CompressionError(
            f"deviation: the finest steps of floor {floor:g} deviate by {reached:.2g}, more than {most:g}: lower the "
            "floor, loosen bounds of layers, or allow more"
        )
    for _ in range(ROUNDS):
        k = math.sqrt(low * high)
        low, high = (low, k) if measured(k) <= most else (k, high)
    return high
