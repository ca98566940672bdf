"""Accuracy of allocations before any training: one measurement for each budget."""

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
    """One allocation, measured. ``error`` is Σ(w - ŵ)² relative to Σw², ``loss`` the mean cross-entropy.

    ``recomputed`` is the accuracy once the batch norms' statistics are recomputed, ``None`` without
    that request or without batch norms.
    """

    sparsity: float
    bits: float
    error: float
    accuracy: float
    loss: float
    recomputed: float | None = None


def dense_accuracy(model: nn.Module, data: DataSet, split: str, limit: int | None) -> float:
    """What the others are compared with: the dense model on the same images."""
    return evaluate(model, data, split, limit=limit).accuracy


def measure_untrained(
    model: nn.Module,
    graph: Graph,
    data: DataSet,
    budget: Budget,
    pairs: Sequence[tuple[float, float]],
    *,
    split: str = "validation",
    limit: int | None = None,
    statistics: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Untrained]:
    """Allocate at every (sparsity, bits) of ``pairs`` within the budget's bounds of layers, and measure.

    Args:
        model: the trained model; it is not changed.
        data: provides ``split``, of which the first ``limit`` images are used (all by default).
        budget: its method, ``layers``, ``options`` and ``seed`` are used; the method must allocate.
        statistics: measure a second time with batch-norm statistics recomputed on training images until they settle, on
            at most this many batches (a run: 100); 0 skips that.
        check: called before every budget and batch; may raise to stop.

    Raises:
        CompressionError: an unknown option, or bounds that cannot be met at one of the budgets.
    """
    method = methods.get(budget.method)
    subject = Subject(model, graph)
    for sparsity, bits in pairs:
        check()
        requested = method.put(method.put(budget, "--sparsity", sparsity), "--bits", bits)
        allocation = method.allocation(subject, requested)
        smaller = attach(deep_copy(model), allocation)
        measured = evaluate(smaller, data, split, limit=limit)
        recomputed = None
        if statistics and settle_statistics(smaller, _batches(data, budget, statistics, check)).norms:
            recomputed = evaluate(smaller, data, split, limit=limit).accuracy
        yield Untrained(
            sparsity, bits, subject.relative_error(allocation), measured.accuracy, measured.loss, recomputed
        )


def _batches(data: DataSet, budget: Budget, most: int, check: Callable[[], None]) -> Iterator[torch.Tensor]:
    batches = Batches(data, "train", budget.batch_size, seed=budget.seed, augment=False)
    for index in range(min(most, len(batches))):
        check()
        yield batches.batch(0, index)[0]
