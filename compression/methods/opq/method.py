"""OPQ as a method: allocate on the dense weights, fix masks and steps, refit the norms, fine-tune the others.

With learned rounding nothing is fine-tuned: layers are brought onto their grids one by one instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from compression.budget import Budget
from compression.commands import line
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject, allocation_forecast
from compression.methods.base import Compressed, Info, Method, Reporter, Setup
from compression.methods.opq.options import BITS, SPARSITY, OpqOptions, check_names
from compression.posttraining.options import LayerwiseOptions
from compression.training.options import TrainingOptions
from compression.training.setup import ALLOCATED_STAGES, LAYERWISE_STAGES

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
        lesson="waterline",
        stages=(*ALLOCATED_STAGES, *LAYERWISE_STAGES[:2]),
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
        if not self.trains(budget):
            return self._rounded(setup, report)
        trainer = begin(setup, report, self.options(budget))
        return train_allocated(trainer, self._allocated(setup, report))

    def _allocated(self, setup: Setup, report: Reporter) -> Allocation:
        allocation = self.allocation(Subject(setup.model, setup.graph), setup.budget)
        report.log(
            f"{allocation.pruned} of {allocation.numel} weights pruned; {allocation.value_bits} of "
            f"{allocation.budget_bits} value bits spent{', proven optimal' if allocation.exact else ''}"
        )
        return allocation

    def _rounded(self, setup: Setup, report: Reporter) -> Compressed:
        """Learned rounding layer by layer on the masks and steps of the allocation."""
        from compression.posttraining.learned import LearnedRounding
        from compression.posttraining.run import compress_layers

        options, solve = LayerwiseOptions.read({}, self.info.name), LearnedRounding()
        return compress_layers(
            setup, report, options, lambda _: self._allocated(setup, report), solve, {}, fixed_masks=True
        )

    def trains(self, budget: Budget) -> bool:
        """Not with learned rounding."""
        return budget.options.get("rounding") != "learned"

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
        nearest = "The error is that of nearest rounding, at which learned rounding begins."
        notes = (sure,) if self.trains(budget) else (sure, nearest)
        return allocation_forecast(subject, budget, allocation, notes=notes)

    def prepare(self, model: nn.Module, budget: Budget, calibration: Iterable[torch.Tensor] | None = None) -> nn.Module:
        """Put masks and fixed quantizers of the allocation on ``model``, in place; any optimizer fine-tunes then."""
        from compression.methods.opq.allocator import allocate
        from compression.quant.fixed_steps import attach

        self.check_own_loop(budget)
        if not self.trains(budget):
            raise CompressionError(
                "opq: rounding learned is for runs, not for a loop of your own: leave it out, or run it",
                line("run", options={"method": self.info.name, "model": budget.model, "data": budget.data}),
            )
        sparsity, bits = SPARSITY.value(budget.asks), BITS.value(budget.asks)
        return attach(model, allocate(model, sparsity, bits, budget.layers, **arguments(budget)))


def arguments(budget: Budget) -> dict[str, Any]:
    """The options of the allocation that a budget sets, as arguments of :func:`compression.methods.opq.allocate`.

    Raises:
        CompressionError: an unknown option, or a value it cannot have.
    """
    options: OpqOptions = METHOD.options(budget)
    others = {*TrainingOptions.model_fields, "rounding"}
    return {name: getattr(options, name) for name in budget.options if name not in others}


METHOD = OPQ = Opq()
