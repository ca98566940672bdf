"""How accurate allocations are before anything is trained: one measurement for each budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compression import methods
from compression.budget import Budget
from compression.data import Batches, DataSet
from compression.forecast import Subject
from compression.graph import Graph
from compression.graph.copies import deep_copy
from compression.quant.fixed_steps import attach
from compression.training.dense import evaluate
from compression.training.recalibrate import settle_statistics


@dataclass(frozen=True)
class Untrained:
    """One allocation as it stands. ``error`` is Σ(w - ŵ)² relative to Σw², ``loss`` the mean cross-entropy.

    ``recomputed`` is the accuracy once the batch norms' statistics are recomputed, ``None`` where that was not asked
    for or there are none.
    """

    sparsity: float
    bits: float
    error: float
    accuracy: float
    loss: float
    recomputed: float | None = None


def dense_accuracy(model: nn.Module, data: DataSet, split: str, limit: int | None) -> float:
    """What the others are compared with: the model as it came, on the same images."""
    return evaluate(model, data, split, limit=limit).accuracy


def measure_untrained(
    model: nn.Module,
    graph: Graph,
    data: DataSet,
    budget: Budget,
    values: Sequence[tuple[float, float]],
    *,
    split: str = "validation",
    limit: int | None = None,
    statistics: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Untrained]:
    """Allocate at every (sparsity, bits) of ``values`` within the budget's bounds of layers, and measure.

    Args:
        model: the trained model; it is not changed.
        data: where ``split`` is taken from, its first ``limit`` images (all by default).
        budget: its method, ``layers``, ``options`` and ``seed`` count; the method must allocate.
        statistics: measure a second time with batch-norm statistics recomputed on as many batches of training images
            as settle them, at most so many (a run: 100); 0 leaves that out.
        check: called before every budget and batch; may raise to stop.

    Raises:
        CompressionError: an unknown option, or bounds that cannot be met at one of the budgets.
    """
    method = methods.get(budget.method)
    subject = Subject(model, graph)
    for sparsity, bits in values:
        check()
        wanted = method.put(method.put(budget, "--sparsity", sparsity), "--bits", bits)
        allocation = method.allocation(subject, wanted)
        smaller = attach(deep_copy(model), allocation)
        told = evaluate(smaller, data, split, limit=limit)
        again = None
        if statistics and settle_statistics(smaller, _batches(data, budget, statistics, check)).norms:
            again = evaluate(smaller, data, split, limit=limit).accuracy
        yield Untrained(sparsity, bits, subject.relative_error(allocation), told.accuracy, told.loss, again)


def _batches(data: DataSet, budget: Budget, most: int, check: Callable[[], None]) -> Iterator[torch.Tensor]:
    batches = Batches(data, "train", budget.batch_size, seed=budget.seed, augment=False)
    for index in range(min(most, len(batches))):
        check()
        yield batches.batch(0, index)[0]
