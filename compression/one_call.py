"""Any method in one call, in this process: ``done = cx.compress(model, data, method=…, bits=4)``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from compression import data as data_sets
from compression import devices, methods, tasks
from compression.budget import Budget
from compression.data import Batches, DataSet
from compression.encodings import cut_weights
from compression.graph import deep_copy, prove, slim_report, trace
from compression.methods import Reporter, Setup
from compression.pack import pack
from compression.quant import QuantizedWeight, fold, integer_weights
from compression.representation import Represented
from compression.runs.preflight import check_setup
from compression.tasks import Task
from compression.training.trainable import check_compressible

if TYPE_CHECKING:
    from compression.counting.ledger import Ledger

NAME = "the model"


@dataclass(frozen=True, eq=False, repr=False)
class CompressedNetwork(Represented):
    """What :func:`compress` returns.

    ``model``: the small network, plain and in evaluation mode, every weight at a value that the packed file holds;
    ``masked``: the same before it was cut, with its quantizers; ``removed``: group id → units that were removed;
    ``facts``: what the method keeps of its run; ``budget``: what was asked, every ask written out.
    """

    model: nn.Module
    masked: nn.Module
    removed: Mapping[str, list[int]]
    facts: Mapping[str, Any]
    budget: Budget
    weights: Mapping[str, QuantizedWeight]

    def save(self, path: str | Path) -> Ledger:
        """Write the packed file (:func:`compression.pack.unpack` reads it); returns its bytes, broken down."""
        return pack(deep_copy(self.model).cpu(), path, dict(self.weights))


def compress(
    model: nn.Module,
    data: Task | DataSet | str,
    *,
    method: str = "",
    options: Mapping[str, Any] | None = None,
    report: Reporter | None = None,
    **budget: Any,
) -> CompressedNetwork:
    """Compress a trained network with any method, and cut what was removed.

    Args:
        model: takes what ``data`` gives (fp32 [B, C, H, W], normalised) and answers logits; it is not changed.
            Everything is computed on its device, and so is what comes back.
        data: a task, a data set that implies one, or the name of a data set. The training split is trained on, the
            validation split measured.
        method: see ``python -m compression methods``; empty: the first of them.
        options: those of the method.
        report: is told of stages, steps and points; by default nobody is.
        budget: what the method asks (``sparsity=0.5``, ``bits=4``, …) and the fields that all share (``epochs``,
            ``lr``, ``seed``, …), see :class:`compression.budget.Budget`.

    Raises:
        CompressionError: unknown method or field, an impossible value, or a network that cannot be compressed so.
        RunFailed: training diverged.
    """
    task = tasks.task_of(data_sets.load(data) if isinstance(data, str) else data)
    fields = {ask.field for ask in methods.get(method).asks}
    asks = {**budget.pop("asks", {}), **{name: budget.pop(name) for name in fields & budget.keys()}}
    chosen, requested = methods.of_budget(Budget(method=method, asks=asks, options=dict(options or {}), **budget))
    example, _ = Batches(task.data, "train", 2, augment=False, device=devices.device_of(model)).batch(0, 0)
    graph = trace(model, example)
    setup = Setup(deep_copy(model).eval(), graph, task, requested)
    check_compressible(model, graph, NAME)
    check_setup(setup, NAME)
    if chosen.removes_units:
        prove(model, graph)
    torch.manual_seed(requested.seed)
    result = chosen.run(setup, report or Reporter())
    masked, graph = result.model.eval(), result.setup(setup).graph
    small, cut = slim_report(fold(masked), graph)
    weights = cut_weights(integer_weights(masked), graph, cut.units)
    return CompressedNetwork(small.eval(), masked, cut.units, result.facts, requested, weights)
