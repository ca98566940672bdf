"""The score of allocations before any training: one measurement for each budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compression import devices, methods
from compression.budget import Budget
from compression.data import Batches
from compression.forecast import Subject
from compression.graph import Graph
from compression.graph.copies import deep_copy
from compression.quant.fixed_steps import attach
from compression.tasks import Metric, Task
from compression.training.dense import evaluate
from compression.training.recalibrate import settle_statistics


@dataclass(frozen=True)
class Untrained:
    """One allocation, measured. ``error`` is Σ(w - ŵ)² relative to Σw², ``loss`` the mean loss.

    ``recomputed`` is the score once the batch norms' statistics are recomputed, ``None`` without
    that request or without batch norms.
    """

    sparsity: float
    bits: float
    error: float
    score: float
    loss: float
    recomputed: float | None = None


def row_of(measured: Untrained, metric: Metric) -> dict[str, Any]:
    """As JSON has it: the score by the metric's name, too."""
    return {**dataclasses.asdict(measured), **metric.named(measured.score)}


def dense_score(model: nn.Module, task: Task, split: str, limit: int | None) -> float:
    """What the others are compared with: the dense model on the same images."""
    return evaluate(model, task, split, limit=limit).score


def measure_untrained(
    model: nn.Module,
    graph: Graph,
    task: Task,
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
        task: its data provide ``split``, of which the first ``limit`` images are used (all by default).
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
        prepared = method.prepared(subject, requested)
        smaller = attach(deep_copy(prepared.model), allocation)
        measured = evaluate(smaller, task, split, limit=limit)
        recomputed = None
        batches = _batches(task, budget, statistics, check, devices.device_of(model))
        if statistics and settle_statistics(smaller, batches).norms:
            recomputed = evaluate(smaller, task, split, limit=limit).score
        yield Untrained(sparsity, bits, prepared.relative_error(allocation), measured.score, measured.loss, recomputed)


def _batches(
    task: Task, budget: Budget, most: int, check: Callable[[], None], device: torch.device
) -> Iterator[torch.Tensor]:
    batches = Batches(task.data, "train", budget.batch_size, seed=budget.seed, augment=False, device=device)
    for index in range(min(most, len(batches))):
        check()
        yield batches.batch(0, index)[0]
