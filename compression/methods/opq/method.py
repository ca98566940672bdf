"""OPQ as a method: allocate on the dense weights, fix masks and steps, refit the norms, fine-tune the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject, allocation_forecast
from compression.methods.base import Compressed, Info, Method, Reporter, Setup
from compression.methods.opq.options import BITS, SPARSITY, OpqOptions, check_names
from compression.training.options import TrainingOptions
from compression.training.setup import ALLOCATED_STAGES

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compression.quant.allocation import Allocation


class Opq(Method):
    """One-shot pruning and quantization: sparsity and bits are spent in closed form before any training."""

    info = Info(
        name="opq",
        label="OPQ",
        sentence="**OPQ** computes zeros and steps from the trained weights alone, then fine-tunes the others.",
        family="unstructured",
        slot=1,
        stages=ALLOCATED_STAGES,
        paper="arXiv 2205.11141",
    )
    asks = (SPARSITY, BITS)
    Config = OpqOptions
    encodings = frozenset({"uniform", "uniform-channel", "offset"})

    def check(self, setup: Setup) -> None:
        """Refuse options and bounds naming layers that do not exist or are skipped, and weights that are no numbers.

        Raises:
            CompressionError: naming the option or field, and the layer.
        """
        from compression.quant.tables import check_numbers, layer_weights

        super().check(setup)
        chosen = arguments(setup.budget)
        weights = layer_weights(setup.model)
        check_names(chosen, list(weights))
        for name in chosen.get("skip", ()):
            if name in setup.budget.layers:
                raise CompressionError(f"opq: skip: layer {name!r} is left alone, yet layers.{name} bounds it")
        for name, weight in weights.items():
            check_numbers(name, weight)

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Compress ``setup.model`` in place within ``setup.budget`` (sparsity of weights, average value bits).

        Raises:
            CompressionError: an unknown option, or bounds that cannot be met.
        """
        from compression.training.allocated import begin, train_allocated

        budget = setup.budget
        self.check_budget(budget)
        trainer = begin(setup, report, self.options(budget))
        allocation = self.allocation(Subject(setup.model, setup.graph), budget)
        report.log(
            f"{allocation.pruned} of {allocation.numel} weights pruned; {allocation.value_bits} of "
            f"{allocation.budget_bits} value bits spent{', proven optimal' if allocation.exact else ''}"
        )
        return train_allocated(trainer, allocation)

    def allocation(self, subject: Subject, budget: Budget) -> Allocation:
        """Which weights are pruned, and each layer's bits and step: see :func:`compression.methods.opq.allocate`."""
        from compression.methods.opq.allocator import allocate

        chosen, budget = arguments(budget), self.bounded(budget, subject.graph)
        tables = subject.tables(chosen.pop("skip", ()), chosen.get("codebook") == "channel")
        return allocate(tables, SPARSITY.value(budget.asks), BITS.value(budget.asks), budget.layers, **chosen)

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """The allocation, and whether it is the best for these weights or how far from it the answer may be."""
        budget = self.bounded(budget, subject.graph)
        allocation = self.allocation(subject, budget)
        sure = (
            "Exact: each step is the best for its layer's weights, and no other bits within the budget err less."
            if allocation.exact
            else f"Quick: steps by the Laplace model; other bits could err at most {100 * allocation.gap:.2g} % less."
        )
        return allocation_forecast(subject, budget, allocation, notes=(sure,))

    def prepare(self, model: nn.Module, budget: Budget, calibration: Iterable[torch.Tensor] | None = None) -> nn.Module:
        """Put masks and fixed quantizers of the allocation on ``model``, in place; any optimizer fine-tunes then."""
        from compression.methods.opq.allocator import allocate
        from compression.quant.fixed_steps import attach

        self.check_own_loop(budget)
        sparsity, bits = SPARSITY.value(budget.asks), BITS.value(budget.asks)
        return attach(model, allocate(model, sparsity, bits, budget.layers, **arguments(budget)))


def arguments(budget: Budget) -> dict[str, Any]:
    """The options of the allocation that a budget sets, as arguments of :func:`compression.methods.opq.allocate`.

    Raises:
        CompressionError: an unknown option, or a value it cannot have.
    """
    options: OpqOptions = METHOD.options(budget)
    return {name: getattr(options, name) for name in budget.options if name not in TrainingOptions.model_fields}


METHOD = OPQ = Opq()
