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
        training, device = model.training, devices.device_of(model)
        model.eval()
        try:
            size = self.task.evaluation_batch
            for x, _ in Batches(self.task.data, "validation", size, augment=False, limit=self.limit, device=device):
                self.check()
                yield self.task.answer(model, x).float().flatten(1).cpu()
        finally:
            model.train(training)


@contextmanager
def rounded(model: nn.Module, layers: Sequence[NormLayer], k: float) -> Iterator[None]:
    """Meanwhile the weights of ``model`` are what their codes at this k stand for."""
    weights = layer_weights(model)
    dense = {layer.table.name: weights[layer.table.name].clone() for layer in layers}
    try:
        for layer in layers:
            weights[layer.table.name].copy_(layer.codes(k) * layer.step(k))
        yield
    finally:
        for name, values in dense.items():
            weights[name].copy_(values)


def number_for_deviation(
    model: nn.Module,
    layers: Sequence[NormLayer],
    outputs: Outputs,
    most: float,
    log: Callable[[str], None] = lambda _: None,
) -> float:
    """The smallest k, near enough, at which the outputs of ``model`` deviate by at most ``most``.

    The search starts where the largest layer's distortion is 1, and ends with a k that was measured.

    Raises:
        CompressionError: even the finest steps deviate more.
    """

    def measured(k: float) -> float:
        with rounded(model, layers, k):
            deviation = outputs.deviation(model)
        log(f"k = {k:.4g}: outputs deviate by {deviation:.3g}")
        return deviation

    floor = max(layer.floor for layer in layers)
    size = max(layer.table.size for layer in layers)
    low = math.sqrt(size / 24)
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
